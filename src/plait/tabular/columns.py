"""What a table's columns are to a model, complete: which ones, in which order, in which units, as plain numbers.

A table is a pandas or polars data frame, a mapping of columns, a plait `Dataset`, or a 2-D array. Shapes: N rows,
F columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.errors import ColumnError, DataError, nearest

Numbers = NDArray[np.float64]
_SHOWN = 10  # names listed in an error before "…"


def names_of(table: Any) -> list[str] | None:
    """The names of a table's columns in their order, or None for an array, which has none."""
    names: Iterable[Any]
    if isinstance(table, Mapping):
        names = table.keys()
    elif hasattr(table, "column_names"):
        names = table.column_names
    elif hasattr(table, "columns"):
        names = table.columns
    else:
        return None
    listed = [str(name) for name in names]
    if twice := sorted({name for name in listed if listed.count(name) > 1}):
        raise ColumnError(f"the table has more than one column named {_listed(twice)}; rename or drop the others")
    return listed


def column(table: Any, name: str) -> Numbers:
    """One named column (N,) as float64; raises `DataError` for text, missing values and infinities, with the row."""
    values = table[name]
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    return numbers(values if isinstance(values, np.ndarray) else list(values), name)


def numbers(values: Any, name: str) -> Numbers:
    """`values` as float64, whatever number type they have; `name` is what errors call them."""
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        raise DataError(f"column {name!r} holds times, not numbers; name it in the regressor's `time` or drop it")
    try:
        result = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        row, value = _first_that_is_no_number(array)
        raise DataError(
            f"column {name!r} holds {value!r} in row {row}, which is no number; convert the column or drop it"
        ) from None
    if bad := int((~np.isfinite(result)).sum()):
        row = int(np.argmax(~np.isfinite(result.reshape(len(result), -1)).all(axis=1)))
        raise DataError(
            f"column {name!r} has {bad} missing or infinite value{'s' if bad > 1 else ''}, the first in row {row}; "
            "fill or drop such rows first"
        )
    return result


def matrix(table: Any, names: Sequence[str], *, others: Iterable[str] = ()) -> Numbers:
    """The columns `names` in that order as (N, F) float64.

    Columns in `others` may be there and are passed over. A missing column, or one that is neither, raises
    `ColumnError`. An array has no names: it must hold exactly F columns and is taken to be in order.
    """
    found = names_of(table)
    if found is None:
        return _array(table, names)
    missing = [name for name in names if name not in found]
    extra = [name for name in found if name not in names and name not in set(others)]
    if missing or extra:
        raise ColumnError(_mismatch(missing, extra, names, found))
    columns = [column(table, name) for name in names]
    if len({len(values) for values in columns}) > 1:
        lengths = ", ".join(f"{name!r} {len(values)}" for name, values in zip(names, columns, strict=True))
        raise DataError(f"the columns differ in length: {lengths} rows")
    return np.stack(columns, axis=1)


def array_names(table: Any) -> list[str]:
    """Names for the columns of an array, which has none of its own: x0, x1, …"""
    shape = np.shape(table)
    if len(shape) != 2:
        raise DataError(
            f"features must be a table or a 2-D array of rows × columns, not an array of shape {shape}; "
            "one column is array.reshape(-1, 1), one row is array.reshape(1, -1)"
        )
    return [f"x{index}" for index in range(shape[1])]


def _array(table: Any, names: Sequence[str]) -> Numbers:
    columns = len(array_names(table))
    if columns != len(names):
        raise ColumnError(f"the array has {columns} columns, but the model has {len(names)} features: {_listed(names)}")
    array = np.asarray(table)
    return np.stack([numbers(array[:, index], name) for index, name in enumerate(names)], axis=1)


def _mismatch(missing: Sequence[str], extra: Sequence[str], names: Sequence[str], found: Sequence[str]) -> str:
    parts = []
    if missing:
        hints = "".join(nearest(name, extra or found) for name in missing[:1])
        parts.append(f"missing {_listed(missing)}.{hints}")
    if extra:
        hint = "" if missing else "".join(nearest(name, names) for name in extra[:1])
        parts.append(f"unknown {_listed(extra)}.{hint}")
    text = " ".join(parts)
    return f"the table's columns are not the model's: {text} The model's features are {_listed(names)}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")


def _first_that_is_no_number(array: NDArray[Any]) -> tuple[int, Any]:
    for row, value in enumerate(array.reshape(len(array), -1)[:, 0] if array.ndim else [array]):
        try:
            float(value)
        except (TypeError, ValueError):
            return row, value.item() if isinstance(value, np.generic) else value
    return 0, array.flat[0]


def take(table: Any, rows: NDArray[np.int64]) -> Any:
    """The given rows of a table, as a table of the same kind."""
    if isinstance(table, Mapping):
        return {name: np.asarray(values)[rows] for name, values in table.items()}
    if hasattr(table, "iloc"):
        return table.iloc[rows]
    if hasattr(table, "select") and hasattr(table, "column_names"):
        return table.select(rows.tolist())
    return table[rows] if hasattr(table, "columns") else np.asarray(table)[rows]


def raw(table: Any, name: str) -> NDArray[Any]:
    """A column as it is, whatever its type; raises `ColumnError` when the table has none of that name."""
    found = names_of(table) or []
    if name not in found:
        raise ColumnError(f"the table has no column {name!r}; it has {_listed(found)}.{nearest(name, found)}")
    values = table[name]
    return np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else list(values))
