"""A tokenizer from the metadata of a GGUF file, complete: vocabulary, rules by name, special tokens, chat template.

A GGUF file has no tokenizer.json. `tokenizer.ggml.model` names the kind of vocabulary, and for byte-level BPE
`tokenizer.ggml.pre` names the rule that splits a text into words. The rules are those that the models were trained
with, as their own tokenizer.json publishes them; a name that is not in the table is an error, because a wrong rule
gives ids that are nearly right. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tokenizers import Tokenizer as Crate
from tokenizers import decoders, models, processors

from plait.errors import TokenizerError, nearest
from plait.text import load, sentencepiece
from plait.text.convert import wordpiece
from plait.text.engine import CrateEngine
from plait.text.families import UNKNOWN as UNKNOWN_FAMILY
from plait.text.families import WITH_TYPES, Family
from plait.text.sentencepiece import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, Piece
from plait.text.special import ROLES
from plait.text.splits import SPLITS
from plait.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Built:
    """An engine; which ends a text gets when the file does not say (None: the engine has its own); its class."""

    crate: Crate
    ends: tuple[bool, bool] | None
    family: Family = UNKNOWN_FAMILY


def from_gguf(metadata: Mapping[str, Any], *, fast: bool = True, **overrides: Any) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes; `fast` and `overrides` are those of `load.from_folder`.

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
    pieces = _pieces(metadata)
    built = KINDS[kind](metadata, pieces)
    control = [piece.text for piece in pieces if piece.type == CONTROL]
    engine = CrateEngine(built.crate)
    load.set_rules(engine, overrides, asked=overrides)
    config: dict[str, Any] = {**_roles(metadata, pieces), **_settings(metadata), **overrides}
    roles = {role: config.get(role) for role in ROLES}
    config["additional_special_tokens"] = [token for token in control if token not in roles.values()]
    if built.ends is not None:
        begin, end = (bool(config.get(flag, default)) for flag, default in zip(load.FRAME, built.ends, strict=True))
        if begin or end:
            load.set_ends(engine, roles, begin=begin, end=end)
    name = str(overrides.get("name_or_path", metadata.get("general.name", "")))
    return load.assemble(engine, config, built.family, name=name, overrides={}, fast=fast)


def _pieces(metadata: Mapping[str, Any]) -> list[Piece]:
    """The vocabulary, in the order of ids."""
    tokens: Sequence[str] = metadata.get("tokenizer.ggml.tokens") or ()
    types: Sequence[int] = metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    scores: Sequence[float] = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    if not tokens or not len(types) == len(scores) == len(tokens):
        raise TokenizerError(
            f"The GGUF metadata has {len(tokens)} tokens, {len(types)} token types and {len(scores)} scores; a "
            "tokenizer needs as many of each. The file is cut short or was not converted with its tokenizer."
        )
    if len(set(tokens)) != len(tokens):
        twice = next(token for token, times in Counter(tokens).items() if times > 1)
        raise TokenizerError(f"tokenizer.ggml.tokens holds {twice!r} more than once, so its id is not clear.")
    return [Piece(*entry) for entry in zip(tokens, scores, types, strict=True)]


def _roles(metadata: Mapping[str, Any], pieces: Sequence[Piece]) -> dict[str, str]:
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
        if not 0 <= index < len(pieces):
            raise TokenizerError(f"tokenizer.ggml.{key} is {index}, but the vocabulary has {len(pieces)} tokens.")
        roles[role] = pieces[index].text
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
    if named := metadata.get("tokenizer.chat_templates"):
        texts = {name: metadata[f"tokenizer.chat_template.{name}"] for name in named}
        found["chat_template"] = {"default": found["chat_template"], **texts} if found["chat_template"] else texts
    return {key: value for key, value in found.items() if value is not None}


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Merges from lines of two tokens with a space between."""
    pairs = []
    for line in lines:
        left, gap, right = line.partition(" ")
        if not gap:
            raise TokenizerError(f"tokenizer.ggml.merges holds {line!r}; a merge is two tokens with a space between.")
        pairs.append((left, right))
    return pairs


def _byte_level(metadata: Mapping[str, Any], pieces: Sequence[Piece]) -> _Built:
    """`gpt2`: BPE over bytes that are written as letters."""
    name = metadata.get("tokenizer.ggml.pre")
    if name not in SPLITS:
        raise TokenizerError(
            f"tokenizer.ggml.pre is {name!r}, and how it splits a text is not known here. Known: {', '.join(SPLITS)}."
            f"{nearest(str(name), SPLITS)} Load the tokenizer from the folder of the original model."
        )
    split = SPLITS[name]
    vocabulary = {piece.text: index for index, piece in enumerate(pieces)}
    pairs = _pairs(metadata.get("tokenizer.ggml.merges") or ())
    crate = Crate(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=split.whole))
    if (normalizer := split.normalizer()) is not None:
        crate.normalizer = normalizer
    crate.pre_tokenizer = split.make()
    crate.decoder = decoders.ByteLevel()
    crate.post_processor = processors.ByteLevel(trim_offsets=False)
    sentencepiece.add_whole(crate, pieces)
    return _Built(crate, (split.begins, False))


def _sentencepiece(metadata: Mapping[str, Any], pieces: Sequence[Piece], *, kind: int) -> _Built:
    """`llama` (BPE) and `t5` (unigram): the pieces of a sentencepiece model."""
    # A token of spaces alone stands in the file as spaces; to the engine a space is ▁.
    spelled = [
        Piece(SPACE * len(piece.text) if piece.text.strip(" ") == "" else piece.text, piece.score, piece.type)
        for piece in pieces
    ]
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    model = sentencepiece.Model(
        pieces=spelled,
        type=kind,
        byte_fallback=any(piece.type == BYTE for piece in pieces),
        unknown=next((i for i, piece in enumerate(pieces) if piece.type == UNKNOWN), 0) if unknown is None else unknown,
        charsmap=bytes(metadata.get("tokenizer.ggml.precompiled_charsmap") or ()),
        dummy_prefix=bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
        squeeze=bool(metadata.get("tokenizer.ggml.remove_extra_whitespaces", False)),
    )
    made = sentencepiece.crate(model)
    if kind == sentencepiece.BPE:
        return _Built(made, (True, False), Family(padding_side="left"))
    return _Built(made, (False, True))


def _wordpiece(metadata: Mapping[str, Any], pieces: Sequence[Piece]) -> _Built:
    """`bert`: words that begin with ▁ in the file and continue without, the reverse of vocab.txt."""

    def original(token: str) -> str:
        if token.startswith(SPACE):
            return token[1:]
        return token if token.startswith("[") and token.endswith("]") else "##" + token

    vocabulary = {original(piece.text): index for index, piece in enumerate(pieces)}
    lower = bool(metadata.get("tokenizer.ggml.normalizer.lowercase", True))
    crate = wordpiece(vocabulary, roles=_roles(metadata, pieces), lower=lower)
    sentencepiece.add_whole(crate, pieces)
    return _Built(crate, None, Family(inputs=WITH_TYPES))


KINDS: dict[Any, Callable[[Mapping[str, Any], Sequence[Piece]], _Built]] = {
    "gpt2": _byte_level,
    "llama": partial(_sentencepiece, kind=sentencepiece.BPE),
    "t5": partial(_sentencepiece, kind=sentencepiece.UNIGRAM),
    "bert": _wordpiece,
}
