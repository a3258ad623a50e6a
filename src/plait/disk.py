"""How a file comes to disk, complete: aside, synced, then renamed; a reader sees the old one or the new one, whole.

And how to tell a file that did not come: the few lines that git leaves in the place of one that git-lfs holds.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plait.errors import DiskError

_THREADS = 16  # that wait for the disk
PARTIAL = ".partial"  # how the name of a file that is still being written ends; it begins with a dot


_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024  # bytes; the specification of git-lfs


def left_behind(path: Path) -> str:
    """How a sentence that begins with a file's name ends when git-lfs holds the file; "" for any file that is there."""
    try:
        if not len(_POINTER) < path.stat().st_size < _LONGEST_POINTER:
            return ""
        with path.open("rb") as file:
            pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:  # told by whoever opens it
        return ""
    remedy = "Run `git lfs install && git lfs pull` in the clone, or fetch what you need by its name."
    return f"is a pointer of git-lfs, not the file itself: it was cloned without git-lfs. {remedy}" if pointer else ""


def sync(path: Path) -> None:
    """Wait until a file's or folder's bytes are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot sync a folder, and orders renames itself
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Sequence[Path]) -> None:
    """Wait until the bytes of several files are on the disk, which takes little longer than those of one."""
    if len(paths) < 2:
        for path in paths:
            sync(path)
        return
    with ThreadPoolExecutor(min(len(paths), _THREADS)) as pool:
        list(pool.map(sync, paths))  # raises what went wrong with any


_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota on that disk is used up",
    errno.EFBIG: "the file is larger than its disk or the limits of this process (ulimit -f) allow",
    errno.EROFS: "the disk can only be read",
}


@contextmanager
def told(path: Path, *, remedy: str = "Free some space there, or name a place on another disk.") -> Iterator[None]:
    """Say of bytes that the disk refuses in the block which file or folder they were for, and what to do.

    Raises `DiskError`, with the `errno` of the system; other errors come through as they are.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskError) or error.errno not in _REFUSALS:
            raise
        refusal = DiskError(f"{path} was not written: {_REFUSALS[error.errno]}. Nothing half-made is left. {remedy}")
        refusal.errno = error.errno
        raise refusal from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new path beside `path` to write to; what was written takes the place of `path` in one step.

    An error in the block removes it, and `path` stays as it was.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with told(path):
            yield aside
            sync(aside)
            os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)  # a full disk must not stay full
        raise
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON file in one step, with its keys in order; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as aside, aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1, sort_keys=True)
