"""Arrow files, complete: opening them memory-mapped, and writing them one record batch after another.

Both Arrow file formats are read: streams (what datasets writes) and files with a footer.
"""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa

from plait.data.table import Table
from plait.disk import sync
from plait.errors import DataError

SYNC_BYTES = 2 << 20  # written since the last time that a thread was sent to the disk


def read_arrow(path: Path) -> pa.Table:
    """The memory-mapped Arrow table of a file; raises `DataError` when it is not an Arrow file."""
    source = pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"")
    try:
        magic = source.read_buffer(6).to_pybytes()
        source.seek(0)
        if magic == b"ARROW1":
            return pa.ipc.open_file(source).read_all()
        return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not an Arrow file: {error}") from error


def open_arrow(path: Path) -> Table:
    """The columns of an Arrow file, memory-mapped."""
    return Table.from_arrow(read_arrow(path), path=path)


class ArrowStream:
    """An Arrow stream being written to a new file: record batches of one schema, one after another.

    What was written is brought to the disk while the next batches are being made, so that little is left at the end.
    With `lasting=False`, for a file that nobody opens after this process, that is left to the system.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, lasting: bool = True) -> None:
        self.path = path
        self.lasting = lasting
        self.schema = schema
        self._syncing: Thread | None = None
        self._synced = 0  # bytes that a thread has taken care of
        self._failure: OSError | None = None
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def write(self, arrays: list[Any]) -> None:
        """Append one record batch: one array per field of the schema."""
        self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))
        size = self._sink.tell() if self.lasting else 0
        if size - self._synced >= SYNC_BYTES and not (self._syncing and self._syncing.is_alive()):
            self._synced = size
            self._syncing = Thread(target=self._sync, name="plait-sync", daemon=True)
            self._syncing.start()

    def _sync(self) -> None:
        try:
            sync(self.path)
        except OSError as error:
            self._failure = error  # raised by `close`: the disk may tell of it only once

    def close(self) -> None:
        """Finish the file and bring it to the disk itself; raises `OSError` when the disk does not take it."""
        self.finish()
        if self.lasting:
            sync(self.path)

    def finish(self) -> None:
        """Finish the file, which is still to be brought to the disk; raises `OSError` when a part of it was refused."""
        self._writer.close()
        self._sink.close()
        if self._syncing is not None:
            self._syncing.join()
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """Close without finishing: the file is not going to be used."""
        self._sink.close()
        if self._syncing is not None:
            self._syncing.join()

    def __enter__(self) -> ArrowStream:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
