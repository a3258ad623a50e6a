"""Single cells, complete: the value of one row of a column, as fast as Python allows.

A reader of cells is prepared once per column. Numbers and text without nulls are read from the memory of the Arrow
array itself; everything else through Arrow's scalars. The values are those of `decode.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from plait.data.features import FeatureType, decode_value, is_decoded
from plait.data.table import Rows, Store, Table

ReadCell: TypeAlias = Callable[[int], Any]


class RowReader:
    """Reads single rows of a table as dicts. `row(i)` takes a number that is in range."""

    def __init__(self, table: Table, features: dict[str, FeatureType]) -> None:
        places: dict[Any, int] = {}
        self._locate: list[ReadCell | None] = []
        self._cells: list[tuple[str, int, ReadCell]] = []
        for name, (store, rows) in table.columns.items():
            key = rows.start if isinstance(rows, range) else id(rows)
            if key not in places:
                places[key] = len(self._locate)
                self._locate.append(_locator(rows))
            self._cells.append((name, places[key], _decoded(cell_reader(store), features[name])))
        self._plain = [(name, read) for name, _, read in self._cells]
        # One row as a dict: by the quickest of three ways that this table allows, chosen once.
        self.row: Callable[[int], dict[str, Any]] = self._many_views
        if len(self._locate) == 1:
            self.row = self._same_rows if self._locate[0] is None else self._one_view

    def _same_rows(self, index: int) -> dict[str, Any]:
        return {name: read(index) for name, read in self._plain}

    def _one_view(self, index: int) -> dict[str, Any]:
        (locate,) = self._locate
        assert locate is not None
        place = locate(index)
        return {name: read(place) for name, read in self._plain}

    def _many_views(self, index: int) -> dict[str, Any]:
        places = [index if locate is None else locate(index) for locate in self._locate]
        return {name: read(places[view]) for name, view, read in self._cells}


def _locator(rows: Rows) -> ReadCell | None:
    """From the number of a row seen to its number in the store; `None` where they are the same."""
    if isinstance(rows, range):
        start = rows.start
        return None if start == 0 else lambda index: start + index
    numbers: ReadCell = memoryview(rows.data).__getitem__
    return numbers


def _decoded(read: ReadCell, feature: FeatureType) -> ReadCell:
    return (lambda row: decode_value(feature, read(row))) if is_decoded(feature) else read


def cell_reader(store: Store) -> ReadCell:
    """What reads the value of one row of a store."""
    if len(store.chunks) == 1:
        return _of_chunk(store.chunks[0])
    chunks, starts = store.chunks, store.starts
    readers: list[ReadCell | None] = [None] * len(chunks)  # prepared when first needed

    def read(row: int) -> Any:
        index = bisect_right(starts, row) - 1
        reader = readers[index]
        if reader is None:
            reader = readers[index] = _of_chunk(chunks[index])
        return reader(row - starts[index])

    return read


def _of_chunk(chunk: Any) -> ReadCell:
    kind = chunk.type
    if not chunk.null_count:
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers: ReadCell = memoryview(chunk.to_numpy()).__getitem__
            return numbers
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _of_text(chunk)
    return lambda row: chunk[row].as_py()


def _of_text(chunk: Any) -> ReadCell:
    _, places, data = chunk.buffers()
    if data is None:
        return lambda row: ""
    width: Literal["q", "i"] = "q" if pa.types.is_large_string(chunk.type) else "i"
    offsets = memoryview(places).cast("B").cast(width)[chunk.offset : chunk.offset + len(chunk) + 1]
    text = memoryview(data).cast("B")
    return lambda row: str(text[offsets[row] : offsets[row + 1]], "utf-8")
