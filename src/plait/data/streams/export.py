"""Streams turned into something else, complete: read to their end and written as data sets are.

What is larger than 64 MB goes through unnamed files, so that memory stays bounded; types are those of all rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from plait.data.streams.block import typed
from plait.data.table import Table
from plait.data.writer import ColumnWriter

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.streams.dataset import IterableDataset

_BATCH = 1000


def collected(self: IterableDataset) -> Dataset:
    """All rows as a data set."""
    from plait.data.dataset import Dataset as Made
    from plait.data.make import from_rows

    plain, features = self.with_format(None), self.features
    if features is None:
        return from_rows(Made, plain, info=self.info, split=self.split)
    writers = {name: ColumnWriter(name, declared=kind) for name, kind in features.items()}
    count = 0
    for block in plain.blocks():
        columns = typed(block, features, first_row=count)
        count += len(columns)
        for name, writer in writers.items():
            writer.append(columns.arrays[name])
    table = Table({name: writer.finish()[0] for name, writer in writers.items()}, count)
    return Made(table, self.info, split=self.split, features=features)


def to_dict(self: IterableDataset, batch_size: int | None = None, *, batched: bool = False) -> Any:
    """All columns as lists; with `batched=True` an iterator over dicts of `batch_size` rows."""
    if batched:
        return self.with_format(None).iter(batch_size or _BATCH)
    return collected(self).to_dict()


def to_list(self: IterableDataset) -> list[dict[str, Any]]:
    """All rows as dicts."""
    return list(self.with_format(None))


def to_pandas(self: IterableDataset, batch_size: int | None = None, *, batched: bool = False) -> Any:
    """All rows as a pandas frame; with `batched=True` an iterator over frames of `batch_size` rows."""
    return self.with_format("pandas").iter(batch_size or _BATCH) if batched else collected(self).to_pandas()


def to_polars(self: IterableDataset, batch_size: int | None = None, *, batched: bool = False, **options: Any) -> Any:
    """All rows as a polars frame; with `batched=True` an iterator over frames of `batch_size` rows."""
    return self.with_format("polars").iter(batch_size or _BATCH) if batched else collected(self).to_polars(**options)


def to_csv(
    self: IterableDataset, path_or_buf: str | Path | BinaryIO, batch_size: int | None = None, **options: Any
) -> int:
    """Write CSV, and return the number of bytes; the options are those of `Dataset.to_csv`."""
    return collected(self).to_csv(path_or_buf, batch_size, **options)


def to_json(
    self: IterableDataset, path_or_buf: str | Path | BinaryIO, batch_size: int | None = None, **options: Any
) -> int:
    """Write JSON, and return the number of bytes; the options are those of `Dataset.to_json`."""
    return collected(self).to_json(path_or_buf, batch_size, **options)


def to_parquet(
    self: IterableDataset, path_or_buf: str | Path | BinaryIO, batch_size: int | None = None, **options: Any
) -> int:
    """Write Parquet, and return the number of bytes; the options are those of `Dataset.to_parquet`."""
    return collected(self).to_parquet(path_or_buf, batch_size, **options)


def to_sql(self: IterableDataset, name: str, con: Any, batch_size: int | None = None, **options: Any) -> int:
    """Write to a table of a database, and return the number of rows; the options are those of `Dataset.to_sql`."""
    return collected(self).to_sql(name, con, batch_size, **options)


def push_to_hub(self: IterableDataset, repo_id: str, config_name: str = "default", **options: Any) -> Any:
    """Upload to a repository of a hub; the options are those of `Dataset.push_to_hub`."""
    return collected(self).push_to_hub(repo_id, config_name, **options)
