"""Parquet files, complete: row group by row group, all columns or some, with the features in their schema."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from plait.console import logger
from plait.data.encode import plain_storage
from plait.data.features import Features, FeatureType, arrow_of
from plait.data.readers.base import Reader
from plait.data.schema import feature_of, features_of
from plait.data.table import missing_column
from plait.data.widen import cast, widen
from plait.errors import DataError, OptionError

log = logger("data")

# read at once: at most so many rows, and about so many bytes
_ROWS = 1 << 16
_BYTES = 16 << 20


@dataclass
class ParquetReader(Reader):
    """`columns` are the columns to read, all by default; `filters` says which rows: a list such as `[("a", ">", 1)]` or
    an expression of `pyarrow.compute`. `batch_size` rows are read at once. `on_bad_files` is "error", or "skip" or
    "warn" to leave out files that are no Parquet files. Columns that `features` does not name raise `DataError`."""

    REFUSED = {"fragment_scan_options": "give batch_size, columns and filters"}

    columns: list[str] | None = None
    batch_size: int | None = None
    filters: Any = None
    on_bad_files: str = "error"

    def __post_init__(self) -> None:
        if self.on_bad_files not in ("error", "skip", "warn"):
            raise OptionError(f"on_bad_files must be 'error', 'skip' or 'warn', but is {self.on_bad_files!r}.")
        if self.on_bad_files != "error":
            self.files = [path for path in self.files if self._good(path)]
        if self.features is not None:
            self._all_named(self.features)
        if self.features is None:
            self.features = self._common()
        elif self.columns is not None:
            self.features = Features({name: self.features[name] for name in self.columns})

    def _good(self, path: Path) -> bool:
        try:
            parquet.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            level = logging.WARNING if self.on_bad_files == "warn" else logging.INFO
            log.log(level, "%s is left out, since it is not a Parquet file: %s", path, error)
            return False
        return True

    def _all_named(self, features: Features) -> None:
        """Raise `DataError` for a column of a file that the features do not name."""
        for path in self.files if self.columns is None else ():
            extra = [name for name in _schema(path).names if name not in features]
            if extra:
                raise DataError(f"{path} has columns that features= does not name: {extra}. Choose some with columns=.")

    def _common(self) -> Features:
        """The columns of all files, in types that hold the values of each."""
        found: dict[str, FeatureType] = {}
        for path in self.files:
            for name, feature in features_of(_schema(path)).items():
                if name not in found or found[name] == feature:
                    found[name] = feature
                    continue
                try:
                    found[name] = feature_of(widen(arrow_of(found[name]), arrow_of(feature)))
                except DataError as error:
                    raise DataError(
                        f"{path}: column {name!r} is {feature!r}, but {found[name]!r} in files before it ({error})."
                    ) from error
        if self.columns is None:
            return Features(found)
        for name in self.columns:
            if name not in found:
                raise missing_column(name, found)
        return Features({name: found[name] for name in self.columns})

    def blocks(self) -> Iterator[dict[str, Any]]:
        assert self.features is not None
        for path in self.files:
            try:
                yield from self._of_file(path, self.features)
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(f"{path} cannot be read: {error}") from error

    def starts(self) -> list[int]:
        if self.filters is not None or len(self.files) != 1:
            return []
        found = parquet.read_metadata(self.files[0])
        sizes = [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        return [0, *accumulate(sizes)][:-1]

    def blocks_from(self, row: int) -> Iterator[dict[str, Any]]:
        starts = self.starts()
        if not starts:
            yield from super().blocks_from(row)
            return
        assert self.features is not None
        group = bisect_right(starts, row) - 1
        rest = row - starts[group]
        for block in self._of_file(self.files[0], self.features, first=group):
            count = len(next(iter(block.values()))) if block else 0
            if rest < count:
                yield {name: array[rest:] for name, array in block.items()} if rest else block
            rest = max(rest - count, 0)

    def _of_file(self, path: Any, features: Features, *, first: int = 0) -> Iterator[dict[str, Any]]:
        """The rows of one file, from row group `first` on."""
        if self.filters is not None:
            batches = iter(parquet.read_table(path, columns=self.columns, filters=self.filters).to_batches())
        else:
            file = parquet.ParquetFile(path, memory_map=True)
            names = [name for name in file.schema_arrow.names if name in features]
            groups = range(first, file.num_row_groups)
            size = self.batch_size or _rows_at_once(file.metadata)
            batches = file.iter_batches(batch_size=size, row_groups=groups, columns=names)
        for batch in batches:
            block = {}
            for name, array in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    block[name] = cast(plain_storage(array), arrow_of(features[name]))
                except pa.ArrowInvalid as error:
                    raise DataError(
                        f"{path}: column {name!r} of type {array.type} does not fit {features[name]!r}: {error}"
                    ) from error
            for name, feature in features.items():
                if name not in block:
                    block[name] = pa.nulls(batch.num_rows, arrow_of(feature))
            yield block


def _rows_at_once(found: Any) -> int:
    sizes = sum(found.row_group(group).total_byte_size for group in range(found.num_row_groups))
    return max(1, min(_ROWS, _BYTES * found.num_rows // sizes if sizes else _ROWS))


def _schema(path: Path) -> pa.Schema:
    try:
        return parquet.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
