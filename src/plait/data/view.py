"""Views, complete: other rows of a data set, or its rows in another order. Only row numbers are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plait.data.accepted import no_effect
from plait.data.access import positions
from plait.data.features import ClassLabel, Features
from plait.data.table import Rows, Table, compact, missing_column
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.dataset_dict import DatasetDict


def select(self: Dataset, indices: Iterable[int], **ignored: Any) -> Dataset:
    """The rows with the given numbers, in the order given; a range of neighbours costs nothing.

    Negative numbers count from the end. Raises `RowError` for a row that is not there.
    """
    no_effect("select", ignored)
    return rows_of(self, positions(indices, len(self)))


def rows_of(dataset: Dataset, rows: Rows) -> Dataset:
    """The rows with the given numbers, which are known to be there."""
    if isinstance(rows, range):
        if rows.step == 1 or len(rows) <= 1:
            rows = range(rows.start, rows.start + len(rows))
        else:
            rows = np.arange(rows.start, rows.stop, rows.step)
    if not isinstance(rows, range):
        rows = compact(rows, len(dataset))
    return dataset.derive(dataset.table.view(rows))


def take(self: Dataset, n: int) -> Dataset:
    """The first `n` rows, or all when there are fewer. Raises `OptionError` for a negative number."""
    return rows_of(self, range(min(_count(n), len(self))))


def skip(self: Dataset, n: int) -> Dataset:
    """All rows but the first `n`. Raises `OptionError` for a negative number."""
    return rows_of(self, range(min(_count(n), len(self)), len(self)))


def repeat(self: Dataset, num_times: int | None) -> Dataset:
    """The rows `num_times` over. Raises `OptionError` for `None`: only a stream can go on without end."""
    if num_times is None:
        raise OptionError("A data set has an end: repeat(None) is for streams. Call to_iterable_dataset() before it.")
    return rows_of(self, np.tile(np.arange(len(self)), max(0, num_times)))


def shard(self: Dataset, num_shards: int, index: int, *, contiguous: bool = True, **ignored: Any) -> Dataset:
    """Part `index` (from 0) of `num_shards` parts of about equal size: neighbours, or every `num_shards`-th row.

    Sizes differ by one row at most. Raises `OptionError` for an index that is not below `num_shards`.
    """
    no_effect("shard", ignored)
    if num_shards < 1 or not 0 <= index < num_shards:
        raise OptionError(f"index must be between 0 and num_shards - 1, but is {index} with num_shards={num_shards}.")
    if not contiguous:
        return rows_of(self, range(index, len(self), num_shards))
    size, larger = divmod(len(self), num_shards)
    start = size * index + min(index, larger)
    return rows_of(self, range(start, start + size + (index < larger)))


def sort(
    self: Dataset,
    column_names: str | Sequence[str],
    reverse: bool | Sequence[bool] = False,
    *,
    null_placement: str = "at_end",
    **ignored: Any,
) -> Dataset:
    """The rows in the order of one or more columns; equal rows keep their order.

    `reverse` is one flag, or one per column; nulls come last, or first with `null_placement="at_start"`. Raises
    `ColumnError` for a column that is not there, `DataError` for one of a type without an order.
    """
    no_effect("sort", ignored)
    names = [column_names] if isinstance(column_names, str) else list(column_names)
    flags = [reverse] * len(names) if isinstance(reverse, bool) else list(reverse)
    if len(flags) != len(names):
        raise OptionError(f"reverse has {len(flags)} values for {len(names)} columns; give one, or one per column.")
    places = {"at_start": "at_start", "first": "at_start", "at_end": "at_end", "last": "at_end"}
    if null_placement not in places:
        raise OptionError(f"null_placement must be 'at_start' or 'at_end', but is {null_placement!r}.")
    if not names:
        raise OptionError("sort needs the name of at least one column.")
    keys = self.table.to_arrow(names)
    order = np.arange(len(self))
    # the least important key first: each stable sort keeps the order of those before it
    for name, flag in reversed(list(zip(names, flags, strict=True))):
        order = order[_stable_order(keys[name].combine_chunks(), order, flag, places[null_placement])]
    return rows_of(self, order)


def _stable_order(column: Any, order: Any, reverse: bool, nulls: str) -> Any:
    """A stable order of the values of a column, seen in `order`."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    if pa.types.is_dictionary(column.type) or pa.types.is_nested(column.type):
        raise DataError(f"Rows cannot be sorted by a column of type {column.type}.")
    if pa.types.is_null(column.type):
        return np.arange(len(order))
    # dense ranks turn any type into integers, whose stable order NumPy knows
    ranks = pc.rank(column, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    ranks = -ranks if reverse else ranks
    # what is no number stands beside what is missing, whatever the direction
    end = np.iinfo(np.int64)
    if pa.types.is_floating(column.type):
        nan = pc.fill_null(pc.is_nan(column), False).to_numpy(zero_copy_only=False)
        ranks[nan] = end.max - 1 if nulls == "at_end" else end.min + 1
    if column.null_count:
        ranks[column.is_null().to_numpy(zero_copy_only=False)] = end.max if nulls == "at_end" else end.min
    return np.argsort(ranks[order], kind="stable")


def shuffle(self: Dataset, seed: int | None = None, *, generator: Any = None, **ignored: Any) -> Dataset:
    """The rows in a random order: the same for the same `seed`, and the same as datasets gives.

    Without `seed` and `generator` NumPy's global state decides, so that `numpy.random.seed` makes it repeatable.
    """
    no_effect("shuffle", ignored)
    return rows_of(self, _generator(seed, generator).permutation(len(self)))


def train_test_split(
    self: Dataset,
    test_size: float | int | None = None,
    train_size: float | int | None = None,
    *,
    shuffle: bool = True,
    stratify_by_column: str | None = None,
    seed: int | None = None,
    generator: Any = None,
    **ignored: Any,
) -> DatasetDict:
    """Two views, "train" and "test". Sizes are fractions (0 … 1) or numbers of rows; the default is a quarter for test.

    `stratify_by_column` (a `ClassLabel` column) keeps the share of every class. Raises `OptionError` for sizes that
    cannot be met, `DataError` for a class that is too small to be in both parts.
    """
    from plait.data.dataset_dict import DatasetDict

    no_effect("train_test_split", ignored)
    if len(self) == 0:
        return DatasetDict({"train": self, "test": self})
    train, test = _sizes(len(self), train_size, test_size)
    if not shuffle:
        if stratify_by_column is not None:
            raise OptionError("stratify_by_column needs shuffle=True.")
        parts: tuple[Rows, Rows] = range(train), range(train, train + test)
    elif stratify_by_column is None:
        order = _generator(seed, generator).permutation(len(self))
        parts = order[test : test + train], order[:test]
    else:
        parts = _stratified(self, stratify_by_column, train, test, _generator(seed, generator))
    return DatasetDict({"train": rows_of(self, parts[0]), "test": rows_of(self, parts[1])})


def _sizes(rows: int, train_size: float | int | None, test_size: float | int | None) -> tuple[int, int]:
    if test_size is None and train_size is None:
        test_size = 0.25
    for name, size in (("train_size", train_size), ("test_size", test_size)):
        limit = rows if isinstance(size, int) else 1.0
        if size is not None and not 0 < size < limit:
            raise OptionError(
                f"{name} must be a fraction between 0 and 1, or a number of rows from 1 to {rows - 1}, but is {size}."
            )
    test = None if test_size is None else math.ceil(test_size * rows) if isinstance(test_size, float) else test_size
    train = (
        None if train_size is None else math.floor(train_size * rows) if isinstance(train_size, float) else train_size
    )
    if train is None:
        assert test is not None
        train = rows - test
    if test is None:
        test = rows - train
    if train + test > rows:
        raise OptionError(f"train_size and test_size ask for {train} + {test} rows, but there are only {rows}.")
    if train == 0 or test == 0:
        raise OptionError(f"train_size={train_size} and test_size={test_size} leave one part of {rows} rows empty.")
    return int(train), int(test)


def _stratified(dataset: Dataset, name: str, train: int, test: int, generator: Any) -> tuple[Any, Any]:
    """Row numbers of both parts: every class is divided by the largest-remainder rule, then both parts are mixed."""
    if name not in dataset.features:
        raise missing_column(name, dataset.features)
    feature = dataset.features[name]
    if not isinstance(feature, ClassLabel):
        raise DataError(
            f"Stratifying needs a ClassLabel column, but {name!r} is {feature!r}. "
            f"Call class_encode_column({name!r}) first."
        )
    labels = dataset.table.to_arrow([name])[name].to_numpy()
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members)
    if counts.min() < 2:
        few = classes[int(counts.argmin())].item()
        raise DataError(f"Class {few!r} of column {name!r} has one row only; it cannot be in both parts.")
    if min(train, test) < len(classes):
        raise DataError(f"{min(train, test)} rows cannot hold all {len(classes)} classes of column {name!r}.")
    in_test = _shares(counts, test, generator)
    in_train = _shares(counts - in_test, train, generator)
    parts: tuple[list[Any], list[Any]] = ([], [])
    for index in range(len(classes)):
        rows = generator.permutation(np.flatnonzero(members == index))
        parts[1].append(rows[: in_test[index]])
        parts[0].append(rows[in_test[index] : in_test[index] + in_train[index]])
    return generator.permutation(np.concatenate(parts[0])), generator.permutation(np.concatenate(parts[1]))


