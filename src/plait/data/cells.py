"""Single rows, complete: the values of one row as a dict, as fast as Python allows.

A reader of rows is prepared once per table, and for each chunk of its columns when the first row in it is asked for.
Numbers and text without nulls are read from the memory of the Arrow arrays themselves; everything else through
Arrow's scalars. The values are those of `decode.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from plait.data.features import Features, FeatureType, decode_value, is_decoded
from plait.data.table import Rows, Table

ReadCell: TypeAlias = Callable[[int], Any]
ReadRow: TypeAlias = Callable[[int], dict[str, Any]]


def row_reader(table: Table, features: Features) -> ReadRow:
    """What reads single rows of a table as dicts, from a row's number, which must be in range."""
    groups: dict[Any, list[str]] = {}  # columns that are seen and chunked alike: a row is looked up once for all
    for name, (store, rows) in table.columns.items():
        groups.setdefault((rows.start if isinstance(rows, range) else id(rows), id(store.starts)), []).append(name)
    readers = [_group_reader(table, names, features) for names in groups.values()]
    if len(readers) == 1:
        return readers[0]
    if len(readers) == 2:
        first, second = readers

        def two(index: int) -> dict[str, Any]:
            return {**first(index), **second(index)}

        read: ReadRow = two
    else:

        def several(index: int) -> dict[str, Any]:
            return {name: value for reader in readers for name, value in reader(index).items()}

        read = several
    order = list(table.columns)
    if [name for names in groups.values() for name in names] == order:
        return read

    def ordered(index: int) -> dict[str, Any]:
        row = read(index)
        return {name: row[name] for name in order}

    return ordered


def _group_reader(table: Table, names: list[str], features: Features) -> ReadRow:
    """What reads the cells of one row of columns that are seen and chunked alike."""
    stores = [table.columns[name].store for name in names]
    locate = _locator(table.columns[names[0]].rows)
    starts = stores[0].starts

    def prepared(chunk: int) -> ReadRow:
        cells = [
            _decoded(_of_chunk(store.chunks[chunk]), features[name]) for name, store in zip(names, stores, strict=True)
        ]
        return _dict_of(names, cells)

    if len(starts) == 2:
        only = prepared(0)
        return only if locate is None else lambda index: only(locate(index))
    readers: list[ReadRow | None] = [None] * (len(starts) - 1)

    def read(index: int) -> dict[str, Any]:
        place = index if locate is None else locate(index)
        chunk = bisect_right(starts, place) - 1
        reader = readers[chunk]
        if reader is None:
            reader = readers[chunk] = prepared(chunk)
        return reader(place - starts[chunk])

    return read


def _dict_of(names: list[str], cells: list[ReadCell]) -> ReadRow:
    """Cells as a dict. For up to four names a dict display is written out: twice as fast as a loop."""
    if len(names) == 1:
        (a,), (p,) = names, cells
        return lambda at: {a: p(at)}
    if len(names) == 2:
        (a, b), (p, q) = names, cells
        return lambda at: {a: p(at), b: q(at)}
    if len(names) == 3:
        (a, b, c), (p, q, r) = names, cells
        return lambda at: {a: p(at), b: q(at), c: r(at)}
    if len(names) == 4:
        (a, b, c, d), (p, q, r, s) = names, cells
        return lambda at: {a: p(at), b: q(at), c: r(at), d: s(at)}
    pairs = list(zip(names, cells, strict=True))
    return lambda at: {name: read(at) for name, read in pairs}


def _locator(rows: Rows) -> ReadCell | None:
    """From the number of a row seen to its number in the store; `None` where they are the same."""
    if isinstance(rows, range):
        start = rows.start
        return None if start == 0 else lambda index: start + index
    numbers: ReadCell = memoryview(rows.data).__getitem__
    return numbers


def _decoded(read: ReadCell, feature: FeatureType) -> ReadCell:
    return (lambda row: decode_value(feature, read(row))) if is_decoded(feature) else read


def _of_chunk(chunk: Any) -> ReadCell:
    kind = chunk.type
    if not chunk.null_count:
        if pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind):
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
    return lambda row: text[offsets[row] : offsets[row + 1]].tobytes().decode()
