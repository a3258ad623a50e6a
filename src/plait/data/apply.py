"""Calling a function over rows or batches, complete: what it is given, and what is made of what it returns."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_, itemgetter, length_hint
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.console import Bar
from plait.data.asynchronous import CALLS, Gather, called_for
from plait.data.encode import natural
from plait.data.features import is_decoded
from plait.data.lazy import Block, LazyDict, Reader
from plait.data.outcome import Taker
from plait.data.table import compact
from plait.data.widen import cast
from plait.errors import DataError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_LEARNING_ROWS = 100  # of the first block: in it the reader learns which columns the function looks at
_BATCHES = 8  # of an async function that are under way at once, at least
_ABSENT = object()


@dataclass(frozen=True)
class Call:
    """A function, and how it is called. `gather` awaits the calls of an async function."""

    function: Callable[..., Any] | None
    input_columns: list[str] | None = None
    with_indices: bool = False
    with_rank: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    rank: int = 0
    gather: Gather | None = None

    def steps(self) -> dict[str, str]:
        """The way of calling, for the key of the result."""
        return {
            "input_columns": repr(self.input_columns),
            "with_indices": str(self.with_indices),
            "with_rank": str(self.with_rank),
        }

    def over(self, inputs: list[Any], indices: Sequence[Any]) -> list[Any]:
        """What the function returns for each input; `indices` has the row number(s) of each.

        An error of the function carries a note of the row(s) that it was called for.
        """
        if self.input_columns is not None:
            names = self.input_columns
            inputs = [tuple(item[name] for name in names) for item in inputs]
        items = iter(inputs)
        try:
            results = self._called(items, indices)
        except Exception as error:
            called_for(error, indices[len(inputs) - length_hint(items) - 1])
            raise
        return results if self.gather is None else self.gather(results, indices)

    def _called(self, items: Iterator[Any], indices: Sequence[Any]) -> list[Any]:
        function, options = self.function, self.options
        assert function is not None
        rank = (self.rank,) if self.with_rank else ()
        if self.input_columns is not None:
            if self.with_indices:
                return [function(*call, index, *rank, **options) for call, index in zip(items, indices, strict=True)]
            return [function(*call, *rank, **options) for call in items]
        if self.with_indices:
            return [function(item, index, *rank, **options) for item, index in zip(items, indices, strict=True)]
        if rank or options:
            return [function(item, *rank, **options) for item in items]
        return [function(item) for item in items]


class Source:
    """The rows of a data set as functions get them: dicts decoded on demand, or, with a format, rows of that format."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.plain = dataset.format_.kind is None
        self.reader = Reader(dataset.table, dataset.features, dataset.shown_columns())

    def block_rows(self, *, first: bool) -> int:
        """How many rows to take at once, in the first block or in one after it."""
        return _LEARNING_ROWS if first else self.reader.block_rows(1000)

    def rows(self, block: Block) -> list[Any]:
        """The rows of a block."""
        if self.plain:
            return self.reader.rows(block)
        return list(self.dataset.formatter().rows(self._arrays(block), self.dataset.features))

    def batch(self, block: Block) -> Any:
        """A block as one batch."""
        if self.plain:
            return self.reader.batch(block)
        return self.dataset.formatter().batch(self._arrays(block), self.dataset.features)

    def before(self, block: Block, name: str, *, batched: bool) -> Any:
        """One column of a block as it was handed out, before the function saw it."""
        if self.plain:
            return block.values(name)
        formatter, features = self.dataset.formatter(), self.dataset.features
        arrays = {name: block.array(name)}
        if batched:
            return formatter.column(arrays[name], features, name)
        return [row[name] for row in formatter.rows(arrays, features)]

    def same(self, block: Block, name: str, values: Any, *, batched: bool) -> bool:
        """Whether a column came back as it was handed out, with nothing in it changed in place."""
        if name not in self.reader.names or is_decoded(block.features[name]):
            return False  # a picture may have been changed in place
        array = block.array(name)
        before = self.before(block, name, batched=batched)
        if self.plain:
            if not isinstance(values, list) or not _identical(before, values, array.type):
                return False
            if not pa.types.is_nested(array.type):
                return True  # plain values cannot change in place
            return _equal(values, array)
        try:
            return bool(natural(values).equals(natural(before)))
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
            return False

    def _arrays(self, block: Block) -> dict[str, Any]:
        return {name: block.array(name) for name in self.reader.names}


