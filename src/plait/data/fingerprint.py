"""Digests, complete: what a table holds and what a function reaches. A result is reused only when both are equal.

A table's digest follows from the files that its columns are mapped from (or from the bytes, in memory), the rows seen,
and the features. A function's digest follows from all that it reaches: its bytecode and constants, defaults, closure,
the globals that it names, and in turn the functions and classes of the project among them. Library code counts by name
and version. An object may answer for itself with a method `__fingerprint__() -> str`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from plait.data.reach import Unhashable as Unhashable
from plait.data.reach import digest_of as digest_of
from plait.data.table import Rows, Source, Store, Table

SIZE = 16  # bytes of a digest


def digest(parts: Iterable[str | bytes]) -> str:
    """One digest of several texts, each with its length, so that no two sequences run together."""
    hasher = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def table_digest(table: Table, features: Mapping[str, Any]) -> str:
    """The digest of what a table holds: names, features, sources and rows of all columns, in order."""
    rows: dict[Any, str] = {}
    parts = []
    for name, (store, seen) in table.columns.items():
        key = seen if isinstance(seen, range) else id(seen)
        if key not in rows:
            rows[key] = _rows_digest(seen)
        parts += [name, repr(features[name]), _store_digest(store), rows[key]]
    return digest([str(table.num_rows), *parts])


def file_identity(path: Path) -> str:
    """What tells one state of a file from another without reading it: path, size and time of change."""
    status = path.stat()
    return f"{path.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"


def _rows_digest(rows: Rows) -> str:
    if isinstance(rows, range):
        return f"{rows.start}:{rows.stop}"
    hasher = hashlib.blake2b(digest_size=SIZE)
    hasher.update(rows.dtype.str.encode())
    hasher.update(np.ascontiguousarray(rows).data)
    return hasher.hexdigest()


def _store_digest(store: Store) -> str:
    if store.digest is None:
        store.digest = _of_sources(store.sources) if store.sources is not None else _of_memory(store)
    return store.digest


def _of_sources(sources: Iterable[Source]) -> str:
    return digest(f"{_identity(source.path)}\n{source.column}\n{source.start}:{source.stop}" for source in sources)


def _identity(path: Path) -> str:
    from plait.data.cache import key_of

    # a file of the cache is named by its key, wherever the cache lies
    key = key_of(path)
    return file_identity(path) if key is None else f"{key}/{path.name}"


def _of_memory(store: Store) -> str:
    """The digest of a column in memory: of its type and values, however they are divided into chunks."""
    hasher = hashlib.blake2b(digest_size=SIZE)
    hasher.update(str(store.type).encode())
    batch = 1 << 16
    for start in range(0, len(store), batch):
        array = pa.concat_arrays([*store.parts(start, min(start + batch, len(store)))])
        # the stream format writes a slice without what lies outside it
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema([pa.field("", store.type)])) as writer:
            writer.write_batch(pa.record_batch([array], names=[""]))
        hasher.update(sink.getvalue())
    return hasher.hexdigest()
