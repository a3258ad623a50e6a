"""`load_dataset`, complete: files, folders and names become data sets, through a reader per format and a cache.

What is read is kept in the cache as one Arrow file per column, under a key of the reader, its options, and the path,
size and time of change of every file; reading the same files again maps those.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.console import bar, logger
from plait.data import cache
from plait.data.dataset import Dataset
from plait.data.dataset_dict import DatasetDict
from plait.data.features import Features
from plait.data.files import open_arrow
from plait.data.fingerprint import digest, file_identity
from plait.data.info import DatasetInfo
from plait.data.locate import data_files_of, missing_path, plain_suffix
from plait.data.readers.base import Again, Reader
from plait.data.schema import as_features, features_from_json
from plait.data.table import Table, View
from plait.data.writer import ColumnWriter
from plait.errors import ColumnError, DataError, OptionError, nearest

log = logger("data")

# name of a format -> its module and class, and the suffixes of its files
READERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "csv": ("plait.data.readers.csv", "CsvReader", (".csv", ".tsv")),
    "json": ("plait.data.readers.json", "JsonReader", (".json", ".jsonl", ".ndjson")),
    "parquet": ("plait.data.readers.parquet", "ParquetReader", (".parquet",)),
    "arrow": ("plait.data.readers.arrow", "ArrowReader", (".arrow",)),
    "text": ("plait.data.readers.text", "TextReader", (".txt",)),
}
_SUFFIXES = {suffix: name for name, (_, _, suffixes) in READERS.items() for suffix in suffixes}


def load_dataset(
    path: str,
    name: str | None = None,
    *,
    data_dir: str | Path | None = None,
    data_files: Any = None,
    split: str | None = None,
    cache_dir: str | Path | None = None,
    features: Features | Mapping[str, Any] | None = None,
    download_mode: str | None = None,
    keep_in_memory: bool = False,
    revision: str | None = None,
    token: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A data set from files: `load_dataset("csv", data_files="a.csv")`, or from a folder: `load_dataset("folder")`.

    `path` is a format (csv, json, parquet, arrow, text), or a file, or a folder of data files. `data_files` is a path
    or pattern, a list of them, or a dict of splits; `data_dir` a folder. With `split` the result is a `Dataset`,
    without it a `DatasetDict`. `features` declares the types of the columns; otherwise they follow from all the data
    of all files. `keep_in_memory=True` writes nothing to the cache, and `download_mode="force_redownload"` reads the
    files again. Further options go to the reader of the format. Raises `NotFoundError` for a missing file,
    `DataError` for a bad row (with file, line and column), `OptionError` for an option that does not exist.
    """
    if streaming:
        raise OptionError(
            "streaming=True is not supported yet. Files are mapped into memory, not read into it, so a data set larger "
            "than memory loads without it: leave it out."
        )
    if storage_options:
        raise OptionError(
            "storage_options belong to files elsewhere, and load_dataset reads local ones: copy the files here first."
        )
    if cache_dir is not None:
        log.info("cache_dir has no effect on data sets: their cache is below PLAIT_HOME")
    format, files = _resolve(path, name, data_dir, data_files)
    declared = None if features is None else as_features(features)
    again = str(download_mode or "").endswith("force_redownload")
    splits = {}
    for split_name, paths in files.items():
        if split is None or split_name == split:
            splits[split_name] = _load(
                format, paths, declared, options, split=split_name, again=again, keep_in_memory=keep_in_memory
            )
    if split is None:
        return DatasetDict(splits)
    if split not in splits:
        raise ColumnError(f"There is no split {split!r}.{nearest(split, files)} Splits are {list(files)}.")
    return splits[split]


def _resolve(path: str, name: str | None, data_dir: Any, data_files: Any) -> tuple[str, dict[str, list[Path]]]:
    """The format and the files of each split that the arguments speak of."""
    if path in READERS:
        if name is not None and data_files is None and data_dir is None:
            raise OptionError(f"Say which files to read: load_dataset({path!r}, data_files={name!r}).")
        return path, data_files_of(data_files, data_dir=data_dir, suffixes=READERS[path][2])
    place = Path(path).expanduser()
    if place.is_file():
        files = {"train": [place]}
    elif place.is_dir():
        base = place / data_dir if data_dir is not None else place
        files = data_files_of(data_files, data_dir=base)
    elif "/" in path or "\\" in path or place.suffix:
        raise missing_path(place)
    else:
        formats = f"{', '.join(READERS)}"
        raise DataError(f"{path!r} is neither a format ({formats}) nor a file or folder here.{nearest(path, READERS)}")
    return _format_of([file for paths in files.values() for file in paths]), files


def _format_of(files: Sequence[Path]) -> str:
    """The one format of all files, by their suffixes."""
    found = {suffix: _SUFFIXES.get(suffix) for suffix in sorted({plain_suffix(file) for file in files})}
    formats = {format for format in found.values() if format is not None}
    unknown = [suffix for suffix, format in found.items() if format is None]
    if len(formats) != 1 or unknown:
        raise DataError(
            f"The files have the suffixes {list(found)}; to read them, name the format: one of {', '.join(READERS)}, "
            f"for example load_dataset('csv', data_files=…)."
        )
    return formats.pop()


