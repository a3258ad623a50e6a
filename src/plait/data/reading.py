"""From a reader to a data set, complete: what it reads is kept in the cache, one Arrow file per column.

The key is made of the reader, its options, and the path, size and time of change of every file, so reading the same
files again maps what is there.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.console import bar, logger
from plait.data import cache
from plait.data.dataset import Dataset
from plait.data.features import Features, FeatureType, arrow_of
from plait.data.files import open_arrow
from plait.data.fingerprint import digest, file_identity
from plait.data.info import DatasetInfo
from plait.data.readers.base import Again, Reader
from plait.data.schema import features_from_json
from plait.data.suffixes import READERS
from plait.data.table import Table, View
from plait.data.writer import ColumnWriter, finish_all
from plait.errors import OptionError, nearest

log = logger("data")


def reader_of(
    format: str, files: list[Path], features: Features | None, options: Mapping[str, Any], *, also: tuple[str, ...] = ()
) -> Reader:
    """The reader of a format for some files; raises `OptionError` for an option that neither it nor `also` has."""
    make = reader_class(format)
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
                f"load_dataset({format!r}) has no option {name!r}.{nearest(name, [*known, *also])} "
                f"Options are {', '.join(known)}."
            )
    return make(files, features, **chosen)


def reader_class(format: str) -> type[Reader]:
    """The class that reads a format."""
    module, kind, _ = READERS[format]
    found: type[Reader] = getattr(importlib.import_module(module), kind)
    return found


def read_dataset(
    format: str,
    reader: Reader,
    *,
    split: str,
    info: DatasetInfo,
    again: bool = False,
    keep_in_memory: bool = False,
    home: Path | None = None,
) -> Dataset:
    """The rows of a reader as a data set, from the cache below `home` (by default PLAIT_HOME) when it holds them.

    `again` reads the files whatever the cache holds; `keep_in_memory` writes nothing to it.
    """
    if (direct := reader.direct()) is not None:
        table, found = direct
        return Dataset(table, info, split=split, features=found)
    if keep_in_memory or not reader.cacheable:
        table, found, _ = _read(reader, None)
        return Dataset(table, info, split=split, features=found)
    key = digest(
        [
            "load",
            format,
            reader.version,
            json.dumps(reader.options(), sort_keys=True, default=repr),
            repr(reader.features),
            *(file_identity(file) for file in reader.files),
        ]
    )
    if not again and (entry := cache.find(key, home=home)) is not None:
        return _opened(entry, cache.path_of(key, home=home), info, split)
    if not cache.writable(home):
        table, found, _ = _read(reader, None)
        return Dataset(table, info, split=split, features=found)
    with cache.making(key, replace=again, home=home) as making:
        table, found, names = _read(reader, making.folder)
        entry = {
            "operation": f"load {format}",
            "title": ", ".join(file.name for file in reader.files[:5]),
            "rows": table.num_rows,
            "columns": [{"name": name, "file": names[name]} for name in found],
            "features": found.to_dict(),
        }
        folder = making.keep(entry)
    return _opened(entry, folder, info, split)


def _read(reader: Reader, folder: Path | None) -> tuple[Table, Features, dict[str, str]]:
    """All blocks of a reader as columns. A reader may find late that it must start over; it does so once at most."""
    while True:
        columns: dict[str, ColumnWriter] = {}
        rows = 0
        try:
            with bar(f"read {reader.title}", unit="rows") as progress:
                for block in reader.blocks():
                    rows += _append(block, columns, rows, reader.kinds, folder)
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
    finished = finish_all(columns)
    names = {name: writer.path.name if writer.path is not None else "" for name, writer in columns.items()}
    views: dict[str, View] = {name: view for name, (view, _) in finished.items()}
    order = reader.features or views
    found = Features({name: finished[name][1] for name in order})
    return Table({name: views[name] for name in order}, rows), found, names


def _append(
    block: Mapping[str, Any],
    columns: dict[str, ColumnWriter],
    rows: int,
    kinds: Mapping[str, FeatureType],
    folder: Path | None,
) -> int:
    import pyarrow as pa

    count = len(next(iter(block.values()))) if block else 0
    for name, array in block.items():
        if name not in columns:
            columns[name] = _writer(name, kinds.get(name), len(columns), folder)
            if rows:  # a column that earlier files do not have
                columns[name].append(pa.nulls(rows, _block_type(kinds, name)))
        if isinstance(array, list):
            columns[name].append_mixed(array)
        else:
            columns[name].append(array)
    for name, writer in columns.items():
        if name not in block:
            writer.append(pa.nulls(count, _block_type(kinds, name)))
    return count


def _block_type(kinds: Mapping[str, FeatureType], name: str) -> Any:
    """The type of a column that a block lacks."""
    import pyarrow as pa

    return arrow_of(kinds[name]) if name in kinds else pa.null()


def _writer(name: str, feature: Any, number: int, folder: Path | None) -> ColumnWriter:
    path = None if folder is None else folder / f"{number}.arrow"
    return ColumnWriter(name, path=path, declared=feature, mixed=True)


def _opened(entry: Mapping[str, Any], folder: Path, info: DatasetInfo, split: str) -> Dataset:
    columns = {}
    for item in entry["columns"]:
        (columns[item["name"]],) = open_arrow(folder / item["file"]).columns.values()
    return Dataset(Table(columns, entry["rows"]), info, split=split, features=features_from_json(entry["features"]))
