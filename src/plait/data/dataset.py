"""The data set, complete: typed columns of one length, what it is and how it prints. The class is a table of contents.

Its methods are functions of their own files: reading in `access.py`, making in `make.py`, work in `work.py`, views in
`view.py`, columns in `columns.py`, export in `export.py`, files in `disk.py`, search in `index.py`.
A data set never changes, except for its format (`set_format`) and the indexes beside its rows (`add_faiss_index`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from plait.data import access, columns, disk, export, export_sql, export_tf, grouping, index, make, push, view, work
from plait.data.cells import ReadRow, row_reader
from plait.data.cluster import from_ray, to_ray
from plait.data.combine import add_item
from plait.data.export_json import to_json
from plait.data.features import Features
from plait.data.fingerprint import table_digest
from plait.data.formats import TABLES, Format, Formatter, formatter_of, kind_named
from plait.data.info import DatasetInfo, Described, NamedSplit
from plait.data.inventory import cleanup_cache_files
from plait.data.schema import feature_of, features_of
from plait.data.sql import sql
from plait.data.streams.make import to_iterable_dataset
from plait.data.table import Table, missing_column
from plait.errors import DataError, OptionError


class Dataset(Described):
    """Typed columns of one length, in memory-mapped files or in memory.

    Made by `load_dataset`, `from_dict`, `from_list`, `from_pandas`, …; `table` may also be a `pyarrow.Table`.
    """

    def __init__(
        self,
        table: Table | pa.Table,
        info: DatasetInfo | None = None,
        *,
        split: str | None = None,
        features: Features | None = None,
        format: Format | None = None,
    ) -> None:
        if isinstance(table, pa.Table):
            features = features or features_of(table.schema)
            table = Table.from_arrow(table)
        if features is None:
            features = Features({name: feature_of(column.store.type) for name, column in table.columns.items()})
        if wrong := [name for name in table.columns if not isinstance(name, str)]:
            raise DataError(f"The name of a column is text, but {wrong[0]!r} is {type(wrong[0]).__name__}.")
        if list(features) != list(table.columns):
            raise DataError(f"The features name the columns {list(features)}, but the table has {list(table.columns)}.")
        self.table = table
        self.features = features
        # a copy: what is said about one data set must not change another
        self.info = copy.copy(info) if info is not None else DatasetInfo()
        self.info.features = features
        self.split = None if split is None else NamedSplit(split)
        self.indexes: dict[str, Any] = {}
        self.format_ = format or Format()
        self._formatter: Formatter | None = None
        self._read_row: ReadRow | None = None  # reads single rows while the format is plain; made when first needed

    def derive(self, table: Table, features: Features | None = None, *, same_rows: bool = False) -> Dataset:
        """This data set with another table: the same description, split and format, as far as its columns remain.

        A format that shows some columns shows new ones as well. Indexes number rows, so they go along with the
        `same_rows` only.
        """
        features = self.features if features is None else features
        format = self.format_
        if format.columns is not None:
            kept = [name for name in format.columns if name in features]
            new = [name for name in features if name not in self.features]
            format = Format(format.kind, (*kept, *new), format.output_all_columns, format.options)
        derived = Dataset(table, self.info, split=self.split, features=features, format=format)
        if same_rows:
            derived.indexes = dict(self.indexes)
        return derived

    def _again(self) -> Dataset:
        """The same rows and columns once more, with their indexes and in no format."""
        other = Dataset(self.table, self.info, split=self.split, features=self.features)
        other.indexes = dict(self.indexes)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_formatter": None, "_read_row": None, "indexes": {}}

    # --- what it is ---

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self.table.num_rows

    @property
    def num_columns(self) -> int:
        """How many columns there are."""
        return len(self.table.columns)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.table.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.num_rows, self.num_columns

    @property
    def data(self) -> pa.Table:
        """All columns as an Arrow table."""
        return self.table.to_arrow()

    @property
    def cache_files(self) -> list[dict[str, str]]:
        """The Arrow files that hold the columns."""
        paths = {
            str(source.path): None for column in self.table.columns.values() for source in column.store.sources or ()
        }
        return [{"filename": path} for path in paths]

    @property
    def dataset_size(self) -> int:
        """Bytes of the rows: as published, else as estimated from the columns."""
        return self.table.nbytes if self.info.dataset_size is None else self.info.dataset_size

    @property
    def fingerprint(self) -> str:
        """A digest of what the data set holds: equal for equal columns of the same files and the same rows."""
        return table_digest(self.table, self.features)

    _fingerprint = fingerprint

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"Dataset({{\n    features: {self.column_names},\n    num_rows: {self.num_rows}\n}})"

    # --- reading ---

    def __getitem__(self, key: Any) -> Any:
        if type(key) is int and self._read_row is not None and 0 <= key < self.table.num_rows:
            return self._read_row(key)  # the most frequent case, without a detour
        return access.get(self, key)

    def __getitems__(self, keys: list[int]) -> list[Any]:
        return access.get_many(self, keys)

    def __iter__(self) -> Iterator[Any]:
        return access.iterate(self)

    def iter(self, batch_size: int, *, drop_last_batch: bool = False) -> Iterator[Any]:
        """All rows in order, `batch_size` at a time."""
        return access.batches(self, batch_size, drop_last_batch=drop_last_batch)

    def shown_columns(self) -> list[str]:
        """The columns that the format shows."""
        return self.column_names if self.format_.columns is None else list(self.format_.columns)

    def formatter(self) -> Formatter:
        """What turns Arrow arrays into rows of the format."""
        if self._formatter is None:
            self._formatter = formatter_of(self.format_)
        return self._formatter

    @property
    def plain(self) -> bool:
        """Whether rows are shown as they are: all columns, as Python objects."""
        return self.format_.kind is None and self.format_.columns is None

    def read_row(self, index: int) -> dict[str, Any]:
        """One row as it is, fast: for a `plain` data set, and an `index` that is in range."""
        if self._read_row is None:
            self._read_row = row_reader(self.table, self.features)
        return self._read_row(index)

    # --- formats ---

    @property
    def format(self) -> dict[str, Any]:
        """The format as a dict: `type`, `format_kwargs`, `columns`, `output_all_columns`."""
        return {
            "type": self.format_.kind,
            "format_kwargs": dict(self.format_.options),
            "columns": self.shown_columns(),
            "output_all_columns": self.format_.output_all_columns,
        }

    def set_format(
        self,
        type: str | None = None,
        columns: Iterable[str] | str | None = None,
        *,
        output_all_columns: bool = False,
        **format_kwargs: Any,
    ) -> None:
        """Show rows as `type`: python (`None`), numpy, torch, jax, tf, pandas, polars or arrow; in place.

        `columns` limits what is shown; `output_all_columns` adds the others as Python objects. Other options go to
        the format: `dtype`, `device`, `copy`. Raises `OptionError` for an unknown type, `ColumnError` for a column.
        """
        chosen = None
        if columns is not None:
            chosen = (columns,) if isinstance(columns, str) else tuple(columns)
            for name in chosen:
                if name not in self.features:
                    raise missing_column(name, self.features)
            if output_all_columns and kind_named(type) in TABLES and {*self.features} - {*chosen}:
                raise OptionError(f"output_all_columns needs rows that are dicts, but those of {type!r} are tables.")
        format = Format(kind_named(type), chosen, output_all_columns, format_kwargs)
        self._formatter, self._read_row = formatter_of(format), None
        self.format_ = format

    def with_format(
        self,
        type: str | None = None,
        columns: Iterable[str] | str | None = None,
        *,
        output_all_columns: bool = False,
        **format_kwargs: Any,
    ) -> Dataset:
        """A data set that shows the same rows as `type`; see `set_format`."""
        other = self._again()
        other.set_format(type, columns, output_all_columns=output_all_columns, **format_kwargs)
        return other

    def reset_format(self) -> None:
        """Show rows as plain Python again, in place."""
        self.set_format()

    def set_transform(
        self,
        transform: Callable[[dict[str, Any]], Any] | None,
        columns: Iterable[str] | None = None,
        *,
        output_all_columns: bool = False,
    ) -> None:
        """Pass every batch that is read through a function, in place."""
        if transform is None:
            self.set_format(None, columns, output_all_columns=output_all_columns)
        else:
            self.set_format("custom", columns, output_all_columns=output_all_columns, transform=transform)

    def with_transform(
        self,
        transform: Callable[[dict[str, Any]], Any] | None,
        columns: Iterable[str] | None = None,
        *,
        output_all_columns: bool = False,
    ) -> Dataset:
        """A data set that passes every batch that is read through a function."""
        other = self._again()
        other.set_transform(transform, columns, output_all_columns=output_all_columns)
        return other

    @contextlib.contextmanager
    def formatted_as(
        self,
        type: str | None = None,
        columns: Iterable[str] | None = None,
        *,
        output_all_columns: bool = False,
        **format_kwargs: Any,
    ) -> Iterator[None]:
        """Show rows as `type` inside a `with` block."""
        before = self.format_
        self.set_format(type, columns, output_all_columns=output_all_columns, **format_kwargs)
        try:
            yield
        finally:
            self.format_, self._formatter, self._read_row = before, None, None

    # --- making one ---

    from_dict = classmethod(make.from_dict)
    from_list = classmethod(make.from_list)
    from_generator = classmethod(make.from_generator)
    from_pandas = classmethod(make.from_pandas)
    from_polars = classmethod(make.from_polars)
    from_file = classmethod(make.from_file)
    from_buffer = classmethod(make.from_buffer)
    from_ray = classmethod(from_ray)
    from_csv = classmethod(make.from_csv)
    from_json = classmethod(make.from_json)
    from_parquet = classmethod(make.from_parquet)
    from_text = classmethod(make.from_text)
    from_sql = classmethod(make.from_sql)

    # --- work: functions over rows ---

    map = work.map
    filter = work.filter
    sql = sql

    # --- views: other rows, or the rows in another order; nothing is copied ---

    select = view.select
    take = view.take
    skip = view.skip
    sort = view.sort
    shuffle = view.shuffle
    shard = view.shard
    repeat = view.repeat
    train_test_split = view.train_test_split
    flatten_indices = view.flatten_indices
    batch = grouping.batch

    # --- columns ---

    rename_column = columns.rename_column
    rename_columns = columns.rename_columns
    remove_columns = columns.remove_columns
    select_columns = columns.select_columns
    add_column = columns.add_column
    add_item = add_item
    cast = columns.cast
    cast_column = columns.cast_column
    class_encode_column = columns.class_encode_column
    align_labels_with_mapping = columns.align_labels_with_mapping
    flatten = columns.flatten
    unique = columns.unique

    # --- search: the nearest rows by a vector ---

    add_faiss_index = index.add_faiss_index
    add_faiss_index_from_external_arrays = index.add_faiss_index_from_external_arrays
    get_index = index.get_index
    is_index_initialized = index.is_index_initialized
    list_indexes = index.list_indexes
    drop_index = index.drop_index
    search = index.search
    search_batch = index.search_batch
    get_nearest_examples = index.get_nearest_examples
    get_nearest_examples_batch = index.get_nearest_examples_batch
    save_faiss_index = index.save_faiss_index
    load_faiss_index = index.load_faiss_index

    # --- export and files ---

    to_dict = export.to_dict
    to_list = export.to_list
    to_pandas = export.to_pandas
    to_polars = export.to_polars
    to_ray = to_ray
    to_csv = export.to_csv
    to_json = to_json
    to_parquet = export.to_parquet
    to_sql = export_sql.to_sql
    to_tf_dataset = export_tf.to_tf_dataset
    to_iterable_dataset = to_iterable_dataset
    push_to_hub = push.push_to_hub
    save_to_disk = disk.save_to_disk
    cleanup_cache_files = cleanup_cache_files
    load_from_disk = staticmethod(disk.load_dataset_from_disk)