def _shares(counts: Any, total: int, generator: Any) -> Any:
    """`total` divided in proportion to `counts`: rounded down, the rest to the largest remainders, ties at random."""
    exact = counts * (total / counts.sum())
    shares = np.floor(exact).astype(np.int64)
    remainders = exact - shares
    order = np.lexsort((generator.random(len(counts)), -remainders))
    shares[order[: total - int(shares.sum())]] += 1
    return shares


def flatten_indices(self: Dataset, *, features: Features | Mapping[str, Any] | None = None, **ignored: Any) -> Dataset:
    """The same rows with every column gathered into its own new storage, so that reading in order is sequential.

    `features` casts the columns besides.
    """
    from plait.data.writer import ColumnWriter

    no_effect("flatten_indices", ignored)
    columns = {}
    for name, column in self.table.columns.items():
        if isinstance(column.rows, range):
            columns[name] = column
            continue
        writer = ColumnWriter(name, declared=self.features[name])
        for _, arrays in self.table.blocks([name]):
            writer.append(arrays[name])
        columns[name], _ = writer.finish()
    flat = self.derive(Table(columns, len(self)), same_rows=True)
    return flat if features is None else flat.cast(features)


def _count(n: int) -> int:
    if n < 0:
        raise OptionError(f"The number of rows must not be negative, but is {n}.")
    return int(n)


def _generator(seed: int | None, generator: Any) -> Any:
    if seed is not None and generator is not None:
        raise OptionError("Give seed or generator, not both.")
    if generator is not None:
        if not isinstance(generator, np.random.Generator):
            raise OptionError(f"generator must be a numpy.random.Generator, but is {generator!r}.")
        return generator
    return np.random.default_rng(int(np.random.randint(2**31)) if seed is None else seed)
