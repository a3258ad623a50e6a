"""A tokenizer from a folder, complete: which files are read, which of them wins, and what the result is made of.

tokenizer.json is the truth about ids when it is there; the other files only name roles and settings:

| file | read for |
|---|---|
| tokenizer.json | the engine: vocabulary, rules, added tokens, what stands around a text |
| tokenizer_config.json | roles of special tokens, added tokens, lengths and sides, chat template, class name |
| special_tokens_map.json, added_tokens.json | the same in older folders, whose config has no added tokens |
| chat_template.jinja, additional_chat_templates/*.jinja | chat templates; they win over the one in the config |
| config.json | the model type, when tokenizer_config.json does not name a class |

Without a tokenizer.json the older formats are converted; see `plait.text.convert`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait import console
from plait.disk import left_behind
from plait.errors import OptionError, TokenizerError, nearest
from plait.text.engine import CrateEngine, Engine
from plait.text.families import FAMILIES, UNKNOWN, Family, family, name_of
from plait.text.special import ROLES, content
from plait.text.tokenizer import Tokenizer

_log = console.logger("text")

# Settings that tokenizer_config.json may hold and a caller may override.
SETTINGS = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "chat_template",
)
ADDITIONAL = ("additional_special_tokens", "extra_special_tokens")
FRAME = ("add_bos_token", "add_eos_token")
# What BERT's classes call the options of their normalizer, and what the tokenizers library does.
LETTERS = {
    "do_lower_case": "lowercase",
    "tokenize_chinese_chars": "handle_chinese_chars",
    "strip_accents": "strip_accents",
}
RULES = (*LETTERS, "add_prefix_space")
WITHOUT_EFFECT = ("legacy", "from_slow", "verbose")  # "legacy" has one on Llama's sentencepiece models
NAMES = ("tokenizer_class", "model_type", "name_or_path")
OVERRIDES = (*ROLES, *SETTINGS, "max_len", *ADDITIONAL, *FRAME, *RULES, *NAMES)


def from_folder(folder: Path, *, fast: bool = True, **overrides: Any) -> Tokenizer:
    """Load the tokenizer of a folder.

    `fast=False` runs the pure-Python reference in place of the compiled engine; ids are the same. `overrides` replace
    what the files say: a special token by role, the settings of tokenizer_config.json, `add_bos_token` and
    `add_eos_token`, BERT's `do_lower_case`, `tokenize_chinese_chars` and `strip_accents`, byte-level BPE's
    `add_prefix_space`, and `model_type` for folders that name no class.

    Raises `NotFoundError` when there is no tokenizer, `TokenizerError` for files that contradict each other or cannot
    be read, `OptionError` for an override that does not exist.
    """
    config = {**read_json(folder / "tokenizer_config.json")}
    if not config.get("added_tokens_decoder"):
        config |= read_json(folder / "special_tokens_map.json")
    if (template := chat_templates(folder)) is not None:
        config["chat_template"] = template
    config |= overrides
    if config.get("max_len") is not None:  # the older name
        config.setdefault("model_max_length", config["max_len"])
    names = config.get("tokenizer_class"), config.get("model_type") or _model_type(folder)
    kind, converted = family(*names), not (folder / "tokenizer.json").is_file()
    check_overrides(overrides, legacy=converted and kind in (FAMILIES["llama"], FAMILIES["gemma"]))
    engine = _engine(folder, config, name_of(*names))
    # of the formats that are converted, sentencepiece's ALBERT knows of case as well
    asked = {} if kind is FAMILIES["albert"] and converted else overrides
    set_rules(engine, overrides if kind is UNKNOWN else config, asked=asked)
    if kind is FAMILIES["gpt2"] and converted and config.get("add_bos_token"):  # OPT
        overrides = {"add_bos_token": True, **overrides}
    add_stated(engine, _stated_tokens(folder, config), source=str(folder))
    name = str(overrides.get("name_or_path", folder))
    return assemble(engine, config, kind, name=name, overrides=overrides, fast=fast)


def check_overrides(overrides: Mapping[str, Any], *, legacy: bool = False) -> None:
    """Refuse overrides that do not exist, and tell of those without effect; `legacy` says whether "legacy" has one."""
    for name in overrides:
        if name in WITHOUT_EFFECT:
            if name == "legacy" and legacy:
                continue
            _log.warning("%s has no effect on a tokenizer that is loaded from its own file of rules.", name)
        elif name not in OVERRIDES:
            raise OptionError(
                f"A tokenizer has no setting {name!r}. Settings: {', '.join(OVERRIDES)}.{nearest(name, OVERRIDES)}"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty when the file is not there."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path} is not valid JSON: {error}. Fetch or write the file again.") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path} holds a {type(value).__name__}, but a JSON object is expected.")
    return value


def chat_templates(folder: Path) -> str | dict[str, str] | None:
    """The templates that have files of their own: one text, or texts by name when there are several."""
    main = folder / "chat_template.jinja"
    named = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("additional_chat_templates/*.jinja")}
    if not main.is_file():
        return named or None
    text = main.read_text(encoding="utf-8")
    return {"default": text, **named} if named else text


def _model_type(folder: Path) -> str | None:
    value = read_json(folder / "config.json").get("model_type")
    return value if isinstance(value, str) else None


def _engine(folder: Path, config: Mapping[str, Any], name: str) -> CrateEngine:
    path = folder / "tokenizer.json"
    if told := left_behind(path):
        raise TokenizerError(f"{path} {told}")
    if path.is_file():
        return CrateEngine.from_json(path.read_text(encoding="utf-8"), source=str(path))
    from plait.text.convert import convert

    return CrateEngine(convert(folder, config, name))


def _stated_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, Any]:
    """Id → added token as tokenizer_config.json or added_tokens.json state them, in the order of ids."""
    stated: dict[int, Any] = {int(index): token for index, token in (config.get("added_tokens_decoder") or {}).items()}
    if not stated:
        special = {content(config.get(role)) for role in ROLES}
        for text, index in read_json(folder / "added_tokens.json").items():
            stated[int(index)] = {"content": text, "special": text in special, "normalized": text not in special}
    return dict(sorted(stated.items()))


def add_stated(engine: Engine, stated: Mapping[int, Any], *, source: str) -> None:
    """Add the tokens that the files state and the engine lacks, and check that each has the id stated for it."""
    from tokenizers import AddedToken

    known = engine.added_tokens()
    missing = [
        AddedToken(**{key: value for key, value in token.items() if key != "__type"})
        for index, token in stated.items()
        if index not in known or known[index].content != token["content"]
    ]
    if missing:
        engine.add(missing, special=False)
    for index, token in stated.items():
        if (found := engine.token_to_id(token["content"])) != index:
            raise TokenizerError(
                f"The files of {source} contradict each other: the added token {token['content']!r} is stated with id "
                f"{index}, but the vocabulary gives it {found}. Correct added_tokens_decoder (or added_tokens.json)."
            )


def assemble(
    engine: Engine,
    config: Mapping[str, Any],
    kind: Family,
    *,
    name: str,
    overrides: Mapping[str, Any],
    fast: bool = True,
) -> Tokenizer:
    """The tokenizer of an engine, with roles and settings from `config` and, where it is silent, from its family."""
    # A role that a file states is in the vocabulary or joins it; one that only the family knows must be there already.
    roles = {role: content(config[role]) for role in ROLES if role in config}
    for role, token in kind.roles.items():
        if role not in roles and engine.token_to_id(token) is not None:
            roles[role] = token
    stated: Any = next((config[key] for key in ADDITIONAL if config.get(key)), [])
    listed = list(stated.values()) if isinstance(stated, dict) else stated
    additional = [text for text in map(content, listed) if text is not None]
    tokens = [token for token in (*roles.values(), *additional) if token is not None]
    mark_special(engine, tokens, spaced=roles.get("mask_token") if kind.spaced_mask else None)
    if any(flag in overrides for flag in FRAME):
        set_ends(engine, roles, begin=bool(config.get("add_bos_token")), end=bool(config.get("add_eos_token")))
    settings = {key: config[key] for key in SETTINGS if config.get(key) is not None}
    template = settings.get("chat_template")
    if isinstance(template, list):  # the older spelling of several templates
        settings["chat_template"] = {item["name"]: item["template"] for item in template}
    if not fast:
        from plait.text.reference.engine import ReferenceEngine

        engine = ReferenceEngine.from_json(engine.to_json())
    return Tokenizer(
        engine,
        roles=roles,
        additional=additional,
        name_or_path=name,
        init_kwargs=config,
        **{"model_input_names": kind.inputs, "padding_side": kind.padding_side, **settings},
    )


def mark_special(engine: Engine, tokens: list[str], *, spaced: str | None = None) -> None:
    """Make sure that every special token is one to the engine: found whole in a text, skipped when decoding.

    The space before the token `spaced` belongs to it.
    """
    from tokenizers import AddedToken

    known = {token.content for token in engine.added_tokens().values()}
    missing = [token for token in dict.fromkeys(tokens) if token not in known]
    for token in missing:
        if engine.token_to_id(token) is None:
            _log.warning(
                "The special token %r is not in the vocabulary; it joins it as id %d.", token, engine.size(added=True)
            )
    if missing:
        made = [AddedToken(token, special=True, normalized=False, lstrip=token == spaced) for token in missing]
        engine.add(made, special=True)


def set_rules(engine: CrateEngine, stated: Mapping[str, Any], *, asked: Mapping[str, Any]) -> None:
    """What classes state about case, Chinese letters, accents and the first space goes before tokenizer.json.

    A caller who `asked` a tokenizer of another kind for it is told that it has no effect.
    """
    # None states nothing, except that accents go as do_lower_case says
    stated = {
        key: stated[key] for key in RULES if key in stated and (stated[key] is not None or key == "strip_accents")
    }
    letters = {option: stated[name] for name, option in LETTERS.items() if name in stated}
    without: tuple[str, ...] = ()
    if letters and not engine.set_normalizer(**letters):
        without = tuple(LETTERS)
    if "add_prefix_space" in stated and not engine.set_prefix_space(bool(stated["add_prefix_space"])):
        without += ("add_prefix_space",)
    for name in without:
        if name in asked:
            _log.warning("%s has no effect: this %s tokenizer has a rule of its own.", name, engine.model_type)


def set_ends(engine: Engine, roles: Mapping[str, str | None], *, begin: bool, end: bool) -> None:
    """Put the bos token before and the eos token after every text, as asked, in place of what stood around it."""
    ends: list[tuple[str, int] | None] = []
    for wanted, role in ((begin, "bos_token"), (end, "eos_token")):
        token = roles.get(role) if wanted else None
        index = None if token is None else engine.token_to_id(token)
        if wanted and (token is None or index is None):
            raise TokenizerError(f"add_{role}=True needs a {role}, but it is {token!r}. Pass {role}=… as well.")
        ends.append(None if token is None or index is None else (token, index))
    first, last = ends
    engine.set_frame(
        before=[first] if first else [],
        after=[last] if last else [],
    )
