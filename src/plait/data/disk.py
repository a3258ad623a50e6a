"""Folders of data sets, complete: written by `save_to_disk`, read by `load_from_disk`, equal to those of datasets 5.x.

    folder/   data-00000-of-00002.arrow …   dataset_info.json (features and description)   state.json (files, format)
    folder/   dataset_dict.json   train/   test/   …, each as above

A folder appears when it is complete: it is written aside, synced and renamed. A data set may replace the folder that it
was loaded from.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plait.console import bar
from plait.data.features import Features
from plait.data.files import ArrowStream, read_arrow
from plait.data.formats import Format, kind_named
from plait.data.info import DatasetInfo
from plait.data.remote import filesystem, is_address
from plait.data.schema import features_of, schema_of
from plait.data.table import Table, concatenate
from plait.disk import sync, told, write_json
from plait.errors import DataError, NotFoundError, OptionError, nearest

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.dataset_dict import DatasetDict

SHARD_BYTES = 500 << 20
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def save_to_disk(
    self: Dataset,
    dataset_path: str | Path,
    max_shard_size: str | int | None = None,
    *,
    num_shards: int | None = None,
    num_proc: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write the data set to a folder, in files of about `max_shard_size` ("500MB" by default) or in `num_shards` files.

    `dataset_path` may also be an address that fsspec opens with `storage_options`, such as `s3://bucket/folder`.
    `num_proc` threads write that many files at once, and so there are at least as many. Rows are written in the order
    in which they are seen, so a shuffled data set is sequential on disk.
    """
    with saved_folder(dataset_path, storage_options) as folder:
        write_folder(self, folder, max_shard_size=max_shard_size, num_shards=num_shards, num_proc=num_proc)


def write_folder(
    dataset: Dataset,
    folder: Path,
    *,
    max_shard_size: str | int | None = None,
    num_shards: int | None = None,
    num_proc: int | None = None,
) -> None:
    """Write the files of one data set into a folder that nobody sees yet."""
    count = shards_of(dataset, max_shard_size=max_shard_size, num_shards=num_shards, num_proc=num_proc)
    names = [f"data-{index:05d}-of-{count:05d}.arrow" for index in range(count)]
    format = dataset.format_
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": dataset.fingerprint[:16],
        "_format_columns": None if format.columns is None else list(format.columns),
        "_format_kwargs": {} if format.kind == "custom" else dict(format.options),
        "_format_type": None if format.kind == "custom" else format.kind,
        "_output_all_columns": format.output_all_columns,
        "_split": dataset.split,
    }
    about = {"state.json": state, "dataset_info.json": dataset.info.to_json(dataset.features)}
    with bar(f"save {folder.name}", total=len(dataset), unit="rows") as progress:

        def write(index: int) -> None:
            part = dataset.shard(count, index)
            write_arrow(folder / names[index], part.table, dataset.features)
            progress.advance(len(part))

        # threads: Arrow gathers and writes outside Python's lock, and the disk brings files to rest side by side
        with ThreadPoolExecutor(num_proc or 1) as pool, ThreadPoolExecutor(2) as descriptions:
            described = descriptions.map(write_json, [folder / name for name in about], about.values())
            list(pool.map(write, range(count)))
            list(described)


