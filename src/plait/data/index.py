"""Nearest rows by their vectors, complete: FAISS indexes of a data set, searched by vector, saved and loaded.

A data set keeps its indexes by name beside its rows. They number rows, so they go along wherever the rows stay the same
(other formats, other columns), and stay behind where rows are chosen or put in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plait.console import bar
from plait.data.remote import reading, writing
from plait.errors import DataError, NotFoundError, OptionError, nearest, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset


class SearchResults(NamedTuple):
    """The `k` nearest rows of one query: scores (k,) and row numbers (k,); -1 where there are fewer rows.

    Scores are what the index measures: squared distances by default, the nearest first.
    """

    scores: Any
    indices: Any


class BatchedSearchResults(NamedTuple):
    """The `k` nearest rows of every query: scores (queries, k) and row numbers (queries, k)."""

    total_scores: Any
    total_indices: Any


class NearestExamplesResults(NamedTuple):
    """The nearest rows of one query themselves, as a batch, and their scores."""

    scores: Any
    examples: Any


class BatchedNearestExamplesResults(NamedTuple):
    """The nearest rows of every query: a list of scores and a list of batches."""

    total_scores: list[Any]
    total_examples: list[Any]


@dataclass
class FaissIndex:
    """One index: FAISS's own object (`faiss_index`) and the device that it is on (`None`: the CPU)."""

    faiss_index: Any
    device: int | list[int] | None = None

    def search(self, query: Any, k: int = 10, **options: Any) -> SearchResults:
        """The `k` nearest rows of a vector (D,) or (1, D). Options (`params`) go to FAISS."""
        query = np.asarray(query)
        if query.ndim != 1 and query.shape[:-1] != (1,):
            raise DataError(f"A query is one vector, (D,) or (1, D), but has the shape {query.shape}.")
        scores, rows = self.search_batch(query.reshape(1, -1), k, **options)
        return SearchResults(scores[0], rows[0])

    def search_batch(self, queries: Any, k: int = 10, **options: Any) -> BatchedSearchResults:
        """The `k` nearest rows of every one of the vectors (queries, D)."""
        queries = np.asarray(queries)
        if queries.ndim != 2:
            raise DataError(f"Queries are vectors below each other, (queries, D), but have the shape {queries.shape}.")
        if queries.shape[1] != self.faiss_index.d:
            raise DataError(
                f"A query has {queries.shape[1]} numbers, but the index holds vectors of {self.faiss_index.d}."
            )
        if k < 1:
            raise OptionError(f"k must be at least 1, but is {k}.")
        scores, rows = self.faiss_index.search(np.ascontiguousarray(queries, dtype=np.float32), k, **options)
        return BatchedSearchResults(scores, rows.astype(np.int64))

    def save(self, file: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the index to a file, here or at an address that fsspec opens."""
        faiss = _faiss()
        index = self.faiss_index if self.device is None else faiss.index_gpu_to_cpu(self.faiss_index)
        with writing(file, storage_options) as stream:
            stream.write(faiss.serialize_index(index).tobytes())

    @classmethod
    def load(
        cls,
        file: str | Path,
        device: int | list[int] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> FaissIndex:
        """The index in a file that `save`, or FAISS itself, wrote."""
        faiss = _faiss()
        with reading(file, storage_options) as stream:
            data = np.frombuffer(stream.read(), dtype=np.uint8)
        try:
            index = faiss.deserialize_index(data)
        except RuntimeError as error:
            raise DataError(f"{file} is not an index that FAISS wrote: {error}") from error
        return cls(_on_device(index, device), device)


def _faiss() -> Any:
    return require("faiss", extra="data", purpose="search rows by vectors")


def _on_device(index: Any, device: int | list[int] | None) -> Any:
    """An index moved to a GPU (its number), to all of them (a negative number) or to some (a list)."""
    if device is None:
        return index
    faiss = _faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        raise OptionError(f"device={device!r} needs a FAISS built for GPUs; this one is for CPUs. Leave device out.")
    if isinstance(device, list | tuple):
        return faiss.index_cpu_to_gpus_list(index, gpus=list(device))
    if device < 0:
        return faiss.index_cpu_to_all_gpus(index)
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device, index)


def _empty(
    size: int, *, device: int | list[int] | None, string_factory: str | None, metric_type: int | None, custom_index: Any
) -> Any:
    """The index to fill, over vectors of `size` numbers: the one given, one that a text describes, or an exact one."""
    faiss = _faiss()
    if custom_index is not None:
        for name, value in (("string_factory", string_factory), ("device", device), ("metric_type", metric_type)):
            if value is not None:
                raise OptionError(
                    f"custom_index is an index already made, so {name} has no part in it; give one of them."
                )
        if custom_index.d != size:
            raise DataError(f"The vectors have {size} numbers, but custom_index holds vectors of {custom_index.d}.")
        return custom_index
    metric = faiss.METRIC_L2 if metric_type is None else metric_type
    if string_factory is None:
        return _on_device(faiss.IndexFlat(size, metric), device)
    try:
        described = faiss.index_factory(size, string_factory, metric)
    except RuntimeError as error:
        raise OptionError(f"string_factory={string_factory!r} describes no index: {error}") from error
    return _on_device(described, device)


def _built(
    blocks: Iterable[Any],
    first: Any,
    rows: int,
    *,
    device: int | list[int] | None,
    string_factory: str | None,
    metric_type: int | None,
    custom_index: Any,
    train: Any,
    faiss_verbose: bool,
) -> FaissIndex:
    """An index over vectors that come block by block, each (rows, D); `first` is the first, which says what D is."""
    index = _empty(
        first.shape[1],
        device=device,
        string_factory=string_factory,
        metric_type=metric_type,
        custom_index=custom_index,
    )
    for part in (index, *(getattr(index, name, None) for name in ("index", "quantizer", "clustering_index"))):
        if part is not None and hasattr(part, "verbose"):
            part.verbose = faiss_verbose
    if train is not None:
        index.train(train)
    if not index.is_trained:
        raise OptionError(
            f"The index ({string_factory or type(index).__name__}) learns from vectors before it takes any: give "
            f"train_size, the number of rows to learn from."
        )
    with bar("index", total=rows, unit="rows") as progress:
        for block in blocks:
            index.add(block)
            progress.advance(len(block))
    return FaissIndex(index, device)


# --- methods of Dataset -----------------------------------------------------------------------------------------------


def add_faiss_index(
    self: Dataset,
    column: str,
    index_name: str | None = None,
    *,
    device: int | list[int] | None = None,
    string_factory: str | None = None,
    metric_type: int | None = None,
    custom_index: Any = None,
    batch_size: int = 1000,
    train_size: int | None = None,
    faiss_verbose: bool = False,
    dtype: Any = np.float32,
) -> Dataset:
    """Index the vectors of a column under `index_name` (the column's name by default), in place; returns the data set.

    The index is exact and by Euclidean distance; `metric_type` (`faiss.METRIC_INNER_PRODUCT`, …), `string_factory`
    ("IVF100,Flat", …) or `custom_index` choose another, and `train_size` is how many rows it learns from. `dtype` is
    the precision in which vectors are read; FAISS itself computes in float32. Raises `DataError` for a column that does
    not hold vectors of one length, `OptionError` for an index that cannot be made, `MissingExtraError` without FAISS.
    """
    self.table.column(column)
    if not len(self):
        raise DataError("A data set without rows cannot be indexed.")

    def blocks(size: int) -> Iterator[Any]:
        for start, arrays in self.table.blocks([column], size=size):
            yield _vectors(arrays[column], column, start, dtype)

    train = None if train_size is None else _vectors(self.table.read(0, train_size, [column])[column], column, 0, dtype)
    self.indexes[column if index_name is None else index_name] = _built(
        blocks(batch_size),
        next(blocks(1)),
        len(self),
        device=device,
        string_factory=string_factory,
        metric_type=metric_type,
        custom_index=custom_index,
        train=train,
        faiss_verbose=faiss_verbose,
    )
    return self


def add_faiss_index_from_external_arrays(
    self: Dataset,
    external_arrays: Any,
    index_name: str,
    *,
    device: int | list[int] | None = None,
    string_factory: str | None = None,
    metric_type: int | None = None,
    custom_index: Any = None,
    batch_size: int = 1000,
    train_size: int | None = None,
    faiss_verbose: bool = False,
    dtype: Any = np.float32,
) -> None:
    """Index vectors (rows, D) from elsewhere, one per row, under `index_name`, in place; see `add_faiss_index`.

    Raises `DataError` for another number of vectors than rows.
    """
    vectors = np.asarray(external_arrays)
    if vectors.ndim != 2 or len(vectors) != len(self) or not len(vectors):
        raise DataError(f"external_arrays must be ({len(self)}, D), one vector per row, but has {vectors.shape}.")
    vectors = np.ascontiguousarray(vectors.astype(dtype, copy=False), dtype=np.float32)
    self.indexes[index_name] = _built(
        (vectors[start : start + batch_size] for start in range(0, len(vectors), batch_size)),
        vectors[:1],
        len(self),
        device=device,
        string_factory=string_factory,
        metric_type=metric_type,
        custom_index=custom_index,
        train=None if train_size is None else vectors[:train_size],
        faiss_verbose=faiss_verbose,
    )


def _vectors(array: Any, column: str, first_row: int, dtype: Any) -> Any:
    """A column of lists of numbers as vectors (rows, D); raises `DataError` for nulls and for lengths that differ."""
    kind = array.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
        raise DataError(f"Column {column!r} of type {kind} cannot be indexed: it must hold lists of numbers.")
    flat = array.flatten()
    if array.null_count or flat.null_count:
        raise DataError(f"Column {column!r} has a missing value in the rows from {first_row} on; it cannot be indexed.")
    lengths = pc.min_max(pc.list_value_length(array)).as_py()
    if lengths["min"] != lengths["max"] or not lengths["max"]:
        raise DataError(
            f"Column {column!r} has vectors of {lengths['min']} to {lengths['max']} numbers in the rows from "
            f"{first_row} on; an index needs one length."
        )
    # (rows · D,) -> (rows, D)
    numbers = flat.to_numpy(zero_copy_only=False).reshape(len(array), lengths["max"])
    return np.ascontiguousarray(numbers.astype(dtype, copy=False), dtype=np.float32)


def get_index(self: Dataset, index_name: str) -> FaissIndex:
    """One index. Raises `NotFoundError` when there is none of this name."""
    if index_name in self.indexes:
        found: FaissIndex = self.indexes[index_name]
        return found
    have = f"Indexes are {list(self.indexes)}." if self.indexes else "There is none yet."
    raise NotFoundError(
        f"There is no index {index_name!r}.{nearest(index_name, self.indexes)} {have} Call add_faiss_index first, on "
        f"the data set that is searched: choosing or sorting rows leaves indexes behind."
    )


def is_index_initialized(self: Dataset, index_name: str) -> bool:
    """Whether there is an index of this name."""
    return index_name in self.indexes


def list_indexes(self: Dataset) -> list[str]:
    """The names of the indexes."""
    return list(self.indexes)


def drop_index(self: Dataset, index_name: str) -> None:
    """Remove one index, in place."""
    get_index(self, index_name)
    del self.indexes[index_name]


def search(self: Dataset, index_name: str, query: Any, k: int = 10, **kwargs: Any) -> SearchResults:
    """Scores and numbers of the `k` rows nearest to a vector (D,).

    Raises `NotFoundError` for an index that is not there, `DataError` for a vector of another length.
    """
    return get_index(self, index_name).search(query, k, **kwargs)


def search_batch(self: Dataset, index_name: str, queries: Any, k: int = 10, **kwargs: Any) -> BatchedSearchResults:
    """Scores and numbers of the `k` rows nearest to each of the vectors (queries, D)."""
    return get_index(self, index_name).search_batch(queries, k, **kwargs)


def get_nearest_examples(
    self: Dataset, index_name: str, query: Any, k: int = 10, **kwargs: Any
) -> NearestExamplesResults:
    """Scores of the `k` rows nearest to a vector (D,), and the rows as a batch, in the format of the data set."""
    scores, rows = search(self, index_name, query, k, **kwargs)
    rows = rows[rows >= 0]  # FAISS fills up with -1
    return NearestExamplesResults(scores[: len(rows)], self[rows])


def get_nearest_examples_batch(
    self: Dataset, index_name: str, queries: Any, k: int = 10, **kwargs: Any
) -> BatchedNearestExamplesResults:
    """For each of the vectors (queries, D), scores of the `k` nearest rows, and the rows as a batch."""
    total_scores, total_rows = search_batch(self, index_name, queries, k, **kwargs)
    found = [row[row >= 0] for row in total_rows]
    scores = [row[: len(rows)] for row, rows in zip(total_scores, found, strict=True)]
    return BatchedNearestExamplesResults(scores, [self[rows] for rows in found])


def save_faiss_index(
    self: Dataset, index_name: str, file: str | Path, storage_options: Mapping[str, Any] | None = None
) -> None:
    """Write one index to a file, here or at an address that fsspec opens."""
    get_index(self, index_name).save(file, storage_options)


def load_faiss_index(
    self: Dataset,
    index_name: str,
    file: str | Path,
    device: int | list[int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Read an index from a file under `index_name`, in place.

    Raises `DataError` for a file that is no index, and for one that does not hold one vector per row.
    """
    index = FaissIndex.load(file, device, storage_options)
    if index.faiss_index.ntotal != len(self):
        raise DataError(
            f"The index in {file} holds {index.faiss_index.ntotal} vectors, but the data set has {len(self)} rows."
        )
    self.indexes[index_name] = index
