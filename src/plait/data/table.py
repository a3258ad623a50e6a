"""The column store, complete: columns that live in memory-mapped Arrow files or in memory, seen through row views.

A `Store` is one column as it lies on disk or in memory: Arrow arrays one after another ("chunks"). A `View` is a store
and the rows of it that are seen: a `range`, or an array of row numbers. A `Table` is a mapping of names to views of
one length. Columns of one table may come from different files and have different views, so adding a column never
touches the others, and selecting, sorting or shuffling rows never touches any data.

    Table   text ──┐ rows [3, 0, 2]         ┌─ Store  parent.arrow, column 0
            label ─┴────────────────────────┴─ Store  parent.arrow, column 1
            length ── rows range(3) ────────── Store  result/0.arrow, column 0
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plait.data.encode import plain_storage
from plait.errors import ColumnError, DataError, nearest

Rows: TypeAlias = "range | npt.NDArray[np.int32 | np.int64]"

# a block of rows that is decoded at once: at most so many rows, and about so many bytes
BLOCK_ROWS = 1000
BLOCK_BYTES = 4 << 20


class Source(NamedTuple):
    """Where rows of a store come from: rows `start` … `stop - 1` of one column of an Arrow file."""

    path: Path
    column: int
    start: int
    stop: int


class Store:
    """One column as it lies on disk or in memory. Immutable.

    `starts` holds the first row of every chunk, and the number of rows at the end; columns of one file share the list.
    `sources` says which files the rows are mapped from, in order; it is `None` for a column in memory.
    """

    __slots__ = ("chunks", "digest", "sources", "starts", "type")

    def __init__(
        self,
        chunks: Sequence[Any],
        kind: pa.DataType,
        *,
        starts: list[int] | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.chunks = list(chunks)
        self.type = kind
        self.starts = starts if starts is not None else [0, *accumulate(len(chunk) for chunk in self.chunks)]
        self.sources = sources
        self.digest: str | None = None  # filled by fingerprint.py when first asked for

    def __len__(self) -> int:
        return self.starts[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        # a column in files travels as their names, so that worker processes map it instead of copying it
        if self.sources is not None:
            return (_reopen, (self.sources, self.type))
        return (Store, (self.chunks, self.type))

    def bytes_per_row(self) -> float:
        """A guess from the first chunk: enough to choose a block size."""
        if not self.chunks:
            return 0.0
        sample = self.chunks[0].slice(0, 1000)
        return float(sample.nbytes / max(1, len(sample)))

    def scalar(self, row: int) -> Any:
        """The Arrow scalar of one row."""
        if len(self.chunks) == 1:
            return self.chunks[0][row]
        index = bisect_right(self.starts, row) - 1
        return self.chunks[index][row - self.starts[index]]

    def slice(self, start: int, stop: int) -> Any:
        """Rows `start` … `stop - 1` as one Arrow array; without a copy when they lie in one chunk."""
        if stop <= start:
            return pa.array([], type=self.type)
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, stop - 1) - 1
        if first == last:
            return self.chunks[first].slice(start - self.starts[first], stop - start)
        return pa.concat_arrays(self.parts(start, stop))

    def sources_of(self, start: int, stop: int) -> list[Source] | None:
        """Where rows `start` … `stop - 1` come from."""
        if self.sources is None:
            return None
        found, first = [], 0
        for path, index, begin, end in self.sources:
            low, high = max(start, first), min(stop, first + end - begin)
            if low < high:
                found.append(Source(path, index, begin + low - first, begin + high - first))
            first += end - begin
        return found

    def parts(self, start: int, stop: int) -> list[Any]:
        """Rows `start` … `stop - 1` as the pieces of chunks that hold them, never copied."""
        found = []
        index = max(bisect_right(self.starts, start) - 1, 0)
        while start < stop:
            end = min(stop, self.starts[index + 1])
            if end > start:
                found.append(self.chunks[index].slice(start - self.starts[index], end - start))
                start = end
            index += 1
        return found


def _reopen(sources: Sequence[Source], kind: pa.DataType) -> Store:
    from plait.data.files import open_arrow

    chunks: list[Any] = []
    for path, index, start, stop in sources:
        try:
            table = open_arrow(path)
        except FileNotFoundError as error:
            raise DataError(
                f"{path}, from which a data set is mapped, was removed meanwhile. Load the data set again, or make it "
                f"again."
            ) from error
        chunks += list(table.columns.values())[index].store.parts(start, stop)
    return Store(chunks, kind, sources=sources)


class View(NamedTuple):
    """A store, and the rows of it that are seen."""

    store: Store
    rows: Rows


class _Gather:
    """Where the rows of one batch lie: found once, used for every column that has the same view and chunks."""

    def __init__(self, rows: npt.NDArray[Any], starts: list[int]) -> None:
        self.pieces: list[tuple[int, Any]] = []
        self.order: Any = None
        self.single: list[tuple[int, int]] = []
        if len(starts) == 2:
            self.pieces = [(0, pa.array(rows))]
            return
        which = np.searchsorted(starts, rows, side="right") - 1
        if len(np.unique(which)) > len(rows) / 4:
            # far apart: one slice per row is cheaper than one gather per chunk
            places = rows - np.asarray(starts)[which]
            self.single = list(zip(which.tolist(), places.tolist(), strict=True))
            return
        if len(rows) and bool((which[1:] < which[:-1]).any()):
            # visit the chunks in order (locality on disk), and put the rows back afterwards
            order = np.argsort(which, kind="stable")
            which, rows = which[order], rows[order]
            inverse = np.empty(len(order), dtype=np.int64)
            inverse[order] = np.arange(len(order))
            self.order = pa.array(inverse)
        bounds = np.flatnonzero(np.diff(which)) + 1
        edges = [0, *bounds.tolist(), len(rows)]
        places = pa.array(rows - np.asarray(starts)[which])
        self.pieces = [
            (int(which[start]), places.slice(start, stop - start))
            for start, stop in zip(edges, edges[1:], strict=False)
            if stop > start
        ]

    def take(self, store: Store) -> Any:
        """The rows of one store, as one Arrow array."""
        if self.single:
            return pa.concat_arrays([store.chunks[chunk].slice(place, 1) for chunk, place in self.single])
        if not self.pieces:
            return pa.array([], type=store.type)
        parts = [_taken(store.chunks[chunk], rows) for chunk, rows in self.pieces]
        found = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
        return found if self.order is None else _taken(found, self.order)


def _taken(array: Any, rows: Any) -> Any:
    """Some rows of an array. Arrow cannot gather the kinds of text and bytes that are views."""
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}.get(array.type)
    return array.take(rows) if plain is None else array.cast(plain).take(rows).cast(array.type)


class Table:
    """Columns of one length by name. Immutable: every change is a new table that shares the columns."""

    __slots__ = ("columns", "num_rows")

    def __init__(self, columns: Mapping[str, View], num_rows: int | None = None) -> None:
        self.columns: dict[str, View] = dict(columns)
        lengths = {name: len(column.rows) for name, column in self.columns.items()}
        if num_rows is None:
            num_rows = next(iter(lengths.values()), 0)
        if any(length != num_rows for length in lengths.values()):
            raise DataError(f"Columns must have the same number of rows, but they have {lengths}.")
        self.num_rows = num_rows

    # --- making one ---

    @classmethod
    def from_arrow(cls, table: pa.Table, *, path: Path | None = None) -> Table:
        """The columns of an Arrow table, not copied. `path` names the file that they are mapped from, if any."""
        columns = {}
        starts: list[int] | None = None
        for index, (name, chunked) in enumerate(zip(table.column_names, table.columns, strict=True)):
            if name in columns:
                raise DataError(f"Two columns are called {name!r}{f' in {path}' if path else ''}.")
            chunks = [plain_storage(chunk) for chunk in chunked.chunks if len(chunk)]
            kind = chunks[0].type if chunks else plain_storage(pa.array([], type=chunked.type)).type
            sources = [Source(path, index, 0, table.num_rows)] if path else None
            store = Store(chunks, kind, starts=starts, sources=sources)
            starts = store.starts  # the columns of a table are chunked alike
            columns[name] = View(store, range(len(store)))
        return cls(columns, table.num_rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Table:
        """Columns in memory from Arrow arrays."""
        columns = {}
        for name, array in arrays.items():
            store = Store([array] if len(array) else [], array.type)
            columns[name] = View(store, range(len(array)))
        return cls(columns)

    # --- other tables over the same columns ---

    def column(self, name: str) -> View:
        """One column; raises `ColumnError` with the nearest name when there is none."""
        if name not in self.columns:
            raise missing_column(name, self.columns)
        return self.columns[name]

    def subset(self, names: Iterable[str]) -> Table:
        """Some of the columns, in the order given."""
        return Table({name: self.column(name) for name in names}, self.num_rows)

    def with_columns(self, columns: Mapping[str, View]) -> Table:
        """This table with columns added or replaced."""
        return Table({**self.columns, **columns})

    def view(self, rows: Rows) -> Table:
        """Some of the rows, in the order given. Views of views are composed, once for all columns that share one."""
        composed: dict[Any, Rows] = {}
        columns = {}
        for name, (store, present) in self.columns.items():
            key = present if isinstance(present, range) else id(present)
            if key not in composed:
                composed[key] = _compose(present, rows)
            columns[name] = View(store, composed[key])
        return Table(columns, len(rows))

    # --- reading ---

    def read(self, start: int, stop: int, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Rows `start` … `stop - 1` of some columns, each as one Arrow array."""
        stop = min(stop, self.num_rows)
        plans: dict[tuple[int, int], _Gather] = {}
        found = {}
        for name in self.columns if names is None else names:
            store, rows = self.column(name)
            if isinstance(rows, range):
                part = rows[start:stop]
                found[name] = store.slice(part.start, part.start + len(part))
                continue
            key = (id(rows), id(store.starts))
            if key not in plans:
                plans[key] = _Gather(rows[start:stop], store.starts)
            found[name] = plans[key].take(store)
        return found

    def take(self, rows: npt.NDArray[Any] | Sequence[int], names: Iterable[str] | None = None) -> dict[str, Any]:
        """Rows by number (not negative), in the order given, each column as one Arrow array."""
        chosen = self.view(np.asarray(rows, dtype=np.int64))
        return chosen.read(0, chosen.num_rows, names)

    def block_rows(self, names: Iterable[str] | None = None, *, limit: int = BLOCK_ROWS) -> int:
        """How many rows to decode at once: `limit`, or fewer when rows are large."""
        columns = [self.column(name) for name in (self.columns if names is None else names)]
        per_row = sum(column.store.bytes_per_row() for column in columns)
        return max(1, min(limit, int(BLOCK_BYTES / per_row) if per_row else limit))

    def blocks(
        self, names: Iterable[str] | None = None, *, start: int = 0, size: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """All rows from `start` on, block by block: the first row's number, and each column as one Arrow array."""
        names = list(self.columns if names is None else names)
        size = size or self.block_rows(names)
        for first in range(start, self.num_rows, size):
            yield first, self.read(first, first + size, names)

    def to_arrow(self, names: Iterable[str] | None = None) -> pa.Table:
        """Some columns as an Arrow table: without a copy where rows are seen in the order in which they lie."""
        names = list(self.columns if names is None else names)
        arrays = [pa.chunked_array(list(self._chunks(name)), type=self.column(name).store.type) for name in names]
        return pa.table(arrays, names=names) if names else pa.table({})

    def _chunks(self, name: str) -> Iterator[Any]:
        store, rows = self.column(name)
        if isinstance(rows, range):
            yield from store.parts(rows.start, rows.start + len(rows))
            return
        size = self.block_rows([name], limit=1 << 16)
        for start in range(0, len(rows), size):
            yield _Gather(rows[start : start + size], store.starts).take(store)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows seen, estimated from the size of the columns."""
        return int(sum(column.store.bytes_per_row() * len(column.rows) for column in self.columns.values()))


def missing_column(name: object, columns: Iterable[str]) -> ColumnError:
    """The error for a column that is not there."""
    names = list(columns)
    return ColumnError(f"There is no column {name!r}.{nearest(str(name), names)} Columns are {names}.")


def concatenate(tables: Sequence[Table]) -> Table:
    """The rows of several tables with the same columns and types, one after another; data are shared, not copied."""
    joined: dict[tuple[int, ...], list[int]] = {}
    columns = {}
    for name, first in tables[0].columns.items():
        parts = [table.column(name) for table in tables if table.num_rows]
        columns[name] = _join(parts, first.store.type, joined) if parts else first
    return Table(columns, sum(table.num_rows for table in tables))


def _join(parts: list[View], kind: pa.DataType, joined: dict[tuple[int, ...], list[int]]) -> View:
    """Several columns as one; `joined` lets columns with the same chunks share one list of their starts."""
    if len(parts) == 1:
        return parts[0]
    plain = all(isinstance(column.rows, range) for column in parts)
    chunks: list[Any] = []
    sources: list[Source] | None = []
    numbers: list[Any] = []
    before = 0
    for store, rows in parts:
        # of a plain column only the rows seen; of a view the whole store, with row numbers shifted by what lies before
        bounds = (rows.start, rows.stop) if plain and isinstance(rows, range) else (0, len(store))
        chunks += store.parts(*bounds)
        found = store.sources_of(*bounds)
        sources = None if sources is None or found is None else [*sources, *found]
        if not plain:
            numbers.append(np.asarray(rows, dtype=np.int64) + before)
        before += bounds[1] - bounds[0]
    key = tuple(len(chunk) for chunk in chunks)
    store = Store(chunks, kind, starts=joined.get(key), sources=sources)
    joined.setdefault(key, store.starts)
    return View(store, range(before) if plain else compact(np.concatenate(numbers), before))


def compact(rows: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Row numbers in the smallest integer type that can count `length` rows."""
    return rows.astype(np.int32 if length <= np.iinfo(np.int32).max else np.int64, copy=False)


def _compose(present: Rows, rows: Rows) -> Rows:
    if isinstance(rows, range) and rows.step == 1:
        return present[rows.start : rows.stop] if len(rows) else range(0)
    numbers = np.asarray(rows)
    if isinstance(present, range):
        return compact(numbers + present.start, present.start + len(present))
    chosen: Rows = present[numbers]
    return chosen
