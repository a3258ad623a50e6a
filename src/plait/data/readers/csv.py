"""CSV files, complete: types that follow from all the rows of all files, and errors that name file, line and column.

Every block is parsed as text first; each column then gets the narrowest kind that holds all of it:

    nothing → integers → floats → text          nothing → true/false → text

Words such as NA, null and NaN are missing values in columns of numbers; in columns of text they are text, and only an
empty field is missing. When a column turns out late to be text, its earlier numbers have lost how they were written
("007"), so the reader starts over once, knowing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from plait.console import logger
from plait.data.encode import to_arrow
from plait.data.features import Features, Value, arrow_of
from plait.data.readers import pandas_names
from plait.data.readers.base import Again, Reader, open_bytes, wrong_encoding
from plait.data.readers.blocks import text_blocks
from plait.data.readers.fields import MISSING, as_bool, as_kind, as_time, first_kind, floats_among, kind_after
from plait.data.readers.lines import LineFilter, Recoded, divider
from plait.data.readers.pandas_names import distinct, type_name, words_of
from plait.data.table import missing_column
from plait.errors import DataError, OptionError

log = logger("data")

_MARKS = ("\t", ";", "|", "，", "；")  # what may stand between columns in place of a comma


@dataclass
class CsvReader(Reader):
    """The options have the names and meanings of `pandas.read_csv`.

    `sep` (or `delimiter`: a character, a regular expression such as `r"\\s+"`, or `None` to find it out), `quotechar`,
    `quoting`, `doublequote`, `escapechar` (or a `dialect` of the module `csv`), `comment` say how fields are written;
    `header` is the number of the row with the names ("infer": 0, or none if `names` are given; `None`: none), or a list
    of them, `names` (or `column_names`) the names, `usecols` the columns to read (or a function of their names),
    `index_col` those to leave out. `skiprows` is how many lines to leave out at the beginning, or a list of line
    numbers (from 0), or a function of them; `skipfooter` how many at the end; `nrows` how many rows to read.
    `converters` are functions by column, from text to values. `dtype` declares types of some columns;
    `parse_dates` columns of times, the year first or in `date_format`. `na_values`
    are further words for missing values, of all columns or in a dict by column; `keep_default_na=False` takes only
    those. `decimal` and `thousands` say how numbers are written; `true_values`, `false_values` add words for them.
    `encoding` is that of the files. `on_bad_lines` is "error", or "skip" or "warn" to leave rows with a wrong number of
    fields out.
    """

    WITHOUT_EFFECT = pandas_names.WITHOUT_EFFECT
    REFUSED = pandas_names.REFUSED

    sep: str | None = ","
    delimiter: str | None = None
    dialect: Any = None
    header: int | str | list[int] | None = "infer"
    names: list[str] | None = None
    column_names: list[str] | None = None
    usecols: list[str] | list[int] | Callable[[str], bool] | None = None
    index_col: Any = None
    dtype: Any = None
    parse_dates: list[str] | list[int] | None = None
    date_format: str | None = None
    converters: Mapping[str, Callable[[str], Any]] | None = None
    skiprows: int | list[int] | Callable[[int], bool] | None = None
    skipfooter: int = 0
    nrows: int | None = None
    skipinitialspace: bool = False
    skip_blank_lines: bool = True
    quotechar: str = '"'
    quoting: int = csv.QUOTE_MINIMAL
    doublequote: bool = True
    escapechar: str | None = None
    comment: str | None = None
    na_values: Any = None
    keep_default_na: bool = True
    true_values: list[str] = field(default_factory=list)
    false_values: list[str] = field(default_factory=list)
    decimal: str = "."
    thousands: str | None = None
    encoding: str | None = None
    encoding_errors: str = "strict"
    on_bad_lines: str = "error"

    version = "3"

    def __post_init__(self) -> None:
        self._settle()
        self._check()
        self._names = self.names if self.names is not None else self.column_names
        by_column = self.na_values if isinstance(self.na_values, Mapping) else {}
        self._missing_of = {str(name): words_of(given) for name, given in by_column.items()}
        self._missing = [] if by_column else words_of(self.na_values)
        self._first_lines = self.skiprows if isinstance(self.skiprows, int) else 0
        self._quote = None if self.quoting == csv.QUOTE_NONE else self.quotechar or None
        if self._divide is not None:  # which writes fields in quotes where they need them
            self._quote, self.escapechar = self.quotechar or '"', None
        self._times: set[str] = set()  # columns of parse_dates
        self._kinds: dict[str, str] = {}  # what is known of each column so far
        self._words: set[str] = set()  # columns without values so far, but with words such as NA
        self._declared = self._declared_types()
        self._above = 0
        if self.sep is None:
            self.sep = self._sniffed()

    def _settle(self) -> None:
        """One separator, and the options that a dialect stands for."""
        if self.dialect is not None:
            found = csv.get_dialect(self.dialect) if isinstance(self.dialect, str) else self.dialect
            self.sep, self.quotechar, self.escapechar = found.delimiter, found.quotechar or "", found.escapechar
            self.doublequote, self.skipinitialspace = bool(found.doublequote), bool(found.skipinitialspace)
            self.quoting, self.dialect = found.quoting, None
        if self.delimiter is not None:
            if self.sep not in (",", self.delimiter):
                raise OptionError("Give sep or delimiter, not both.")
            self.sep = self.delimiter

    def _sniffed(self) -> str:
        """The separator that the first line of the files speaks for."""
        first = next((fields[0] for fields in self._lines(self.files[0], delimiter="\x1f") if fields), "")
        try:
            return csv.Sniffer().sniff(first, delimiters=",;\t|: ").delimiter
        except csv.Error:  # a single column
            return ","

    @property
    def cacheable(self) -> bool:
        return not (self.converters or callable(self.usecols) or callable(self.skiprows))

    def _check(self) -> None:
        """Raise `OptionError` for values that no option has."""
        if self.sep == "" or (self.sep is not None and len(self.sep) == 1 and not self.sep.isascii()):
            raise OptionError(f"sep must be one ASCII character or a regular expression, but is {self.sep!r}.")
        self._divide = None
        if self.sep is not None and len(self.sep) > 1:
            try:
                self._divide = divider(self.sep, self.quotechar or None)
            except re.error as error:
                raise OptionError(f"sep={self.sep!r} is no regular expression: {error}.") from error
        if self.on_bad_lines not in ("error", "skip", "warn"):
            raise OptionError(f"on_bad_lines must be 'error', 'skip' or 'warn', but is {self.on_bad_lines!r}.")
        rows = self.header if isinstance(self.header, list) else [0 if self.header in ("infer", None) else self.header]
        if not rows or not all(isinstance(row, int) and row >= 0 for row in rows):
            raise OptionError(f"header must be the number of a row, a list, None or 'infer', but is {self.header!r}.")
        if self.quoting not in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE):
            raise OptionError(
                f"quoting must be 0 (minimal), 1 (all) or 3 (none), but is {self.quoting!r}; to read some columns as "
                f"floats declare them with dtype=."
            )
        if self.parse_dates is not None and (
            isinstance(self.parse_dates, bool | str | Mapping)
            or not all(isinstance(item, str | int) for item in self.parse_dates)
        ):
            raise OptionError(f"parse_dates must be a list of columns, but is {self.parse_dates!r}.")

    def _declared_types(self) -> Features:
        declared = Features(self.features or {})
        given = self.dtype if isinstance(self.dtype, dict) else {}
        for name, kind in given.items():
            declared[name] = Value(type_name(kind))
        return declared

    def _declare_times(self, names: list[str]) -> None:
        """Columns of `parse_dates` are times, unless they are declared otherwise."""
        for name in self._found(self.parse_dates or [], names):
            self._times.add(name)
            if name not in self._declared:
                self._declared[name] = Value("timestamp[us]")

    def blocks(self) -> Iterator[dict[str, Any]]:
        start_over = False
        for path in self.files:
            row = 0
            for texts in self._texts(path):
                block: dict[str, Any] = {}
                for name, text in texts.items():
                    if self.converters is not None and name in self.converters:
                        block[name] = self._converted(text, name, path, row)
                        continue
                    if name in self._declared:
                        block[name] = self._as_declared(text, name, path, row)
                        continue
                    before = self._kinds.get(name, "null")
                    array, kind = self._parsed(text, before)
                    if kind == "null" and text.null_count < len(text):
                        self._words.add(name)
                    if kind == "text" and (before not in ("null", "text") or name in self._words):
                        start_over = True
                        self._words.discard(name)
                    self._kinds[name] = kind
                    block[name] = array
                row += len(next(iter(texts.values()), ()))
                if not start_over:
                    yield block
        if start_over:
            raise Again

    def _parsed(self, text: Any, before: str) -> tuple[Any, str]:
        """A block of one column in the narrowest kind that holds it and all before it."""
        if self.dtype is not None and not isinstance(self.dtype, dict):
            return text, "text"
        kind = before if before != "null" else first_kind(text, self)
        while True:
            array = as_kind(text, kind, self)
            if array is not None:
                return array, kind
            kind = kind_after(kind, text, self)

    def _converted(self, text: Any, name: str, path: Path, first_row: int) -> Any:
        """A block of one column as the user's function makes it; missing values are empty text to it, and back."""
        assert self.converters is not None
        values = []
        for index, field_text in enumerate(text.to_pylist()):
            try:
                value = self.converters[name](field_text or "")
                values.append(None if isinstance(value, str) and not value else value)
            except Exception as error:
                line = self._line_of(path, first_row + index)
                raise DataError(
                    f"{path}, line {line}, column {name!r}: the converter failed for {field_text!r:.100}: {error!r}."
                ) from error
        return to_arrow(values, feature=self._declared.get(name), column=name, first_row=first_row)

    def _as_declared(self, text: Any, name: str, path: Path, first_row: int) -> Any:
        """A block of one column in its declared type; a value that does not fit is named by its place."""
        feature = self._declared[name]
        kind = arrow_of(feature)
        try:
            if isinstance(feature, Value) and pa.types.is_boolean(kind):
                found = as_bool(text, self)
            elif isinstance(feature, Value) and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                found = as_kind(text, "int" if pa.types.is_integer(kind) else "float", self)
            elif name in self._times:
                found = as_time(text, kind, self.date_format)
            elif isinstance(feature, Value):
                found = text
            else:
                return to_arrow(text, feature=feature, column=name)
            if found is not None:
                return pa.nulls(len(found)) if _nothing(found, kind) else pc.cast(found, kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, DataError):
            pass
        for index, value in enumerate(text.to_pylist()):
            part = text.slice(index, 1)
            try:
                if isinstance(feature, Value) and pa.types.is_floating(kind):
                    part = as_kind(part, "float", self)
                elif isinstance(feature, Value) and pa.types.is_integer(kind):
                    part = as_kind(part, "int", self)
                elif isinstance(feature, Value) and pa.types.is_boolean(kind):
                    part = as_bool(part, self)
                elif name in self._times:
                    part = as_time(part, kind, self.date_format)
                if part is None:
                    raise pa.ArrowInvalid("it is not written like one")
                to_arrow(part, feature=feature)
            except (pa.ArrowInvalid, DataError) as error:
                line = self._line_of(path, first_row + index)
                remedy = " Say how times are written: date_format='%d/%m/%Y'." if name in self._times else ""
                raise DataError(
                    f"{path}, line {line}, column {name!r}: {value!r:.100} does not fit the declared type {feature!r}."
                    f"{remedy}"
                ) from error
        raise DataError(f"{path}: column {name!r} does not fit the declared type {feature!r}.")

    # --- parsing ---

    @property
    def _separator(self) -> str:
        """The one character between fields, as they are parsed."""
        return "," if self.sep is None or self._divide is not None else self.sep

    def _texts(self, path: Path) -> Iterator[dict[str, Any]]:
        """The rows of one file as text, block by block."""
        names = self._header(path)
        if names is None:
            return
        self._declare_times(names)
        if len(names) == 1 and self._names is None and (marks := [mark for mark in _MARKS if mark in names[0]]):
            sep = marks[0] if marks[0].isascii() else f"[{marks[0]}]"
            log.warning("%s has one column, %r: if %r is between columns, pass sep=%r", path, names[0], marks[0], sep)
        chosen = self._chosen(names, path)
        bad: dict[int | None, pa.csv.InvalidRow] = {}  # by number: a row may be met again in a larger block

        def on_bad_row(row: pa.csv.InvalidRow) -> str:
            if self.on_bad_lines == "warn" and row.number not in bad:
                counts = f"{row.actual_columns} fields instead of {row.expected_columns}"
                log.warning("%s: a row with %s is left out: %.200s", path, counts, row.text)
            bad[row.number] = row
            return "error" if self.on_bad_lines == "error" else "skip"

        left = self.nrows
        yield {name: pa.array([], type=pa.string()) for name in chosen}  # a file without rows has columns all the same
        try:
            options = pyarrow.csv.ParseOptions(
                delimiter=self._separator,
                quote_char=self._quote or False,
                double_quote=self.doublequote,
                escape_char=self.escapechar or False,
                newlines_in_values=True,
                ignore_empty_lines=self.skip_blank_lines,
                invalid_row_handler=on_bad_row,
            )
            missing = ["", *self._missing]
            words = MISSING if self.keep_default_na else []

            def floats() -> list[str]:
                usual = not (self._declared or self._missing_of or self.skipinitialspace or self.converters)
                return floats_among({name: self._kinds.get(name, "") for name in chosen}, self) if usual else []

            stream = partial(self._stream, path)
            for batch in text_blocks(stream, names, chosen, self._above, missing, options, floats, words):
                part = batch if left is None else batch.slice(0, left)
                if part.num_rows:
                    yield {name: self._cleaned(text, name) for name, text in zip(chosen, part.columns, strict=True)}
                if left is not None and (left := left - part.num_rows) <= 0:
                    return
        except UnicodeDecodeError as error:
            raise wrong_encoding(path, self.encoding or "utf-8", error) from error
        except pa.ArrowInvalid as error:
            raise self._explained(path, names, list(bad.values()), error) from error

    def _cleaned(self, text: Any, name: str) -> Any:
        if self.skipinitialspace:
            text = pc.utf8_ltrim_whitespace(text)
        if words := self._missing_of.get(name):
            text = pc.if_else(pc.is_in(text, value_set=pa.array(words)), pa.scalar(None, pa.string()), text)
        return text

    def _stream(self, path: Path) -> Any:
        """The bytes of a file as UTF-8, without comments."""
        stream: Any = open_bytes(path)
        encoding = (self.encoding or "utf-8").lower().replace("_", "-")
        plain = encoding in ("utf-8", "utf8", "utf-8-sig") and self.encoding_errors == "strict"
        skipped = self.skiprows if callable(self.skiprows) else None
        if isinstance(self.skiprows, Iterable):
            skipped = set(self.skiprows).__contains__
        lines = None
        if self.comment or skipped or self.skipfooter or self._divide:
            lines = LineFilter(self.comment, self._quote, skipped, self.skipfooter, self._divide)
        if lines is not None or not plain:
            stream = Recoded(stream, self.encoding or "utf-8", self.encoding_errors, lines)
        return pa.PythonFile(stream, mode="r")

    def _header_row(self) -> int | None:
        if self.header == "infer":
            return None if self._names is not None else 0
        row = max(self.header) if isinstance(self.header, list) else self.header
        return row if isinstance(row, int) else None

    def _lines(self, path: Path, *, delimiter: str | None = None) -> Iterator[list[str]]:
        """The rows of a file through Python's own parser: slow, but it knows the line of each."""
        with self._stream(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            for _ in range(self._first_lines):
                text.readline()
            self._parser = csv.reader(
                text,
                delimiter=delimiter or self._separator,
                quotechar=self._quote,
                quoting=csv.QUOTE_MINIMAL if self._quote else csv.QUOTE_NONE,
                doublequote=self.doublequote,
                escapechar=self.escapechar,
                skipinitialspace=self.skipinitialspace,
            )
            yield from self._parser

    def _header(self, path: Path) -> list[str] | None:
        """The names of the columns of one file; `None` for an empty file."""
        row = self._header_row()
        try:
            found: list[str] | None = None
            levels: list[list[str]] = []
            self._above = self._first_lines
            for index, fields in enumerate(self._lines(path)):
                if isinstance(self.header, list) and index in self.header:
                    levels.append(fields)
                if not fields and self.skip_blank_lines and found is None and row in (None, 0):
                    continue
                if row is None or index == row or row == 0:
                    found = fields
                    # the lines above the first row of data: a name may hold a line end
                    self._above += 0 if row is None else self._parser.line_num
                    break
        except UnicodeDecodeError as error:
            raise wrong_encoding(path, self.encoding or "utf-8", error) from error
        if found is None:
            return list(self._names) if self._names is not None else None
        if self._names is not None:
            if len(self._names) != len(found):
                raise DataError(f"{path} has {len(found)} columns, but names= has {len(self._names)}: {self._names}.")
            return list(self._names)
        if row is None:
            return [str(index) for index in range(len(found))]
        if isinstance(self.header, list):
            found = [str(level) for level in zip(*levels, strict=False)]
        return distinct(found)

    def _chosen(self, names: list[str], path: Path) -> list[str]:
        """The columns to read."""
        for name in self._declared:
            if name not in names:
                raise DataError(f"{path}: {missing_column(name, names)}")
        if self.usecols is None:
            if self.features is not None and len(self.features) != len(names):
                extra = [name for name in names if name not in self.features]
                raise DataError(f"{path} has columns that features= does not name: {extra}.")
            chosen = names
        else:
            usecols = self.usecols
            wanted = set(filter(usecols, names) if callable(usecols) else self._found(usecols, names))
            chosen = [name for name in names if name in wanted]
        if self.index_col is None or self.index_col is False:
            return chosen
        left_out = self._found([self.index_col] if isinstance(self.index_col, str | int) else self.index_col, names)
        return [name for name in chosen if name not in left_out]

    def _found(self, columns: Iterable[str | int], names: list[str]) -> list[str]:
        """The names of columns given by name or number."""
        found = [names[item] if isinstance(item, int) and item < len(names) else str(item) for item in columns]
        for name in found:
            if name not in names:
                raise missing_column(name, names)
        return found

    # --- errors ---

    def _line_of(self, path: Path, wanted: int) -> int:
        """The line in which a row of data ends, counted from 1."""
        row = -1 if self._header_row() is None else -2 - (self._header_row() or 0)
        for fields in self._lines(path):
            row += bool(fields) or not self.skip_blank_lines
            if row == wanted:
                break
        return int(self._parser.line_num) + self._first_lines

    def _explained(self, path: Path, names: list[str], bad: list[Any], error: Exception) -> DataError:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            return wrong_encoding(path, self.encoding or "utf-8", error)
        if bad and self.on_bad_lines == "error":
            row = bad[-1]
            line = self._line_of_bad(path, len(names)) or row.number
            more = row.actual_columns > row.expected_columns
            return DataError(
                f"{path}, line {line}: the row has {row.actual_columns} fields, but there are {row.expected_columns} "
                f"columns {names if len(names) <= 20 else ''}: {row.text!r:.200}. "
                + (
                    f"A field that contains {self._separator!r} must be in quotes."
                    if more
                    else f"The value for column {names[row.actual_columns]!r} is missing."
                )
                + " To leave such rows out pass on_bad_lines='skip'."
            )
        return DataError(f"{path} cannot be read as CSV: {text}")

    def _line_of_bad(self, path: Path, count: int) -> int | None:
        above = self._header_row()
        for index, fields in enumerate(self._lines(path)):
            if (above is None or index > above) and fields and len(fields) != count:
                return int(self._parser.line_num) + self._first_lines
        return None


def _nothing(array: Any, kind: pa.DataType) -> bool:
    """Whether a column that is declared to hold nothing holds nothing."""
    return bool(pa.types.is_null(kind)) and array.null_count == len(array)
