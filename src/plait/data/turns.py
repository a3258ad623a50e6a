"""Whose turn it is when data sets are interleaved, complete: row numbers of the data sets laid end to end.

The random order of a seed is that of datasets: sources are drawn a thousand at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plait.errors import DataError

_DRAWS = 1000


def interleaved_rows(
    lengths: Sequence[int], probabilities: Sequence[float] | None, *, seed: int | None, strategy: str
) -> Any:
    """Row numbers (N,) in the order of the turns; data set `i` begins at the sum of the lengths before it."""
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    if probabilities is None:
        rounds = int(sizes.min() if strategy == "first_exhausted" else sizes.max())
        sources = np.tile(np.arange(len(sizes)), rounds)
        turns = np.repeat(np.arange(rounds), len(sizes))
    else:
        sources = _drawn(sizes, np.asarray(probabilities, dtype=np.float64), seed, strategy)
        turns = _times_before(sources, len(sizes))
    # an ended data set begins anew, or is left out; an empty one has no rows to give
    keep = turns < sizes[sources] if strategy == "all_exhausted_without_replacement" else sizes[sources] > 0
    sources, turns = sources[keep], turns[keep]
    return starts[sources] + turns % sizes[sources]


def _drawn(sizes: Any, probabilities: Any, seed: int | None, strategy: str) -> Any:
    """The data sets in the order in which they are drawn, up to the draw that ends it."""
    if (sizes[probabilities > 0] == 0).any():
        number = int(np.flatnonzero((probabilities > 0) & (sizes == 0))[0])
        raise DataError(f"Data set number {number} is empty, but is to be drawn from. Leave it out.")
    generator = np.random.default_rng(seed)
    drawn: list[Any] = []
    counts = np.zeros(len(sizes), dtype=np.int64)
    possible = probabilities > 0
    over = np.any if strategy == "first_exhausted" else np.all
    while not over((counts >= sizes)[possible]):
        drawn.append(generator.choice(len(sizes), size=_DRAWS, p=probabilities))
        counts += np.bincount(drawn[-1], minlength=len(sizes))
    sources = np.concatenate(drawn)
    turns = _times_before(sources, len(sizes))
    ends = np.flatnonzero(turns == sizes[sources] - 1)  # the draw that takes the last row of each
    return sources[: (ends.min() if strategy == "first_exhausted" else ends.max()) + 1]


def _times_before(sources: Any, count: int) -> Any:
    """How often each drawn number was drawn before."""
    turns = np.empty(len(sources), dtype=np.int64)
    for number in range(count):
        places = np.flatnonzero(sources == number)
        turns[places] = np.arange(len(places))
    return turns
