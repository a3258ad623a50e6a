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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plait.console import bar
from plait.data.features import Features
from plait.data.files import ArrowStream, open_arrow, read_arrow, sync
from plait.data.formats import Format, kind_named
from plait.data.info import DatasetInfo
from plait.data.schema import features_of, schema_of
from plait.data.table import Table, concatenate
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

    Rows are written in the order in which they are seen, so a shuffled data set is sequential on disk.
    """
    with replaced_folder(Path(dataset_path).expanduser()) as folder:
        write_folder(self, folder, max_shard_size=max_shard_size, num_shards=num_shards)


def write_folder(
    dataset: Dataset, folder: Path, *, max_shard_size: str | int | None = None, num_shards: int | None = None
) -> None:
    """Write the files of one data set into a folder that nobody sees yet."""
    if max_shard_size is not None and num_shards is not None:
        raise OptionError("Give max_shard_size or num_shards, not both.")
    count = num_shards or max(1, -(-dataset.table.nbytes // bytes_in(max_shard_size or SHARD_BYTES)))
    if count < 1:
        raise OptionError(f"num_shards must be at least 1, but is {num_shards}.")
    names = [f"data-{index:05d}-of-{count:05d}.arrow" for index in range(count)]
    with bar(f"save {folder.name}", total=len(dataset), unit="rows") as progress:
        for index, name in enumerate(names):
            part = dataset.shard(count, index)
            write_arrow(folder / name, part.table, dataset.features)
            progress.advance(len(part))
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
    _write_json(folder / "state.json", state)
    _write_json(folder / "dataset_info.json", dataset.info.to_json(dataset.features))


def write_arrow(path: Path, table: Table, features: Features) -> None:
    """Write the rows of a table, in order, to one Arrow stream."""
    with ArrowStream(path, schema_of(features, extensions=True)) as stream:
        size = table.block_rows(limit=1 << 16)
        for _, arrays in table.blocks(size=max(size, 1000)):
            stream.write(list(arrays.values()))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    sync(path)


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


def load_from_disk(
    dataset_path: str | Path, *, keep_in_memory: bool = False, storage_options: Mapping[str, Any] | None = None
) -> Dataset | DatasetDict:
    """The data set, or the dict of data sets, that `save_to_disk` wrote to a folder; memory-mapped.

    Raises `NotFoundError` when there is no such folder, `DataError` when it holds something else.
    """
    from plait.data.dataset_dict import DatasetDict

    folder = Path(dataset_path).expanduser()
    if not folder.exists():
        near = nearest(folder.name, [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise NotFoundError(f"There is no folder {folder}.{near}")
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return DatasetDict({name: read_folder(folder / name, in_memory=keep_in_memory) for name in splits})
    if (folder / "state.json").is_file():
        return read_folder(folder, in_memory=keep_in_memory)
    here = sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else "a file"
    raise DataError(
        f"{folder} was not written by save_to_disk: it has neither state.json nor dataset_dict.json, but {here}. "
        f"To read data files use load_dataset."
    )


def load_dataset_from_disk(dataset_path: str | Path, **options: Any) -> Dataset:
    """The data set in a folder; raises `DataError` for a folder with several."""
    from plait.data.dataset import Dataset as Made

    found = load_from_disk(dataset_path, **options)
    if not isinstance(found, Made):
        raise DataError(f"{dataset_path} holds a dict of data sets. Use DatasetDict.load_from_disk or load_from_disk.")
    return found


def read_folder(folder: Path, *, in_memory: bool = False) -> Dataset:
    """One data set from its folder."""
    from plait.data.dataset import Dataset as Made

    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    described = folder / "dataset_info.json"
    info = (
        DatasetInfo.from_json(json.loads(described.read_text(encoding="utf-8")))
        if described.is_file()
        else DatasetInfo()
    )
    paths = [_inside(folder, item["filename"]) for item in state["_data_files"]]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{folder} is incomplete: {path.name} is missing.")
    tables = [Table.from_arrow(_loaded(read_arrow(path))) if in_memory else open_arrow(path) for path in paths]
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
        raise DataError(f"{folder}/state.json names the file {name!r}, which lies outside the folder.")
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