def run_rows(dataset: Dataset, call: Call, outcome: Taker, rows: range, removed: list[str], progress: Bar) -> bool:
    """Call a function for every row of a range; returns whether it returned anything."""
    source = Source(dataset)
    start, returned = rows.start, False
    while start < rows.stop:
        size = source.block_rows(first=start == rows.start)
        block = source.reader.block(start, min(start + size, rows.stop))
        inputs = source.rows(block)
        results = call.over(inputs, range(block.start, block.stop))
        returned |= any(result is not None for result in results)
        _take_rows(source, block, inputs, results, outcome, removed)
        if source.plain:  # only now: what was set in the rows is told by what they held when they were handed out
            source.reader.learn_rows(inputs[:_LEARNING_ROWS])
        progress.advance(len(block))
        start = block.stop
    return returned


def run_batches(
    dataset: Dataset, call: Call, outcome: Taker, rows: range, size: int, removed: list[str], progress: Bar
) -> bool:
    """Call a function for every batch of a range of rows; returns whether it returned anything."""
    source = Source(dataset)
    returned = False
    for blocks, batches, results in _over_batches(source, call, rows, size):
        if source.plain:
            source.reader.learn(batches)
        for block, batch, result in zip(blocks, batches, results, strict=True):
            returned |= result is not None
            _take_batch(source, block, batch, result, outcome, removed)
            progress.advance(len(block))
    return returned


