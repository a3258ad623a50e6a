"""Spreadsheets, complete: one sheet of Excel (.xlsx, .xlsm, .xlsb, .xls) and OpenDocument (.ods) files.

A column has the type that holds all its cells in all files: truth values, integers, floats, dates, times, durations;
numbers beside text are text, as the cell shows them. Rows without any value are left out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data.encode import to_arrow
from plait.data.readers.base import Reader
from plait.data.readers.pandas_names import distinct, words_of
from plait.data.table import missing_column
from plait.errors import DataError, OptionError, nearest, require


@dataclass
class XlsxReader(Reader):
    """The options have the names and meanings of `pandas.read_excel`.

    `sheet_name` is the name or number (from 0) of the sheet; `header` the number of the row with the names, `None` for
    none, counted after the `skiprows` first rows; `names` the names themselves; `usecols` the columns to read;
    `nrows` how many rows to read; `na_values` words for missing values.
    """

    WITHOUT_EFFECT = {"engine": "there is one parser"}
    REFUSED = {
        "index_col": "leave the column out with usecols",
        "dtype": "declare the types with features=, or convert the columns with cast_column()",
        "converters": "convert the values afterwards with map()",
        "skipfooter": "leave the last rows out afterwards: dataset.select(range(len(dataset) - n))",
        "parse_dates": "cells with dates are dates already; convert text with map()",
    }

    sheet_name: str | int = 0
    header: int | None = 0
    names: list[str] | None = None
    usecols: list[str] | list[int] | None = None
    skiprows: int = 0
    nrows: int | None = None
    na_values: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.sheet_name, str | int):
            raise OptionError(
                f"sheet_name must be one name or number, but is {self.sheet_name!r}: load sheets one by one."
            )
        self._missing = {"", *words_of(self.na_values)}

    def blocks(self) -> Iterator[dict[str, Any]]:
        columns: dict[str, list[Any]] = {}
        count = 0
        for path in self.files:
            names, rows = self._sheet(path)
            for name in self.features or ():
                if name not in names:
                    raise DataError(f"{path}: {missing_column(name, names)}")
            for index, name in enumerate(names):
                columns.setdefault(name, [None] * count).extend(row[index] for row in rows)
            count += len(rows)
            for values in columns.values():
                values.extend([None] * (count - len(values)))
        if self.features is not None and (extra := [name for name in columns if name not in self.features]):
            raise DataError(f"{self.files[0]} has columns that features= does not name: {extra}.")
        yield {name: self._array(values, name) for name, values in columns.items()}

    def _array(self, values: list[Any], name: str) -> Any:
        if self.features is not None:
            return to_arrow(_fitting(values, text=False), feature=self.features[name], column=name)
        return _typed(values)

    def _sheet(self, path: Path) -> tuple[list[str], list[list[Any]]]:
        """The names of the columns, and the rows, of one file."""
        grid = self._grid(path)
        grid = [row for row in grid[self.skiprows :] if any(cell is not None for cell in row)]
        width = max((index + 1 for row in grid for index, cell in enumerate(row) if cell is not None), default=0)
        start = 0 if self.header is None else self.header + 1
        if self.header is not None and len(grid) <= self.header:
            return [], []
        head = grid[self.header] if self.header is not None else list(range(width))
        names = distinct(["" if cell is None else str(_whole(cell)) for cell in head[:width]])
        if self.names is not None:
            if len(self.names) != width:
                raise DataError(f"{path} has {width} columns, but names= has {len(self.names)}: {self.names}.")
            names = list(self.names)
        rows = [row[:width] for row in grid[start:]]
        if self.nrows is not None:
            rows = rows[: self.nrows]
        if self.usecols is None:
            return names, rows
        chosen = [names[item] if isinstance(item, int) and item < width else str(item) for item in self.usecols]
        for name in chosen:
            if name not in names:
                raise missing_column(name, names)
        kept = [index for index, name in enumerate(names) if name in chosen]
        return [names[index] for index in kept], [[row[index] for index in kept] for row in rows]

    def _grid(self, path: Path) -> list[list[Any]]:
        """The cells of the sheet, from its first row and column; an empty one is None."""
        calamine = require("python_calamine", extra="data", purpose="read spreadsheets")
        try:
            book = calamine.CalamineWorkbook.from_path(str(path))
        except Exception as error:  # the library has a class of its own for every kind of damage
            raise DataError(f"{path} is not a spreadsheet that can be read: {error}") from error
        known = book.sheet_names
        if isinstance(self.sheet_name, str) and self.sheet_name not in known:
            hint = nearest(self.sheet_name, known)
            raise DataError(f"{path} has no sheet {self.sheet_name!r}.{hint} Its sheets are {known}.")
        if isinstance(self.sheet_name, int) and not 0 <= self.sheet_name < len(known):
            raise DataError(f"{path} has no sheet number {self.sheet_name} (from 0). Its sheets are {known}.")
        name = self.sheet_name if isinstance(self.sheet_name, str) else known[self.sheet_name]
        cells = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
        return [[None if isinstance(cell, str) and cell in self._missing else cell for cell in row] for row in cells]


def _whole(value: Any) -> Any:
    """A number without a fraction as an integer: spreadsheets have floats alone."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _fitting(values: Iterable[Any], *, text: bool) -> list[Any]:
    """Cells as values: whole numbers as integers; with `text`, all as text."""
    found = [_whole(value) for value in values]
    return [value if value is None or isinstance(value, str) else _shown(value) for value in found] if text else found


def _shown(value: Any) -> str:
    return value.isoformat(" ") if isinstance(value, dt.datetime) else str(value)


def _typed(values: list[Any]) -> Any:
    """A column in the narrowest type that holds all its cells."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {dt.date, dt.datetime} and len(kinds) == 2:
        midnight = dt.time()
        values = [v if v is None or isinstance(v, dt.datetime) else dt.datetime.combine(v, midnight) for v in values]
        return pa.array(values, pa.timestamp("us"))
    if kinds <= {int, float}:
        whole = [_whole(value) for value in values]
        return pa.array(whole if all(value is None or isinstance(value, int) for value in whole) else values)
    if len(kinds) <= 1:
        return pa.array(values)
    return pa.array(_fitting(values, text=True), pa.string())
