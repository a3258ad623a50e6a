"""Files at other places than this computer, complete: addresses such as `s3://…` and `memory://…`, opened by fsspec."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

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
def opened(target: str | Path | BinaryIO, storage_options: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A stream to write bytes to: the one given, or a file here or elsewhere; here it appears when it is complete."""
    if isinstance(target, str | os.PathLike):
        with writing(target if isinstance(target, str) else Path(target), storage_options) as stream:
            yield stream
    else:
        yield target
