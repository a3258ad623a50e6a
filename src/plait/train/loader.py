"""From rows to collated batches, complete: batch `i` of epoch `e` is a pure function of (data, seed, e, i).

Row transforms and collators draw their random numbers from a seed derived for that batch, in the main process as in a
worker, so neither the number of workers nor a resumed run changes a single one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from plait.console import logger
from plait.errors import DataError, TrainingError
from plait.train.randomness import derive, forked
from plait.train.sampler import BatchPlan

log = logger("train")

Batch = dict[str, Any]
Collator = Callable[[list[Any]], Mapping[str, Any]]

_LABELS = ("label", "label_ids")  # columns that the collators rename to "labels"


class UsedColumns:
    """Keeps of each row what `model` or its loss can take; says once which columns are left out.

    Columns are learned from a data set's `column_names`, or from the first row that is read anyway. `said` holds the
    names that have been spoken of. Raises `DataError` when no column is an argument of forward.
    """

    def __init__(self, model: nn.Module, labels: Collection[str], *, said: set[str], name: str) -> None:
        arguments, anything = forward_names(model)
        self.arguments = arguments
        self.kept = None if anything and not arguments else {*arguments, *labels, *_LABELS}
        self.title, self.name, self.said = type(model).__name__, name, said
        self.checked = False

    def expect(self, columns: Collection[str]) -> None:
        """Look at the columns that a data set says it has; a transform may still make others of them."""
        if {*columns} & {*self.arguments}:
            self.check(columns)

    def check(self, columns: Collection[str]) -> None:
        """Look at the names of the columns, once."""
        self.checked = True
        if self.kept is None:
            return
        if not {*columns} & {*self.arguments}:
            raise DataError(
                f"{self.name} has no column that {self.title}.forward takes: the columns are {', '.join(columns)}; "
                f"forward takes {', '.join(self.arguments)}. Rename a column, or set remove_unused_columns=False and "
                f"let the data_collator make the model's inputs."
            )
        unused = [column for column in columns if column not in self.kept and column not in self.said]
        self.said.update(unused)
        if unused and get_worker_info() is None:
            log.info("columns that %s.forward does not take are left out: %s", self.title, ", ".join(unused))

    def __call__(self, row: Any) -> Any:
        """The row without the other columns; anything but a mapping as it is."""
        if self.kept is None or not isinstance(row, Mapping):
            return row
        if not self.checked:
            self.check([str(name) for name in row])
        return {name: value for name, value in row.items() if name in self.kept}


class Batches(Dataset[Batch | None]):
    """The batches of one epoch as a map-style data set; None where a process has no rows of a ragged batch.

    `keep` is applied to every row before `collate`.
    """

    def __init__(
        self, rows: Any, *, plan: BatchPlan, collate: Collator, keep: Callable[[Any], Any] | None = None
    ) -> None:
        self.rows = rows
        self.plan = plan
        self.collate = collate
        self.keep = keep
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, position: int) -> Batch | None:
        indices = self.plan.batch_of(self.epoch, position)
        if not indices:
            return None
        with forked(derive("batch", self.plan.seed, self.epoch, position, self.plan.rank)):
            rows = self._fetch(indices)
            return dict(self.collate([*rows] if self.keep is None else [self.keep(row) for row in rows]))

    def _fetch(self, indices: list[int]) -> Sequence[Any]:
        if hasattr(self.rows, "__getitems__"):
            rows: Sequence[Any] = self.rows.__getitems__(indices)
            return rows
        return [self.rows[index] for index in indices]


class _Positions:
    """The batch numbers that the next iteration goes through; what torch calls a sampler."""

    def __init__(self, count: int) -> None:
        self.start, self.stop = 0, count

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))


class Loader(DataLoader[Batch | None]):
    """A torch DataLoader over `Batches`: `len(loader)` and `loader.num_batches` are the batches of a whole epoch."""

    def __init__(self, batches: Batches, *, workers: int = 0, pin_memory: bool = False) -> None:
        self.batches = batches
        self.positions = _Positions(len(batches))
        super().__init__(
            batches,
            batch_size=None,
            sampler=self.positions,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            # torch draws a seed for the workers from here; its default is the global generator, which is the model's.
            generator=torch.Generator().manual_seed(0),
        )

    def seek(self, epoch: int, position: int = 0) -> None:
        """Let the next iterations go through `epoch` from batch `position` on; no earlier row is read."""
        self.batches.epoch = epoch
        self.batches.plan.order(epoch)  # drawn once here, not once in every worker
        self.positions.start = position

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def num_batches(self) -> int:
        """Batches of one epoch."""
        return len(self.batches)

    @property
    def num_examples(self) -> int:
        """Rows of the data set."""
        return self.batches.plan.rows


def _unchanged(batch: Any) -> Any:
    return batch


def check_rows(rows: Any, name: str) -> int:
    """The number of rows of a data set; raises `TrainingError` when it has no length, no rows or no `[index]`."""
    if isinstance(rows, Mapping):
        raise TrainingError(
            f"{name} is a {type(rows).__name__} of {', '.join(map(repr, rows))}; pass one of them, for example "
            f"{name}=dataset[{next(iter(rows), 'train')!r}]."
        )
    if not hasattr(rows, "__getitem__") or not hasattr(rows, "__len__"):
        raise TrainingError(
            f"{name} is a {type(rows).__name__}, which has no length or no [index]. Pass a plait or torch Dataset or a "
            f"list of dicts; the rows of a stream can be collected with list(stream)."
        )
    if not len(rows):
        raise TrainingError(f"{name} has no rows.")
    return len(rows)


def forward_names(model: nn.Module) -> tuple[list[str], bool]:
    """The named arguments of a model's forward, and whether it takes any other name too (`**kwargs`)."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def find_label_names(model: nn.Module) -> list[str]:
    """The arguments of forward that are labels: those with "label" in their name, and the two ends of an answer."""
    names = [
        name for name in forward_names(model)[0] if "label" in name or name in ("start_positions", "end_positions")
    ]
    return names or ["labels"]


def lengths_of(rows: Any, column: str = "length") -> list[int]:
    """The length of every row for "group_by_length": its `length` column, or else the length of its `input_ids`."""
    names = getattr(rows, "column_names", None) or [*rows[0]]
    source = column if column in names else "input_ids"
    if source not in names:
        raise DataError(
            f"group_by_length needs a column {column!r} or 'input_ids'; the columns are {', '.join(names) or 'none'}."
        )
    values = rows[source] if hasattr(rows, "column_names") else [row[source] for row in rows]
    return [int(value) if source == column else len(value) for value in values]
