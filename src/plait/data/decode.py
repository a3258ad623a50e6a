"""From Arrow to Python, complete: a whole array at once becomes a list of Python values, without a call per cell.

The values are exactly those of `pyarrow.Array.to_pylist`, which is fast from Arrow 26 on. Before that it made a call
per cell, and this file is ten times faster: numbers go through NumPy, lists are cut out of one flat Python list,
structs are zipped from their fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from plait.data.features import FeatureType, decode_value, is_decoded
from plait.data.widen import list_parts

_ARROW_IS_FAST = int(pa.__version__.partition(".")[0]) >= 26


def to_python(array: Any) -> list[Any]:
    """The values of an Arrow array or chunked array as Python objects; a null is `None`."""
    if _ARROW_IS_FAST:
        values: list[Any] = array.to_pylist()
        return values
    if isinstance(array, pa.ChunkedArray):
        if array.num_chunks == 1:
            return to_python(array.chunk(0))
        return [value for chunk in array.chunks for value in to_python(chunk)]
    kind = array.type
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return _numbers(array)
    if types.is_string(kind) or types.is_large_string(kind):
        found: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
        return found
    if types.is_list(kind) or types.is_large_list(kind):
        return _lists(array)
    if types.is_struct(kind):
        return _structs(array)
    if types.is_null(kind):
        return [None] * len(array)
    rest: list[Any] = array.to_pylist()
    return rest


def _numbers(array: Any) -> list[Any]:
    if not array.null_count:
        found: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
        return found
    missing = array.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist()
    found = array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False).tolist()
    for index in missing:
        found[index] = None
    return found


def _lists(array: Any) -> list[Any]:
    offsets, values = list_parts(array)
    bounds = offsets.to_numpy(zero_copy_only=False).tolist()
    items = to_python(values)
    found: list[Any] = [items[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
    if array.null_count:
        for index in array.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
            found[index] = None
    return found


def _structs(array: Any) -> list[Any]:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    if len(set(names)) < len(names):
        rest: list[Any] = array.to_pylist()
        return rest
    found: list[Any] = list(rows(names, [to_python(part) for part in array.flatten()], len(array)))
    if array.null_count:
        for index in array.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
            found[index] = None
    return found


def column_to_python(array: Any, feature: FeatureType) -> list[Any]:
    """The values of a column as the user sees them: class labels as numbers, pictures opened."""
    values = to_python(array)
    return [decode_value(feature, value) for value in values] if is_decoded(feature) else values


def rows(names: Sequence[str], columns: Sequence[Iterable[Any]], count: int) -> Iterator[dict[str, Any]]:
    """Columns turned into `count` rows. For up to four names a dict display is written out: twice as fast as `dict`."""
    if len(names) == 0:
        return iter([{} for _ in range(count)])
    if len(names) == 1:
        (a,) = names
        return iter([{a: p} for p in columns[0]])
    if len(names) == 2:
        a, b = names
        return iter([{a: p, b: q} for p, q in zip(*columns, strict=True)])
    if len(names) == 3:
        a, b, c = names
        return iter([{a: p, b: q, c: r} for p, q, r in zip(*columns, strict=True)])
    if len(names) == 4:
        a, b, c, d = names
        return iter([{a: p, b: q, c: r, d: s} for p, q, r, s in zip(*columns, strict=True)])
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
