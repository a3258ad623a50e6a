"""How a data set is read, complete: rows, slices, lists of rows, columns, and iteration.

Single rows are read through a prepared list of columns; everything else in blocks, decoded at once.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as AbstractSequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.data.formats import TABLES, Format, formatter_of
from plait.errors import DataError, OptionError, RowError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset


class Column(AbstractSequence[Any]):
    """One column of a data set, read when it is indexed or iterated over; it compares and prints like a list."""

    def __init__(self, source: Dataset, name: str) -> None:
        self.source = source
        self.name = name

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):  # a field of a struct
            return [None if value is None else value[key] for value in self]
        if isinstance(key, int | np.integer):
            return next(iter(_one_column(self.source, self.name, [position(key, len(self.source))])))
        return _one_column(self.source, self.name, positions(key, len(self.source)))

    def __iter__(self) -> Iterator[Any]:
        size = self.source.table.block_rows([self.name])
        for start in range(0, len(self), size):
            yield from _one_column(self.source, self.name, range(start, min(start + size, len(self))))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise DataError(f"Column {self.name!r} is read into an array of its own: leave out copy=False.")
        array = np.asarray(self[:] if self.source.format_.kind != "torch" else list(self))
        return array if dtype is None else array.astype(dtype)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Column):
            other = list(other)
        return list(self) == other if isinstance(other, list | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [self[index] for index in range(min(5, len(self)))]
        inner = ", ".join(repr(value) for value in shown)
        return f"Column([{inner}{', ...' if len(self) > 5 else ''}])"


def get(dataset: Dataset, key: Any) -> Any:
    """One row (an integer), a batch of rows (a slice, range, list, array or mask), or a column (a name).

    In the formats of tables a column is one of theirs, such as a `pandas.Series`, read whole.
    """
    if type(key) is int and dataset.plain:
        return dataset.read_row(position(key, len(dataset)))
    if isinstance(key, str):
        dataset.table.column(key)
        if dataset.format_.kind in TABLES:  # its own columns know how to read themselves
            return _one_column(dataset, key, range(len(dataset)))
        # one that the format leaves out is there all the same, in no format
        return Column(dataset if key in dataset.shown_columns() else dataset.with_format(None), key)
    if isinstance(key, int | np.integer):
        return _row(dataset, position(key, len(dataset)))
    if getattr(key, "ndim", None) == 0:  # a tensor or array of one number
        return _row(dataset, position(key, len(dataset)))
    rows = positions(key, len(dataset))
    arrays = read_rows(dataset, rows, dataset.shown_columns())
    return _with_rest(dataset, dataset.formatter().batch(arrays, dataset.features), rows)


def get_many(dataset: Dataset, keys: Iterable[int]) -> list[Any]:
    """Several rows by number, one by one in a list: what a torch DataLoader asks for."""
    rows = positions(list(keys), len(dataset))
    arrays = read_rows(dataset, rows, dataset.shown_columns())
    if dataset.format_.kind == "custom":  # the function may pad the rows of one batch to one length
        batch = _with_rest(dataset, dataset.formatter().batch(arrays, dataset.features), rows)
        return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    found = list(dataset.formatter().rows(arrays, dataset.features))
    if dataset.format_.output_all_columns:
        rest = dataset.with_format(None).select_columns(_rest(dataset))
        return [{**row, **other} for row, other in zip(found, get_many(rest, rows), strict=True)]
    return found


def iterate(dataset: Dataset) -> Iterator[Any]:
    """All rows in order."""
    names = dataset.shown_columns()
    formatter, features, table = dataset.formatter(), dataset.features, dataset.table
    if dataset.format_.output_all_columns:
        size = 1 if dataset.format_.kind == "custom" else 1000  # a function gets rows one by one here, as without
        for start in range(0, len(dataset), size):
            yield from get_many(dataset, range(start, min(start + size, len(dataset))))
        return
    if not names:
        yield from ({} for _ in range(len(dataset)))
        return
    for _, arrays in table.blocks(names):
        yield from formatter.rows(arrays, features)


def batches(dataset: Dataset, batch_size: int, *, drop_last_batch: bool = False) -> Iterator[Any]:
    """All rows in order, `batch_size` at a time."""
    if batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, but is {batch_size}.")
    names = dataset.shown_columns()
    formatter, features, table = dataset.formatter(), dataset.features, dataset.table
    end = len(dataset) - len(dataset) % batch_size if drop_last_batch else len(dataset)
    for start in range(0, end, batch_size):
        found = formatter.batch(table.read(start, start + batch_size, names), features)
        yield _with_rest(dataset, found, range(start, min(start + batch_size, end)))


def read_rows(dataset: Dataset, rows: Any, names: list[str]) -> dict[str, Any]:
    """Arrow arrays of the rows with the given numbers."""
    if isinstance(rows, range) and rows.step == 1:
        return dataset.table.read(rows.start, rows.stop, names)
    return dataset.table.take(np.asarray(rows, dtype=np.int64), names)


def _one_column(dataset: Dataset, name: str, rows: Any) -> Any:
    array = read_rows(dataset, rows, [name])[name]
    return dataset.formatter().column(array, dataset.features, name)


def _row(dataset: Dataset, index: int) -> Any:
    (row,) = get_many(dataset, [index])
    return row


def _rest(dataset: Dataset) -> list[str]:
    shown = dataset.shown_columns()
    return [name for name in dataset.column_names if name not in shown]


def _with_rest(dataset: Dataset, batch: Any, rows: Any) -> Any:
    """A batch, and with `output_all_columns` the columns outside the format as plain Python beside it."""
    if not dataset.format_.output_all_columns or not isinstance(batch, Mapping):
        return batch
    arrays = read_rows(dataset, rows, _rest(dataset))
    return {**batch, **formatter_of(Format()).batch(arrays, dataset.features)}


def position(key: Any, length: int) -> int:
    """A row number counted from the start; raises `RowError` when there is no such row."""
    index = operator.index(key)
    if -length <= index < length:
        return index + length if index < 0 else index
    raise RowError(f"There is no row {index}: the data set has {length} rows.")


def positions(key: Any, length: int) -> Any:
    """Row numbers from a slice, a range, a list or array of integers (negative ones count from the end), or a mask."""
    if isinstance(key, slice):
        return range(*key.indices(length))
    if isinstance(key, range) and (not len(key) or (min(key[0], key[-1]) >= 0 and max(key[0], key[-1]) < length)):
        return key
    if isinstance(key, Iterable) and not isinstance(key, str | bytes):
        arrays = isinstance(key, AbstractSequence) or hasattr(key, "__array__")
        numbers = np.asarray(key if arrays else list(key))
        if numbers.dtype == bool:
            if len(numbers) != length:
                raise DataError(f"A mask needs one value per row: it has {len(numbers)}, the data set {length} rows.")
            return np.flatnonzero(numbers)
        if not len(numbers):
            return range(0)
        if numbers.ndim == 1 and numbers.dtype.kind in "iu":
            numbers = numbers.astype(np.int64)
            wrong = (numbers < -length) | (numbers >= length)
            if wrong.any():
                raise RowError(f"There is no row {numbers[wrong][0]}: the data set has {length} rows.")
            return np.where(numbers < 0, numbers + length, numbers)
    raise OptionError(
        f"Rows are chosen by an integer, a slice, a list of integers or a mask, columns by a name; not by {key!r:.100}."
    )
