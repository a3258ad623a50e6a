"""Functions over rows, complete: `map` and `filter`, with their cache.

`map` writes only the columns that the function made or changed and shares the others; `filter` keeps row numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.console import bar, logger
from plait.data import cache
from plait.data.apply import Call, run_batches, run_rows, test_rows
from plait.data.asynchronous import gathering
from plait.data.features import Features
from plait.data.files import open_arrow, sync
from plait.data.fingerprint import Unhashable, digest, digest_of, table_digest
from plait.data.outcome import Outcome
from plait.data.schema import as_features, features_from_json
from plait.data.table import Table, missing_column
from plait.data.view import known_options, rows_of
from plait.errors import OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

log = logger("data")

_VERSION = "1"  # of what map and filter do: a change makes earlier results unusable


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
    new_fingerprint: str | None = None,
    desc: str | None = None,
    on_mixed_types: str | None = "use_json",
    **ignored: Any,
) -> Dataset:
    """The data set with the columns that `function` makes or changes.

    The function gets a row (a dict), or with `batched=True` a dict of lists of `batch_size` rows (`None`: all), and
    returns a dict that updates the row or batch, or `None` to change nothing. A batched function that removes its
    input columns may return any number of rows. `input_columns` are passed as arguments of their own; `with_indices`
    adds the row number(s), `with_rank` the number of the worker (0), `fn_kwargs` further arguments.

    Data from files: the result is kept in the cache under a key of the data, the function and all that it reaches.
    `load_from_cache_file=False` computes it anew, `True` also keeps results of data in memory, `keep_in_memory=True`
    keeps nothing on disk, and `new_fingerprint` replaces the digest of the function. `features` declares the types of
    the result; otherwise a changed column keeps its type if all values fit it, and new types are those of all values.
    A column whose values have no common type becomes `Json`; with `on_mixed_types=None` it is an error.
    """
    known_options(ignored, "map", _WITHOUT_MEANING)
    _one_process(num_proc)
    removed = _names(self, remove_columns)
    call = Call(
        function,
        input_columns=None if input_columns is None else _names(self, input_columns),
        with_indices=with_indices,
        with_rank=with_rank,
        options=dict(fn_kwargs or {}),
    )
    if function is None:
        return self.derive(
            self.table.subset([name for name in self.column_names if name not in removed]),
            Features({n: f for n, f in self.features.items() if n not in removed}),
        )
    declared = None if features is None else as_features(features)
    size = _batch_size(self, batch_size) if batched else None
    steps = {
        "batch size": str(size),
        "drop_last_batch": str(drop_last_batch),
        "remove_columns": repr(removed),
        "features": repr(declared),
        "on_mixed_types": str(on_mixed_types),
    }
    key = _Key(self, "map", call, steps, new_fingerprint)
    work = _Work(
        dataset=self,
        call=call,
        batch_size=size,
        drop_last_batch=drop_last_batch,
        removed=removed,
        declared=declared,
        title=desc or _title("map", function),
        mixed=on_mixed_types == "use_json",
    )
    keeping = _keeps(self, keep_in_memory, load_from_cache_file)
    if not keeping or key.value is None:
        return work.run(None)
    if load_from_cache_file is not False and (entry := cache.find(key.value)) is not None:
        return _from_entry(self, entry, cache.path_of(key.value))
    if load_from_cache_file is not False:
        key.say_why()
    return _kept(self, key, work)


@dataclass
class _Work:
    """One map, ready to run: in memory, or with a folder for the columns that it makes."""

    dataset: Dataset
    call: Call
    batch_size: int | None
    drop_last_batch: bool
    removed: list[str]
    declared: Features | None
    title: str
    mixed: bool
    files: dict[str, str] = field(default_factory=dict)

    def run(self, folder: Path | None) -> Dataset:
        """The resulting data set; `files` then names the file of each column that was written."""
        dataset = self.dataset
        end = len(dataset)
        if self.batch_size is not None and self.drop_last_batch:
            end -= end % self.batch_size
        outcome = Outcome(
            dataset.table,
            dataset.features,
            removed=self.removed,
            declared=self.declared,
            path=None if folder is None else lambda number: folder / f"{number}.arrow",
            mixed=self.mixed,
        )
        rows = range(end)
        try:
            with bar(self.title, total=end, unit="rows") as progress, gathering(self.call.function) as gather:
                call = replace(self.call, gather=gather)
                if self.batch_size is None:
                    returned = run_rows(dataset, call, outcome, rows, self.removed, progress)
                else:
                    returned = run_batches(dataset, call, outcome, rows, self.batch_size, self.removed, progress)
            if not returned:  # the function returned None throughout: it was called for what it does besides
                return dataset.derive(dataset.table.view(range(end))) if end else dataset
            table, features, self.files = outcome.finish()
        except BaseException:
            outcome.abandon()
            raise
        return dataset.derive(table, features)


def filter(
    self: Dataset,
    function: Callable[..., Any] | pa.compute.Expression | None = None,
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
    new_fingerprint: str | None = None,
    desc: str | None = None,
    **ignored: Any,
) -> Dataset:
    """The rows for which `function` is true: a view, no data are written.

    The function gets a row, or with `batched=True` a batch, and returns a truth value, or one per row of the batch.
    It may also be a `pyarrow.compute` expression over columns, such as `pc.field("label") == 1`, which runs vectorised.
    The other arguments are those of `map`.
    """
    known_options(ignored, "filter", _WITHOUT_MEANING)
    _one_process(num_proc)
    if function is None:
        return self
    if isinstance(function, pa.compute.Expression):
        from plait.data.expression import rows_where

        return rows_of(self, rows_where(self.table, function))
    call = Call(
        function,
        input_columns=None if input_columns is None else _names(self, input_columns),
        with_indices=with_indices,
        with_rank=with_rank,
        options=dict(fn_kwargs or {}),
    )
    size = _batch_size(self, batch_size) if batched else None
    key = _Key(self, "filter", call, {"batch size": str(size)}, new_fingerprint)
    title = desc or _title("filter", function)

    def compute() -> Any:
        with bar(title, total=len(self), unit="rows") as progress, gathering(function) as gather:
            return test_rows(self, replace(call, gather=gather), size, range(len(self)), progress)

    if not _keeps(self, keep_in_memory, load_from_cache_file) or key.value is None:
        return rows_of(self, compute())
    if load_from_cache_file is not False and cache.find(key.value) is not None:
        return rows_of(self, np.load(cache.path_of(key.value) / "rows.npy", mmap_mode="r", allow_pickle=False))
    if load_from_cache_file is not False:
        key.say_why()
    with cache.making(key.value) as making:
        rows = compute()
        np.save(making.folder / "rows.npy", rows, allow_pickle=False)
        sync(making.folder / "rows.npy")
        making.keep({"operation": "filter", "title": title, "rows": len(rows)})
    key.remember()
    return rows_of(self, rows)


# --- the key of a result ----------------------------------------------------------------------------------------------


class _Key:
    """The key of a result: of the data, the operation, and all that the function reaches. `value` is `None` without."""

    def __init__(self, dataset: Dataset, operation: str, call: Call, steps: dict[str, str], given: str | None) -> None:
        self.dataset = dataset
        self.operation = operation
        self.call = call
        self.steps = steps
        self.given = given
        self._value: str | None = None
        self._parts: dict[str, str] = {}
        self._made = False

    @property
    def value(self) -> str | None:
        """The key; `None` when something that the function reaches cannot be hashed (the log says what)."""
        if not self._made:
            self._made = True
            self._make()
        return self._value

    def _make(self) -> None:
        data = table_digest(self.dataset.table, self.dataset.features)
        shown = digest(
            [
                repr(self.dataset.format["type"]),
                repr(self.dataset.shown_columns()),
                repr(self.dataset.format["format_kwargs"]),
            ]
        )
        self._parts = {"data": data, "format": shown, **self.steps, **self.call.steps()}
        if self.given is None:
            try:
                function, parts = digest_of(self.call.function)
                options, more = digest_of(self.call.options, "fn_kwargs")
            except Unhashable as error:
                log.warning(
                    "%s is not cached, because %s. Give its class a method __fingerprint__() -> str, or pass "
                    "new_fingerprint= to name the function yourself.",
                    _title(self.operation, self.call.function),
                    error,
                )
                return
            self._parts |= {**parts, **more}
            named = [function, options]
        else:
            self._parts["new_fingerprint"] = self.given
            named = [self.given]
        steps = [f"{name}={value}" for name, value in sorted({**self.steps, **self.call.steps()}.items())]
        self._value = digest([self.operation, _VERSION, data, shown, *steps, *named])

    @property
    def place(self) -> str:
        """The operation and the function, by name: where to look for what changed."""
        function = self.call.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        return f"{self.operation} {getattr(function, '__module__', '')}.{name}"

    def say_why(self) -> None:
        """Log why there is no result to reuse."""
        log.info(
            "%s is computed: %s", _title(self.operation, self.call.function), cache.explain(self.place, self._parts)
        )

    def remember(self) -> None:
        """Keep the parts, to say later what changed."""
        assert self._value is not None
        cache.remember(self.place, self._value, self._parts)


def _kept(dataset: Dataset, key: _Key, work: _Work) -> Dataset:
    """Run, keep the result in the cache, and open it from there."""
    assert key.value is not None
    with cache.making(key.value) as making:
        made = work.run(making.folder)
        columns = [{"name": name, "file": work.files.get(name)} for name in made.column_names]
        entry = {
            "operation": "map",
            "title": work.title,
            "rows": len(made),
            "columns": columns,
            "features": made.features.to_dict(),
        }
        folder = making.keep(entry)
    key.remember()
    return _from_entry(dataset, entry, folder)


def _from_entry(dataset: Dataset, entry: Mapping[str, Any], folder: Path) -> Dataset:
    """A data set from a result: its own files, and the columns that it shares with the parent."""
    columns = {}
    rows = entry["rows"]
    # rows dropped at the end (drop_last_batch) leave a shorter view of the parent
    shared = dataset.table if rows >= len(dataset) else dataset.table.view(range(rows))
    for item in entry["columns"]:
        name = item["name"]
        if item["file"] is None:
            columns[name] = shared.columns[name]
        else:
            (columns[name],) = open_arrow(folder / item["file"]).columns.values()
    return dataset.derive(Table(columns, rows), features_from_json(entry["features"]))


def _keeps(dataset: Dataset, keep_in_memory: bool, load_from_cache_file: bool | None) -> bool:
    """Whether a result goes to the cache: when the data come from files, or the user asks for it."""
    if keep_in_memory:
        return False
    return bool(load_from_cache_file) or any(c.store.sources is not None for c in dataset.table.columns.values())


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


def _one_process(num_proc: int | None) -> None:
    if num_proc is not None and num_proc < 1:
        raise OptionError(f"num_proc must be at least 1, but is {num_proc}.")
    if num_proc is not None and num_proc > 1:
        log.info("num_proc=%d has no effect yet: the work is done in this process", num_proc)


def _title(operation: str, function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return operation if name == "<lambda>" else f"{operation} {name}"


_WITHOUT_MEANING = {
    "cache_file_name",
    "writer_batch_size",
    "disable_nullable",
    "suffix_template",
    "try_original_type",
}
