"""Data sets made from Python objects and single files, complete.

The type of a column is that of all its values together, so it does not depend on which rows come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.data.accepted import no_effect
from plait.data.access import positions
from plait.data.encode import natural, own_copy, own_value, to_arrow
from plait.data.features import Features, FeatureType
from plait.data.files import open_arrow, read_arrow
from plait.data.info import DatasetInfo
from plait.data.kinds import Json
from plait.data.schema import as_features, feature_of, features_of
from plait.data.table import Table
from plait.data.writer import ColumnWriter
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_ROWS = 1000  # taken from a generator at once


def from_dict(
    cls: type[Dataset],
    /,
    mapping: Mapping[str, Any],
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    on_mixed_types: str | None = None,
) -> Dataset:
    """A data set in memory from columns: lists, NumPy arrays, tensors, series or Arrow arrays of one length.

    `on_mixed_types="use_json"` stores a column whose values have no common type as `Json`; otherwise it is an error.
    """
    if not hasattr(mapping, "items"):
        raise DataError(f"from_dict needs columns by name, but got {type(mapping).__name__}. Rows go to from_list.")
    declared = None if features is None else as_features(features)
    if declared is not None and set(declared) != set(mapping):
        raise DataError(f"features= names the columns {list(declared)}, but the data have {list(mapping)}.")
    arrays: dict[str, Any] = {}
    found: dict[str, FeatureType] = {}
    for name, values in mapping.items():
        arrays[name], found[name] = _column(str(name), values, declared, on_mixed_types)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"Columns must have the same number of values, but they have {lengths}.")
    return cls(Table.from_arrays(arrays), info, split=split, features=Features(found))


def _column(name: str, values: Any, declared: Features | None, on_mixed_types: str | None) -> tuple[Any, FeatureType]:
    if isinstance(values, int | float | bool | None):
        raise DataError(f"Column {name!r} needs a list of values, but is {values!r}.")
    values = own_copy(values)  # what the caller does with an array afterwards must not change the data set
    if declared is not None:
        return to_arrow(values, feature=declared[name], column=name), declared[name]
    try:
        array = to_arrow(values, column=name)
    except DataError:
        if on_mixed_types != "use_json":
            raise
        return to_arrow(values, feature=Json(), column=name), Json()
    return array, feature_of(array.type)


def from_list(
    cls: type[Dataset],
    /,
    mapping: Iterable[Mapping[str, Any]],
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    on_mixed_types: str | None = None,
) -> Dataset:
    """A data set in memory from rows, each a dict. The columns are those of all rows; what a row lacks is null."""
    rows = [] if isinstance(mapping, Mapping) else list(mapping)
    if isinstance(mapping, Mapping) or not all(isinstance(row, Mapping) for row in rows):
        raise DataError("from_list needs rows, each a dict of values by name. Columns go to from_dict.")
    names = dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, rows))))  # most rows have the same names
    if features is not None:
        names = dict.fromkeys([*as_features(features), *names])
    columns = {name: [row.get(name) for row in rows] for name in names}
    return from_dict(cls, columns, features, info=info, split=split, on_mixed_types=on_mixed_types)


def from_generator(
    cls: type[Dataset],
    /,
    generator: Callable[..., Iterable[Mapping[str, Any]]],
    features: Features | Mapping[str, Any] | None = None,
    *,
    gen_kwargs: Mapping[str, Any] | None = None,
    split: str | None = "train",
    info: DatasetInfo | None = None,
    **ignored: Any,
) -> Dataset:
    """A data set from a function that yields rows; it is called with `gen_kwargs`, once, and nothing of it is cached.

    Columns beyond 64 MB lie in unnamed files, so rows are never all in memory.
    """
    no_effect("from_generator", ignored)
    need_function(generator)
    declared = None if features is None else as_features(features)
    return from_rows(cls, generator(**dict(gen_kwargs or {})), declared, info=info, split=split)


def need_function(generator: Any) -> None:
    """Raise `OptionError` for what a generator yields, or is, in place of the function that makes it."""
    if not callable(generator):
        raise OptionError(
            f"from_generator needs a function that yields rows, but got {type(generator).__name__}: pass the function "
            f"itself, and its arguments as gen_kwargs."
        )


def from_rows(
    cls: type[Dataset],
    /,
    rows: Iterable[Mapping[str, Any]],
    features: Features | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
) -> Dataset:
    """A data set from rows that come one by one; a column whose values have no common type becomes `Json`."""
    writers: dict[str, ColumnWriter] = {
        name: ColumnWriter(name, declared=feature) for name, feature in (features or {}).items()
    }
    count = 0
    for block in _blocks(rows):
        for name in dict.fromkeys(name for row in block for name in row):
            if name not in writers:
                if features is not None:
                    raise DataError(f"features= has no column {name!r}, but row {count} has.")
                writers[name] = ColumnWriter(name, mixed=True)
                writers[name].append(pa.nulls(count))
        for name, writer in writers.items():
            values = [row.get(name) for row in block]
            feature = features[name] if features is not None else None
            try:
                writer.append(to_arrow(values, feature=feature, column=name, first_row=count))
            except DataError:
                if feature is not None:
                    raise
                writer.append_mixed(values)
        count += len(block)
    finished = {name: writer.finish() for name, writer in writers.items()}
    table = Table({name: column for name, (column, _) in finished.items()}, count if finished else 0)
    features = Features({name: kind for name, (_, kind) in finished.items()})
    return cls(table, info, split=split, features=features)


def _blocks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = map(own_row, rows)
    while block := list(islice(iterator, _ROWS)):
        yield block


_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


def own_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that its maker may not change any more: many fill one dict, list or array for each."""
    if not isinstance(row, Mapping):
        raise DataError(f"A generator yields rows, each a dict of values by name, but one is {row!r:.100}.")
    return {name: value if type(value) in _PLAIN else own_value(value) for name, value in row.items()}


