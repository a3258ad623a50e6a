"""What rows look like when they are read, complete: Python, NumPy, torch, jax, tf, pandas, polars, Arrow, a function.

A formatter turns Arrow arrays of one block into one row, many rows, or a batch by column. Columns of numbers reach
NumPy without a copy (as read-only views). A torch tensor owns its memory unless `copy=False`, because torch has no
read-only tensors: writing to a shared one would change the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from plait.data.decode import column_to_python, rows
from plait.data.features import Features
from plait.errors import OptionError, nearest, require


@dataclass(frozen=True)
class Format:
    """How a data set shows its rows: the kind, the columns (all when `None`), and options of the kind."""

    kind: str | None = None
    columns: tuple[str, ...] | None = None
    output_all_columns: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Formatter(Protocol):
    """What every format can do with the Arrow arrays of some rows."""

    def batch(self, arrays: dict[str, Any], features: Features) -> Any:
        """The rows as one batch."""

    def rows(self, arrays: dict[str, Any], features: Features) -> Iterator[Any]:
        """The rows one by one."""

    def column(self, array: Any, features: Features, name: str) -> Any:
        """One column of the rows."""


_NAMES = {
    "python": "python",
    "numpy": "numpy",
    "np": "numpy",
    "torch": "torch",
    "pt": "torch",
    "pytorch": "torch",
    "jax": "jax",
    "tensorflow": "tf",
    "tf": "tf",
    "pandas": "pandas",
    "pd": "pandas",
    "polars": "polars",
    "pl": "polars",
    "arrow": "arrow",
    "pa": "arrow",
    "pyarrow": "arrow",
    "custom": "custom",
}

# what a format may be told besides its columns
_OPTIONS: dict[str, tuple[str, ...]] = {
    "numpy": ("dtype", "copy"),
    "torch": ("dtype", "device", "copy"),
    "jax": ("dtype", "device"),
    "tf": ("dtype",),
    "custom": ("transform",),
}

# the formats whose batches are tables
TABLES = frozenset({"arrow", "pandas", "polars"})


def kind_named(kind: str | None) -> str | None:
    """The one spelling of a format; `None` for plain Python. Raises `OptionError` for an unknown one."""
    if kind is None:
        return None
    if kind not in _NAMES:
        raise OptionError(
            f"There is no format {kind!r}.{nearest(str(kind), _NAMES)} Formats are {sorted(set(_NAMES.values()))}."
        )
    found = _NAMES[kind]
    return None if found == "python" else found


def formatter_of(format: Format) -> Formatter:
    """The formatter of a format; raises `MissingExtraError` when its library is not installed, `OptionError` for an
    option that it does not have."""
    options = dict(format.options)
    known = _OPTIONS.get(format.kind or "python", ())
    for name in options:
        if name not in known:
            raise OptionError(f"The format {format.kind or 'python'!r} has no option {name!r}.{nearest(name, known)}")
    if format.kind is None:
        return PythonFormatter()
    if format.kind == "custom":
        return TransformFormatter(options["transform"])
    if format.kind in TABLES:
        return TableFormatter(format.kind)
    from plait.data.tensors import TensorFormatter

    return TensorFormatter(format.kind, options)


class PythonFormatter:
    """Plain Python objects: a row is a dict, a batch a dict of lists."""

    def batch(self, arrays: dict[str, Any], features: Features) -> Any:
        return {name: column_to_python(array, features[name]) for name, array in arrays.items()}

    def rows(self, arrays: dict[str, Any], features: Features) -> Iterator[Any]:
        count = len(next(iter(arrays.values()))) if arrays else 0
        return rows(list(arrays), list(self.batch(arrays, features).values()), count)

    def column(self, array: Any, features: Features, name: str) -> Any:
        return column_to_python(array, features[name])


class TransformFormatter:
    """A function of the user's, from a Python batch to whatever it returns, applied when rows are read."""

    def __init__(self, transform: Callable[[dict[str, Any]], Any]) -> None:
        self.transform = transform

    def batch(self, arrays: dict[str, Any], features: Features) -> Any:
        return self.transform(PythonFormatter().batch(arrays, features))

    def rows(self, arrays: dict[str, Any], features: Features) -> Iterator[Any]:
        count = len(next(iter(arrays.values()))) if arrays else 0
        for index in range(count):
            # one row at a time, as a batch of one: the function may be random or change the number of columns
            made = self.batch({name: array.slice(index, 1) for name, array in arrays.items()}, features)
            yield {name: values[0] for name, values in made.items()}

    def column(self, array: Any, features: Features, name: str) -> Any:
        return self.batch({name: array}, features)[name]


class TableFormatter:
    """Arrow tables, and the pandas or polars frames made of them; a row is a table of one row."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind == "pandas":
            require("pandas", extra="tabular", purpose="read rows as pandas frames")
        if kind == "polars":
            require("polars", extra="data", purpose="read rows as polars frames")

    def batch(self, arrays: dict[str, Any], features: Features) -> Any:
        table = pa.table(list(arrays.values()), names=list(arrays))
        if self.kind == "pandas":
            return table.to_pandas()
        if self.kind == "polars":
            return require("polars", extra="data", purpose="read rows as polars frames").from_arrow(table)
        return table

    def rows(self, arrays: dict[str, Any], features: Features) -> Iterator[Any]:
        count = len(next(iter(arrays.values()))) if arrays else 0
        for index in range(count):
            yield self.batch({name: array.slice(index, 1) for name, array in arrays.items()}, features)

    def column(self, array: Any, features: Features, name: str) -> Any:
        found = self.batch({name: array}, features)
        return found.column(name) if self.kind == "arrow" else found[name]
