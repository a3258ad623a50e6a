"""Data sets turned into something else, complete: Python, pandas, polars, CSV, Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from plait.data.accepted import no_effect
from plait.data.decode import column_to_python
from plait.data.remote import opened
from plait.data.schema import schema_of
from plait.errors import OptionError, nearest, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_BATCH = 10_000  # rows written at once


def to_dict(self: Dataset, batch_size: int | None = None, *, batched: bool = False) -> Any:
    """All columns as lists; with `batched=True` an iterator over dicts of `batch_size` rows."""
    if batched:
        return self.with_format(None).iter(batch_size or 1000)
    table = self.table
    found: dict[str, list[Any]] = {}
    for name in self.column_names:
        found[name] = [
            value
            for _, arrays in table.blocks([name], size=table.block_rows([name], limit=_BATCH))
            for value in column_to_python(arrays[name], self.features[name])
        ]
    return found


def to_list(self: Dataset) -> list[dict[str, Any]]:
    """All rows as dicts."""
    return list(self.with_format(None))


def to_pandas(self: Dataset, batch_size: int | None = None, *, batched: bool = False) -> Any:
    """All rows as a pandas frame; with `batched=True` an iterator over frames of `batch_size` rows."""
    require("pandas", extra="tabular", purpose="turn data sets into frames")
    return self.with_format("pandas").iter(batch_size or 1000) if batched else self.table.to_arrow().to_pandas()


def to_polars(
    self: Dataset,
    batch_size: int | None = None,
    *,
    batched: bool = False,
    schema_overrides: Any = None,
    rechunk: bool = True,
) -> Any:
    """All rows as a polars frame; with `batched=True` an iterator over frames of `batch_size` rows.

    `schema_overrides` (types by column) and `rechunk` (one piece of memory per column) are those of polars.
    """
    polars = require("polars", extra="data", purpose="turn data sets into polars frames")

    def frame(table: Any) -> Any:
        return polars.from_arrow(table, schema_overrides=schema_overrides, rechunk=rechunk)

    if batched:
        return map(frame, self.with_format("arrow").iter(batch_size or 1000))
    return frame(self.table.to_arrow())


def to_csv(
    self: Dataset,
    path_or_buf: str | Path | BinaryIO,
    batch_size: int | None = None,
    *,
    num_proc: int | None = None,
    storage_options: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Write CSV with a header and without row numbers, and return the number of bytes.

    Further options are those of `pandas.DataFrame.to_csv` (`sep`, `encoding`, `index`, `header`, …). A file is
    compressed by its suffix (`.gz`, `.bz2`, `.xz`, `.zst`), or as `compression` says; the bytes counted are those of
    the text.
    """
    pandas = require("pandas", extra="tabular", purpose="write CSV files")
    no_effect("to_csv", () if num_proc in (None, 1) else ("num_proc",))
    known = [*signature(pandas.DataFrame.to_csv).parameters.keys() - {"self", "path_or_buf", "mode"}]
    for name in options:
        if name not in known:
            raise OptionError(f"to_csv() has no argument {name!r}.{nearest(name, known)}")
    options = {"index": False, **options}
    encoding, errors = options.pop("encoding", None) or "utf-8", options.pop("errors", "strict")
    header = options.pop("header", True)
    compression = options.pop("compression", "infer")
    written = 0
    with opened(path_or_buf, storage_options, compression=compression) as stream:
        for start, frame in _frames(self, batch_size or _BATCH, options["index"]):
            text = frame.to_csv(None, header=header if start == 0 else False, **options).encode(encoding, errors)
            stream.write(text)
            written += len(text)
    return int(written)


def _frames(dataset: Dataset, size: int, numbered: bool) -> Iterator[tuple[int, Any]]:
    for start in range(0, max(1, len(dataset)), size):
        arrays = dataset.table.read(start, start + size)
        # as objects, integers beside missing values stay integers
        frame = pa.table(list(arrays.values()), names=list(arrays)).to_pandas(integer_object_nulls=True)
        if numbered:
            frame.index = range(start, start + len(frame))
        yield start, frame


def to_parquet(
    self: Dataset,
    path_or_buf: str | Path | BinaryIO,
    batch_size: int | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Write Parquet with the features in its schema, and return the number of bytes before compression."""
    import pyarrow.parquet as parquet

    schema = schema_of(self.features)
    size = batch_size or max(1, self.table.block_rows(limit=1 << 17) * 16)
    written = 0
    with opened(path_or_buf, storage_options) as stream, parquet.ParquetWriter(stream, schema, **options) as writer:
        for start in range(0, len(self), size):
            arrays = self.table.read(start, start + size)
            table = pa.table(list(arrays.values()), schema=schema)
            writer.write_table(table)
            written += table.nbytes
        if not len(self):
            writer.write_table(schema.empty_table())
    return int(written)