def from_arrow_table(
    cls: type[Dataset],
    /,
    table: pa.Table,
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
) -> Dataset:
    """A data set over an Arrow table, without a copy where the types fit."""
    if features is None:
        return cls(Table.from_arrow(table), info, split=split, features=features_of(table.schema))
    columns = {name: table.column(name) for name in table.column_names}
    return from_dict(cls, columns, features, info=info, split=split)


def from_pandas(
    cls: type[Dataset],
    /,
    df: Any,
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    preserve_index: bool | None = None,
) -> Dataset:
    """A data set from a pandas frame; missing values are nulls. An index that is not a plain range becomes a column."""
    table = pa.Table.from_pandas(own_copy(df), preserve_index=preserve_index).replace_schema_metadata(None)
    plain = {name: _string(natural(table.column(name))) for name in table.column_names}
    return from_dict(cls, plain, features, info=info, split=split)


def _string(array: Any) -> Any:
    # pandas 3 hands text over as large_string; the usual type of text is string
    if pa.types.is_large_string(array.type) and array.nbytes < 2**31:
        return array.cast(pa.string())
    return array


def from_polars(
    cls: type[Dataset],
    /,
    df: Any,
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
) -> Dataset:
    """A data set from a polars frame (a lazy one is collected)."""
    table = (df.collect() if hasattr(df, "collect") else df).to_arrow()
    return from_arrow_table(cls, table, features, info=info, split=split)


def from_file(
    cls: type[Dataset],
    /,
    filename: str | Path,
    info: DatasetInfo | None = None,
    *,
    split: str | None = None,
    indices_filename: str | Path | None = None,
    in_memory: bool = False,
) -> Dataset:
    """A data set over an Arrow file (stream or file format), memory-mapped.

    `indices_filename` is an Arrow file whose first column says which rows are seen, in which order.
    """
    path = Path(filename)
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    arrow = read_arrow(path)
    features = features_of(arrow.schema)
    table = Table.from_arrow(pa.concat_tables([arrow]).combine_chunks()) if in_memory else open_arrow(path)
    if indices_filename is not None:
        table = table.view(_row_numbers(read_arrow(Path(indices_filename)), table.num_rows))
    return cls(table, info, split=split, features=features)


def _row_numbers(table: pa.Table, rows: int) -> Any:
    """The row numbers in the first column of a table; raises `RowError` for one that is not there."""
    return np.asarray(positions(table.column(0).to_numpy().astype(np.int64), rows))


def from_buffer(
    cls: type[Dataset],
    /,
    buffer: Any,
    info: DatasetInfo | None = None,
    *,
    split: str | None = None,
    indices_buffer: Any = None,
) -> Dataset:
    """A data set over an Arrow stream in memory; `indices_buffer` holds the numbers of the rows seen, as a stream."""
    arrow = pa.ipc.open_stream(pa.BufferReader(buffer)).read_all()
    table = Table.from_arrow(arrow)
    if indices_buffer is not None:
        numbers = pa.ipc.open_stream(pa.BufferReader(indices_buffer)).read_all()
        table = table.view(_row_numbers(numbers, table.num_rows))
    return cls(table, info, split=split, features=features_of(arrow.schema))


def _loaded(format: str, paths: Any, options: dict[str, Any]) -> Any:
    from plait.data.load import load_dataset

    split = options.pop("split", None)
    named = {split or "train": paths}
    return load_dataset(format, data_files=named, split=split or "train", **options)


def from_csv(
    cls: type[Dataset],
    /,
    path_or_paths: Any,
    split: str | None = None,
    features: Features | Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """A data set from CSV files; the options are those of `load_dataset("csv", …)`."""
    found: Dataset = _loaded("csv", path_or_paths, {**options, "split": split, "features": features})
    return found


def from_json(
    cls: type[Dataset],
    /,
    path_or_paths: Any,
    split: str | None = None,
    features: Features | Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """A data set from JSON files (lines or arrays); the options are those of `load_dataset("json", …)`."""
    found: Dataset = _loaded("json", path_or_paths, {**options, "split": split, "features": features})
    return found


def from_parquet(
    cls: type[Dataset],
    /,
    path_or_paths: Any,
    split: str | None = None,
    features: Features | Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """A data set from Parquet files; the options are those of `load_dataset("parquet", …)`."""
    found: Dataset = _loaded("parquet", path_or_paths, {**options, "split": split, "features": features})
    return found


def from_text(
    cls: type[Dataset],
    /,
    path_or_paths: Any,
    split: str | None = None,
    features: Features | Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """A data set from text files; the options are those of `load_dataset("text", …)`."""
    found: Dataset = _loaded("text", path_or_paths, {**options, "split": split, "features": features})
    return found


def from_sql(
    cls: type[Dataset], /, sql: Any, con: Any, features: Features | Mapping[str, Any] | None = None, **options: Any
) -> Dataset:
    """A data set from a query or a table of a database; see `load_dataset("sql", …)`.

    `con` is a connection (sqlite3, duckdb, SQLAlchemy), an engine, the path of a SQLite file, or an address such as
    `sqlite:///a.db`. Raises `DataError` with the words of the database when the query fails.
    """
    from plait.data.load import load_dataset

    split = options.pop("split", None) or "train"
    found: Dataset = load_dataset("sql", sql=sql, con=con, features=features, split="train", **options)
    return cls(found.table, found.info, split=split, features=found.features)
