"""Data sets put together, complete: below each other, beside each other, and rows added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plait.data.accepted import no_effect
from plait.data.features import Features, FeatureType, arrow_of
from plait.data.schema import feature_of
from plait.data.table import Table, concatenate
from plait.data.widen import widen
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.info import DatasetInfo


def concatenate_datasets(
    dsets: Sequence[Dataset], info: DatasetInfo | None = None, *, split: str | None = None, axis: int = 0
) -> Dataset:
    """The rows of several data sets one after another (`axis=0`), or their columns side by side (`axis=1`).

    Nothing is copied. Below each other, a column that one of them lacks is null there, and types that differ widen to
    their common type; types without one raise `DataError`.
    """
    from plait.data.dataset import Dataset as Made

    dsets = list(dsets)
    if not dsets:
        raise OptionError("concatenate_datasets needs at least one data set.")
    for index, item in enumerate(dsets):
        if not isinstance(item, Made):
            raise OptionError(f"concatenate_datasets takes data sets, but number {index} is a {type(item).__name__}.")
    found = _beside(dsets) if axis == 1 else _below(dsets)
    found.info = info or dsets[0].info
    found.split = split if split is not None else _common([item.split for item in dsets])
    return found


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
    features = _common_features([item.features for item in parts])
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


def _common_features(all_features: list[Features]) -> Features:
    found: dict[str, FeatureType] = {}
    for features in all_features:
        for name, feature in features.items():
            if name not in found or found[name] == feature:
                found[name] = feature
                continue
            left, right = arrow_of(found[name]), arrow_of(feature)
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
