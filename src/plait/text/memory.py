"""Words that were encoded before, complete: `Memory`, the ids of a text put together from the ids of its pieces.

Most tokenizers cut a text at spaces before anything else, so the ids of a text are those of its pieces one after the
other, and natural text repeats its pieces. A piece is encoded by the crate once and looked up from then on, which is
several times faster and gives the same ids. Only tokenizers for which that holds exactly get a memory:

    WordPiece under BERT's normalizer and splitter    pieces lie between spaces
    byte-level BPE under a rule of `_SPACED`          a space belongs to the piece that follows it

Under those rules a word never contains a space except as its first character. Longer white space is one word or two,
depending on what follows, so a text with more than single spaces is left to the crate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tokenizers

from plait.text.packed import pack
from plait.text.splits import GPT4O, LLAMA3, QWEN2, QWEN35, SEED_CODER, TEKKEN

_SPACED = {GPT4O, LLAMA3, QWEN2, QWEN35, SEED_CODER, TEKKEN}

_LONGEST = 64  # characters of a piece worth remembering: longer ones hardly come again
_ROOM = 1_000_000  # characters of all pieces: about 30 MB
_TRIAL = 100_000  # characters seen before it is judged whether pieces repeat at all


class Memory:
    """The ids of pieces of texts, for one tokenizer; any number of threads may share it.

    `spaced` says whether a piece carries the space before it. The memory starts anew when it holds `_ROOM` characters.
    Where half of the characters are new after the first `_TRIAL` (Chinese, Thai, hashes), it stops looking: `quick`.
    """

    def __init__(self, crate: tokenizers.Tokenizer, *, spaced: bool) -> None:
        self._crate, self._spaced = crate, spaced
        self._known: dict[str, bytes] = {}
        self._room = _ROOM
        self._seen = self._new = 0
        self.quick = True

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._crate, self._spaced)

    def packed(self, texts: Sequence[str]) -> list[bytes]:
        """The ids of every text as a packed row, without special tokens around it; equal to the crate's."""
        rows = [self._pieces(text) for text in texts]
        known = self._known
        found = [None if row is None else _joined(known, row) for row in rows]
        # those with a piece that is not known yet
        again = {place: row for place, row in enumerate(rows) if row is not None and found[place] is None}
        missing = set[str]().union(*again.values()).difference(known)
        if missing:
            missing -= (long := {piece for piece in missing if len(piece) > _LONGEST})
            known = self._learn(list(missing))
            for place, row in again.items():
                if not long or long.isdisjoint(row):
                    found[place] = _joined(known, row)
        self._judge(sum(map(len, texts)), sum(map(len, missing)))
        left = iter(self._by_crate([text for text, ids in zip(texts, found, strict=True) if ids is None]))
        return [next(left) if ids is None else ids for ids in found]

    def _pieces(self, text: str) -> list[str] | None:
        """The pieces of a text, or None for one that only the crate cuts right."""
        if not self._spaced:
            return text.replace("\n", " ").split(" ")  # BERT's splitter drops white space of any kind and number
        if "\0" in text or " ".join(text.split()) != text:
            return None
        return text.replace(" ", "\0 ").split("\0")

    def _learn(self, pieces: list[str]) -> dict[str, bytes]:
        """What is known, `pieces` included. A full memory is replaced, so other calls finish with the one they hold."""
        known, size = self._known, sum(map(len, pieces))
        if self._room < size:
            # Pieces that this call found in the old memory are still needed, so it goes on with both.
            known = {**known, **dict(zip(pieces, self._by_crate(pieces), strict=True))}
            self._known, self._room = {}, _ROOM
        else:
            known.update(zip(pieces, self._by_crate(pieces), strict=True))
            self._room -= size
        return known

    def _judge(self, seen: int, new: int) -> None:
        self._seen += seen
        self._new += new
        if self._seen > _TRIAL:
            self.quick = 2 * self._new < self._seen
            self._seen = self._new = 0

    def _by_crate(self, texts: list[str]) -> list[bytes]:
        if not texts:
            return []
        return [pack(encoding.ids) for encoding in self._crate.encode_batch_fast(texts, add_special_tokens=False)]


def _joined(known: dict[str, bytes], pieces: list[str]) -> bytes | None:
    """The ids of pieces one after the other; None when one is not known."""
    try:
        return b"".join(map(known.__getitem__, pieces))
    except KeyError:
        return None


def _restored(crate: tokenizers.Tokenizer, spaced: bool) -> Memory:
    return Memory(crate, spaced=spaced)


def memory_of(crate: tokenizers.Tokenizer) -> Memory | None:
    """A memory for `crate`, or None when a text is more than its pieces."""
    for token in crate.get_added_tokens_decoder().values():
        if token.rstrip or any(map(str.isspace, token.content)):
            return None  # such a token reaches over a space
    normalizer, splitter = _state(crate.normalizer), _state(crate.pre_tokenizer)
    kinds = (type(crate.model).__name__, normalizer.get("type"), splitter.get("type"))
    if kinds == ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        return Memory(crate, spaced=False)
    if kinds[0] != "BPE" or crate.model.dropout or kinds[1] not in (None, "NFC"):
        return None
    steps = splitter["pretokenizers"] if kinds[2] == "Sequence" else [splitter]
    cuts = [_cuts_before_spaces(step) for step in steps]
    return Memory(crate, spaced=True) if True in cuts and None not in cuts else None


def _state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json spells it; empty for None."""
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _cuts_before_spaces(step: dict[str, Any]) -> bool | None:
    """Whether a step cuts before every single space; None when it may cut elsewhere and keep a space inside a word."""
    match step:
        case {"type": "ByteLevel", "use_regex": bool(regex)}:
            return regex
        case {"type": "Digits"}:
            return False
        case {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False} if rule in _SPACED:
            return True
    return None
