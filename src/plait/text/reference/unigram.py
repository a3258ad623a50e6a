"""Unigram, complete: of all ways to cut a text the likeliest, found by Viterbi's algorithm (Kudo 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PENALTY = 10.0  # how much less likely than the least likely piece an unknown character is, in log probability


class Unigram:
    """Every piece has a log probability; a cut has the sum of its pieces'."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._scores: dict[str, float] = dict(map(tuple, model["vocab"]))
        self.vocabulary = {piece: index for index, (piece, _) in enumerate(model["vocab"])}
        self.unknown_id: int | None = model["unk_id"]
        unknown = self.unknown_id
        self._unknown: str | None = None if unknown is None else model["vocab"][unknown][0]
        self._bytes: bool = model.get("byte_fallback", False)
        self._longest = max(map(len, self.vocabulary), default=0)
        self._unlikely = min(self._scores.values(), default=0.0) - _PENALTY

    def tokens(self, word: str) -> list[str]:
        """The pieces of the likeliest cut; neighbouring unknown characters are one piece, or their bytes."""
        # best[stop]: the score of the best cut of word[:stop], where its last piece starts, and whether that is known
        best: list[tuple[float, int, bool] | None] = [(0.0, 0, True), *[None] * len(word)]
        for start in range(len(word)):
            here = best[start]
            assert here is not None  # every character is a piece, known or not
            single = False
            for stop in range(start + 1, min(start + self._longest, len(word)) + 1):
                piece = word[start:stop]
                if piece in self._scores:
                    _improve(best, stop, (here[0] + self._scores[piece], start, piece != self._unknown))
                    single |= stop == start + 1
            if not single:
                _improve(best, start + 1, (here[0] + self._unlikely, start, False))
        return self._read(word, best)

    def _read(self, word: str, best: list[tuple[float, int, bool] | None]) -> list[str]:
        """The pieces, from the end to the beginning and turned round."""
        pieces: list[tuple[str, bool]] = []
        stop = len(word)
        while stop > 0:
            node = best[stop]
            assert node is not None
            _, start, known = node
            if not known and pieces and not pieces[-1][1]:
                pieces[-1] = (word[start:stop] + pieces[-1][0], False)
            else:
                pieces.append((word[start:stop], known))
            stop = start
        return [token for piece, _ in reversed(pieces) for token in self._spelled(piece)]

    def _spelled(self, piece: str) -> list[str]:
        if piece in self.vocabulary:
            return [piece]
        spelled = [f"<0x{byte:02X}>" for byte in piece.encode("utf-8")]
        if self._bytes and all(byte in self.vocabulary for byte in spelled):
            return spelled
        return [piece] if self._unknown is not None else []


def _improve(best: list[tuple[float, int, bool] | None], stop: int, candidate: tuple[float, int, bool]) -> None:
    """Keep a candidate that is better than what ends at `stop` so far; the first of equals stays."""
    standing = best[stop]
    if standing is None or candidate[0] > standing[0]:
        best[stop] = candidate
