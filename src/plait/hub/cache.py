"""plait's own cache, complete: locks, half-made folders that nobody sees, and commits that are all or nothing.

<root>/pypi/<package>/<version>-<digest>/   one wheel: record.json and files/
<root>/tmp/<key>.<random>/                  work in progress; what a killed process left is removed by the next
<root>/locks/<key>.lock                     one per entry
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait import console, settings
from plait.disk import sync
from plait.errors import HubError


@dataclass(frozen=True)
class Cache:
    """The cache below `root`."""

    root: Path

    @classmethod
    def at(cls, folder: str | os.PathLike[str] | None = None) -> Cache:
        """The cache at `folder`, by default at PLAIT_HOME."""
        return cls(Path(folder).expanduser() if folder is not None else settings.home())

    def require_writable(self) -> None:
        """Make the root, or raise `HubError`, before any work is done."""
        reason = "permission denied"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if os.access(self.root, os.W_OK):
                return
        except OSError as error:
            reason = str(error.strerror)
        raise HubError(
            f"The cache {str(self.root)!r} cannot be written: {reason}. "
            "Point PLAIT_HOME (or cache_dir=) at a folder of yours."
        )

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the lock of one entry, across threads and processes; the system frees it when a process dies."""
        from filelock import FileLock, Timeout

        path = self.root / "locks" / f"{slug(key)}.lock"
        self.require_writable()
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.logger("hub").info("waiting for another process that fetches %s", key)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def workspace(self, key: str) -> Iterator[Path]:
        """A temporary folder on the cache's own file system, removed at the end; hold the entry's lock around it."""
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{slug(key)}.*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{slug(key)}.", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def commit(folder: Path, target: Path) -> None:
    """Make a finished temporary folder visible as `target`, after its bytes have reached the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # damaged, or fetched again on purpose: out of the way in one step, then removed
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.old") as old:
            os.replace(target, Path(old) / "entry")
            os.replace(folder, target)
    else:
        os.replace(folder, target)
    sync(target.parent)


def read_json(path: Path) -> Any:
    """The content of one of the cache's JSON files, or None when there is none (or it cannot be read as JSON)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, size: int, what: str) -> None:
    """Raise `HubError` when the disk of `folder` has no room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise HubError(
            f"{what} needs {size / 1e6:.2f} MB and the disk of {str(folder)!r} has {free / 1e6:.2f} MB free. "
            "Free some space, or point PLAIT_HOME (or cache_dir=) at another disk."
        )


def slug(key: str) -> str:
    """A file name for a key: readable, and different for different keys."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9.=-]+', '_', key)[:80]}-{digest}"
