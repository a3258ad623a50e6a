"""Data sets put together, complete: below each other, beside each other, and rows added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plait.data.accepted import no_effect
from plait.data.features import ClassLabel, Features, FeatureType, arrow_of
from plait.data.info import NamedSplit
from plait.data.schema import feature_of
from plait.data.table import Table, concatenate
from plait.data.widen import widen
from plait.errors import DataError, OptionError, nearest

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.info import DatasetInfo


def concatenate_datasets(
    dsets: Sequence[Any], info: DatasetInfo | None = None, *, split: str | None = None, axis: int = 0
) -> Any:
    """The rows of several data sets one after another (`axis=0`), or their columns side by side (`axis=1`).

    Nothing is copied. Below each other, a column that one of them lacks is null there, and types that differ widen to
    their common type. Streams make a stream. Raises `DataError` for types without a common one, and side by side for
    other lengths and for names that are there twice; `OptionError` for what is no data set.
    """
    if axis not in (0, 1):
        raise OptionError(f"axis must be 0 (rows below each other) or 1 (columns side by side), but is {axis!r}.")
    dsets, streams = _of_one_kind("concatenate_datasets", dsets)
    if streams:
        from plait.data.streams.combine import concatenate_streams

        return concatenate_streams(dsets, info, split, axis)
    found = _beside(dsets) if axis == 1 else _below(dsets)
    found.info = info or dsets[0].info
    found.split = NamedSplit(split) if split is not None else _common([item.split for item in dsets])
    return found


def interleave_datasets(
    datasets: Sequence[Any],
    probabilities: Sequence[float] | None = None,
    *,
    seed: int | None = None,
    info: DatasetInfo | None = None,
    split: str | None = None,
    stopping_strategy: str = "first_exhausted",
) -> Any:
    """A row of one data set after a row of another: in turn, or drawn with `probabilities` from `seed`.

    `stopping_strategy`: "first_exhausted" stops when one has no more rows; "all_exhausted" begins those anew until all
    have ended once; "all_exhausted_without_replacement" takes every row once. The same seed gives the order that
    datasets gives. Data sets make a view, nothing is copied; streams make a stream. Raises `OptionError` for
    probabilities that are not one for each, not negative and 1 in sum, and what `concatenate_datasets` raises.
    """
    strategies = ("first_exhausted", "all_exhausted", "all_exhausted_without_replacement")
    if stopping_strategy not in strategies:
        raise OptionError(
            f"There is no stopping_strategy {stopping_strategy!r}.{nearest(stopping_strategy, strategies)} "
            f"Strategies are {', '.join(strategies)}."
        )
    datasets, streams = _of_one_kind("interleave_datasets", datasets)
    if probabilities is not None:
        _check_probabilities(probabilities, len(datasets), stopping_strategy)
    if streams:
        from plait.data.streams.combine import interleave_streams

        return interleave_streams(datasets, probabilities, seed, info, split, stopping_strategy)
    from plait.data.turns import interleaved_rows
    from plait.data.view import rows_of

    whole = concatenate_datasets(datasets, info, split=split)
    return rows_of(
        whole,
        interleaved_rows([len(item) for item in datasets], probabilities, seed=seed, strategy=stopping_strategy),
    )


def _of_one_kind(function: str, dsets: Sequence[Any]) -> tuple[list[Any], bool]:
    """Data sets that are all in memory-mapped columns, or all streams; and whether they are streams."""
    from plait.data.dataset import Dataset as Made
    from plait.data.streams.dataset import IterableDataset

    dsets = list(dsets)
    if not dsets:
        raise OptionError(f"{function} needs at least one data set.")
    for index, item in enumerate(dsets):
        if isinstance(item, Mapping):
            raise OptionError(f"{function} takes data sets, but number {index} has splits: choose one of {list(item)}.")
        if not isinstance(item, Made | IterableDataset):
            raise OptionError(f"{function} takes data sets, but number {index} is a {type(item).__name__}.")
        if isinstance(item, IterableDataset) != isinstance(dsets[0], IterableDataset):
            raise OptionError(
                f"{function} takes data sets or streams, not both, but number {index} is a {type(item).__name__} and "
                f"number 0 a {type(dsets[0]).__name__}. Call to_iterable_dataset() on the data sets."
            )
    return dsets, isinstance(dsets[0], IterableDataset)


def _check_probabilities(probabilities: Sequence[float], count: int, strategy: str) -> None:
    if len(probabilities) != count:
        raise OptionError(f"There are {len(probabilities)} probabilities for {count} data sets.")
    if min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-8:
        raise OptionError(f"probabilities must not be negative and sum to 1, but are {list(probabilities)}.")
    if strategy != "first_exhausted" and 0 in probabilities:
        raise OptionError(
            f"Data set number {list(probabilities).index(0)} has probability 0, so it never ends, and "
            f"stopping_strategy={strategy!r} waits for it. Leave it out."
        )


def _common(values: list[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None


def _beside(dsets: list[Dataset]) -> Dataset:
    columns: dict[str, Any] = {}
    features: dict[str, FeatureType] = {}
    for item in dsets:
        if len(item) != len(dsets[0]):
            raise DataError(
                f"Side by side, data sets need one length, but they have {[len(other) for other in dsets]}."
            )
        for name in item.column_names:
            if name in columns:
                raise DataError(f"Two of the data sets have a column {name!r}. Rename or remove one of them first.")
            columns[name], features[name] = item.table.columns[name], item.features[name]
    return dsets[0].derive(Table(columns, len(dsets[0])), Features(features))


def _below(dsets: list[Dataset]) -> Dataset:
    # empty data sets without columns say nothing about types
    parts = [item for item in dsets if item.column_names] or dsets[:1]
    features = common_features([item.features for item in parts])
    tables = []
    for item in parts:
        missing = [name for name in features if name not in item.features]
        if missing:
            import pyarrow as pa

            nulls = Table.from_arrays({name: pa.nulls(len(item), arrow_of(features[name])) for name in missing})
            item = item.derive(
                item.table.with_columns(nulls.columns), Features({**item.features, **{n: features[n] for n in missing}})
            )
        changed = {name for name in features if not arrow_of(item.features[name]).equals(arrow_of(features[name]))}
        if changed:
            item = item.cast(
                Features({name: features[name] if name in changed else kind for name, kind in item.features.items()})
            )
        tables.append(item.table.subset(features))
    return dsets[0].derive(concatenate(tables), features)


def common_features(all_features: Sequence[Features]) -> Features:
    """The columns of all, each in a type that holds the values of all; raises `DataError` when there is none.

    Class labels of different names have none: the same number means one thing here and another there.
    """
    found: dict[str, FeatureType] = {}
    for features in all_features:
        for name, feature in features.items():
            if found.setdefault(name, feature) == feature:
                continue
            if isinstance(before := found[name], ClassLabel) and isinstance(feature, ClassLabel):
                raise DataError(
                    f"Column {name!r} has the classes {before.names} in one of the data sets and {feature.names} in "
                    f"another, so their numbers mean different things. Call align_labels_with_mapping first."
                )
            left, right = arrow_of(before), arrow_of(feature)
            try:
                wide = widen(left, right)
            except DataError as error:
                raise DataError(
                    f"Column {name!r} has types that do not go together: {found[name]!r} and {feature!r} ({error}). "
                    f"Cast one of them first."
                ) from error
            if not (wide.equals(left) and not left.equals(right)):
                found[name] = feature if wide.equals(right) and not left.equals(right) else feature_of(wide)
    return Features(found)


def add_item(self: Dataset, item: Mapping[str, Any], **ignored: Any) -> Dataset:
    """The data set with one more row at the end; columns that the row lacks are null in it."""
    no_effect("add_item", ignored)
    from plait.data.dataset import Dataset as Made

    for name in item:
        self.table.column(name)
    row = {name: [item.get(name)] for name in self.column_names}
    added = Made.from_dict(row, self.features)
    return self.derive(concatenate([self.table, added.table]))
