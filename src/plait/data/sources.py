"""The code of plait that a function reaches, complete: for a plait installed for editing, whose version says nothing.

From the module of a function the imports are followed through the source files, also those inside functions.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_STARTED = time.time()  # of this process, about: what was changed later may be loaded in its earlier state
_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*(?:from (plait[\w.]*) import (\([^)]*\)|[^\n]*)|import (plait[\w.]*))", re.MULTILINE)


class ChangedMeanwhile(Exception):
    """A source file that was changed while this process ran: its code may be loaded as it was before."""


@functools.lru_cache(maxsize=1024)
def sources_digest(module: str) -> str:
    """The digest of the source of a module of plait and of all modules that it imports, directly or not.

    Raises `ChangedMeanwhile`.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(_reached(module)):
        text, changed = _source(name)
        if changed > _STARTED:
            raise ChangedMeanwhile(f"{_file(name)} was changed while this process ran")
        hasher.update(f"{name}\n{len(text)}\n{text}".encode())
    return hasher.hexdigest()


def _reached(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and _file(name) is not None:
            found.add(name)
            waiting += _imports(name)
    return found


@functools.lru_cache(maxsize=1024)
def _imports(module: str) -> list[str]:
    text = _FOR_TYPES.sub("", _source(module)[0])
    return list(_named(text))


def _named(text: str) -> Iterator[str]:
    for package, names, plain in _IMPORT.findall(text):
        yield plain or package
        lazily = getattr(sys.modules.get(package), "_MODULES", {})  # public names that a package loads on first use
        for name in re.findall(r"\w+", re.sub(r"#.*|\bas \w+", "", names)):
            yield f"{package}.{name}"
            if name in lazily:
                yield lazily[name]


@functools.lru_cache(maxsize=1024)
def _source(module: str) -> tuple[str, float]:
    """The text of a module, and when it was last changed."""
    file = _file(module)
    assert file is not None
    return file.read_text(encoding="utf-8"), file.stat().st_mtime


@functools.lru_cache(maxsize=4096)
def _file(module: str) -> Path | None:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
