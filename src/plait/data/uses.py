"""Who uses the results in a cache, complete: a file per process, which it keeps locked for as long as it lives.

The system gives the lock back however a process ends, so what is listed in a file that can be locked is used by nobody.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def own_name() -> str:
    """A name for a file or folder of this process: its number, its machine, and something that is nobody else's."""
    return f"{os.getpid()}-{machine()}-{secrets.token_hex(6)}"


def machine() -> str:
    """The name of this machine, as it stands in file names."""
    return re.sub(r"[^A-Za-z0-9.]", "_", platform.node())


def use(root: Path, key: str) -> None:
    """Note that this process uses a result of the cache at `root`, until the process ends."""
    if os.name != "nt":  # Windows removes no file that is open
        with contextlib.suppress(OSError):  # a read-only cache, from which nothing is removed either
            _note(root, os.getpid(), key)


@functools.lru_cache(maxsize=1 << 16)
def _note(root: Path, process: int, key: str) -> None:
    _own_file(root, process).write(f"{key}\n")


@functools.lru_cache(maxsize=64)
def _own_file(root: Path, process: int) -> Any:
    """The file of this process, open and locked."""
    import fcntl

    users = root / "users"
    users.mkdir(parents=True, exist_ok=True)
    while True:
        path = users / own_name()
        file = path.open("a", buffering=1, encoding="ascii")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # nobody took it for one of a dead process before it was locked
            return file
        file.close()


def used(root: Path, *, but_own: bool = False) -> set[str]:
    """The keys of results that live processes use (`but_own`: others than this one); removes files of dead ones."""
    if os.name == "nt":
        return set()
    found: set[str] = set()
    for path in _files(root):
        if but_own and path.name.startswith(f"{os.getpid()}-{machine()}-"):
            continue
        with contextlib.suppress(FileNotFoundError):
            found |= _keys_if_locked(path)
    return found


def _files(root: Path) -> Iterable[Path]:
    users = root / "users"
    return list(users.iterdir()) if users.is_dir() else []


def _keys_if_locked(path: Path) -> set[str]:
    import fcntl

    with path.open("r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return set(file.read().split())
        path.unlink(missing_ok=True)
    return set()
