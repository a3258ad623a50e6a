"""One new column being made, complete: arrays are appended as they come, and a column in memory or in a file results.

The type of the column is the widest of all that was appended, so it does not depend on which rows came first. Arrays
are gathered into large record batches. What was on disk already when the type widened is converted once, at the end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data.decode import to_python
from plait.data.encode import to_arrow
from plait.data.features import FeatureType, arrow_of
from plait.data.files import ArrowStream, open_arrow, read_arrow
from plait.data.kinds import Json
from plait.data.schema import feature_of
from plait.data.table import Store, Table, View
from plait.data.widen import cast, keeps, widen
from plait.errors import DataError

BATCH_BYTES = 2 << 20  # of a record batch on disk; larger ones are slower, because they are made in fresh memory
MEMORY_BYTES = 64 << 20  # a column without a file of its own goes to an unnamed file beyond this
_THREADS = os.cpu_count() or 1


class ColumnWriter:
    """A column being made.

    `path` is the file that it is written to, in a folder that nobody looks into until its maker has brought all of it
    to the disk; `None` keeps it in memory, and in an unnamed file beyond 64 MB.
    `declared` is the feature that the appended arrays have; without it the type follows from them.
    `wanted` is a feature to keep as long as every value fits it without loss: that of the column being replaced.
    `mixed`: values without a common type make the column `Json`; otherwise they raise `DataError`.
    """

    def __init__(
        self,
        name: str,
        *,
        path: Path | None = None,
        declared: FeatureType | None = None,
        wanted: FeatureType | None = None,
        mixed: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.num_rows = 0
        self._declared = declared
        self._wanted = wanted
        self._mixed = mixed
        self._plain_streams: int | None = None  # how many streams were begun before the column became Json
        self._natural = pa.null()  # the widest type of all that was appended
        self._pending: list[Any] = []
        self._pending_bytes = 0
        self._streams: list[ArrowStream] = []  # one, and one more for each time that the type changed
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def append(self, array: Any) -> None:
        """Add the next rows, in the type that they have by themselves (or in the declared one)."""
        if self._plain_streams is not None:
            array = as_json(array)
        elif self._declared is None:
            try:
                self._natural = widen(self._natural, array.type)
            except DataError as error:
                if not self._mixed:
                    raise self._no_common_type(array.type, error) from error
                self._become_json()
                array = as_json(array)
            if self._wanted is not None:
                array = self._fitted(array)
        self._add(array)

    def append_mixed(self, values: list[Any]) -> None:
        """Add rows whose values have no common type: the column becomes `Json`."""
        self.append_json(to_arrow(values, feature=Json(), column=self.name, first_row=self.num_rows))

    def append_json(self, array: Any) -> None:
        """Add rows that are JSON text already: the column becomes `Json`."""
        if self._plain_streams is None:
            self._become_json()
        self._add(array)

    def _become_json(self) -> None:
        """From here on every value is JSON text; what is on disk already is converted at the end."""
        self._plain_streams = len(self._streams)
        self._pending = [as_json(array) for array in self._pending]
        self._declared, self._wanted = Json(), None

    def _add(self, array: Any) -> None:
        self.num_rows += len(array)
        if not len(array):
            return
        self._pending.append(array)
        kind = array.type
        # `nbytes` looks at every buffer, which costs more than all the rest of this
        self._pending_bytes += len(array) * kind.bit_width // 8 if pa.types.is_primitive(kind) else array.nbytes
        if self._pending_bytes > (BATCH_BYTES if self.path or self._streams else MEMORY_BYTES):
            self._flush()

    def _no_common_type(self, kind: pa.DataType, error: DataError) -> DataError:
        return DataError(
            f"Column {self.name!r} has values without a common type: rows before {self.num_rows} are "
            f"{self._natural}, and from row {self.num_rows} on there are values of type {kind} ({error}). "
            f"Make them one type, or declare one with features=."
        )

    def _fitted(self, array: Any) -> Any:
        """The array in the wanted type; from the first that does not fit, all in their own."""
        assert self._wanted is not None
        kind = arrow_of(self._wanted)
        if keeps(array.type, kind):
            try:
                return cast(array, kind)
            except pa.ArrowInvalid:
                pass
        self._wanted = None
        return array

    def finish(self) -> tuple[View, FeatureType]:
        """The column and its feature. Nothing may be appended afterwards."""
        feature = self._declared if self._declared is not None else self._wanted
        if feature is None:
            feature = feature_of(self._natural)
        kind = arrow_of(feature)
        if self.path is None and not self._streams:
            return self._in_memory(kind), feature
        self._flush(last=True)
        for stream in self._streams:
            stream.finish()
        target = self._settle(kind)
        if self.path is not None:
            (column,) = open_arrow(target).columns.values()
            return column, feature
        mapped = Table.from_arrow(read_arrow(target))
        self._cleanup()  # the file loses its name now, and its bytes when nothing maps them any more
        return mapped.column(self.name), feature

    def abandon(self) -> None:
        """Remove what was written: the column is not going to be used."""
        for stream in self._streams:
            stream.abandon()
            stream.path.unlink(missing_ok=True)
        self._cleanup()

    def _in_memory(self, kind: pa.DataType) -> View:
        chunks = [self._cast(array, kind) for array in self._pending]
        store = Store([pa.concat_arrays(chunks)] if len(chunks) > 1 else chunks, kind)
        return View(store, range(len(store)))

    def _flush(self, *, last: bool = False) -> None:
        """Write what is pending as one record batch, to a new stream if its type is new."""
        kind = self._declared_type()
        pending = [self._cast(array, kind) for array in self._pending]
        if last and not self._streams and not pending:
            pending = [pa.array([], type=kind)]
        if not pending:
            return
        new = len(self._streams) == (self._plain_streams or 0)
        if new or not self._streams[-1].schema.field(0).type.equals(kind):
            self._streams.append(self._stream(kind))
        self._streams[-1].write([pa.concat_arrays(pending) if len(pending) > 1 else pending[0]])
        self._pending, self._pending_bytes = [], 0

    def _cast(self, array: Any, kind: pa.DataType) -> Any:
        """An array in the type of the column, which is known only after all rows."""
        try:
            return cast(array, kind)
        except pa.ArrowInvalid as error:
            if self._declared is not None:
                raise
            raise DataError(
                f"Column {self.name!r} has no type that holds all its values: {error}. Declare one with features=: "
                f"Value('float64') rounds large integers, Value('string') keeps every digit."
            ) from error

    def _declared_type(self) -> pa.DataType:
        """The type that the column has as far as is known."""
        feature = self._declared if self._declared is not None else self._wanted
        return self._natural if feature is None else arrow_of(feature)

    def _settle(self, kind: pa.DataType) -> Path:
        """The file of the whole column: the only one, or what several become in the final type."""
        parts = list(self._streams)
        if len(parts) == 1 and not self._plain_streams:
            return parts[0].path
        whole = self._stream(kind)
        self._streams.append(whole)
        for index, part in enumerate(parts):
            plain = index < (self._plain_streams or 0)
            for chunk in read_arrow(part.path).column(0).chunks:
                whole.write([as_json(chunk) if plain else self._cast(chunk, kind)])
        whole.finish()
        for part in parts:
            part.path.unlink()
        return whole.path if self.path is None else whole.path.replace(self.path)

    def _stream(self, kind: pa.DataType) -> ArrowStream:
        """A new file: the column's own, as long as there is one type, and more beside it."""
        path = self.path
        if path is None:
            self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="plait-column-")
            path = Path(self._scratch.name, "column.arrow")
        if self._streams:
            path = path.with_name(f"{path.name}.{len(self._streams)}")
        return ArrowStream(path, pa.schema([pa.field(self.name, kind)]), lasting=self.path is not None)

    def _cleanup(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None


def finish_all(writers: Mapping[str, ColumnWriter]) -> dict[str, tuple[View, FeatureType]]:
    """Every column and its feature, by name. Nothing may be appended afterwards.

    Threads copy what is still in memory to many files side by side.
    """
    if len(writers) < 2 or all(writer.path is None for writer in writers.values()):
        return {name: writer.finish() for name, writer in writers.items()}
    with ThreadPoolExecutor(min(len(writers), _THREADS)) as pool:
        return dict(zip(writers, pool.map(ColumnWriter.finish, writers.values()), strict=True))


def as_json(array: Any) -> Any:
    """The values of an array as JSON text."""
    return to_arrow(to_python(array), feature=Json())