def _over_batches(
    source: Source, call: Call, rows: range, size: int
) -> Iterator[tuple[list[Block], list[Any], list[Any]]]:
    """Blocks, the batches of them and what the function returned: one at a time, or several of an async function."""
    together = size if call.gather is None else max(_BATCHES, CALLS // size) * size
    for first in range(rows.start, rows.stop, together):
        last = min(first + together, rows.stop)
        blocks = [source.reader.block(start, min(start + size, last)) for start in range(first, last, size)]
        batches = [source.batch(block) for block in blocks]
        numbers: list[Any] = [range(block.start, block.stop) for block in blocks]
        # a list of numbers per batch only for a function that wants one
        yield blocks, batches, call.over(batches, [*map(list, numbers)] if call.with_indices else numbers)


def test_rows(dataset: Dataset, call: Call, size: int | None, rows: range, progress: Bar) -> Any:
    """The numbers of the rows of a range for which a function is true."""
    source = Source(dataset)
    found = []
    for block, inputs, results in _tested(source, call, size, rows):
        if source.plain and size is None:
            source.reader.learn_rows(inputs[:_LEARNING_ROWS])
        elif source.plain:
            source.reader.learn(inputs)
        mask = _truth(results, block, batched=size is not None)
        found.append(np.flatnonzero(mask) + block.start)
        progress.advance(len(block))
    chosen = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return compact(chosen, len(dataset))


def _tested(source: Source, call: Call, size: int | None, rows: range) -> Iterator[tuple[Block, list[Any], Any]]:
    """Blocks, the rows or batches of them, and what the function returned."""
    if size is not None:
        for blocks, batches, results in _over_batches(source, call, rows, size):
            yield from ((b, [batch], r) for b, batch, r in zip(blocks, batches, results, strict=True))
        return
    start = rows.start
    while start < rows.stop:
        size_here = source.block_rows(first=start == rows.start)
        block = source.reader.block(start, min(start + size_here, rows.stop))
        inputs = source.rows(block)
        yield block, inputs, call.over(inputs, range(block.start, block.stop))
        start = block.stop


def _truth(results: Any, block: Block, *, batched: bool) -> Any:
    results = results.to_pylist() if isinstance(results, pa.Array | pa.ChunkedArray) else list(results)
    if batched and len(results) != len(block):
        raise DataError(
            f"The function returned {len(results)} values for a batch of {len(block)} rows; return one per row."
        )
    kinds = set(builtins.map(type, results))
    if kinds == {bool}:
        return np.fromiter(results, dtype=bool, count=len(results))
    for kind in kinds:
        if issubclass(kind, Mapping | str | list | tuple | set):
            raise DataError(
                f"A function for filter returns true or false for each row, but this one returned a {kind.__name__}. "
                f"To change rows use map."
            )
    return np.fromiter(builtins.map(bool, results), dtype=bool, count=len(results))


# --- what is made of the results of rows ---


def _take_rows(
    source: Source, block: Block, inputs: list[Any], results: list[Any], outcome: Taker, removed: list[str]
) -> None:
    kinds = set(builtins.map(type, results))
    wrong = [kind for kind in kinds if kind is not type(None) and not issubclass(kind, Mapping)]
    if wrong and all(_is_table_type(kind) for kind in kinds):
        table = pa.concat_tables([as_table(result) for result in results], promote_options="permissive")
        _take_table(block, table, outcome)
        return
    if wrong:
        index = next(index for index, result in enumerate(results) if type(result) in wrong)
        raise DataError(
            f"The function returned {results[index]!r:.100} ({wrong[0].__name__}) for row {block.start + index}. A "
            f"function for map returns a dict of columns, or None to change nothing. To choose rows use filter."
        )
    itself = source.plain and all(builtins.map(is_, inputs, results))
    fields, ragged = _columns(results)
    if source.plain and not itself:
        # what the function set in the row that it was given counts as well, below what it returned
        fields = _set_in_place(source, block, inputs) | fields
    gone = _deleted(source, inputs, outcome.kept) if itself else []
    given, unchanged = {}, []
    for name, values in fields.items():
        if itself and name in removed:
            continue  # the row came back, and with it a column that is to be removed
        if ragged:
            values = _filled(source, block, inputs, values, name, kept=name in outcome.kept)
        given[name] = values
        if name in outcome.table.columns and source.same(block, name, values, batched=False):
            unchanged.append(name)
    outcome.add(block, given, count=len(block), unchanged=unchanged, gone=[name for name in gone if name not in given])


def _columns(results: list[Any]) -> tuple[dict[str, list[Any]], bool]:
    """Rows turned into columns, and whether some rows lack some columns (`_ABSENT` is in their place)."""
    # dict's own methods: what is not decoded yet of a row that came back is no result
    length, names = dict.__len__, dict.__iter__
    rows = results
    if not all(issubclass(kind, dict) for kind in set(builtins.map(type, results))):
        rows = [row if isinstance(row, dict) else {} if row is None else dict(row) for row in results]
    first = next((list(names(row)) for row in rows if length(row)), [])
    if set(builtins.map(length, rows)) == {len(first)}:
        try:
            return {name: [row[name] for row in rows] for name in first}, False
        except KeyError:
            pass
    every = dict.fromkeys(name for row in rows for name in names(row))
    return {name: [dict.get(row, name, _ABSENT) for row in rows] for name in every}, True


def _filled(source: Source, block: Block, inputs: list[Any], values: list[Any], name: str, *, kept: bool) -> list[Any]:
    """A column with what rows lack: what the row holds, or `None` where it was deleted or there was nothing."""
    if not any(value is _ABSENT for value in values):
        return values
    old = block.values(name) if kept else [None] * len(values)
    if source.plain:  # the function may have set it in the row that it was given
        deleted = source.reader.deleted
        old = [
            None if deleted(row, name) else dict.get(row, name, before) for row, before in zip(inputs, old, strict=True)
        ]
    return [before if value is _ABSENT else value for value, before in zip(values, old, strict=True)]


def _set_in_place(source: Source, block: Block, inputs: list[Any]) -> dict[str, list[Any]]:
    """The columns that a function set in the rows it was given."""
    found: dict[str, list[Any]] = {}
    names = source.reader.ahead
    if set(builtins.map(dict.__len__, inputs)) == {len(names)}:  # as handed out, unless a value was replaced
        try:
            if all(all(builtins.map(is_, builtins.map(itemgetter(n), inputs), block.values(n))) for n in names):
                return found
        except KeyError:
            pass
    extra = {name for row in inputs if dict.__len__(row) != len(names) for name in dict.__iter__(row)}
    for name in dict.fromkeys([*names, *sorted(extra)]):
        values = [dict.get(row, name, _ABSENT) for row in inputs]
        if name in source.reader.names:
            before = block.values(name)
            values = [old if new is _ABSENT else new for old, new in zip(before, values, strict=True)]
            if all(builtins.map(is_, before, values)):
                continue
        found[name] = [None if value is _ABSENT else value for value in values]
    return found


def _deleted(source: Source, inputs: list[Any], kept: list[str]) -> list[str]:
    """The columns that a function deleted from every row."""
    return [name for name in kept if all(source.reader.deleted(row, name) for row in inputs)]


# --- what is made of the result of a batch ---


def _take_batch(source: Source, block: Block, batch: Any, result: Any, outcome: Taker, removed: list[str]) -> None:
    if result is None:
        outcome.add(block, {}, count=len(block))
        return
    if _is_table_type(type(result)):
        _take_table(block, as_table(result), outcome)
        return
    if not isinstance(result, Mapping):
        raise DataError(
            f"The function returned {result!r:.100} ({type(result).__name__}) for the batch from row {block.start} on. "
            f"A batched function for map returns a dict of lists, or None to change nothing."
        )
    itself = result is batch and isinstance(batch, LazyDict)
    fields = dict(dict.items(batch)) if itself else dict(result)
    count = _count(fields, block, kept=[name for name in outcome.kept if name not in fields])
    if source.plain and not itself and count == len(block):
        changed = {
            name: values for name, values in dict.items(batch) if not source.same(block, name, values, batched=True)
        }
        fields = changed | fields
    given, unchanged = {}, []
    for name, values in fields.items():
        if itself and name in removed:
            continue
        given[name] = values
        if name in outcome.table.columns and count == len(block) and source.same(block, name, values, batched=True):
            unchanged.append(name)
    gone = [name for name in outcome.kept if batch.deleted(name)] if itself else []
    outcome.add(block, given, count=count, unchanged=unchanged, gone=gone)


def _count(fields: Mapping[str, Any], block: Block, *, kept: list[str]) -> int:
    """How many rows a batched function returned; raises `DataError` when its columns disagree."""
    lengths = {}
    for name, values in fields.items():
        if (
            isinstance(values, str | bytes | Mapping)
            or not hasattr(values, "__len__")
            or getattr(values, "ndim", 1) == 0
        ):
            raise DataError(
                f"With batched=True column {name!r} needs a list with one value per row, but the function returned "
                f"{values!r:.100} ({type(values).__name__})."
            )
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The function returned columns of different lengths for the batch from row {block.start} on: {lengths}."
        )
    count = next(iter(lengths.values()), len(block))
    if count != len(block) and kept:
        raise DataError(
            f"The function returned {count} rows for a batch of {len(block)}, but did not return {kept}. Return these "
            f"columns too, or remove them with remove_columns={kept}."
        )
    return count


