"""Which files belong to which split, complete: paths, lists, globs and dicts of splits, and names that speak of splits.

Names are written with '/' and count from a folder or from the top of a repository. A path that is not there raises
`NotFoundError` with the names that come near.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from plait.console import logger
from plait.data.remote import is_address
from plait.data.suffixes import IMAGES, METADATA, SOUNDS, plain_suffix
from plait.errors import DataError, NotFoundError, OptionError, nearest

log = logger("data")
Fetch = Callable[[str], "list[Path]"]  # an address -> the files that it names, fetched to this computer

# words in the names of files and folders that say which split they belong to
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BETWEEN = r"[-._ 0-9]"  # what may stand beside such a word
_WORD = {
    split: re.compile(rf"(?:^|{_BETWEEN})(?:{'|'.join(words)})(?:{_BETWEEN}|$)", re.IGNORECASE)
    for split, words in _SPLIT_WORDS.items()
}
_SHARD = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|[^*?\[]+|\[")  # of a glob
_IGNORED = {
    *("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "dataset_info.json", "dataset_dict.json"),
    *("dataset_infos.json", "state.json", "config.json", "dummy_data.zip"),
}


# --- what a person names ----------------------------------------------------------------------------------------------


def patterns_of(data_files: Any) -> dict[str, list[str]]:
    """The patterns of each split, from any spelling: a path, a list, a dict of splits, a list of {split, path}."""
    if isinstance(data_files, Mapping):
        return {str(split): _listed(patterns) for split, patterns in data_files.items()}
    items = _listed(data_files, entries=True)
    if not any(isinstance(item, Mapping) for item in items):
        return {"train": items}
    found: dict[str, list[str]] = {}
    for item in items:
        if not isinstance(item, Mapping) or set(item) != {"split", "path"}:
            raise OptionError(f"An entry of data_files is a path or {{'split': …, 'path': …}}, not {item!r}.")
        if str(item["split"]) in found:
            raise OptionError(f"data_files names the split {item['split']!r} twice: give it a list of paths.")
        found[str(item["split"])] = _listed(item["path"])
    return found


def _listed(patterns: Any, *, entries: bool = False) -> list[Any]:
    if isinstance(patterns, str | os.PathLike):
        return [os.fspath(patterns)]
    if not isinstance(patterns, Iterable) or isinstance(patterns, Mapping):
        raise OptionError(f"data_files takes paths, lists of paths and dicts of splits, not {patterns!r}.")
    found = [item if entries and isinstance(item, Mapping) else os.fspath(item) for item in patterns]
    if not found:
        raise OptionError("data_files names no file.")
    return found


def data_files_of(
    data_files: Any,
    *,
    data_dir: str | Path | None = None,
    suffixes: Iterable[str] | None = None,
    fetch: Fetch | None = None,
) -> dict[str, list[Path]]:
    """The files of each split.

    `data_files` is any spelling that `patterns_of` takes, with paths below `data_dir`, absolute paths, or addresses,
    which `fetch` brings. Without it, all files below `data_dir` with one of the `suffixes` (any, when `None`) are
    taken, and their names say which split they belong to.
    """
    base = Path(data_dir).expanduser() if data_dir is not None else Path()
    if data_files is None:
        if data_dir is None:
            raise OptionError("Say which files to read: data_files=… (a path, pattern, list or dict) or data_dir=….")
        if not base.is_dir():
            raise missing_path(base)
        names = names_below(base, suffixes)
        return {split: [base / name for name in found] for split, found in split_by_name(names).items()}
    return {split: _expand(patterns, base, fetch) for split, patterns in patterns_of(data_files).items()}


def _expand(patterns: list[str], base: Path, fetch: Fetch | None) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        if is_address(pattern):
            if fetch is None:
                raise OptionError(f"{pattern} is an address, and files are read from this computer only here.")
            found += fetch(pattern)
            continue
        path = base / Path(pattern).expanduser()
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += [path / name for name in names_below(path, None)]
        elif glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
            if not matches:
                raise NotFoundError(f"No file matches the pattern {path}.{_neighbours(path)}")
            found += matches
        else:
            raise missing_path(path)
    return found


# --- what names say ---------------------------------------------------------------------------------------------------


def names_below(folder: Path, suffixes: Iterable[str] | None) -> list[str]:
    """The names of the data files below a folder, sorted."""
    found = plain_names(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if suffixes is not None:
        wanted = {*suffixes, ".zip"}
        found = [name for name in found if plain_suffix(name) in wanted]
    if not found:
        kinds = f" of the kinds {sorted(set(suffixes))}" if suffixes is not None else ""
        raise NotFoundError(f"There are no data files{kinds} below {folder}.")
    return found


def plain_names(names: Iterable[str]) -> list[str]:
    """The names that may be data files, sorted: not hidden, not below `__…__`, and not what describes a data set."""
    return sorted(
        name
        for name in names
        if name.rpartition("/")[2] not in _IGNORED and not any(part.startswith((".", "__")) for part in name.split("/"))
    )


def split_by_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by split: shards `data/<split>-00000-of-00002.…`, else what folders, else what files are called.

    When no name speaks of a split all are "train"; so are the others when no name speaks of "train".
    """
    names = list(names)
    found: dict[str, list[str]] = {}
    for name in names:
        if shard := _SHARD.fullmatch(name):
            found.setdefault(shard["split"], []).append(name)
    if not found:
        for part in (slice(-1), slice(-1, None)):  # the folders of a name, then what the file is called
            for name in names:
                if split := split_in(name.split("/")[part]):
                    found.setdefault(split, []).append(name)
            if found:
                break
    if not found:
        return {"train": names}
    taken = {name for several in found.values() for name in several}
    rest = [name for name in names if name not in taken]
    if rest and "train" not in found:
        found["train"] = rest
    elif rest:
        log.info("files whose names speak of no split are left out: %s", ", ".join(rest[:5]))
    _add_metadata(found, names)
    usual = [split for split in _SPLIT_WORDS if split in found]
    return {split: found[split] for split in [*usual, *sorted(set(found) - set(usual))]}


