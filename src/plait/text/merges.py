"""Merges of a BPE vocabulary that does not list them, complete.

Sentencepiece and tiktoken files hold pieces in the order in which they were merged, and no pairs: their encoders join
the neighbours whose union is the earliest piece. The crate wants pairs with a rank. A piece that can be cut in several
ways gives a pair for each cut, all at the rank of the piece.
"""

from __future__ import annotations

from collections.abc import Mapping


def derive(order: Mapping[str, int], allowed: Mapping[str, int] | None = None) -> list[tuple[str, str]]:
    """The pairs of a vocabulary: `order` is piece → rank of its merge, the earliest lowest.

    Both halves must be in `allowed` (default `order`), which also says which cut of a piece comes first.
    """
    ids = order if allowed is None else allowed
    pairs: list[tuple[str, str]] = []
    for piece in sorted(order, key=order.__getitem__):
        cuts = [
            (left, right)
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids
        ]
        if len(cuts) > 1:
            cuts.sort(key=lambda cut: (ids[cut[0]], ids[cut[1]]))
        pairs += cuts
    return pairs
