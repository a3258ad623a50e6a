"""Zip archives of data files, complete: unpacked once below `data/unpacked` of the cache, every name checked first."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

from plait.data import cache
from plait.data.fingerprint import digest, file_identity
from plait.data.locate import plain_names
from plait.data.suffixes import has_format, is_data_file, plain_suffix
from plait.errors import DataError, IntegrityError
from plait.hub.cache import Cache, commit, require_space
from plait.hub.names import path_problem

_TARS = (".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar")


def unpacked(files: Iterable[Path], format: str | None, home: Path | None = None) -> list[Path]:
    """The files, with those in every zip archive in its place: those of `format`, when some in it have that.

    Raises `DataError` for other archives, `IntegrityError` for an archive whose names lead out of it.
    """
    found: list[Path] = []
    for file in files:
        suffix = plain_suffix(file)
        if suffix == ".zip":
            inside = _unpack(file, home)
            fitting = [path for path in inside if format is not None and has_format(path, format)]
            found += fitting or inside
        elif suffix in _TARS and not (is_data_file(file) if format is None else has_format(file, format)):
            raise DataError(
                f"{file} is an archive that is not opened here: unpack it first (tar -xf {file.name}) and name the "
                f"files in it. Archives of WebDataset are read by load_dataset('webdataset', …)."
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
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            require_space(folder.parent, sum(each.file_size for each in members), f"unpacking {path.name}")
            for each in members:
                problem = path_problem(each.filename)
                if stat.S_ISLNK(each.external_attr >> 16):
                    problem = "it is a link"
                if problem:
                    raise IntegrityError(f"{path} is not unpacked: of its file {each.filename!r}, {problem}.")
                target = folder / each.filename
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    out = target.open("xb")
                except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                    raise IntegrityError(
                        f"{path} is not unpacked: its file {each.filename!r} and another would lie in one place."
                    ) from error
                with archive.open(each) as source, out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # RuntimeError: it has a password
        raise DataError(f"{path} cannot be unpacked: {error}.") from error
