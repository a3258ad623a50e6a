"""The cache of results, complete: one folder per result, named by its key, which appears whole or not at all.

Below `settings.home()/data`:

    results/<first two letters>/<key>/   entry.json and the Arrow files of one result
    making/<process>-<random>/           a result being made; renamed into `results` when it is complete and synced
    last/<digest of the place>.json      the parts of the last key for each operation and function, to say what changed

Processes may work side by side: whoever finishes first provides the result, and the other uses that.
Results are kept for data that come from files. Those of data in memory stay in memory, unless `load_from_cache_file`
is set to True: then they are kept as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plait import settings
from plait.console import logger
from plait.data.files import sync

log = logger("data")


def folder() -> Path:
    """The root of the cache of results."""
    return settings.home() / "data"


def path_of(key: str) -> Path:
    """The folder of one result."""
    return folder() / "results" / key[:2] / key


def key_of(path: Path) -> str | None:
    """The key of the result that a file belongs to; `None` for a file outside the cache."""
    parent = path.parent
    if parent.parent.parent.name == "results" and parent.name.startswith(parent.parent.name) and len(parent.name) == 32:
        return parent.name
    return None


def find(key: str) -> dict[str, Any] | None:
    """The description of a result, if it is there and complete. Finding it marks it as used."""
    path = path_of(key) / "entry.json"
    try:
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        log.warning("the cached result %s cannot be read (%s), so it is made anew", path.parent, error)
        return None
    for name, size in entry["files"].items():
        file = path.parent / name
        if not file.is_file() or file.stat().st_size != size:
            log.warning("the cached result %s is damaged (%s), so it is made anew", path.parent, name)
            return None
    with contextlib.suppress(OSError):  # a read-only cache serves results all the same
        os.utime(path)
    return entry


class Making:
    """A result being made: files are written to `folder`, then `keep` moves all of it into place.

    With `replace`, it takes the place of one that is there already.
    """

    def __init__(self, key: str, *, replace: bool = False) -> None:
        self.key = key
        self.replace = replace
        self.folder = folder() / "making" / f"{os.getpid()}-{secrets.token_hex(6)}"

    def keep(self, entry: Mapping[str, Any]) -> Path:
        """Complete the result with its description and make it visible; returns its folder."""
        files = {path.name: path.stat().st_size for path in sorted(self.folder.iterdir()) if path.is_file()}
        description = self.folder / "entry.json"
        description.write_text(json.dumps({**entry, "key": self.key, "files": files}, ensure_ascii=False, indent=1))
        sync(description)  # the others were synced by who wrote them
        sync(self.folder)
        target = path_of(self.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and (self.replace or find(self.key) is None):
            shutil.rmtree(target)  # an unwanted or damaged one
        try:
            self.folder.rename(target)
        except OSError:
            if find(self.key) is None:
                raise
            shutil.rmtree(self.folder)  # another process was first
        return target


@contextlib.contextmanager
def making(key: str, *, replace: bool = False) -> Iterator[Making]:
    """A result being made, removed again when it fails."""
    work = Making(key, replace=replace)
    work.folder.mkdir(parents=True)
    _sweep()
    try:
        yield work
    finally:
        shutil.rmtree(work.folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what killed processes left behind."""
    for left in (folder() / "making").iterdir():
        process = left.name.partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def explain(place: str, parts: Mapping[str, str]) -> str:
    """Why the result of a function at one place is not there: what changed since it was last asked for."""
    path = _last(place)
    try:
        before: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    except (OSError, ValueError, KeyError):
        return "there is no earlier result"
    changed = [name for name in parts if before.get(name) != parts[name]]
    # only the deepest: a changed closure changes the function as well
    deepest = [name for name in changed if not any(other.startswith(f"{name} → ") for other in changed)]
    gone = [name for name in before if name not in parts]
    if not deepest and not gone:
        return "the earlier result was removed"
    return "changed since the last time: " + ", ".join([*deepest, *(f"{name} (gone)" for name in gone)][:6])


def remember(place: str, key: str, parts: Mapping[str, str]) -> None:
    """Keep the parts of a key, for `explain`."""
    path = _last(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    aside.write_text(json.dumps({"place": place, "key": key, "parts": dict(parts)}, ensure_ascii=False))
    aside.replace(path)


def _last(place: str) -> Path:
    from plait.data.fingerprint import digest

    return folder() / "last" / f"{digest([place])}.json"
