"""What the cache of results holds, complete: listing it, making room, and telling what a key was made of.

A result is removed in one step (renamed out of sight, then deleted), and never while a live process uses it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.data import cache
from plait.data.uses import own_name, used
from plait.errors import NotFoundError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_AGES = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


@dataclass(frozen=True)
class Result:
    """One result in the cache. `bytes` are those of its own files: shared columns belong to the result that made them.

    `idle` is the number of seconds since it was last used, `entry` its description.
    """

    key: str
    folder: Path
    bytes: int
    idle: float
    entry: dict[str, Any]


def results(root: Path | None = None) -> list[Result]:
    """All results, the one used last first."""
    found = []
    for folder in ((root or cache.folder()) / "results").glob("*/*"):
        # what another process removes meanwhile, or what is damaged, is not listed
        with contextlib.suppress(OSError, ValueError):
            description = folder / "entry.json"
            entry = json.loads(description.read_text(encoding="utf-8"))
            # a file with several names (hard links) counts once
            sizes = {(s.st_dev, s.st_ino): s.st_size for s in (path.stat() for path in folder.iterdir())}
            idle = max(0.0, time.time() - description.stat().st_mtime)
            found.append(Result(folder.name, folder, sum(sizes.values()), idle, entry))
    return sorted(found, key=lambda result: result.idle)


def prune(
    *, max_bytes: int | None = None, older_than: float | None = None, dry_run: bool = False
) -> tuple[list[Result], list[Result]]:
    """Remove results, those first that were not used for longest; returns the removed and the kept ones.

    `older_than`: those that were not used for so many seconds. `max_bytes`: as many as it takes until the others have
    at most so many bytes. Results that live processes use stay. `dry_run` removes nothing.
    """
    if max_bytes is None and older_than is None:
        raise OptionError("Say what may stay: a size at most (--max 20GB), or an age (--older-than 30d), or both.")
    found = results()
    total = sum(result.bytes for result in found)
    removed = []
    for result in reversed(found):
        too_old = older_than is not None and result.idle > older_than
        too_much = max_bytes is not None and total > max_bytes
        if (too_old or too_much) and _remove(result, dry_run=dry_run):
            removed.append(result)
            total -= result.bytes
    gone = {result.key for result in removed}
    return removed, [result for result in found if result.key not in gone]


def _remove(result: Result, *, dry_run: bool = False, but_own: bool = False) -> bool:
    """Remove a result, unless it is in use; returns whether it is gone (or would be)."""
    root = result.folder.parent.parent.parent
    if result.key in used(root, but_own=but_own):
        return False
    if dry_run:
        return True
    aside = root / "making" / own_name()
    aside.parent.mkdir(exist_ok=True)
    try:
        result.folder.rename(aside)
    except OSError:  # another process was first, or the system keeps files that are open
        return not result.folder.exists()
    shutil.rmtree(aside, ignore_errors=True)
    return True


def seconds_in(age: str) -> float:
    """A number of seconds from a text such as "30d", "12h" or "2w"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", age)
    if not match:
        raise OptionError(f"{age!r} is not an age. Write for example '30d', '12h' or '2w'.")
    return float(match.group(1)) * _AGES[match.group(2)]


def age_of(seconds: float) -> str:
    """A time that passed, for people: "5 m", "3 h", "12 d"."""
    for unit, longest in (("m", 3600), ("h", 2 * 24 * 3600)):
        if seconds < longest:
            return f"{int(seconds // _AGES[unit])} {unit}"
    return f"{int(seconds // _AGES['d'])} d"


def why(key: str) -> dict[str, Any]:
    """What is known of a result by its key, or the first characters of it, or of the "last" that was computed.

    A dict of `key`, `place` (operation and function), `why` (it was computed) and `parts`, the digests of which the key
    was made. Raises `NotFoundError` when there is none, or several.
    """
    if key == "last":
        noted = sorted((cache.folder() / "last").glob("*.json"), key=lambda path: path.stat().st_mtime)
        if not noted:
            raise NotFoundError(f"No map or filter was computed yet into {cache.folder()}.")
        found: dict[str, Any] = json.loads(noted[-1].read_text(encoding="utf-8"))
        return found
    matching = [result for result in results() if result.key.startswith(key)]
    if len(matching) != 1:
        raise NotFoundError(
            f"{len(matching)} results in {cache.folder()} have a key that begins with {key!r}. "
            f"`plait cache ls` lists them; `last` is the one that was computed last."
        )
    entry = matching[0].entry
    defaults = {"place": f"{entry.get('operation')} {entry.get('title')}", "why": "", "parts": {}}
    return {"key": matching[0].key, **{name: entry.get(name, default) for name, default in defaults.items()}}


def cleanup_cache_files(self: Dataset) -> int:
    """Remove results that were made from the same data as this data set, but for its own; returns their number.

    Results that other live processes use stay.
    """
    own = cache.origins(self.table)
    found = {result.key: result for root in _roots(self) for result in results(root)}
    family = _descendants(_ancestors(own, found), found)
    return sum(_remove(found[key], but_own=True) for key in sorted(family - set(own)))


def _roots(dataset: Dataset) -> set[Path]:
    """The caches that hold columns of a data set, and the one in which results of it are kept."""
    sources = (source for column in dataset.table.columns.values() for source in column.store.sources or ())
    paths = {source.path for source in sources}
    return {path.parent.parent.parent.parent for path in paths if cache.key_of(path)} | {cache.folder()}


def _ancestors(names: Iterable[str], found: dict[str, Result]) -> set[str]:
    """What results were made from, up to the first: keys, and files outside the cache."""
    firsts: set[str] = set()
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        parents = found[name].entry.get("parents", []) if name in found else []
        if not parents:
            firsts.add(name)
        seen.add(name)
        waiting += [parent for parent in parents if parent not in seen]
    return firsts


def _descendants(names: set[str], found: dict[str, Result]) -> set[str]:
    """The keys of all results that were made from some, directly or not."""
    family: set[str] = set()
    while True:
        more = {key for key, result in found.items() if {*names, *family} & set(result.entry.get("parents", []))}
        if more <= family:
            return family
        family |= more
