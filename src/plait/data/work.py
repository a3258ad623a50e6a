"""Functions over rows, complete: `map` and `filter`, with their cache.

`map` writes only the columns that the function made or changed and shares the others; `filter` keeps row numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from plait.console import Bar, bar, logger
from plait.data.accepted import no_effect
from plait.data.apply import Call, test_rows
from plait.data.asynchronous import gathering
from plait.data.features import Features
from plait.data.kept import keeps, kept, kept_at, kept_rows
from plait.data.key import Key, title_of
from plait.data.outcome import Outcome
from plait.data.schema import as_features, schema_of
from plait.data.shares import Job, Sharing, shared_out, sharing_of, take_in
from plait.data.table import Table, missing_column
from plait.data.view import rows_of

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

log = logger("data")


def map(
    self: Dataset,
    function: Callable[..., Any] | None = None,
    with_indices: bool = False,
    *,
    with_rank: bool = False,
    input_columns: str | list[str] | None = None,
    batched: bool = False,
    batch_size: int | None = 1000,
    drop_last_batch: bool = False,
    remove_columns: str | Iterable[str] | None = None,
    keep_in_memory: bool = False,
    load_from_cache_file: bool | None = None,
    features: Features | Mapping[str, Any] | None = None,
    fn_kwargs: Mapping[str, Any] | None = None,
    num_proc: int | None = None,
    engine: str | None = None,
    new_fingerprint: str | None = None,
    desc: str | None = None,
    on_mixed_types: str | None = "use_json",
    try_original_type: bool | None = True,
    cache_file_name: str | Path | None = None,
    **ignored: Any,
) -> Dataset:
    """The data set with the columns that `function` makes or changes.

    The function gets a row (a dict), or with `batched=True` a dict of lists of `batch_size` rows (`None`: all), and
    returns a dict that updates the row or batch, or `None` to change nothing. A batched function that removes its
    input columns may return any number of rows. `input_columns` are passed as arguments of their own; `with_indices`
    adds the row number(s), `with_rank` the number of the worker, `fn_kwargs` further arguments. Calls of an `async`
    function run side by side.

    `num_proc` worker processes share the rows, or with `engine="ray"` as many workers of a Ray cluster (all its CPUs
    by default); the result is that of one process. Workers are new interpreters: the function travels to them with
    all that it holds.

    Data from files: the result is kept in the cache under a key of the data, the function and all that it reaches.
    `load_from_cache_file=False` computes it anew, `True` also keeps results of data in memory, `keep_in_memory=True`
    keeps nothing on disk, `cache_file_name` keeps all columns in one Arrow file of that name instead, and
    `new_fingerprint` replaces the digest of the function. `features` declares the types of the result; otherwise a
    changed column keeps its type if all values fit it (with `try_original_type=False` it does not), and new types are
    those of all values. A column whose values have no common type becomes `Json`; with `on_mixed_types=None` it is an
    error.
    """
    no_effect("map", ignored)
    sharing = sharing_of(engine, num_proc)
    removed = _names(self, remove_columns)
    call = _call(self, function, input_columns, with_indices, with_rank, fn_kwargs)
    declared = None if features is None else as_features(features)
    if not len(self) and declared is not None:
        return self.derive(Table.from_arrow(schema_of(declared).empty_table()), declared)
    if function is None or not len(self):
        return self.derive(
            self.table.subset([name for name in self.column_names if name not in removed]),
            Features({n: f for n, f in self.features.items() if n not in removed}),
        )
    size = _batch_size(self, batch_size) if batched else None
    steps = {
        "batch size": str(size),
        "drop_last_batch": str(drop_last_batch),
        "remove_columns": repr(removed),
        "features": repr(declared),
        "on_mixed_types": str(on_mixed_types),
        **({} if try_original_type else {"try_original_type": "False"}),
    }
    work = Work(
        self,
        job=Job("map", self, call, size, tuple(removed), declared, on_mixed_types == "use_json"),
        end=len(self) - (len(self) % size if size is not None and drop_last_batch else 0),
        keep_types=bool(try_original_type),
        sharing=sharing,
        title=desc or title_of("map", function),
    )
    key = Key(self, "map", call, steps, new_fingerprint)
    again = load_from_cache_file is False
    if cache_file_name is not None:
        return kept_at(Path(cache_file_name).expanduser(), self, key, work.run, again=again)
    if not keeps(self, keep_in_memory, load_from_cache_file) or key.value is None:
        return work.run()[0]
    return kept(self, key, work.run, work.title, again=again)


@dataclass
class Work:
    """One map, ready to run over the rows before `end`."""

    dataset: Dataset
    job: Job
    end: int
    keep_types: bool
    sharing: Sharing
    title: str

    def run(self, folder: Path | None = None, suffix: str = "") -> tuple[Dataset, dict[str, str]]:
        """The resulting data set; with a folder, its new columns are files there, whose names come with it."""
        job, dataset = self.job, self.dataset
        outcome = Outcome(
            dataset.table,
            dataset.features,
            removed=job.removed,
            declared=job.declared,
            path=None if folder is None else lambda number: folder / f"{number}{suffix}.arrow",
            mixed=job.mixed,
            keep_types=self.keep_types,
        )
        try:
            with bar(self.title, total=self.end, unit="rows") as progress:
                returned = self._fill(outcome, progress)
            if not returned:  # the function returned None throughout: it was called for what it does besides
                return dataset.derive(dataset.table.view(range(self.end))) if self.end else dataset, {}
            table, features, files = outcome.finish()
        except BaseException:
            outcome.abandon()
            raise
        return dataset.derive(table, features), files

    def _fill(self, outcome: Outcome, progress: Bar) -> bool:
        """Call the function, here or in workers; returns whether it returned anything."""
        job = self.job
        shares = shared_out(job, self.end, self.sharing, self.title, progress)
        if shares is None:
            with gathering(job.call.function) as gather:
                return job.fill(outcome, replace(job.call, gather=gather), range(self.end), progress)
        returned = False
        with closing(shares):
            for share in shares:
                returned |= share.returned
                take_in(share, self.dataset, outcome)
        return returned


def filter(
    self: Dataset,
    function: Callable[..., Any] | pc.Expression | None = None,
    with_indices: bool = False,
    *,
    with_rank: bool = False,
    input_columns: str | list[str] | None = None,
    batched: bool = False,
    batch_size: int | None = 1000,
    keep_in_memory: bool = False,
    load_from_cache_file: bool | None = None,
    fn_kwargs: Mapping[str, Any] | None = None,
    num_proc: int | None = None,
    engine: str | None = None,
    new_fingerprint: str | None = None,
    desc: str | None = None,
    **ignored: Any,
) -> Dataset:
    """The rows for which `function` is true: a view, no data are written.

    The function gets a row, or with `batched=True` a batch, and returns a truth value, or one per row of the batch.
    It may also be a `pyarrow.compute` expression over columns, such as `pc.field("label") == 1`, which runs vectorised.
    The other arguments are those of `map`.
    """
    no_effect("filter", ignored)
    sharing = sharing_of(engine, num_proc)
    if function is None:
        return self
    if isinstance(function, pc.Expression):
        from plait.data.expression import rows_where

        return rows_of(self, rows_where(self.table, function))
    call = _call(self, function, input_columns, with_indices, with_rank, fn_kwargs)
    size = _batch_size(self, batch_size) if batched else None
    key = Key(self, "filter", call, {"batch size": str(size)}, new_fingerprint)
    title = desc or title_of("filter", function)

    def compute() -> Any:
        job = Job("filter", self, call, size)
        with bar(title, total=len(self), unit="rows") as progress:
            shares = shared_out(job, len(self), sharing, title, progress)
            if shares is not None:
                with closing(shares):
                    return np.concatenate([share.chosen for share in shares])
            with gathering(function) as gather:
                return test_rows(self, replace(call, gather=gather), size, range(len(self)), progress)

    if not keeps(self, keep_in_memory, load_from_cache_file) or key.value is None:
        return rows_of(self, compute())
    return rows_of(self, kept_rows(key, compute, title, again=load_from_cache_file is False))


# --- arguments --------------------------------------------------------------------------------------------------------


def _names(dataset: Dataset, names: str | Iterable[str] | None) -> list[str]:
    found = [names] if isinstance(names, str) else list(names or ())
    for name in found:
        if name not in dataset.features:
            raise missing_column(name, dataset.features)
    return found


def _batch_size(dataset: Dataset, batch_size: int | None) -> int:
    # None and numbers below 1 mean all rows at once, as in datasets
    return max(1, len(dataset)) if batch_size is None or batch_size <= 0 else batch_size


def _call(
    dataset: Dataset,
    function: Callable[..., Any] | None,
    input_columns: str | list[str] | None,
    with_indices: bool,
    with_rank: bool,
    fn_kwargs: Mapping[str, Any] | None,
) -> Call:
    return Call(
        function,
        input_columns=None if input_columns is None else _names(dataset, input_columns),
        with_indices=with_indices,
        with_rank=with_rank,
        options=dict(fn_kwargs or {}),
    )