def _load(
    format: str,
    files: list[Path],
    features: Features | None,
    options: Mapping[str, Any],
    *,
    split: str,
    again: bool,
    keep_in_memory: bool,
) -> Dataset:
    reader = reader_of(format, files, features, options)
    info = DatasetInfo(builder_name=format)
    if (direct := reader.direct()) is not None:
        table, found = direct
        return Dataset(table, info, split=split, features=found)
    if keep_in_memory:
        table, found, _ = _read(reader, None)
        return Dataset(table, info, split=split, features=found)
    key = digest(
        [
            "load",
            format,
            reader.version,
            json.dumps(reader.options(), sort_keys=True, default=repr),
            repr(features),
            *(file_identity(file) for file in files),
        ]
    )
    if not again and (entry := cache.find(key)) is not None:
        return _opened(entry, cache.path_of(key), info, split)
    with cache.making(key, replace=again) as making:
        table, found, names = _read(reader, making.folder)
        entry = {
            "operation": f"load {format}",
            "title": ", ".join(file.name for file in files[:5]),
            "rows": table.num_rows,
            "columns": [{"name": name, "file": names[name]} for name in found],
            "features": found.to_dict(),
        }
        folder = making.keep(entry)
    return _opened(entry, folder, info, split)


def reader_of(format: str, files: list[Path], features: Features | None, options: Mapping[str, Any]) -> Reader:
    """The reader of a format for some files; raises `OptionError` for an option that it does not have."""
    module, kind, _ = READERS[format]
    make = getattr(importlib.import_module(module), kind)
    known = make.option_names()
    chosen = {}
    for name, value in options.items():
        if name in make.WITHOUT_EFFECT:
            log.info("%s=%r has no effect on %s files: %s", name, value, format, make.WITHOUT_EFFECT[name])
        elif name in make.REFUSED:
            raise OptionError(f"load_dataset({format!r}) has no option {name!r}: {make.REFUSED[name]}.")
        elif name in known:
            chosen[name] = value
        else:
            raise OptionError(
                f"load_dataset({format!r}) has no option {name!r}.{nearest(name, known)} "
                f"Options are {', '.join(known)}."
            )
    reader: Reader = make(files, features, **chosen)
    return reader


def _read(reader: Reader, folder: Path | None) -> tuple[Table, Features, dict[str, str]]:
    """All blocks of a reader as columns. A reader may find late that it must start over; it does so once at most."""
    while True:
        columns: dict[str, ColumnWriter] = {}
        rows = 0
        try:
            with bar(f"read {reader.title}", unit="rows") as progress:
                for block in reader.blocks():
                    rows += _append(block, columns, rows, reader.features, folder)
                    progress.advance(len(next(iter(block.values()), ())))
            break
        except Again:
            for writer in columns.values():
                writer.abandon()
        except BaseException:
            for writer in columns.values():
                writer.abandon()
            raise
    if reader.features is not None:
        for name, feature in reader.features.items():
            if name not in columns:
                columns[name] = _writer(name, feature, len(columns), folder)
    finished = {name: writer.finish() for name, writer in columns.items()}
    names = {name: writer.path.name if writer.path is not None else "" for name, writer in columns.items()}
    views: dict[str, View] = {name: view for name, (view, _) in finished.items()}
    order = reader.features or views
    found = Features({name: finished[name][1] for name in order})
    return Table({name: views[name] for name in order}, rows), found, names


def _append(
    block: Mapping[str, Any],
    columns: dict[str, ColumnWriter],
    rows: int,
    features: Features | None,
    folder: Path | None,
) -> int:
    import pyarrow as pa

    count = len(next(iter(block.values()))) if block else 0
    for name, array in block.items():
        if name not in columns:
            feature = features[name] if features is not None else None
            columns[name] = _writer(name, feature, len(columns), folder)
            if rows:  # a column that earlier files do not have
                columns[name].append(pa.nulls(rows, _block_type(features, name)))
        if isinstance(array, list):
            columns[name].append_mixed(array)
        else:
            columns[name].append(array)
    for name, writer in columns.items():
        if name not in block:
            writer.append(pa.nulls(count, _block_type(features, name)))
    return count


def _block_type(features: Features | None, name: str) -> Any:
    """The type of a column that a block lacks."""
    import pyarrow as pa

    from plait.data.features import arrow_of

    return pa.null() if features is None else arrow_of(features[name])


def _writer(name: str, feature: Any, number: int, folder: Path | None) -> ColumnWriter:
    path = None if folder is None else folder / f"{number}.arrow"
    return ColumnWriter(name, path=path, declared=feature, mixed=True)


def _opened(entry: Mapping[str, Any], folder: Path, info: DatasetInfo, split: str) -> Dataset:
    columns = {}
    for item in entry["columns"]:
        (columns[item["name"]],) = open_arrow(folder / item["file"]).columns.values()
    return Dataset(Table(columns, entry["rows"]), info, split=split, features=features_from_json(entry["features"]))