def shards_of(
    dataset: Dataset, *, max_shard_size: str | int | None, num_shards: int | None, num_proc: int | None = None
) -> int:
    """How many files to write. Raises `OptionError` for numbers below one, and for two answers."""
    if max_shard_size is not None and num_shards is not None:
        raise OptionError("Give max_shard_size or num_shards, not both.")
    for name, number in (("num_shards", num_shards), ("num_proc", num_proc)):
        if number is not None and number < 1:
            raise OptionError(f"{name} must be at least 1, but is {number}.")
    if num_shards is not None:
        return num_shards
    limit = bytes_in(SHARD_BYTES if max_shard_size is None else max_shard_size)
    if limit < 1:
        raise OptionError(f"max_shard_size must be at least one byte, but is {max_shard_size!r}.")
    return max(num_proc or 1, -(-dataset.table.nbytes // limit))


def write_arrow(path: Path, table: Table, features: Features) -> None:
    """Write the rows of a table, in order, to one Arrow stream."""
    with ArrowStream(path, schema_of(features, extensions=True)) as stream:
        size = table.block_rows(limit=1 << 16)
        for _, arrays in table.blocks(size=max(size, 1000)):
            stream.write(list(arrays.values()))


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `target`; what is mapped from the old one stays readable."""
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file; a data set is saved to a folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and any(target.iterdir()) and not _is_ours(target):
        raise DataError(f"{target} is a folder with other files in it; save to a new folder.")
    aside = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}")
    aside.mkdir()
    try:
        with told(target):
            yield aside
            sync(aside)
        old = target.with_name(f"{aside.name}.old")
        if target.exists():
            target.rename(old)
        aside.rename(target)
        sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


@contextlib.contextmanager
def saved_folder(path: str | Path, storage_options: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `path` here, or is copied to an address.

    Elsewhere nothing can be renamed in one step, so what describes the data is written last: until then there is none.
    """
    if not is_address(path):
        with replaced_folder(Path(path).expanduser()) as folder:
            yield folder
        return
    system, inner = filesystem(str(path), storage_options)
    inner = inner.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="plait-save-") as scratch:
        yield Path(scratch)
        files = sorted(file for file in Path(scratch).rglob("*") if file.is_file())
        if system.exists(inner):
            found = system.find(inner)
            if found and not any(name.endswith(("/state.json", "/dataset_dict.json")) for name in found):
                raise DataError(f"{path} is a folder with other files in it; save to a new folder.")
            if found:
                system.rm(inner, recursive=True)
        for file in sorted(files, key=lambda file: (file.name == "dataset_dict.json", file.suffix == ".json")):
            target = f"{inner}/{file.relative_to(scratch).as_posix()}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.put_file(str(file), target)


def load_from_disk(
    dataset_path: str | Path,
    keep_in_memory: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset | DatasetDict:
    """The data set, or the dict of data sets, that `save_to_disk` wrote to a folder; memory-mapped.

    A folder elsewhere (an address that fsspec opens with `storage_options`) is brought here first, to files without
    names that vanish with the data set. Raises `NotFoundError` when there is no such folder, `DataError` when it holds
    something else.
    """
    if is_address(dataset_path):
        system, inner = filesystem(str(dataset_path), storage_options)
        if not system.isdir(inner):
            raise NotFoundError(f"There is no folder {dataset_path}.")
        with tempfile.TemporaryDirectory(prefix="plait-load-") as scratch:
            for name in system.find(inner):
                file = _inside(Path(scratch), name.removeprefix(inner).lstrip("/"))
                file.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(name, str(file))
            return _loaded_folder(Path(scratch), title=dataset_path, in_memory=bool(keep_in_memory), named=False)
    folder = Path(dataset_path).expanduser()
    if not folder.exists():
        near = nearest(folder.name, [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise NotFoundError(f"There is no folder {folder}.{near}")
    return _loaded_folder(folder, title=folder, in_memory=bool(keep_in_memory), named=True)


def _loaded_folder(folder: Path, *, title: object, in_memory: bool, named: bool) -> Dataset | DatasetDict:
    from plait.data.dataset_dict import DatasetDict

    if (folder / "dataset_dict.json").is_file():
        splits = _description(folder / "dataset_dict.json", needed="splits")["splits"]
        return DatasetDict(
            {name: read_folder(_inside(folder, name), in_memory=in_memory, named=named) for name in splits}
        )
    if (folder / "state.json").is_file():
        return read_folder(folder, in_memory=in_memory, named=named)
    here = sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else "a file"
    raise DataError(
        f"{title} was not written by save_to_disk: it has neither state.json nor dataset_dict.json, but {here}. "
        f"To read data files use load_dataset."
    )


def load_dataset_from_disk(
    dataset_path: str | Path,
    keep_in_memory: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset:
    """The data set in a folder, as `load_from_disk` reads it; raises `DataError` for a folder with several."""
    from plait.data.dataset import Dataset as Made

    found = load_from_disk(dataset_path, keep_in_memory, storage_options)
    if not isinstance(found, Made):
        raise DataError(f"{dataset_path} holds a dict of data sets. Use DatasetDict.load_from_disk or load_from_disk.")
    return found


def read_folder(folder: Path, *, in_memory: bool = False, named: bool = True) -> Dataset:
    """One data set from its folder. `named=False`: the files lose their names before the data set is used."""
    from plait.data.dataset import Dataset as Made

    state = _description(folder / "state.json", needed="_data_files")
    described = folder / "dataset_info.json"
    info = DatasetInfo.from_json(_description(described)) if described.is_file() else DatasetInfo()
    paths = [_inside(folder, item["filename"]) for item in state["_data_files"]]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{folder} is incomplete: {path.name} is missing.")
    arrow = (_loaded(read_arrow(path)) if in_memory else read_arrow(path) for path in paths)
    kept = named and not in_memory
    tables = [Table.from_arrow(item, path=path if kept else None) for item, path in zip(arrow, paths, strict=True)]
    features = _features(info, paths)
    table = concatenate([item.subset(features) for item in tables])
    if state.get("_indices_data_files"):  # a folder of an older datasets may keep the rows seen in a file of their own
        rows = pa.concat_tables(
            [read_arrow(_inside(folder, item["filename"])) for item in state["_indices_data_files"]]
        )
        table = table.view(rows.column(0).to_numpy().astype("int64"))
    columns = state.get("_format_columns")
    shown = None if columns is None or list(columns) == list(features) else tuple(columns)
    kind = state.get("_format_type")
    format = Format(kind_named(kind), shown, bool(state.get("_output_all_columns")), state.get("_format_kwargs") or {})
    return Made(table, info, split=state.get("_split"), features=features, format=format)


def _description(path: Path, *, needed: str | None = None) -> dict[str, Any]:
    """What a JSON file beside the data says; raises `DataError` when it is missing, damaged or lacks `needed`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} is incomplete: {path.name} is missing.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}). Save the data set again.") from error
    if not isinstance(found, dict) or (needed is not None and needed not in found):
        raise DataError(f"{path} was not written by save_to_disk{f': it has no {needed!r}' if needed else ''}.")
    return found


def _features(info: DatasetInfo, paths: list[Path]) -> Features:
    """The features of dataset_info.json where they fit the files, else those of the files."""
    stored = features_of(read_arrow(paths[0]).schema) if paths else Features()
    if info.features is None or set(info.features) != set(stored):
        return stored
    from plait.data.features import arrow_of

    return Features(
        {
            name: info.features[name] if arrow_of(info.features[name]).equals(arrow_of(kind)) else kind
            for name, kind in stored.items()
        }
    )


def _inside(folder: Path, name: str) -> Path:
    """A file named by a description, which must lie in the folder."""
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{folder} names the file {name!r}, which lies outside the folder.")
    return path


def _loaded(table: pa.Table) -> pa.Table:
    """A table read from its file into memory."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def bytes_in(size: str | int) -> int:
    """A number of bytes from a text such as "500MB" or "1GiB"."""
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    if not match or match.group(2).upper() not in _UNITS:
        raise OptionError(f"{size!r} is not a size. Write for example '500MB' or '1GiB'.")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])
