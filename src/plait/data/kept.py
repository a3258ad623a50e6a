"""Where the result of a map or filter is kept, complete: in the cache, or in a file that the user names."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.console import logger
from plait.data import cache
from plait.data.files import open_arrow, read_arrow
from plait.data.key import Key
from plait.data.schema import features_from_json, schema_of
from plait.data.table import Table
from plait.disk import replaced

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

log = logger("data")

_KEY = b"plait.key"  # in the metadata of a file that the user named: the key of the result that it holds


def keeps(dataset: Dataset, keep_in_memory: bool, load_from_cache_file: bool | None) -> bool:
    """Whether a result goes to the cache: when the data come from files and caching is on, or when the user asks."""
    if keep_in_memory or load_from_cache_file:
        return not keep_in_memory
    in_files = any(column.store.sources is not None for column in dataset.table.columns.values())
    return in_files and cache.is_caching_enabled()


def kept(
    dataset: Dataset,
    key: Key,
    run: Callable[[Path | None, str], tuple[Dataset, dict[str, str]]],
    title: str,
    *,
    again: bool,
) -> Dataset:
    """The result in the cache, made by `run` if it is not there, or `again`."""
    assert key.value is not None
    if not again and (entry := cache.find(key.value)) is not None:
        with suppress(FileNotFoundError):  # another process may have removed it at this moment
            return _from_entry(dataset, entry, cache.path_of(key.value))
    if not cache.writable():
        return run(None, "")[0]
    why = "asked to compute it again" if again else key.say_why()
    with cache.making(key.value, replace=again) as making:
        # what is made from a result made again is not to be taken for made from the first: its files have other names
        made, files = run(making.folder, f"-{secrets.token_hex(4)}" if again else "")
        entry = {
            "operation": "map",
            "title": title,
            "rows": len(made),
            "columns": [{"name": name, "file": files.get(name)} for name in made.column_names],
            "features": made.features.to_dict(),
            **key.description(why),
        }
        folder = making.keep(entry)
    key.remember(why)
    return _from_entry(dataset, cache.find(key.value) or entry, folder)


def kept_rows(key: Key, compute: Callable[[], Any], title: str, *, again: bool) -> Any:
    """The numbers of the rows that a filter leaves, from the cache, or computed."""
    assert key.value is not None
    if not again and cache.find(key.value) is not None:
        with suppress(FileNotFoundError):  # another process may have removed it at this moment
            return np.load(cache.path_of(key.value) / "rows.npy", mmap_mode="r", allow_pickle=False)
    if not cache.writable():
        return compute()
    why = "asked to compute it again" if again else key.say_why()
    with cache.making(key.value, replace=again) as making:
        rows = compute()
        np.save(making.folder / "rows.npy", rows, allow_pickle=False)
        making.keep({"operation": "filter", "title": title, "rows": len(rows), **key.description(why)})
    key.remember(why)
    return rows


def kept_at(
    path: Path, dataset: Dataset, key: Key, run: Callable[[], tuple[Dataset, dict[str, str]]], *, again: bool
) -> Dataset:
    """The result in one Arrow file with all columns; it is used again while its key is the same."""
    if not again and key.value is not None and path.exists():
        if (read_arrow(path).schema.metadata or {}).get(_KEY) == key.value.encode():
            return _at(path, dataset)
        log.info("%s holds another result, so it is written anew", path)
    made, _ = run()
    schema = schema_of(made.features)
    schema = schema.with_metadata({**schema.metadata, _KEY: (key.value or "").encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for _, arrays in made.table.blocks(size=made.table.block_rows(limit=1 << 16)):
            stream.write_batch(pa.record_batch(list(arrays.values()), schema=schema))
    return _at(path, dataset)


def _at(path: Path, dataset: Dataset) -> Dataset:
    from plait.data.schema import features_of

    return dataset.derive(open_arrow(path), features_of(read_arrow(path).schema))


def _from_entry(dataset: Dataset, entry: Mapping[str, Any], folder: Path) -> Dataset:
    """A data set from a result: its own files, and the columns that it shares with the parent."""
    columns = {}
    rows = entry["rows"]
    # rows dropped at the end (drop_last_batch) leave a shorter view of the parent
    shared = dataset.table if rows >= len(dataset) else dataset.table.view(range(rows))
    for item in entry["columns"]:
        name = item["name"]
        if item["file"] is None:
            columns[name] = shared.columns[name]
        else:
            (columns[name],) = open_arrow(folder / item["file"]).columns.values()
    return dataset.derive(Table(columns, rows), features_from_json(entry["features"]))
