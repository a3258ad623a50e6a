"""Functions over the rows of a stream, complete: `map` over rows and batches, and `filter`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from plait.data.apply import LEARNING_ROWS, Apart, Call
from plait.data.asynchronous import gathering
from plait.data.encode import natural
from plait.data.expression import rows_where
from plait.data.features import Features
from plait.data.returned import as_table, is_table_type
from plait.data.schema import features_of
from plait.data.streams.block import Block, Columns, Rows, by_column, by_row, inferred, only, typed
from plait.data.streams.chain import Cursor, Link, Pace, Position
from plait.data.streams.show import Show
from plait.data.table import Table
from plait.errors import DataError

_EVERYTHING = 1 << 60  # rows: more than any stream has


@dataclass(frozen=True)
class Function(Link):
    """A function, how it is called, and in which format it sees rows. Positions count rows for `with_indices`."""

    call: Call
    show: Show
    batch_size: int | None = None  # None: row by row

    @property
    def features(self) -> Features | None:
        return None

    @property
    def ordered(self) -> bool:
        # a batch may reach over the end of a shard, and its function may depend on the whole of it
        return self.batch_size is None and self.input.ordered

    def described(self) -> str:
        size = "" if self.batch_size is None else f"({self.batch_size})"
        return f"{self.input.described()} > {type(self).__name__}{size}"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        at, row = position if position is not None else (None, 0)
        cursor, pace = Cursor(self.input, at), Pace()
        with gathering(self.call.function) as gather:
            call = replace(self.call, gather=gather)
            assert call.function is not None
            apart, seen = Apart(call.function), 0
            careful = call if gather is not None or self.batch_size is not None else replace(call, function=apart)
            while True:
                pace.start()
                block = cursor.take(pace.rows) if self.batch_size is None else cursor.exactly(self.batch_size)
                if block is None:
                    return
                work = self.over_rows if self.batch_size is None else self.over_batch
                made = work(careful if seen < LEARNING_ROWS or apart.again else call, block, row)
                pace.stop()
                row += len(block)
                seen += len(block)
                if made is not None and len(made):
                    yield made, [cursor.position(), row]

    def over_rows(self, call: Call, block: Block, first: int) -> Block | None:
        """What becomes of a block when the function sees its rows one by one."""
        raise NotImplementedError

    def over_batch(self, call: Call, block: Block, first: int) -> Block | None:
        """What becomes of a block when the function sees it as one batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class Map(Function):
    """Rows updated by what a function returns; `removed` are columns of its input that do not stay."""

    removed: frozenset[str] = frozenset()
    drop_last_batch: bool = False

    def over_rows(self, call: Call, block: Block, first: int) -> Block | None:
        inputs = self.show.rows(block)
        results = call.over(inputs, range(first, first + len(block)))
        if all(is_table_type(type(result)) for result in results):
            return self._of_table(pa.concat_tables([as_table(item) for item in results], promote_options="permissive"))
        made = []
        rows = block.rows() if self.show.table else inputs
        for index, (row, result) in enumerate(zip(rows, results, strict=True)):
            if result is None:
                result = {}
            elif not isinstance(result, Mapping):
                raise DataError(
                    f"The function returned {result!r:.100} ({type(result).__name__}) for row {first + index}. A "
                    f"function for map returns a dict of columns, or None to change nothing. To choose rows use filter."
                )
            made.append(self._updated(row, result))
        return Rows(made)

    def _updated(self, before: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that stay, and above them those that the function returned."""
        if not self.removed:
            return {**before, **result}
        kept = {name: value for name, value in before.items() if name not in self.removed}
        return kept if result is before else {**kept, **result}

    def over_batch(self, call: Call, block: Block, first: int) -> Block | None:
        if self.drop_last_batch and self.batch_size is not None and len(block) < self.batch_size < _EVERYTHING:
            return None
        batch = self.show.batch(block)
        (result,) = call.over([batch], [list(range(first, first + len(block)))])
        if is_table_type(type(result)):
            return self._of_table(result)
        if self.show.table:
            batch = by_column(block.rows())
        if result is None:
            result = {}
        elif not isinstance(result, Mapping):
            raise DataError(
                f"The function returned {result!r:.100} ({type(result).__name__}) for the batch from row {first} on. "
                f"A batched function for map returns a dict of lists, or None to change nothing."
            )
        made = self._updated(batch, result)
        lengths = {name: _length(name, values) for name, values in made.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"For the batch from row {first} on there are columns of different lengths: {lengths}. Return all "
                f"columns with the same number of values, and remove the others with remove_columns=."
            )
        return Rows(by_row(made))

    def _of_table(self, result: Any) -> Block:
        """A table that the function returned: it replaces all columns."""
        table = as_table(result)
        table = table.select([name for name in table.column_names if name not in self.removed])
        arrays = {name: natural(table.column(name)) for name in table.column_names}
        return Columns(arrays, features_of(table.schema), table.num_rows)


@dataclass(frozen=True)
class Filter(Function):
    """The rows for which a function is true, as they were."""

    @property
    def features(self) -> Features | None:
        return self.input.features

    @property
    def ordered(self) -> bool:
        return self.input.ordered

    def over_rows(self, call: Call, block: Block, first: int) -> Block | None:
        return _where(block, call.over(self.show.rows(self._seen(block)), range(first, first + len(block))))

    def _seen(self, block: Block) -> Block:
        """The columns that the function gets: the others need not be decoded."""
        names = self.call.input_columns
        return only(block, names) if names is not None and isinstance(block, Columns) else block

    def over_batch(self, call: Call, block: Block, first: int) -> Block | None:
        batch = self.show.batch(self._seen(block))
        (results,) = call.over([batch], [list(range(first, first + len(block)))])
        found = results.to_pylist() if isinstance(results, pa.Array | pa.ChunkedArray) else list(results)
        if len(found) != len(block):
            raise DataError(
                f"The function returned {len(found)} values for a batch of {len(block)} rows; return one per row."
            )
        return _where(block, found)


@dataclass(frozen=True)
class Where(Link):
    """The rows for which an expression over columns is true."""

    expression: Any

    def described(self) -> str:
        return f"{self.input.described()} > where({self.expression})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        for block, after in self.input.blocks(position):
            columns = block if isinstance(block, Columns) else typed(block, inferred(block))
            rows = rows_where(Table.from_arrays(columns.arrays), self.expression)
            if len(rows):
                yield block if len(rows) == len(block) else block.take(rows), after


def _where(block: Block, results: list[Any]) -> Block | None:
    for kind in {type(result) for result in results}:
        if issubclass(kind, Mapping | str | list | tuple | set):
            raise DataError(
                f"A function for filter returns true or false for each row, but this one returned a {kind.__name__}. "
                f"To change rows use map."
            )
    rows = np.flatnonzero(np.fromiter((bool(result) for result in results), dtype=bool, count=len(results)))
    if len(rows) == len(block):
        return block
    return block.take(rows.tolist()) if len(rows) else None


def _length(name: str, values: Any) -> int:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        raise DataError(
            f"With batched=True column {name!r} needs a list with one value per row, but the function returned "
            f"{values!r:.100} ({type(values).__name__})."
        )
    return len(values)


def batch_size_of(batch_size: int | None) -> int:
    """The number of rows of a batch; `None` and numbers below 1 mean all rows at once."""
    return _EVERYTHING if batch_size is None or batch_size < 1 else batch_size
