"""Sentencepiece model files, complete: the parts of the file that matter, and the engine that gives its ids.

The file is a protocol buffer of one message; the reader here takes the five fields that a tokenizer needs. The engine
follows the file's own settings (character map, dummy prefix, extra spaces, byte fall-back) and not a class's, so that a
model nobody has heard of works too. https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Crate

from plait.errors import TokenizerError
from plait.text import merges

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of pieces
UNIGRAM, BPE = 1, 2  # types of models
SPACE = "\u2581"  # ▁, which stands for a space


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    type: int = NORMAL


@dataclass(frozen=True, kw_only=True)
class Model:
    """A sentencepiece model. Ids of special pieces are -1 where there is none."""

    pieces: Sequence[Piece]
    type: int = UNIGRAM
    byte_fallback: bool = False
    unknown: int = 0
    begin: int = 1
    end: int = 2
    padding: int = -1
    charsmap: bytes = b""
    dummy_prefix: bool = True
    squeeze: bool = True  # remove_extra_whitespaces
    suffix: bool = False  # treat_whitespace_as_suffix

    def token(self, index: int) -> str | None:
        """The text of a special piece."""
        return self.pieces[index].text if 0 <= index < len(self.pieces) else None


def read(path: Path) -> Model:
    """Read a model file. Raises `TokenizerError` for a file that is not one."""
    try:
        top = list(_fields(path.read_bytes()))
        pieces = [_piece(value) for number, value in top if number == 1]
        trainer = _last(top, 2)
        normalizer = _last(top, 3)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise TokenizerError(f"{path} is not a sentencepiece model, or it is cut short: {error}.") from error
    if not pieces:
        raise TokenizerError(f"{path} is not a sentencepiece model: it has no pieces.")
    kind = trainer.get(3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise TokenizerError(f"{path} is a sentencepiece model of type {kind}; only unigram (1) and BPE (2) are known.")
    return Model(
        pieces=pieces,
        type=kind,
        byte_fallback=bool(trainer.get(35, 0)),
        unknown=_signed(trainer.get(40, 0)),
        begin=_signed(trainer.get(41, 1)),
        end=_signed(trainer.get(42, 2)),
        padding=_signed(trainer.get(43, -1)),
        charsmap=normalizer.get(2, b""),
        dummy_prefix=bool(normalizer.get(3, 1)),
        squeeze=bool(normalizer.get(4, 1)),
        suffix=bool(trainer.get(24, 0)),
    )


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protocol buffer message: int for varints, bytes for the rest."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value: int | bytes
            value, place = _varint(data, place)
        elif wire in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, place = _varint(data, place)
            value, place = data[place : place + size], place + size
            if place > len(data):
                raise IndexError(f"field {number} ends beyond the file")
        else:
            raise IndexError(f"unknown wire type {wire}")
        yield number, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in base 128, lowest digits first, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _signed(value: int) -> int:
    """An int32 that the file writes as its 64-bit complement when it is negative."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _piece(data: bytes) -> Piece:
    values = dict(_fields(data))
    (score,) = struct.unpack("<f", values.get(2, b"\0\0\0\0"))
    return Piece(values.get(1, b"").decode("utf-8"), score, values.get(3, NORMAL))


def _last(fields: Sequence[tuple[int, Any]], number: int) -> dict[int, Any]:
    found = [value for own, value in fields if own == number]
    return dict(_fields(found[-1])) if found else {}


def crate(model: Model, *, front: Sequence[Any] = (), prefix: str = "always") -> Crate:
    """The engine of a model.

    `front` holds normalizers that run before the model's own. `prefix` says which pieces of a text that special tokens
    cut up get the dummy prefix: "always" each of them (what the sentencepiece library does to a text), "first" only the
    one the text begins with.
    """
    if model.suffix:
        raise TokenizerError(
            "Sentencepiece models that write spaces as suffixes (treat_whitespace_as_suffix) are not known."
        )
    made = Crate(_unigram(model) if model.type == UNIGRAM else _bpe(model))
    steps = list(front)
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    metaspace = model.dummy_prefix and prefix == "first"
    if model.squeeze:
        # The crate knows the first piece by its place in the text, so what would move it must not be cut off.
        steps.append(normalizers.Replace(Regex(r"\A +"), SPACE if metaspace else ""))
        steps.append(normalizers.Replace(Regex(r" +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if not metaspace:
        steps += [normalizers.Prepend(SPACE)] if model.dummy_prefix else []
        steps.append(normalizers.Replace(" ", SPACE))
    made.normalizer = normalizers.Sequence(steps)
    whole = any(SPACE in piece.text.lstrip(SPACE) or piece.text.startswith(2 * SPACE) for piece in model.pieces)
    if metaspace:
        made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=not whole)
    elif not whole:  # no piece reaches over a space, so words can be looked up one by one
        made.pre_tokenizer = pre_tokenizers.Split(SPACE, behavior="merged_with_next")
    chain: list[Any] = [decoders.Replace(SPACE, " ")]
    chain += [decoders.ByteFallback()] if model.byte_fallback else []
    chain += [decoders.Fuse()]
    chain += [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    made.decoder = decoders.Sequence(chain)
    add_whole(made, model.pieces)
    return made


def add_whole(made: Crate, pieces: Sequence[Piece]) -> None:
    """Make control and user-defined pieces added tokens, which are found whole in a text; control ones are special."""
    for kind, add in ((CONTROL, made.add_special_tokens), (USER_DEFINED, made.add_tokens)):
        add(
            [
                AddedToken(piece.text, special=kind == CONTROL, normalized=False)
                for piece in pieces
                if piece.type == kind
            ]
        )


def _unigram(model: Model) -> Any:
    scored = [(piece.text, piece.score) for piece in model.pieces]
    return models.Unigram(scored, unk_id=model.unknown, byte_fallback=model.byte_fallback)


def _bpe(model: Model) -> Any:
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    return models.BPE(
        vocab=vocabulary,
        merges=merges.derive(_order(model.pieces), vocabulary),
        unk_token=model.token(model.unknown),
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _order(pieces: Sequence[Piece]) -> dict[str, int]:
    """Piece → rank of its merge.

    The trainer of sentencepiece scores BPE pieces by the order of their merges, so the place in the file is the rank.
    In a file where the scores of the pieces do not fall with their place, the scores rule.
    """
    scores = [piece.score for piece in pieces if piece.type == NORMAL]
    places: Sequence[int] = range(len(pieces))
    if any(earlier < later for earlier, later in zip(scores, scores[1:], strict=False)):
        places = sorted(places, key=lambda place: -pieces[place].score)
    return {pieces[place].text: rank for rank, place in enumerate(places)}
