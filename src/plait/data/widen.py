"""One type for values of several types, complete: the rule that makes inference independent of the order of rows.

Nothing is less than anything; then integers widen to larger integers and to floats, and structs take all fields of
either side. The rule is symmetric and associative, so any order of rows and files ends in the same type. Types with
no common type raise `DataError`; whoever reads text (CSV) falls back to the text itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pyarrow as pa

from plait.errors import DataError

_SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
_FLOATS = [pa.float16(), pa.float32(), pa.float64()]
_TEXTS = [pa.string(), pa.string_view(), pa.large_string()]
_BYTES = [pa.binary(), pa.binary_view(), pa.large_binary()]
_UNITS = ["s", "ms", "us", "ns"]


def widen(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The smallest type that holds the values of both; raises `DataError` when there is none."""
    if left.equals(right) or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if _is_number(left) and _is_number(right):
        return _wider_number(left, right)
    for family in (_TEXTS, _BYTES):
        if left in family and right in family:
            return max(left, right, key=family.index)
    if pa.types.is_struct(left) and pa.types.is_struct(right):
        return _wider_struct(left, right)
    if _is_list(left) and _is_list(right):
        return _wider_list(left, right)
    if pa.types.is_date(left) and pa.types.is_date(right):
        return pa.date64()
    if pa.types.is_timestamp(left) and pa.types.is_timestamp(right) and left.tz == right.tz:
        return pa.timestamp(max(left.unit, right.unit, key=_UNITS.index), tz=left.tz)
    if pa.types.is_duration(left) and pa.types.is_duration(right):
        return pa.duration(max(left.unit, right.unit, key=_UNITS.index))
    if pa.types.is_decimal(left) and pa.types.is_decimal(right):
        scale = max(left.scale, right.scale)
        whole = max(left.precision - left.scale, right.precision - right.scale)
        return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else pa.decimal256(whole + scale, scale)
    raise DataError(f"there is no common type of {left} and {right}")


def widest(types: list[pa.DataType]) -> pa.DataType:
    """The smallest type that holds the values of all; `null` for none."""
    return reduce(widen, types, pa.null())


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _wider_number(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    if left in _FLOATS and right in _FLOATS:
        return max(left, right, key=_FLOATS.index)
    if left in _FLOATS or right in _FLOATS:
        # any integer with any float: float64, so that the result does not hang on which float came first
        return pa.float64()
    if pa.types.is_signed_integer(left) == pa.types.is_signed_integer(right):
        return max(left, right, key=lambda kind: kind.bit_width)
    signed, unsigned = (left, right) if pa.types.is_signed_integer(left) else (right, left)
    # an unsigned integer needs the next larger signed one; beyond 64 bits only a float holds both
    bits = max(signed.bit_width, unsigned.bit_width * 2)
    return next((kind for kind in _SIGNED if kind.bit_width == bits), pa.float64())


def _wider_struct(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    fields = {left.field(i).name: left.field(i).type for i in range(left.num_fields)}
    for i in range(right.num_fields):
        name, kind = right.field(i).name, right.field(i).type
        fields[name] = widen(fields[name], kind) if name in fields else kind
    return pa.struct([pa.field(name, kind) for name, kind in fields.items()])


def _wider_list(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    inner = widen(left.value_type, right.value_type)
    if pa.types.is_large_list(left) or pa.types.is_large_list(right):
        return pa.large_list(inner)
    if pa.types.is_fixed_size_list(left) and pa.types.is_fixed_size_list(right) and left.list_size == right.list_size:
        return pa.list_(inner, left.list_size)
    return pa.list_(inner)


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array in another type, without loss: what would be cut off, overflow or not parse raises `pa.ArrowInvalid`.

    Structs may gain fields (filled with nulls), at any depth.
    """
    if array.type.equals(kind):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_struct(array.type) and pa.types.is_struct(kind):
        return _cast_struct(array, kind)
    if (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)) and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind)
    ):
        return _cast_list(array, kind)
    return array.cast(kind)


def _cast_struct(array: Any, kind: Any) -> Any:
    have = {array.type.field(i).name: i for i in range(array.type.num_fields)}
    wanted = [kind.field(i) for i in range(kind.num_fields)]
    if lost := set(have) - {item.name for item in wanted}:
        raise pa.ArrowInvalid(f"the fields {sorted(lost)} would be lost")
    inner = array.flatten()
    parts = [
        cast(inner[have[item.name]], item.type) if item.name in have else pa.nulls(len(array), item.type)
        for item in wanted
    ]
    missing = array.is_null() if array.null_count else None
    if not wanted:
        return array
    return pa.StructArray.from_arrays(parts, fields=wanted, mask=missing)


def _cast_list(array: Any, kind: Any) -> Any:
    offsets, values = list_parts(array)
    make: Callable[..., Any] = (
        pa.LargeListArray.from_arrays if pa.types.is_large_list(kind) else pa.ListArray.from_arrays
    )
    offset_type = pa.int64() if pa.types.is_large_list(kind) else pa.int32()
    missing = array.is_null() if array.null_count else None
    return make(offsets.cast(offset_type), cast(values, kind.value_type), type=kind, mask=missing)


def list_parts(array: Any) -> tuple[Any, Any]:
    """Offsets (N + 1,) that start at 0, and the items they divide, of a list array or a slice of one."""
    offsets = array.offsets
    first = offsets[0].as_py() if len(offsets) else 0
    last = offsets[-1].as_py() if len(offsets) else 0
    values = array.values.slice(first, last - first)
    if first:
        import pyarrow.compute as pc  # here: it takes as long to import as NumPy, and workers mostly do without

        offsets = pc.subtract(offsets, pa.scalar(first, offsets.type))
    return offsets, values


def keeps(natural: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type may be stored as another without changing their kind: integers as integers, and so on.

    Numbers may become narrower (the cast then checks each value) and integers may become floats, but floats never
    become integers, and nothing becomes text.
    """
    if natural.equals(wanted) or pa.types.is_null(natural):
        return True
    if pa.types.is_integer(natural):
        return _is_number(wanted)
    if pa.types.is_floating(natural):
        return bool(pa.types.is_floating(wanted))
    if _is_list(natural) and _is_list(wanted):
        return keeps(natural.value_type, wanted.value_type)
    if pa.types.is_struct(natural) and pa.types.is_struct(wanted):
        inner = {wanted.field(i).name: wanted.field(i).type for i in range(wanted.num_fields)}
        fields = [natural.field(i) for i in range(natural.num_fields)]
        return all(item.name in inner and keeps(item.type, inner[item.name]) for item in fields)
    try:
        return bool(widen(natural, wanted).equals(wanted))
    except DataError:
        return any(natural in family and wanted in family for family in (_TEXTS, _BYTES)) or (
            pa.types.is_temporal(natural) and pa.types.is_temporal(wanted)
        )
