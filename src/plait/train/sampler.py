"""Which rows make which batch, complete: a function of (seed, epoch, position), so resuming costs nothing.

order of an epoch   a permutation of the rows, drawn from (seed, epoch) alone
global batch i      rows i*G … (i+1)*G of that order, G = rows per process * processes
a process's batch   its contiguous share of the global batch; the last batch may be ragged, or empty for a process
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from plait.errors import OptionError, nearest
from plait.train.randomness import derive

STRATEGIES = ("random", "sequential", "group_by_length")
_WINDOW = 50  # batches whose rows are sorted by length together: long enough to save padding, short enough to mix


@dataclass(kw_only=True)
class BatchPlan:
    """The batches of every epoch.

    `rows` of the data set, `batch` rows per process, `lengths` (rows,) for "group_by_length" alone. `drop_last` leaves
    out a ragged last global batch, unless it is the only one.
    """

    rows: int
    batch: int
    seed: int = 0
    strategy: str = "random"
    lengths: Sequence[int] | None = None
    drop_last: bool = False
    rank: int = 0
    processes: int = 1
    _epoch: int = field(default=-1, init=False, repr=False)
    _order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise OptionError(
                f"train_sampling_strategy must be one of {', '.join(STRATEGIES)}, but is {self.strategy!r}."
                + nearest(self.strategy, STRATEGIES)
            )
        if self.strategy == "group_by_length" and (self.lengths is None or len(self.lengths) != self.rows):
            raise OptionError(f"group_by_length needs the length of each of the {self.rows} rows.")

    @property
    def global_batch(self) -> int:
        """Rows of one batch over all processes."""
        return self.batch * self.processes

    def __len__(self) -> int:
        """Batches per epoch."""
        full, ragged = divmod(self.rows, self.global_batch)
        return full + bool(ragged and not (self.drop_last and full))

    def order(self, epoch: int) -> np.ndarray:
        """(rows,) int64: the rows of `epoch` in the order in which they are used; the last epoch asked for is kept."""
        if self._epoch != epoch:
            self._order, self._epoch = self._shuffled(epoch), epoch
        return self._order

    def batch_of(self, epoch: int, position: int) -> list[int]:
        """The rows of this process in batch `position` of `epoch`; empty when a ragged batch leaves it none."""
        start = position * self.global_batch
        size = min(self.global_batch, self.rows - start)
        # A full batch gives `batch` rows to each; a ragged one is shared out as evenly as it goes.
        share = [start + size * part // self.processes for part in (self.rank, self.rank + 1)]
        return [int(row) for row in self.order(epoch)[share[0] : share[1]]]

    def _shuffled(self, epoch: int) -> np.ndarray:
        if self.strategy == "sequential":
            return np.arange(self.rows)
        generator = torch.Generator().manual_seed(derive("order", self.seed, epoch))
        order: np.ndarray = torch.randperm(self.rows, generator=generator).numpy()
        return self._grouped(order, generator) if self.strategy == "group_by_length" else order

    def _grouped(self, order: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Rows of similar length side by side: sort within windows of 50 batches, then shuffle whole batches.

        The batch with the longest row comes first, so that memory runs out at the start or never.
        """
        lengths = np.asarray(self.lengths)
        window = _WINDOW * self.global_batch
        pieces = [order[start : start + window] for start in range(0, self.rows, window)]
        order = np.concatenate([piece[np.argsort(-lengths[piece], kind="stable")] for piece in pieces])
        full = self.rows // self.global_batch
        if not full:
            return order
        batches = order[: full * self.global_batch].reshape(full, self.global_batch)
        turn = torch.randperm(full, generator=generator).numpy()
        longest = int(np.argmax(lengths[batches].max(axis=1)[turn]))
        turn[[0, longest]] = turn[[longest, 0]]
        return np.concatenate([batches[turn].reshape(-1), order[full * self.global_batch :]])
