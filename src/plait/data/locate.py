"""Which files belong to which split, complete: paths, lists, globs and dicts of splits become lists of files.

Patterns are looked up below `data_dir`, or below the working directory. A path that is not there raises `NotFoundError`
with the names that come near.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plait.errors import NotFoundError, OptionError, nearest

# words in the names of files and folders that say which split they belong to
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORD = {split: re.compile(rf"(?:^|[^a-z])(?:{'|'.join(words)})(?:[^a-z]|$)") for split, words in _SPLIT_WORDS.items()}
_IGNORED = {"README.md", "dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json", "LICENSE"}


def data_files_of(
    data_files: Any, *, data_dir: str | Path | None = None, suffixes: Iterable[str] | None = None
) -> dict[str, list[Path]]:
    """The files of each split.

    `data_files` is a path or pattern, a list of them (split "train"), or a dict of splits. Without it, all files below
    `data_dir` with one of the `suffixes` (any, when `None`) are taken, and their names say which split they belong to.
    """
    base = Path(data_dir).expanduser() if data_dir is not None else Path()
    if data_files is None:
        if data_dir is None:
            raise OptionError("Say which files to read: data_files=… (a path, pattern, list or dict) or data_dir=….")
        if not base.is_dir():
            raise missing_path(base)
        return split_by_name(_below(base, suffixes), base)
    if isinstance(data_files, Mapping):
        return {str(split): _expand(patterns, base) for split, patterns in data_files.items()}
    return {"train": _expand(data_files, base)}


def _below(folder: Path, suffixes: Iterable[str] | None) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in _IGNORED
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    )
    if suffixes is not None:
        wanted = set(suffixes)
        found = [path for path in found if plain_suffix(path) in wanted]
    if not found:
        kinds = f" of the kinds {sorted(set(suffixes))}" if suffixes is not None else ""
        raise NotFoundError(f"There are no data files{kinds} below {folder}.")
    return found


def plain_suffix(path: Path) -> str:
    """The suffix of a file without that of its compression: `.csv` for `a.csv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


COMPRESSIONS = {".gz", ".bz2", ".xz", ".zst", ".lz4"}


def split_by_name(files: list[Path], base: Path) -> dict[str, list[Path]]:
    """Files by the split that their names, or the folders that they lie in, speak of; "train" when none does."""
    found: dict[str, list[Path]] = {}
    for path in files:
        text = str(path.relative_to(base)).lower()
        split = next((name for name, word in _WORD.items() if word.search(text)), None)
        found.setdefault(split or "", []).append(path)
    if set(found) == {""}:
        return {"train": files}
    rest = found.pop("", [])
    if rest and "train" not in found:
        found["train"] = rest
    return {name: found[name] for name in _SPLIT_WORDS if name in found}


def _expand(patterns: Any, base: Path) -> list[Path]:
    if isinstance(patterns, str | Path):
        patterns = [patterns]
    if not isinstance(patterns, Iterable):
        raise OptionError(f"data_files takes paths, lists of paths and dicts of splits, not {patterns!r}.")
    found: list[Path] = []
    for pattern in patterns:
        path = base / Path(os.fspath(pattern)).expanduser()
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += _below(path, None)
        elif glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
            if not matches:
                raise NotFoundError(f"No file matches the pattern {path}.{_neighbours(path)}")
            found += matches
        else:
            raise missing_path(path)
    if not found:
        raise OptionError("data_files names no file.")
    return found


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
