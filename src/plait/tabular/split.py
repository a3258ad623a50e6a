"""Which rows are kept back to measure on, complete: by time when there is time, at random when there is none.

Hours of weather resemble the hours beside them. A random split puts neighbours on both sides, and an error measured so
is smaller than the one that the future will bring. With a time column the last rows are the test; that is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.errors import DataError, OptionError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of the two sides, and `description`: how they were chosen, for a report."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    description: str


def split_rows(rows: int, *, test_size: float = 0.2, time: Any = None, seed: int = 42) -> Split:
    """Split `rows` rows, `test_size` of them (a share between 0 and 1) to the test.

    `time` holds one value per row, of any kind that sorts (numbers, datetimes, ISO texts): the latest rows are the
    test, and rows of one instant stay together. Without `time` the test rows are drawn at random with `seed`.
    """
    if not 0 < test_size < 1:
        raise OptionError(f"test_size is a share of the rows between 0 and 1, not {test_size!r}")
    kept = rows - round(rows * test_size)
    if not 0 < kept < rows:
        raise DataError(f"{rows} rows are too few to keep {test_size:.0%} of them back")
    share = f"{test_size:.0%} of the rows"
    if time is None:
        order = np.random.default_rng(seed).permutation(rows)
        description = f"random, {share} held out (seed {seed}); neighbours in time may stand on both sides"
        return Split(train=np.sort(order[:kept]), test=np.sort(order[kept:]), description=description)
    times = np.asarray(time)
    if len(times) != rows:
        raise DataError(f"the time column has {len(times)} values for {rows} rows")
    order = np.argsort(times, kind="stable")
    while kept < rows and times[order[kept]] == times[order[kept - 1]]:
        kept += 1
    if kept == rows:
        raise DataError("the time column does not vary at its end, so no later rows can be held out")
    description = f"by time, the last {share} held out, from {times[order[kept]]} on"
    return Split(train=order[:kept], test=order[kept:], description=description)
