"""Rows as arrays and tensors, complete: NumPy, torch, jax and tensorflow.

Integers become int64 and floats float32 unless `dtype` says otherwise (the custom of datasets, so that models get
what they expect). Lists of equal lengths become one array (N, …); of unequal lengths, one array per row. Times without
a zone, dates and durations are datetime64 and timedelta64 in NumPy. What is no number (text, bytes, nulls) stays what
it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from plait.data.decode import column_to_python
from plait.data.features import Features, is_decoded
from plait.data.widen import list_parts
from plait.errors import OptionError, nearest, require

_LIBRARIES = {"torch": ("torch", "all"), "jax": ("jax.numpy", "all"), "tf": ("tensorflow", "all")}


class TensorFormatter:
    """Batches and rows of arrays of one library. `options`: `dtype`, `device` (torch, jax), `copy` (torch, NumPy)."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.options = options
        if kind in _LIBRARIES:
            module, extra = _LIBRARIES[kind]
            self.library = require(module, extra=extra, purpose=f"read rows as {kind} tensors")
        if kind == "jax" and isinstance(options.get("device"), str):
            self.options = {**options, "device": _jax_device(options["device"])}

    def column(self, array: Any, features: Features, name: str) -> Any:
        if is_decoded(features[name]):
            return self._stack([self._value(value) for value in column_to_python(array, features[name])])
        dense = dense_array(array)
        if dense is not None:
            return self._tensor(dense)
        if self.kind == "numpy" and _is_time(array.type):
            return array.to_numpy(zero_copy_only=False)
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            values = array.to_numpy(zero_copy_only=False)
            if self.kind == "numpy" and not array.null_count:
                return values.astype(str)
            if self.kind == "tf" and not array.null_count:
                return self.library.convert_to_tensor(values.tolist())
            return values if self.kind == "numpy" else values.tolist()
        if _is_list(array.type):
            ragged = self._ragged(array)
            if ragged is not None:
                return self._objects(ragged)
        return self._stack([self._value(value) for value in column_to_python(array, features[name])])

    def batch(self, arrays: dict[str, Any], features: Features) -> Any:
        return {name: self.column(array, features, name) for name, array in arrays.items()}

    def rows(self, arrays: dict[str, Any], features: Features) -> Iterator[Any]:
        columns = [self._cells(array, features, name) for name, array in arrays.items()]
        names = list(arrays)
        return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of Python objects with the numbers in it as tensors, cell by cell; tensors stay what they are."""
        return {name: self._value(value) for name, value in row.items()}

    def stacked(self, columns: Mapping[str, list[Any]]) -> dict[str, Any]:
        """Cells that `row` made as a batch: stacked where they have one shape."""
        return {name: self._stack(values) for name, values in columns.items()}

    def _cells(self, array: Any, features: Features, name: str) -> Any:
        """One column as a sequence of the values of single rows."""
        if self.kind == "numpy" and _is_scalar_number(array.type) and not array.null_count:
            # single numbers keep the dtype in which they are stored
            return array.to_numpy(zero_copy_only=False)
        if array.null_count and _is_scalar_number(array.type) and not pa.types.is_boolean(array.type):
            # a missing number is NaN, and the others of the column keep their type
            missing = np.float64("nan")
            return [
                (missing if value is None else np.asarray(value)[()])
                if self.kind == "numpy"
                else self._value(missing if value is None else value)
                for value in array.to_pylist()
            ]
        column = self.column(array, features, name)
        return column.unbind(0) if self.kind == "torch" and hasattr(column, "unbind") else column

    def _ragged(self, array: Any) -> list[Any] | None:
        """Rows of numbers of unequal lengths, cut out of one array; a row that is missing is `None`."""
        offsets, values = list_parts(array)
        numbers = dense_array(values) if _is_scalar_number(values.type) else None
        if numbers is None:
            return None
        flat = self._tensor(numbers)
        bounds = offsets.to_numpy(zero_copy_only=False).tolist()
        found = [flat[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
        if array.null_count:
            for index in array.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
                found[index] = None
        return found

    def _tensor(self, array: Any) -> Any:
        """A NumPy array of numbers as a tensor of the library, in the default or the chosen dtype."""
        dtype = self.options.get("dtype")
        if self.kind == "numpy":
            made = np.asarray(array, dtype=dtype if dtype is not None else _default_dtype(array.dtype))
            return made.copy() if self.options.get("copy") else made
        if self.kind == "torch":
            return self._torch_tensor(array, dtype)
        array = np.asarray(array, dtype=_default_dtype(array.dtype) if dtype is None else None)
        if self.kind == "jax":
            return self.library.asarray(array, dtype=dtype, device=self.options.get("device"))
        return self.library.convert_to_tensor(array, dtype=dtype)

    def _torch_tensor(self, array: Any, dtype: Any) -> Any:
        torch = self.library
        if array.dtype.kind not in "biuf":
            return array.tolist()
        if array.dtype in (np.uint16, np.uint32, np.uint64):
            array = array.astype(np.int64)
        wanted = _default_dtype(array.dtype)
        if dtype is None and array.dtype != wanted:
            array = array.astype(wanted)
        elif self.options.get("copy", True) or not array.flags.c_contiguous:
            array = array.copy()
        tensor = torch.from_numpy(array)
        rest = {name: value for name, value in self.options.items() if name in ("dtype", "device")}
        return tensor.to(**rest) if rest else tensor

    def _value(self, value: Any) -> Any:
        """One cell of any shape, with the numbers in it as tensors."""
        if value is None or isinstance(value, str | bytes):
            # TensorFlow has tensors of text
            return self.library.convert_to_tensor(value) if self.kind == "tf" and value is not None else value
        if isinstance(value, dict):
            return {name: self._value(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            array = _array_of_numbers(value)
            return self._tensor(array) if array is not None else self._stack([self._value(inner) for inner in value])
        if self.kind == "numpy" and isinstance(value, datetime.date | datetime.timedelta):
            if isinstance(value, datetime.timedelta):
                return np.timedelta64(value)
            return value if getattr(value, "tzinfo", None) is not None else np.datetime64(value)
        if hasattr(value, "getbands"):  # a picture: (H, W, C), and (C, H, W) for torch
            pixels = np.asarray(value)
            if self.kind == "torch":
                pixels = (pixels[:, :, None] if pixels.ndim == 2 else pixels).transpose(2, 0, 1)
            return self._as_is(pixels)
        if isinstance(value, bool | int | float | np.generic | np.ndarray):
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                return value
            tensor = self._tensor(array)
            return tensor[()] if self.kind == "numpy" and array.ndim == 0 else tensor
        return value

    def _as_is(self, array: Any) -> Any:
        """Pixels keep their dtype: uint8."""
        if self.kind == "numpy":
            return array
        if self.kind == "torch":
            return self.library.from_numpy(np.array(array))
        return self._tensor(array)

    def _stack(self, values: list[Any]) -> Any:
        """Cells of equal shape as one array; otherwise the cells."""
        shapes = {(getattr(value, "shape", None), getattr(value, "dtype", None)) for value in values}
        if len(shapes) == 1 and None not in next(iter(shapes)):
            if self.kind == "numpy":
                return np.stack(values)
            return self.library.stack(values)
        return self._objects(values)

    def _objects(self, values: list[Any]) -> Any:
        if self.kind == "tf" and all(len(getattr(value, "shape", ())) == 1 for value in values):
            kinds = {value.dtype for value in values}
            return self.library.ragged.stack(values) if len(kinds) == 1 else values
        if self.kind != "numpy":
            return values
        found = np.empty(len(values), dtype=object)
        for index, value in enumerate(values):
            found[index] = value
        return found


def dense_array(array: Any) -> Any:
    """The numbers of an Arrow array as a NumPy array (N, …), sharing memory where possible; `None` if it has no shape.

    Nulls among numbers make the array float with NaN; lists that are null leave it without a shape.
    """
    shape = [len(array)]
    while _is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            return None
        if pa.types.is_fixed_size_list(array.type):
            width = array.type.list_size
            array = array.flatten()
        else:
            offsets, values = list_parts(array)
            lengths = np.diff(offsets.to_numpy())
            if len(lengths) == 0 or (lengths != lengths[0]).any():
                return None
            width, array = int(lengths[0]), values
        shape.append(width)
    if not _is_scalar_number(array.type):
        return None
    if array.null_count:
        if pa.types.is_boolean(array.type):
            return None
        return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).reshape(shape)
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_scalar_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_time(kind: pa.DataType) -> bool:
    """Whether NumPy has the type: it knows no zones and no times of day."""
    return bool(
        (pa.types.is_timestamp(kind) and kind.tz is None) or pa.types.is_date32(kind) or pa.types.is_duration(kind)
    )


def _default_dtype(dtype: Any) -> Any:
    if dtype.kind in "iu":
        return np.dtype(np.int64)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def _array_of_numbers(value: Any) -> Any:
    """A list of numbers (or of equal lists of numbers) as an array; `None` when it is something else."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        return None
    return array if array.dtype.kind in "biuf" and array.size else None


def _jax_device(name: str) -> Any:
    """The device that JAX prints as `name`, such as "cpu:0"."""
    import jax

    devices = {str(device): device for device in jax.devices()}
    if name not in devices:
        raise OptionError(f"`device` {name!r} is none that JAX has here: {', '.join(devices)}.{nearest(name, devices)}")
    return devices[name]
