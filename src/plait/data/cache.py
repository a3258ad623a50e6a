"""The cache of results, complete: one folder per result, named by its key, which appears whole or not at all.

Below `settings.home()/data`:

    results/<first two letters>/<key>/   entry.json and the Arrow files of one result
    making/<process>-<machine>-<random>/ a result being made; renamed into `results` when it is complete and synced
    last/<digest of the place>.json      the parts of the last key for each operation and function, to say what changed
    users/<process>-<machine>-<random>   the keys of the results that a live process uses (`uses.py`)

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
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from plait import settings
from plait.console import logger
from plait.data.uses import machine, own_name, use
from plait.disk import sync, sync_all, told

if TYPE_CHECKING:
    from plait.data.table import Table

log = logger("data")

_ROOM = "`plait cache prune --max 20GB` makes room, and PLAIT_HOME names another place."
_LEFT_SECONDS = 7 * 24 * 3600  # after which what a process of another machine left is taken for dead


def disable_caching() -> None:
    """Keep no results of `map` and `filter` in the cache, and use none, in this process and its children.

    What is made is then in memory, and in files without a name beyond 64 MB. A single call may still ask for the cache
    with `load_from_cache_file=True`.
    """
    settings.set_caching(False)


def enable_caching() -> None:
    """Keep results in the cache again, and use them."""
    settings.set_caching(True)


def is_caching_enabled() -> bool:
    """Whether results are kept and used; the environment variable PLAIT_CACHE=0 switches it off too."""
    return settings.caching()


def folder(home: Path | None = None) -> Path:
    """The root of the cache of results, below `home` or below PLAIT_HOME."""
    return (home or settings.home()) / "data"


def path_of(key: str, *, home: Path | None = None) -> Path:
    """The folder of one result."""
    return folder(home) / "results" / key[:2] / key


def key_of(path: Path) -> str | None:
    """The key of the result that a file belongs to; `None` for a file outside the cache."""
    parent = path.parent
    if parent.parent.parent.name == "results" and parent.name.startswith(parent.parent.name) and len(parent.name) == 32:
        return parent.name
    return None


def find(key: str, *, home: Path | None = None) -> dict[str, Any] | None:
    """The description of a result, if it is there and complete. Finding it marks it as used."""
    path = path_of(key, home=home) / "entry.json"
    try:
        if path.exists():
            use(folder(home), key)  # before its files are looked at: what is in use is not removed
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sizes = dict(entry["files"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, OSError) as error:
        log.warning("the cached result %s cannot be read (%s), so it is made anew", path.parent, error)
        return None
    for name, size in sizes.items():
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

    def __init__(self, key: str, *, replace: bool = False, home: Path | None = None) -> None:
        self.key = key
        self.replace = replace
        self.home = home
        self.folder = folder(home) / "making" / own_name()

    def keep(self, entry: Mapping[str, Any]) -> Path:
        """Complete the result with its description, bring all of it to the disk, and make it visible.

        Returns its folder.
        """
        paths = sorted(path for path in self.folder.iterdir() if path.is_file())
        files = {path.name: path.stat().st_size for path in paths}
        description = self.folder / "entry.json"
        description.write_text(json.dumps({**entry, "key": self.key, "files": files}, ensure_ascii=False, indent=1))
        sync_all([*paths, description])
        sync(self.folder)
        target = path_of(self.key, home=self.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        unwanted = self.folder.with_name(own_name())
        if target.exists() and (self.replace or find(self.key, home=self.home) is None):
            target.rename(unwanted)  # in one step
        try:
            self.folder.rename(target)
        except OSError:
            if find(self.key, home=self.home) is None:
                raise
            shutil.rmtree(self.folder)  # another process was first
        if unwanted.exists():  # disks take long to forget many files, and nobody waits; what a kill leaves is swept
            Thread(target=shutil.rmtree, args=(unwanted,), kwargs={"ignore_errors": True}, name="plait-remove").start()
        use(folder(self.home), self.key)
        return target


def writable(home: Path | None = None) -> bool:
    """Whether results can be kept: a cache on a read-only or full disk serves those that it has. The log says it."""
    place = folder(home) / "making"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return True
        reason = "it is read-only"
    except OSError as error:
        reason = str(error)
    log.warning("the cache %s cannot be written (%s), so nothing is kept; PLAIT_HOME names another", place, reason)
    return False


@contextlib.contextmanager
def making(key: str, *, replace: bool = False, home: Path | None = None) -> Iterator[Making]:
    """A result being made, removed again when it fails."""
    work = Making(key, replace=replace, home=home)
    work.folder.mkdir(parents=True)
    _sweep(home)
    try:
        with told(folder(home), remedy=_ROOM):
            yield work
    finally:
        shutil.rmtree(work.folder, ignore_errors=True)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files that several processes pass on; it is removed, also after a kill."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(making("")).folder
        except OSError as error:
            log.info("the cache cannot be written (%s), so the folder for temporary files is used", error)
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plait-")))
        yield path


def _sweep(home: Path | None) -> None:
    """Remove what killed processes left behind."""
    for left in (folder(home) / "making").iterdir():
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)


def _is_left(path: Path) -> bool:
    process, _, rest = path.name.partition("-")
    if rest.startswith(machine()):
        return process.isdigit() and not _alive(int(process))
    try:  # the cache is shared, and whether that process lives cannot be asked here
        return time.time() - path.stat().st_mtime > _LEFT_SECONDS
    except FileNotFoundError:
        return False


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


def remember(place: str, key: str, parts: Mapping[str, str], why: str) -> None:
    """Keep the parts of a key, for `explain`, and why there was no result."""
    path = _last(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    aside.write_text(json.dumps({"place": place, "key": key, "why": why, "parts": dict(parts)}, ensure_ascii=False))
    aside.replace(path)


def origins(table: Table) -> list[str]:
    """What the columns of a table come from: keys of results, and paths of other files."""
    paths = {source.path for column in table.columns.values() for source in column.store.sources or ()}
    return sorted({key_of(path) or str(path) for path in paths})


def _last(place: str) -> Path:
    from plait.data.fingerprint import digest

    return folder() / "last" / f"{digest([place])}.json"
