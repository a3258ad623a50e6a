"""A tokenizer from the metadata of a GGUF file, complete: vocabulary, rules by name, special tokens, chat template.

A GGUF file has no tokenizer.json. `tokenizer.ggml.model` names the kind of vocabulary, and for byte-level BPE
`tokenizer.ggml.pre` names the rule that splits a text into words. The rules are those that the models were trained
with, as their own tokenizer.json publishes them; a name that is not in the table is an error, because a wrong rule
gives ids that are nearly right. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Crate

from plait.errors import TokenizerError, nearest
from plait.text import load
from plait.text.engine import CrateEngine
from plait.text.families import Family, family
from plait.text.special import ROLES
from plait.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _split(regex: str) -> Any:
    """Words by a regex, then bytes as letters."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(regex), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits() -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


# tokenizer.ggml.pre → how a text is split. Names that share a rule share a row.
SPLITS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("gpt-2", "gpt2", "phi-2", "mpt", "olmo"), _gpt2),
    **dict.fromkeys(("smollm", "starcoder"), _digits),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), lambda: _split(_LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), lambda: _split(_QWEN2)),
}
COMPOSED = {"qwen2", "deepseek-r1-qwen"}  # texts are brought to NFC first
WHOLE_WORDS = {"llama-bpe", "llama3", "llama-v3"}  # a word that is a token is not merged from its letters


def from_gguf(metadata: Mapping[str, Any], **overrides: Any) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes; `overrides` are those of `load.from_folder`.

    `metadata` holds the file's keys with arrays as lists. Raises `TokenizerError` for a file without a tokenizer and
    for a kind or a `tokenizer.ggml.pre` that is not known.
    """
    load.check_overrides(overrides)
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in KINDS:
        raise TokenizerError(
            f"tokenizer.ggml.model is {kind!r}, which is not a kind of tokenizer known here: {', '.join(KINDS)}."
            f"{nearest(str(kind), KINDS)} Load the tokenizer from the folder of the original model."
        )
    tokens: Sequence[str] = metadata.get("tokenizer.ggml.tokens") or ()
    types: Sequence[int] = metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if not tokens or len(types) != len(tokens):
        raise TokenizerError(
            f"The GGUF metadata has {len(tokens)} tokens and {len(types)} token types; a tokenizer needs as many "
            "of both. The file is cut short or was not converted with its tokenizer."
        )
    crate = KINDS[kind](metadata, tokens)
    control = _add(crate, tokens, types, CONTROL)
    _add(crate, tokens, types, USER_DEFINED)
    engine = CrateEngine(crate)
    config: dict[str, Any] = {**_roles(metadata, tokens), **_settings(metadata), **overrides}
    config["additional_special_tokens"] = [
        token for token in control if token not in {config.get(role) for role in ROLES}
    ]
    roles = {role: config.get(role) for role in ROLES}
    begin = bool(config.get("add_bos_token", kind == "llama"))
    end = bool(config.get("add_eos_token", False))
    if begin or end:
        load.set_ends(engine, roles, begin=begin, end=end)
    own = family(None, str(metadata.get("general.architecture")))
    plain = Family(inputs=own.inputs, padding_side=own.padding_side)  # the roles are in the file
    name = str(overrides.get("name_or_path", metadata.get("general.name", "")))
    return load.assemble(engine, config, plain, name=name, overrides={})


def _add(crate: Crate, tokens: Sequence[str], types: Sequence[int], kind: int) -> list[str]:
    """Make the tokens of a kind added tokens, found whole in a text; control tokens are special."""
    found = [token for token, own in zip(tokens, types, strict=True) if own == kind]
    special = kind == CONTROL
    added = [AddedToken(token, special=special, normalized=False) for token in found]
    if special:
        crate.add_special_tokens(added)
    else:
        crate.add_tokens(added)
    return found


def _roles(metadata: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    """Special tokens by role, from their ids."""
    names = {
        "bos_token": "bos_token_id",
        "eos_token": "eos_token_id",
        "unk_token": "unknown_token_id",
        "pad_token": "padding_token_id",
        "sep_token": "seperator_token_id",  # the specification spells it so
        "cls_token": "cls_token_id",
        "mask_token": "mask_token_id",
    }
    roles = {}
    for role, key in names.items():
        index = metadata.get(f"tokenizer.ggml.{key}")
        if index is None:
            continue
        if not 0 <= index < len(tokens):
            raise TokenizerError(f"tokenizer.ggml.{key} is {index}, but the vocabulary has {len(tokens)} tokens.")
        roles[role] = tokens[index]
    return roles


def _settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Length, template and ends as tokenizer_config.json would name them."""
    architecture = metadata.get("general.architecture")
    found = {
        "model_max_length": metadata.get(f"{architecture}.context_length"),
        "chat_template": metadata.get("tokenizer.chat_template"),
        "add_bos_token": metadata.get("tokenizer.ggml.add_bos_token"),
        "add_eos_token": metadata.get("tokenizer.ggml.add_eos_token"),
    }
    named = metadata.get("tokenizer.chat_templates")
    if named:
        texts = {name: metadata[f"tokenizer.chat_template.{name}"] for name in named}
        found["chat_template"] = {"default": found["chat_template"], **texts} if found["chat_template"] else texts
    return {key: value for key, value in found.items() if value is not None}


def _pairs(merges: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for line in merges:
        left, gap, right = line.partition(" ")
        if not gap:
            raise TokenizerError(f"tokenizer.ggml.merges holds {line!r}; a merge is two tokens with a space between.")
        pairs.append((left, right))
    return pairs


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str]) -> Crate:
    """`gpt2`: BPE over bytes that are written as letters."""
    rule = metadata.get("tokenizer.ggml.pre")
    if rule not in SPLITS:
        raise TokenizerError(
            f"tokenizer.ggml.pre is {rule!r}, and how it splits a text is not known here. Known: {', '.join(SPLITS)}."
            f"{nearest(str(rule), SPLITS)} Load the tokenizer from the folder of the original model."
        )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = _pairs(metadata.get("tokenizer.ggml.merges") or ())
    crate = Crate(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=rule in WHOLE_WORDS))
    if rule in COMPOSED:
        crate.normalizer = normalizers.NFC()
    crate.pre_tokenizer = SPLITS[rule]()
    crate.decoder = decoders.ByteLevel()
    crate.post_processor = processors.ByteLevel(trim_offsets=False)
    return crate


KINDS: dict[Any, Callable[[Mapping[str, Any], Sequence[str]], Crate]] = {"gpt2": _byte_level}
