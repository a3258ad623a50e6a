"""Normalizers, complete: what happens to a text before it is split, one function for each kind in tokenizer.json."""

from __future__ import annotations

import base64
import struct
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from plait.errors import TokenizerError
from plait.text.letters import spelled
from plait.text.reference.characters import WHITE, compiled, is_control

Normalizer = Callable[[str], str]


def normalizer(spec: Mapping[str, Any] | None) -> Normalizer:
    """The normalizer that tokenizer.json describes."""
    if spec is None:
        return lambda text: text
    kind = spec["type"]
    if kind not in _KINDS:
        raise TokenizerError(f"The normalizer {kind!r} is not in the Python reference; load with use_fast=True.")
    return _KINDS[kind](spec)


def _sequence(spec: Mapping[str, Any]) -> Normalizer:
    steps = [normalizer(part) for part in spec["normalizers"]]

    def run(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return run


def _unicode(form: Any) -> Callable[[Mapping[str, Any]], Normalizer]:
    return lambda spec: lambda text: unicodedata.normalize(form, text)


def lowercase(text: str) -> str:
    """Letter by letter, so that a sigma at the end of a word is no special case."""
    return "".join(character.lower() for character in text)


def strip_marks(text: str, *, categories: tuple[str, ...]) -> str:
    """Without the marks of some categories: Mn takes no space of its own, Mc does, Me encloses."""
    return "".join(character for character in text if unicodedata.category(character) not in categories)


def _bert(spec: Mapping[str, Any]) -> Normalizer:
    """BERT's: no control characters, spaces around Han characters, accents and case removed as asked."""
    accents = spec["lowercase"] if spec["strip_accents"] is None else spec["strip_accents"]

    def run(text: str) -> str:
        if spec["clean_text"]:
            kept = (c for c in text if c not in "\0\ufffd" and not is_control(c))
            text = "".join(" " if c in WHITE else c for c in kept)
        if spec["handle_chinese_chars"]:
            text = "".join(f" {c} " if _is_han(ord(c)) else c for c in text)
        if accents:
            text = strip_marks(unicodedata.normalize("NFD", text), categories=("Mn",))
        return lowercase(text) if spec["lowercase"] else text

    return run


_HAN = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_han(code: int) -> bool:
    """The blocks of CJK ideographs; kana and hangul are not among them."""
    return any(first <= code <= last for first, last in _HAN)


def _strip(spec: Mapping[str, Any]) -> Normalizer:
    white = "".join(WHITE)

    def run(text: str) -> str:
        text = text.lstrip(white) if spec["strip_left"] else text
        return text.rstrip(white) if spec["strip_right"] else text

    return run


def _replace(spec: Mapping[str, Any]) -> Normalizer:
    pattern, content = spec["pattern"], spec["content"]
    if "String" in pattern:
        return lambda text: text.replace(pattern["String"], content)
    expression = compiled(pattern["Regex"])
    return lambda text: expression.sub(lambda _: content, text)


def _prepend(spec: Mapping[str, Any]) -> Normalizer:
    return lambda text: spec["prepend"] + text if text else text


class CharacterMap:
    """The map of a sentencepiece model: a double-array trie from UTF-8 bytes to replacements.

    The file holds the size of the trie, the trie as 32-bit units, and the replacements, each ended by a zero byte.
    The layout of a unit is that of https://github.com/s-yata/darts-clone.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        data = base64.b64decode(spec["precompiled_charsmap"])
        (size,) = struct.unpack_from("<I", data)
        self._units = struct.unpack_from(f"<{size // 4}I", data, 4)
        self._replacements = data[4 + size :]

    def __call__(self, text: str) -> str:
        made: list[str] = []
        for cluster in _clusters(text):
            # A short cluster is looked up whole, and the first replacement found stands for all of it.
            whole = self._find(cluster) if len(cluster.encode("utf-8")) < 6 else None
            made += (
                [whole] if whole is not None else [self._find(c) or ("" if self._find(c) == "" else c) for c in cluster]
            )
        return "".join(made)

    def _find(self, text: str) -> str | None:
        """The replacement of the shortest beginning of `text` that has one."""
        place = _offset(self._units[0])
        for byte in text.encode("utf-8"):
            place ^= byte
            if byte == 0 or place >= len(self._units):
                return None
            unit = self._units[place]
            if unit & 0x800000FF != byte:
                return None
            place ^= _offset(unit)
            if unit >> 8 & 1:
                start = self._units[place] & 0x7FFFFFFF
                return self._replacements[start : self._replacements.index(b"\0", start)].decode("utf-8")
        return None


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


def _clusters(text: str) -> list[str]:
    """A character with the marks that follow it, as far as short clusters need it (UAX #29 knows more)."""
    made: list[str] = []
    for character in text:
        joins = unicodedata.category(character) in ("Mn", "Me", "Mc") or character in "\u200c\u200d"
        after = made and unicodedata.category(made[-1][-1]) not in ("Cc", "Zl", "Zp")
        if made and ((joins and after) or (made[-1] == "\r" and character == "\n")):
            made[-1] += character
        else:
            made.append(character)
    return made


_KINDS: dict[str, Callable[[Mapping[str, Any]], Normalizer]] = {
    "Sequence": _sequence,
    "NFC": _unicode("NFC"),
    "NFD": _unicode("NFD"),
    "NFKC": _unicode("NFKC"),
    "NFKD": _unicode("NFKD"),
    "Lowercase": lambda spec: lowercase,
    "StripAccents": lambda spec: lambda text: strip_marks(text, categories=("Mn", "Mc", "Me")),
    "BertNormalizer": _bert,
    "Strip": _strip,
    "Replace": _replace,
    "Prepend": _prepend,
    "ByteLevel": lambda spec: lambda text: spelled(text.encode("utf-8")),
    "Precompiled": CharacterMap,
}
