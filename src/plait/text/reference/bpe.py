"""Byte-pair encoding, complete: neighbours are merged in the order that training found (Sennrich et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BPE:
    """Characters (in byte-level BPE: bytes written as letters) become tokens by merges of neighbours."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.vocabulary: dict[str, int] = model["vocab"]
        pairs = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._unknown: str | None = model["unk_token"]
        self.unknown_id: int | None = None if self._unknown is None else self.vocabulary[self._unknown]
        self._fuse: bool = model["fuse_unk"]
        self._bytes: bool = model["byte_fallback"]
        self._prefix: str = model["continuing_subword_prefix"] or ""
        self._suffix: str = model["end_of_word_suffix"] or ""
        self._whole: bool = model.get("ignore_merges", False)

    def tokens(self, word: str) -> list[str]:
        """The tokens of a word."""
        if self._whole and word in self.vocabulary:
            return [word]
        parts = self._parts(word)
        while len(parts) > 1:
            # the neighbours that training merged earliest, the leftmost of equals
            ranked = ((self._ranks.get(pair), place) for place, pair in enumerate(zip(parts, parts[1:], strict=False)))
            best = min(((rank, place) for rank, place in ranked if rank is not None), default=None)
            if best is None:
                break
            place = best[1]
            parts[place : place + 2] = [parts[place] + parts[place + 1].removeprefix(self._prefix)]
        return parts

    def _parts(self, word: str) -> list[str]:
        """A word as single characters; one that is not in the vocabulary as its bytes, else as the unknown token."""
        parts: list[str] = []
        fusing = False
        for place, character in enumerate(word):
            part = (self._prefix if place else "") + character + (self._suffix if place == len(word) - 1 else "")
            if part in self.vocabulary:
                parts.append(part)
                fusing = False
                continue
            spelled = [f"<0x{byte:02X}>" for byte in part.encode("utf-8")]
            if self._bytes and all(byte in self.vocabulary for byte in spelled):
                parts += spelled
            elif self._unknown is not None:
                if not (fusing and self._fuse):
                    parts.append(self._unknown)
                fusing = True
        return parts
