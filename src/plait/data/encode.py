"""From Python to Arrow, complete: a list, array, tensor or series becomes one Arrow array.

Without a declared feature the type is inferred from all the values (integers and floats together are floats, structs
take the fields of every row). With one, values are converted to it, or `DataError` names the row and the value.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from operator import countOf
from typing import Any

import numpy as np
import pyarrow as pa

from plait.data.features import FeatureType, arrow_of, encode_value, is_encoded
from plait.data.pictures import how_to_hold
from plait.data.widen import cast
from plait.errors import DataError


def to_arrow(values: Any, *, feature: FeatureType | None = None, column: str = "", first_row: int = 0) -> pa.Array:
    """One column of Python values as an Arrow array.

    `values` is a list, a NumPy array or torch tensor (first axis: rows), a pandas or polars series, or an Arrow array.
    `column` and `first_row` (the number of the first value) go into error messages. Raises `DataError`.
    """
    if feature is not None and is_encoded(feature):
        values = _encoded(values, feature, column, first_row)
        if isinstance(values, pa.Array):
            return values
    try:
        array = natural(values)
        return array if feature is None else cast(array, arrow_of(feature))
    except UnicodeEncodeError as error:
        raise _half_a_character(values, column, first_row) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
        if feature is not None:
            return _one_type(values, arrow_of(feature), column, first_row)
        raise _no_common_type(values, column, first_row) from error


def natural(values: Any) -> pa.Array:
    """One column of values in the type that they have by themselves; raises what pyarrow raises."""
    if isinstance(values, list):
        return _of_list(values)
    if isinstance(values, pa.ChunkedArray):
        return plain_storage(values.combine_chunks() if values.num_chunks != 1 else values.chunk(0))
    if isinstance(values, pa.Array):
        return plain_storage(values)
    if isinstance(values, np.ndarray):
        return _of_numpy(values)
    if _is_tensor(values):
        return _of_numpy(_numpy_of_tensor(values))
    if hasattr(values, "to_arrow"):  # a polars series
        return natural(values.to_arrow())
    if hasattr(values, "iloc"):  # a pandas series
        return natural(pa.array(values, from_pandas=True))
    return _of_list(list(values))


def _of_list(values: list[Any]) -> pa.Array:
    sample = next((value for value in values if value is not None), None)
    if type(sample) is int and (integers := _of_integers(values)) is not None:
        return integers
    if isinstance(sample, np.ndarray) or _is_tensor(sample):
        return _of_arrays(values)
    if isinstance(sample, np.datetime64 | np.timedelta64) and (times := _of_times(values, sample)) is not None:
        return times
    if isinstance(sample, np.generic):
        return plain_storage(
            pa.array([value.item() if _is_zero_rank(value) else value for value in values], type=_numpy_type(values))
        )
    try:
        return plain_storage(pa.array(values))
    except OverflowError:
        return pa.array(values, type=pa.uint64())  # integers from 2⁶³ to 2⁶⁴ - 1
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        simpler = [simple(value) for value in values]
        return plain_storage(pa.array(simpler))


def _of_integers(values: list[Any]) -> Any:
    """Python integers and nothing else, in two thirds of the time that `pa.array` takes; `None` for other values."""
    if countOf(map(type, values), int) < len(values):  # neither truth values nor any other class of integers
        return None
    try:
        packed = struct.pack(f"{len(values)}q", *values)
    except struct.error:  # one beyond 64 bits
        return None
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(packed)])


def own_copy(values: Any) -> Any:
    """An array, tensor or series that nobody else can change (Arrow shares the memory of what it is given); others
    as they are.
    """
    if isinstance(values, np.ndarray) or hasattr(values, "iloc"):
        return values.copy()
    return values.detach().clone() if hasattr(values, "detach") else values


def own_value(value: Any) -> Any:
    """A value of a row that its maker may go on filling: lists and dicts are copied as well."""
    return value.copy() if isinstance(value, list | dict) else own_copy(value)


def plain_storage(array: Any) -> Any:
    """An array without extension and dictionary types, and in one chunk."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
        if isinstance(array, pa.ChunkedArray):  # more text than one array holds
            array = pa.concat_arrays([cast(chunk, pa.large_string()) for chunk in array.chunks])
    if isinstance(array, pa.ExtensionArray):
        return plain_storage(array.storage)
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode()
    if pa.types.is_nested(array.type) and not (plain := _plain_type(array.type)).equals(array.type):
        return array.cast(plain)
    return array


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without extension types, however deep they lie."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(item.name, _plain_type(item.type)) for item in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_type(kind.value_type))
    return kind


