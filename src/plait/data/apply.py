"""Calling a function over rows or batches, complete: what it is given, and in which order. `returned.py` takes over."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_, length_hint
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from plait import flat
from plait.console import Bar
from plait.data.asynchronous import CALLS, Gather, called_for
from plait.data.encode import natural, own_copy
from plait.data.features import Features, is_decoded
from plait.data.formats import Format, formatter_of
from plait.data.lazy import Block, Reader
from plait.data.outcome import Taker
from plait.data.returned import take_batch, take_rows
from plait.data.table import Table, compact
from plait.data.widen import cast
from plait.errors import DataError

LEARNING_ROWS = 100  # of the first block: in it the reader learns which columns the function looks at
_BATCHES = 8  # of an async function that are under way at once, at least


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


class Apart:
    """A function that fills one dict, array or tensor for all its rows, with results of their own.

    Whether a function does so (`again`) shows in the first rows.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.again = False
        self._last: dict[str, Any] = {}

    def __call__(self, *args: Any, **options: Any) -> Any:
        found = self.function(*args, **options)
        if type(found) is not dict or (args and found is args[0]):
            return found
        result = {name: own_copy(value) for name, value in found.items()}
        changing = [name for name, value in found.items() if result[name] is not value]
        self.again |= found is self._last or any(found[name] is self._last.get(name) for name in changing)
        self._last = found
        return result


class Shown(Protocol):
    """What of a data set functions are shown."""

    @property
    def table(self) -> Table: ...

    @property
    def features(self) -> Features: ...

    @property
    def format_(self) -> Format: ...


class Source:
    """The rows of a data set as functions get them: dicts decoded on demand, or, with a format, rows of that format.

    Functions get all columns: those that a format shows are for reading.
    """

    def __init__(self, dataset: Shown) -> None:
        self.plain = dataset.format_.kind is None
        self.reader = Reader(dataset.table, dataset.features, list(dataset.table.columns))
        self._features = dataset.features
        self._formatter = formatter_of(dataset.format_)

    def block_rows(self, *, first: bool) -> int:
        """How many rows to take at once, in the first block or in one after it."""
        return LEARNING_ROWS if first else self.reader.block_rows(1000)

    def rows(self, block: Block) -> list[Any]:
        """The rows of a block."""
        if self.plain:
            return self.reader.rows(block)
        return list(self._formatter.rows(self._arrays(block), self._features))

    def batch(self, block: Block) -> Any:
        """A block as one batch."""
        if self.plain:
            return self.reader.batch(block)
        return self._formatter.batch(self._arrays(block), self._features)

    def before(self, block: Block, name: str, *, batched: bool) -> Any:
        """One column of a block as it was handed out, before the function saw it."""
        if self.plain:
            return block.values(name)
        arrays = {name: block.array(name)}
        if batched:
            return self._formatter.column(arrays[name], self._features, name)
        return [row[name] for row in self._formatter.rows(arrays, self._features)]

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


def run_rows(dataset: Shown, call: Call, outcome: Taker, rows: range, removed: list[str], progress: Bar) -> bool:
    """Call a function for every row of a range; returns whether it returned anything."""
    source = Source(dataset)
    source.reader.begin()
    start, returned = rows.start, False
    assert call.function is not None
    apart = Apart(call.function)
    careful = call if call.gather is not None else replace(call, function=apart)
    while start < rows.stop:
        first = start == rows.start
        block = source.reader.block(start, min(start + source.block_rows(first=first), rows.stop))
        inputs = source.rows(block)
        results = (careful if first or apart.again else call).over(inputs, range(block.start, block.stop))
        returned |= any(result is not None for result in results)
        take_rows(source, block, inputs, results, outcome, removed)
        if source.plain:  # only now: what was set in the rows is told by what they held when they were handed out
            source.reader.learn_rows(inputs[:LEARNING_ROWS])
        progress.advance(len(block))
        start = block.stop
    return returned


def run_batches(
    dataset: Shown, call: Call, outcome: Taker, rows: range, size: int, removed: list[str], progress: Bar
) -> bool:
    """Call a function for every batch of a range of rows; returns whether it returned anything."""
    source = Source(dataset)
    source.reader.begin()
    returned = False
    for blocks, batches, results in _over_batches(source, call, rows, size):
        if source.plain:
            source.reader.learn(batches)
        for block, batch, result in zip(blocks, batches, results, strict=True):
            returned |= result is not None
            take_batch(source, block, batch, result, outcome, removed)
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
        with flat.welcome():
            # a list of numbers per batch only for a function that wants one
            results = call.over(batches, [*map(list, numbers)] if call.with_indices else numbers)
        yield blocks, batches, results


def test_rows(dataset: Shown, call: Call, size: int | None, rows: range, progress: Bar) -> Any:
    """The numbers of the rows of a range for which a function is true."""
    source = Source(dataset)
    found = []
    for block, inputs, results in _tested(source, call, size, rows):
        if source.plain and size is None:
            source.reader.learn_rows(inputs[:LEARNING_ROWS])
        elif source.plain:
            source.reader.learn(inputs)
        mask = _truth(results, block, batched=size is not None)
        found.append(np.flatnonzero(mask) + block.start)
        progress.advance(len(block))
    chosen = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    return compact(chosen, dataset.table.num_rows)


def _tested(source: Source, call: Call, size: int | None, rows: range) -> Iterator[tuple[Block, list[Any], Any]]:
    """Blocks, the rows or batches of them, and what the function returned."""
    source.reader.begin()
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
