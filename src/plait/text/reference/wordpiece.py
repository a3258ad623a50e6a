"""WordPiece, complete: a word is cut from the left, the longest known piece first (Schuster and Nakajima 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WordPiece:
    """Pieces that continue a word are written with a prefix: "token", "##ization"."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.vocabulary: dict[str, int] = model["vocab"]
        self._unknown: str = model["unk_token"]
        self.unknown_id: int | None = self.vocabulary.get(self._unknown)
        self._prefix: str = model["continuing_subword_prefix"]
        self._longest_word: int = model["max_input_chars_per_word"]

    def tokens(self, word: str) -> list[str]:
        """The pieces of a word; a word that cannot be cut up wholly is one unknown token."""
        if len(word) > self._longest_word:
            return [self._unknown]
        pieces: list[str] = []
        start = 0
        while start < len(word):
            prefix = self._prefix if start else ""
            for stop in range(len(word), start, -1):
                if (piece := prefix + word[start:stop]) in self.vocabulary:
                    pieces.append(piece)
                    break
            else:
                return [self._unknown]
            start = stop
        return pieces