def simple(value: Any) -> Any:
    """A value with every array, tensor, series and NumPy scalar in it turned into plain Python."""
    if _is_tensor(value):
        value = _numpy_of_tensor(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value.to_pylist()
    if hasattr(value, "iloc") or hasattr(value, "to_arrow"):  # a series of pandas or polars
        return natural(value).to_pylist()
    if isinstance(value, Mapping):
        return {str(name): simple(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [simple(inner) for inner in value]
    return value


def _is_tensor(value: Any) -> bool:
    """Whether a value is an array of PyTorch, JAX or TensorFlow."""
    if hasattr(value, "detach"):
        return True
    root = type(value).__module__.partition(".")[0]
    return root in ("jax", "jaxlib", "tensorflow") and hasattr(value, "__array__")


def _numpy_of_tensor(tensor: Any) -> Any:
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # NumPy has no bfloat16; float32 holds every value of it
        return tensor.float().numpy()


def _is_zero_rank(value: Any) -> bool:
    return isinstance(value, np.generic)


def _numpy_type(values: list[Any]) -> pa.DataType | None:
    """The Arrow type of a column of NumPy scalars of one kind; `None` leaves it to inference."""
    kinds = {value.dtype for value in values if isinstance(value, np.generic)}
    plain = any(value is not None and not isinstance(value, np.generic) for value in values)
    return (
        pa.from_numpy_dtype(kinds.pop()) if len(kinds) == 1 and not plain and next(iter(kinds)).kind in "biuf" else None
    )


def _of_times(values: list[Any], sample: Any) -> Any:
    """NumPy's times of one kind, whatever their units (Python's reach down to microseconds); `None` for others."""
    kind = type(sample)
    if any(value is not None and type(value) is not kind for value in values):
        return None
    given = [kind("NaT") if value is None else value for value in values]
    array = np.array(given)
    seconds = f"{array.dtype.kind}8[s]"
    # NumPy brings different units to the finest of them, and wraps around what that cannot hold
    if len({value.dtype for value in given}) > 1 and any(
        not np.isnat(value) and value.astype(seconds) != same.astype(seconds)
        for value, same in zip(given, array, strict=True)
    ):
        raise OverflowError(f"{array.dtype} cannot hold all of the times")
    return _in_known_unit(array)


_UNITS = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s", "ps": "ns", "fs": "ns", "as": "ns"}


def _in_known_unit(array: Any) -> Any:
    """Times of NumPy in a unit that Arrow has; `None` for numbers without a unit."""
    unit, _ = np.datetime_data(array.dtype)
    if unit == "generic":
        return None
    unit = _UNITS.get(unit, unit)
    return pa.array(array.astype(f"{array.dtype.kind}8[{'s' if unit == 'D' and array.dtype.kind == 'm' else unit}]"))


def _of_numpy(array: Any) -> Any:
    if array.dtype == object or array.dtype.kind in "US":
        return natural(array.tolist())
    if array.ndim == 1:
        times = _in_known_unit(array) if array.dtype.kind in "mM" else None
        return pa.array(array) if times is None else times
    if array.ndim == 0:
        raise TypeError("a column needs one value per row, but got a single number")
    # (N, a, b, …) -> lists of lists over one flat copy
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        count = int(np.prod(array.shape[:axis]))
        flat = cut(flat, np.arange(count + 1, dtype=np.int64) * array.shape[axis])
    return flat


def cut(items: Any, offsets: Any) -> Any:
    """Lists of the items between offsets; large ones where there are more items than a list array counts."""
    if offsets[-1] < 2**31:
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), items)
    return pa.LargeListArray.from_arrays(pa.array(offsets), items)


def _of_arrays(values: list[Any]) -> Any:
    """A list of arrays, one per row: over one flat copy where possible, so that their dtype is kept."""
    arrays = [_numpy_of_tensor(v) if _is_tensor(v) else v if v is None else np.asarray(v) for v in values]
    given = [array for array in arrays if array is not None]
    shapes = {array.shape for array in given}
    if len({array.dtype for array in given}) == 1 and given[0].dtype.kind in "biuf" and len(given) == len(arrays):
        if len(shapes) == 1:
            return _of_numpy(np.stack(given))
        if all(array.ndim == 1 for array in given):
            lengths = np.fromiter((len(array) for array in given), dtype=np.int64, count=len(given))
            return cut(pa.array(np.concatenate(given)), np.concatenate([[0], np.cumsum(lengths)]))
    kinds = {array.dtype for array in given}
    found = natural([None if array is None else array.tolist() for array in arrays])
    if len(kinds) == 1 and next(iter(kinds)).kind in "biuf":
        return cast(found, _with_innermost(found.type, pa.from_numpy_dtype(kinds.pop())))
    return found


def _with_innermost(kind: Any, innermost: pa.DataType) -> Any:
    return pa.list_(_with_innermost(kind.value_type, innermost)) if pa.types.is_list(kind) else innermost


def _encoded(values: Any, feature: FeatureType, column: str, first_row: int) -> Any:
    """Values as their feature stores them; what is stored already (an Arrow array, numbers) is not touched."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        array = natural(values)
        if array.type.equals(arrow_of(feature)) and not pa.types.is_integer(array.type):
            return array
        values = array.to_pylist()
    found = []
    for index, value in enumerate(values if isinstance(values, Sequence) else list(values)):
        try:
            found.append(encode_value(feature, value.item() if isinstance(value, np.generic) else value))
        except (DataError, ValueError, TypeError) as error:
            raise DataError(f"{_place(column, first_row + index)}: {error}") from error
    return found


def _one_type(values: Any, kind: pa.DataType, column: str, first_row: int) -> Any:
    """Values converted one by one, to find the one that does not fit."""
    plain = values.to_pylist() if isinstance(values, pa.Array | pa.ChunkedArray) else [simple(v) for v in values]
    parts = []
    for index, value in enumerate(plain):
        try:
            # not pa.array([value], type=kind): it cuts 1.5 down to 1
            parts.append(cast(natural([value]), kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError) as error:
            raise DataError(
                f"{_place(column, first_row + index)}: {value!r:.200} ({type(value).__name__}) "
                f"does not fit the declared type {kind}."
            ) from error
    return pa.concat_arrays(parts) if parts else pa.array([], type=kind)


def _half_a_character(values: Any, column: str, first_row: int) -> DataError:
    """The error for text that no encoding writes: one half of a pair that stands for an emoji, say."""
    for index, value in enumerate(values):
        try:
            pa.array([value])
        except UnicodeEncodeError:
            place, shown = _place(column, first_row + index), f"{value!r:.100}"
            break
    else:
        place, shown = _place(column), "a value"
    return DataError(
        f"{place}: {shown} holds half of a character (a lone surrogate), which no text can. Repair it: "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
    )


def _no_common_type(values: Any, column: str, first_row: int) -> DataError:
    """The error for values without a common type: the first two rows that differ."""
    seen: tuple[int, Any] | None = None
    for index, value in enumerate(values):
        value = simple(value)
        if value is None:
            continue
        try:
            pa.array([value] if seen is None else [seen[1], value])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError):
            here = f"{value!r:.100} ({type(value).__name__}) in row {first_row + index}"
            if seen is None:
                return DataError(f"{_place(column)}: {here} is no value that a column can hold.{how_to_hold(value)}")
            there = f"{seen[1]!r:.100} ({type(seen[1]).__name__}) in row {first_row + seen[0]}"
            return DataError(
                f"{_place(column)} has values without a common type: {there} and {here}. "
                f"Make them one type, or declare one with features=."
            )
        # a float covers the integers after it, so the widest value seen is the one to compare with
        if seen is None or not (isinstance(seen[1], float) and isinstance(value, int)):
            seen = (index, value)
    return DataError(f"{_place(column)} has values that no column can hold together.")


def _place(column: str, row: int | None = None) -> str:
    name = f"column {column!r}" if column else "a column"
    return name if row is None else f"{name}, row {row}"