def _add_metadata(found: dict[str, list[str]], names: list[str]) -> None:
    """What is said about pictures or sounds belongs to every split with files beside it or below."""
    for name in names:
        folder, _, file = name.rpartition("/")
        if file not in METADATA:
            continue
        below = f"{folder}/" if folder else ""
        for several in found.values():
            beside = any(plain_suffix(each) in IMAGES + SOUNDS and each.startswith(below) for each in several)
            if name not in several and beside:
                several.append(name)


def split_in(parts: Iterable[str]) -> str | None:
    """The split that a part of a name speaks of."""
    return next((split for part in parts for split, word in _WORD.items() if word.search(part)), None)


def matching(names: Iterable[str], pattern: str, *, place: str) -> list[str]:
    """The names that match a pattern: `*` within a part, `**` across parts, or the name of a folder.

    Raises `DataError` when none does; `place` says where the names are.
    """
    names = list(names)
    pattern = pattern.removeprefix("./").rstrip("/")
    if not glob.has_magic(pattern):
        found = [name for name in names if name == pattern] or plain_names(
            name for name in names if name.startswith(f"{pattern}/")
        )
    else:
        pieces = _PIECE.findall(pattern)
        found = [name for name in plain_names(names) if _matches(pieces, name)]
    if not found:
        raise DataError(f"{place} has no file {pattern!r}.{nearest(pattern, names)} It holds {_some(names)}.")
    return found


def _matches(pieces: list[str], name: str) -> bool:
    """Whether a name has the form of a glob, given in pieces.

    Every piece moves all places of the name that were reached so far: a regular expression would try each of their
    combinations, and a pattern comes from a README that anybody may have written.
    """
    reached = {0}
    for piece in pieces:
        first = min(reached)
        if piece == "**":
            reached = set(range(first, len(name) + 1))
        elif piece == "**/":  # nothing, or whole folders
            reached |= {place for place in range(first + 1, len(name) + 1) if name[place - 1] == "/"}
        elif piece == "*":
            ends = {place: name.find("/", place) for place in reached}
            reached = {at for place, end in ends.items() for at in range(place, (end if end >= 0 else len(name)) + 1)}
        elif piece[0] in "?[":
            here = [place for place in reached if name[place : place + 1] not in ("", "/")]
            reached = {place + 1 for place in here if fnmatch.fnmatchcase(name[place], piece)}
        else:
            reached = {place + len(piece) for place in reached if name.startswith(piece, place)}
        if not reached:
            return False
    return len(name) in reached


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(names[:10]) + more) if names else "nothing"


def missing_path(path: Path) -> NotFoundError:
    """The error for a path that is not there, with the names that come near."""
    return NotFoundError(f"There is no file or folder {path}.{_neighbours(path)}")


def _neighbours(path: Path) -> str:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    here = sorted(item.name for item in parent.iterdir())[:1000] if parent.is_dir() else []
    wanted = path.relative_to(parent).parts[0] if parent != path else path.name
    if hint := nearest(wanted, here):
        return hint
    where = parent if str(parent) != "." else "the working directory"
    return f" In {where} there is {', '.join(here[:10])}." if here else f" {where} is empty."
