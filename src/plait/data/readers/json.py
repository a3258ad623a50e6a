"""JSON files, complete: one object per line, an array of objects, or a document with the rows in one `field`.

An array of plain values is a column "text".

Types follow from all rows of all files: numbers widen, objects take the fields of every row, and a column whose values
have no common type is stored as `Json`. Text is never taken for a date. A line that is not JSON is named by its place.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from plait.data.encode import to_arrow
from plait.data.features import arrow_of, is_decoded, is_encoded
from plait.data.readers.base import Reader, open_bytes, wrong_encoding
from plait.errors import DataError, OptionError

_BLOCK = 2 << 20  # bytes parsed at once; more are slower, because every block is then in fresh memory
_ROWS = 1 << 14  # rows of a document converted at once


@dataclass
class JsonReader(Reader):
    """`field` names the part of a document that holds the rows; `encoding` is that of the files.

    `on_mixed_types` is "use_json" (a column without a common type becomes `Json`) or `None` (it is an error).
    """

    WITHOUT_EFFECT = {
        "chunksize": "files are read in blocks of bytes",
        "newlines_in_values": "they are always read",
        "block_size": "files are read in blocks of 2 MB",
        "use_threads": "files are read by one thread",
    }

    field: str | None = None
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    on_mixed_types: str | None = "use_json"

    version = "2"

    def __post_init__(self) -> None:
        if self.on_mixed_types not in ("use_json", None):
            raise OptionError(f"on_mixed_types must be 'use_json' or None, but is {self.on_mixed_types!r}.")
        self._texts: dict[str, Any] = {}  # columns with text that looks like dates, and their types

    def blocks(self) -> Iterator[dict[str, Any]]:
        for path in self.files:
            if self.field is None and self._by_lines(path):
                yield from self._of_lines(path)
            else:
                yield from self._of_document(path)

    # --- one object per line ---

    def _by_lines(self, path: Path) -> bool:
        """Whether a file has one object per line, judged by its first line that is not empty."""
        with self._stream(path) as stream:
            for line in stream:
                if line.strip():
                    if not line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
                        return False
                    try:
                        json.loads(line)
                    except ValueError:
                        return bool(line.rstrip().endswith(b"}"))  # a broken line, not the beginning of a document
                    return True
        return True

    def _of_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        line = 1
        with self._stream(path) as stream:
            while block := stream.read(_BLOCK):
                block += stream.readline()
                if line == 1:
                    block = block.removeprefix(b"\xef\xbb\xbf")
                if not block.isspace():
                    yield self._parsed(block, path, line)
                line += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))

    def _parsed(self, block: bytes, path: Path, first_line: int) -> dict[str, Any]:
        """A block of lines as columns: by Arrow's parser where it gives what Python's would, else by Python's."""
        if self.features is None or not any(is_encoded(kind) or is_decoded(kind) for kind in self.features.values()):
            try:
                if not block.isascii():
                    block.decode("utf-8")  # Arrow's parser looks at no byte of a text
                table = self._by_arrow(block)
                if not any(_lost_digits(column) for column in table.columns):
                    return {
                        name: _whole(table.column(name).chunks) if table.num_rows else pa.nulls(0)
                        for name in table.column_names
                    }
            except (pa.ArrowException, UnicodeDecodeError):
                pass  # Python's parser reads what Arrow's does not, or says what is wrong and where
        rows, lines = [], []
        for number, line in enumerate(block.split(b"\n"), start=first_line):
            if line.strip():
                rows.append(self._row(line, path, number))
                lines.append(number)
        return self._columns(rows, path, lines)

    def _by_arrow(self, block: bytes) -> pa.Table:
        if self.features is not None:
            fields = [pa.field(name, arrow_of(kind)) for name, kind in self.features.items()]
            return self._read(block, pa.schema(fields), "error")
        table = self._read(block, self._known(), "infer")
        texts = {name: _as_text(table.schema.field(name).type) for name in table.column_names}
        texts = {name: kind for name, kind in texts.items() if not kind.equals(table.schema.field(name).type)}
        if texts:
            self._texts |= texts
            table = self._read(block, self._known(), "infer").select(table.column_names)
        return table

    def _known(self) -> pa.Schema:
        return pa.schema([pa.field(name, kind) for name, kind in self._texts.items()])

    def _read(self, block: bytes, known: pa.Schema, others: str) -> pa.Table:
        """A block through Arrow's parser; `others` says what becomes of columns that are not known."""
        parse = pyarrow.json.ParseOptions(explicit_schema=known, unexpected_field_behavior=others)
        # in one piece: of several Arrow's parser (26.0) loses values where objects and text are mixed, and may crash
        read = pyarrow.json.ReadOptions(block_size=len(block) + 1, use_threads=False)
        table = pyarrow.json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
        table.validate()  # lists of nothing but nulls come without their items
        return table

    def _row(self, line: bytes, path: Path, number: int) -> Mapping[str, Any]:
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise wrong_encoding(path, self.encoding, error) from error
        except ValueError as error:
            column = getattr(error, "colno", 1)
            reason = getattr(error, "msg", str(error))
            raise DataError(
                f"{path}, line {number}, character {column} is not JSON: {reason}: {line.decode('utf-8')!r:.200}."
            ) from error
        if not isinstance(row, Mapping):
            raise DataError(f"{path}, line {number}: a row must be an object with names, but is {row!r:.100}.")
        return row

    # --- documents ---

    def _of_document(self, path: Path) -> Iterator[dict[str, Any]]:
        with self._stream(path) as stream:
            data = stream.read()
        try:
            found = json.loads(data.decode("utf-8-sig")) if data.strip() else []
        except UnicodeDecodeError as error:
            raise wrong_encoding(path, self.encoding, error) from error
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, character {error.colno}"
            raise DataError(f"{path}, {place} is not JSON: {error.msg}.") from error
        if self.field is not None:
            if not isinstance(found, Mapping) or self.field not in found:
                have = f"its fields are {list(found)}" if isinstance(found, Mapping) else "it is no object"
                raise DataError(f"{path} has no field {self.field!r}: {have}.")
            found = found[self.field]
        if isinstance(found, Mapping):
            # rows as columns if all values are lists of one length, else a single row
            lists = [value for value in found.values() if isinstance(value, list)]
            if self.field is not None and len(lists) == len(found) and len({len(value) for value in lists}) == 1:
                found = [dict(zip(found, row, strict=True)) for row in zip(*lists, strict=True)]
            else:
                found = [found]
        if not isinstance(found, list):
            raise DataError(f"{path} holds {found!r:.100}, but rows must be a list of objects.")
        if not any(isinstance(row, Mapping | list) for row in found):  # plain values are one column
            name = next(iter(self.features)) if self.features and len(self.features) == 1 else "text"
            found = [{name: value} for value in found]
        for start in range(0, len(found), _ROWS):
            rows = found[start : start + _ROWS]
            for index, row in enumerate(rows):
                if not isinstance(row, Mapping):
                    raise DataError(f"{path}, row {start + index}: a row must be an object, but is {row!r:.100}.")
            yield self._columns(rows, path, None, first_row=start)

    # --- rows to columns ---

    def _columns(
        self, rows: list[Mapping[str, Any]], path: Path, lines: list[int] | None, *, first_row: int = 0
    ) -> dict[str, Any]:
        """Rows as columns; a list in place of an array stands for values without a common type."""
        block: dict[str, Any] = {}
        for name in dict.fromkeys([*(self.features or ()), *(name for row in rows for name in row)]):
            values = [row.get(name) for row in rows]
            if self.features is not None:
                if name not in self.features:
                    index = next(index for index, row in enumerate(rows) if name in row)
                    place = _place(path, lines, index, first_row)
                    raise DataError(f"{place}: features= has no column {name!r}; it has {list(self.features)}.")
                block[name] = self._declared(values, name, path, lines, first_row)
                continue
            try:
                block[name] = to_arrow(values, column=name, first_row=first_row)
            except DataError as error:
                if self.on_mixed_types is None or isinstance(error.__cause__, UnicodeEncodeError):
                    raise DataError(f"{path}: {error}") from error
                block[name] = values
        return block

    def _declared(self, values: list[Any], name: str, path: Path, lines: list[int] | None, first_row: int) -> Any:
        assert self.features is not None
        feature = self.features[name]
        try:
            return to_arrow(values, feature=feature, column=name)
        except DataError:
            for index, value in enumerate(values):
                try:
                    to_arrow([value], feature=feature)
                except DataError as error:
                    place = _place(path, lines, index, first_row)
                    raise DataError(
                        f"{place}, column {name!r}: {value!r:.100} does not fit the declared type {feature!r}."
                    ) from error
            raise

    def _stream(self, path: Path) -> Any:
        plain = self.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")
        if plain and self.encoding_errors == "strict":
            return open_bytes(path)
        with open_bytes(path) as stream:
            try:
                text = stream.read().decode(self.encoding, self.encoding_errors)
            except UnicodeDecodeError as error:
                raise wrong_encoding(path, self.encoding, error) from error
        return io.BytesIO(text.encode())


def _whole(chunks: list[Any]) -> Any:
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _place(path: Path, lines: list[int] | None, index: int, first_row: int) -> str:
    return f"{path}, row {first_row + index}" if lines is None else f"{path}, line {lines[index]}"


def _as_text(kind: pa.DataType) -> pa.DataType:
    """A type with text where Arrow's parser saw dates."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(kind.field(i).name, _as_text(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def _lost_digits(column: Any) -> bool:
    """Whether a column may hold integers that Arrow's parser rounded to floats: those beyond 64 bits."""
    kind = column.type
    if pa.types.is_floating(kind):
        largest = pc.max(pc.abs(column)).as_py()
        return largest is not None and not largest < 2**63
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return any(_lost_digits(chunk.flatten()) for chunk in getattr(column, "chunks", [column]))
    if pa.types.is_struct(kind):
        return any(_lost_digits(part) for chunk in getattr(column, "chunks", [column]) for part in chunk.flatten())
    return False
