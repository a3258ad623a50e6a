"""Names of column types, complete: every Arrow type that a `Value` may have, and its name, both ways.

The names are those of datasets 5.x: `int64`, `string`, `timestamp[us, tz=UTC]`, `decimal128(10, 2)`.
"""

from __future__ import annotations

import re
from functools import lru_cache

import pyarrow as pa

from plait.errors import DataError, nearest

_PLAIN = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
}
_ALIASES = {"float": "float32", "double": "float64", "halffloat": "float16", "boolean": "bool", "utf8": "string"}
_NAMES = {kind: name for name, kind in _PLAIN.items()}

_UNIT = re.compile(r"(time32|time64|timestamp|duration)\[(s|ms|us|ns)(?:,\s*tz=([^\]]+))?\]")
_DECIMAL = re.compile(r"(decimal128|decimal256)\((\d+),\s*(-?\d+)\)")
_FIXED = re.compile(r"fixed_size_binary\[(\d+)\]")
_EXAMPLES = ["timestamp[us]", "timestamp[us, tz=UTC]", "time32[s]", "duration[us]", "decimal128(10, 2)"]


@lru_cache(maxsize=512)
def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a name such as `int64` or `timestamp[us, tz=UTC]`; raises `DataError` for an unknown one."""
    name = _ALIASES.get(name, name)
    if name in _PLAIN:
        return _PLAIN[name]
    try:
        if match := _UNIT.fullmatch(name):
            kind, unit, zone = match.groups()
            if kind == "timestamp":
                return pa.timestamp(unit, tz=zone)
            if zone is None:
                return getattr(pa, kind)(unit)
        if match := _DECIMAL.fullmatch(name):
            kind, precision, scale = match.groups()
            return getattr(pa, kind)(int(precision), int(scale))
        if match := _FIXED.fullmatch(name):
            return pa.binary(int(match.group(1)))
    except (ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{name!r} is not a possible type: {error}") from error
    hint = nearest(name, [*_PLAIN, *_EXAMPLES])
    known = f"{', '.join(_PLAIN)}, and forms like {', '.join(_EXAMPLES)}"
    raise DataError(f"{name!r} is not the name of a type.{hint} Types are {known}.")


@lru_cache(maxsize=512)
def type_name(kind: pa.DataType) -> str:
    """The name of an Arrow type that is not nested; raises `DataError` for one that has no name here."""
    if kind in _NAMES:
        return _NAMES[kind]
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}]" if kind.tz is None else f"timestamp[{kind.unit}, tz={kind.tz}]"
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return str(kind)
    if pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind):
        return f"decimal{kind.bit_width}({kind.precision}, {kind.scale})"
    if pa.types.is_fixed_size_binary(kind):
        return f"fixed_size_binary[{kind.byte_width}]"
    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type)
    raise DataError(f"Columns of Arrow type {kind} are not supported. Cast the column to another type first.")
