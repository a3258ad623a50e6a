"""Files at other places than this computer, complete: addresses such as `s3://…` and `memory://…`, opened by fsspec."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from plait import disk
from plait.errors import NotFoundError, OptionError, require

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:\ is a drive


def is_address(path: object) -> bool:
    """Whether a path names a place that fsspec opens; `file://…` is such a place as well."""
    return isinstance(path, str) and _SCHEME.match(path) is not None


def filesystem(address: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The file system of an address, and the path within it. Raises `OptionError` for an unknown scheme."""
    fsspec = require("fsspec", extra="data", purpose="read and write files elsewhere")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address, **dict(storage_options or {}))
    except (ValueError, ImportError) as error:
        raise OptionError(f"{address} cannot be opened: {error}.") from error
    return found


@contextlib.contextmanager
def reading(path: str | Path, storage_options: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A file here or elsewhere, opened to read bytes. Raises `NotFoundError` when it is not there."""
    try:
        if is_address(path):
            system, inner = filesystem(str(path), storage_options)
            stream = system.open(inner, "rb")
        else:
            stream = Path(path).expanduser().open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    with stream:
        yield stream


@contextlib.contextmanager
def writing(path: str | Path, storage_options: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A file here or elsewhere, opened to write bytes; here it appears when it is complete."""
    if is_address(path):
        system, inner = filesystem(str(path), storage_options)
        with system.open(inner, "wb") as stream:
            yield stream
        return
    target = Path(path).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk.replaced(target) as aside, aside.open("wb") as stream:
        yield stream


@contextlib.contextmanager
def opened(
    target: str | Path | BinaryIO,
    storage_options: Mapping[str, Any] | None = None,
    *,
    compression: str | None = None,
) -> Iterator[Any]:
    """A stream to write bytes to: the one given, or a file here or elsewhere; here it appears when it is complete.

    `compression` is "gzip", "bz2", "xz" or "zstd", or "infer": by the suffix of a file.
    """
    if compression == "infer":
        named = isinstance(target, str | os.PathLike)
        compression = _SUFFIXES.get(Path(str(target)).suffix.lower()) if named else None
    elif compression is not None and compression not in (known := sorted({*_SUFFIXES.values()})):
        raise OptionError(f"compression must be 'infer', None or one of {known}, but is {compression!r}.")
    with contextlib.ExitStack() as stack:
        stream: Any = target
        if isinstance(target, str | os.PathLike):
            path = target if isinstance(target, str) else Path(target)
            stream = stack.enter_context(writing(path, storage_options))
        yield stream if compression is None else stack.enter_context(_packed(stream, compression))


_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}


def _packed(stream: Any, compression: str) -> Any:
    """A stream whose bytes are compressed on their way to another one, which stays open."""
    if compression == "gzip":
        return gzip.GzipFile("", "wb", fileobj=stream, mtime=0)  # neither a name nor a time: equal rows, equal files
    if compression == "bz2":
        return bz2.BZ2File(stream, "wb")
    if compression == "xz":
        return lzma.LZMAFile(stream, "wb")
    return pa.CompressedOutputStream(pa.PythonFile(_Open(stream), mode="w"), "zstd")


class _Open(io.RawIOBase):
    """A stream to write to that does not close the one below."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data))
        return len(data)