# --- whole tables as results ---


def _take_table(block: Block, table: pa.Table, outcome: Taker) -> None:
    """A table that a function returned: it replaces all columns."""
    given = {name: natural(table.column(name)) for name in table.column_names}
    unchanged = [
        name
        for name, array in given.items()
        if name in outcome.table.columns and len(array) == len(block) and array.equals(block.array(name))
    ]
    outcome.add(block, given, count=table.num_rows, unchanged=unchanged, replaced=True)


def _is_table_type(kind: type) -> bool:
    return kind.__name__ in ("DataFrame", "Table", "RecordBatch") and kind.__module__.split(".")[0] in (
        "pandas",
        "polars",
        "pyarrow",
    )


def as_table(value: Any) -> pa.Table:
    """An Arrow table from one, or from a pandas or polars frame."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if type(value).__module__.startswith("polars"):
        return value.to_arrow()
    return pa.Table.from_pandas(value, preserve_index=False)


def _identical(before: list[Any], values: list[Any], kind: pa.DataType) -> bool:
    """Whether values are those that were handed out, one by one."""
    if pa.types.is_string(kind):
        # comparing lists passes over identical items by itself, and much faster; equal texts are the same text
        try:
            return before == values
        except (TypeError, ValueError):  # something that does not compare, such as an array
            return False
    return len(before) == len(values) and all(builtins.map(is_, before, values))


def _equal(values: list[Any], array: Any) -> bool:
    """Whether Python values are those of a nested column: compared as they would be stored."""
    try:
        return bool(cast(natural(values), array.type).equals(array))
    except (DataError, pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
        return False
