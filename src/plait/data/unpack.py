"""Zip and tar archives of data files, complete: unpacked once below `data/unpacked` of the cache, every name checked
first."""

from __future__ import annotations

import contextlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from plait.data import cache
from plait.data.fingerprint import digest, file_identity
from plait.data.locate import plain_names
from plait.data.suffixes import has_format, is_data_file, plain_suffix
from plait.errors import DataError, IntegrityError
from plait.hub.cache import Cache, commit, require_space
from plait.hub.names import path_problem

_TARS = (".tar", ".tgz", ".tbz2", ".txz")
_OTHERS = (".7z", ".rar")


class _Member(NamedTuple):
    """A file in an archive; `problem` says why it cannot be unpacked."""

    name: str
    size: int
    problem: str | None
    open: Callable[[], Any]


def unpacked(files: Iterable[Path], format: str | None, home: Path | None = None) -> list[Path]:
    """The files, with those in every archive in its place: those of `format`, when some in it have that.

    A tar archive whose format nobody names is one of WebDataset, which is read as it is. Raises `DataError` for other
    archives, `IntegrityError` for an archive whose names lead out of it.
    """
    found: list[Path] = []
    for file in files:
        suffix = plain_suffix(file)
        own = is_data_file(file) if format is None else has_format(file, format)
        if suffix == ".zip" or (suffix in _TARS and format is not None and not own):
            inside = _unpack(file, home)
            fitting = [path for path in inside if format is not None and has_format(path, format)]
            found += fitting or inside
        elif suffix in (*_TARS, *_OTHERS) and not own:
            raise DataError(
                f"{file} is an archive that is not opened here: name the format of the files in it, for example "
                f"load_dataset('csv', data_files=…)"
                + (", or unpack it first." if suffix in _TARS else "; one of this kind must be unpacked first.")
            )
        else:
            found.append(file)
    return found


def _unpack(path: Path, home: Path | None) -> list[Path]:
    target = cache.folder(home) / "unpacked" / digest([file_identity(path)])
    if not target.is_dir():
        store = Cache.at(home)
        with store.lock(f"unpack:{target.name}"), store.workspace(f"unpack:{target.name}") as work:
            if not target.is_dir():  # another process may have unpacked it meanwhile
                _extract(path, work / "files")
                commit(work / "files", target)
    names = plain_names(each.relative_to(target).as_posix() for each in target.rglob("*") if each.is_file())
    if not names:
        raise DataError(f"{path} holds no data files.")
    return [target / name for name in names]


def _extract(path: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with _members(path) as members:
            require_space(folder.parent, sum(each.size for each in members), f"unpacking {path.name}")
            for each in members:
                if problem := path_problem(each.name) or each.problem:
                    raise IntegrityError(f"{path} is not unpacked: of its file {each.name!r}, {problem}.")
                target = folder / each.name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    out = target.open("xb")
                except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                    raise IntegrityError(
                        f"{path} is not unpacked: its file {each.name!r} and another would lie in one place."
                    ) from error
                with each.open() as source, out:
                    shutil.copyfileobj(source, out, 1 << 20)
    # RuntimeError: it has a password
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
        *(RuntimeError, NotImplementedError),
    ) as error:
        raise DataError(f"{path} cannot be unpacked: {error}.") from error


@contextlib.contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """The files in an archive."""
    if plain_suffix(path) == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield [
                _Member(
                    each.filename,
                    each.file_size,
                    "it is a link" if stat.S_ISLNK(each.external_attr >> 16) else None,
                    partial(archive.open, each),
                )
                for each in archive.infolist()
                if not each.is_dir()
            ]
        return
    with tarfile.open(path) as tar:
        yield [
            _Member(
                each.name.removeprefix("./"),
                each.size,
                None if each.isfile() else "it is a link or a device",
                partial(tar.extractfile, each),
            )
            for each in tar.getmembers()
            if not each.isdir()
        ]
