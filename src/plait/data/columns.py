"""Columns renamed, removed, added and cast, complete. The columns that are not named are shared, never copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from plait.data.accepted import no_effect
from plait.data.decode import to_python
from plait.data.encode import own_copy, to_arrow
from plait.data.features import ClassLabel, Features, FeatureType, List, Value, arrow_of, as_feature, fields_of
from plait.data.kinds import Json
from plait.data.schema import as_features, feature_of
from plait.data.table import Store, Table, View
from plait.data.writer import ColumnWriter
from plait.errors import DataError, nearest

if TYPE_CHECKING:
    from plait.data.dataset import Dataset


def rename_column(self: Dataset, original_column_name: str, new_column_name: str, **ignored: Any) -> Dataset:
    """The data set with one column under another name. Raises what `rename_columns` raises."""
    no_effect("rename_column", ignored)
    return rename_columns(self, {original_column_name: new_column_name})


def rename_columns(self: Dataset, column_mapping: Mapping[str, str], **ignored: Any) -> Dataset:
    """The data set with columns under other names: `{old: new}`.

    Raises `ColumnError` for a column that is not there, `DataError` for a name that would be empty or there twice.
    """
    no_effect("rename_columns", ignored)
    for name in column_mapping:
        self.table.column(name)
    names = [column_mapping.get(name, name) for name in self.column_names]
    for name in names:
        if not name or names.count(name) > 1:
            raise DataError(
                f"There would be {names.count(name)} columns called {name!r} after renaming {column_mapping}."
            )
    table = Table({new: self.table.columns[old] for old, new in zip(self.column_names, names, strict=True)}, len(self))
    features = Features({new: self.features[old] for old, new in zip(self.column_names, names, strict=True)})
    renamed = self.derive(table, features, same_rows=True)
    if self.format_.columns is not None:
        shown = [column_mapping.get(name, name) for name in self.format_.columns]
        renamed.set_format(
            self.format_.kind, shown, output_all_columns=self.format_.output_all_columns, **self.format_.options
        )
    return renamed


def remove_columns(self: Dataset, column_names: str | Iterable[str], **ignored: Any) -> Dataset:
    """The data set without some columns. Raises `ColumnError` for one that is not there."""
    no_effect("remove_columns", ignored)
    gone = _listed(column_names)
    for name in gone:
        self.table.column(name)
    return select_columns(self, [name for name in self.column_names if name not in gone])


def select_columns(self: Dataset, column_names: str | Iterable[str], **ignored: Any) -> Dataset:
    """The data set with some columns only, in the order given. Raises `ColumnError` for one that is not there."""
    no_effect("select_columns", ignored)
    names = list(dict.fromkeys(_listed(column_names)))
    table = self.table.subset(names)
    return self.derive(table, Features({name: self.features[name] for name in names}), same_rows=True)


def add_column(self: Dataset, name: str, column: Any, *, feature: Any = None, **ignored: Any) -> Dataset:
    """The data set with one more column: a list, NumPy array, tensor, series or Arrow array with a value per row.

    Its type follows from the values, unless `feature` declares it. Raises `DataError` for a name that is there already,
    for another number of values, and for values that do not fit.
    """
    no_effect("add_column", ignored)
    if name in self.features:
        raise DataError(f"There is a column {name!r} already. Remove or rename it first.")
    kind = None if feature is None else as_feature(feature)
    array = to_arrow(own_copy(column), feature=kind, column=name)
    if self.column_names and len(array) != len(self):
        raise DataError(f"Column {name!r} has {len(array)} values, but the data set has {len(self)} rows.")
    added = Table.from_arrays({name: array})
    features = Features({**self.features, name: kind if kind is not None else feature_of(array.type)})
    return self.derive(Table({**self.table.columns, **added.columns}, len(array)), features, same_rows=True)


def cast_column(self: Dataset, column: str, feature: Any, **ignored: Any) -> Dataset:
    """The data set with one column in another type; a value that does not fit raises `DataError` with its row."""
    no_effect("cast_column", ignored)
    self.table.column(column)
    return cast(self, Features({**self.features, column: as_feature(feature)}))


def cast(self: Dataset, features: Features | Mapping[str, Any], **ignored: Any) -> Dataset:
    """The data set with all columns in the given types; columns whose type stays are shared.

    Raises `DataError` when `features` names other columns, and for a value that does not fit, with its row.
    """
    no_effect("cast", ignored)
    features = as_features(features)
    if set(features) != set(self.features):
        raise DataError(
            f"cast needs a type for each of the columns {list(self.features)}, but got {list(features)}. "
            f"To change one column use cast_column."
        )
    columns = {}
    for name in features:
        old, new = self.features[name], features[name]
        columns[name] = self.table.columns[name] if stored_alike(old, new) else _converted(self.table, name, old, new)
    return self.derive(Table(columns, len(self)), features, same_rows=True)


def stored_alike(old: FeatureType, new: FeatureType) -> bool:
    """Whether a column needs no conversion: the stored values are the same, and need no check.

    The order of fields counts here, though features with other orders are equal as dicts.
    """
    if not arrow_of(old).equals(arrow_of(new)):
        return False
    return old == new or not (isinstance(new, ClassLabel) or (has_json(new) and not has_json(old)))


def has_json(feature: FeatureType) -> bool:
    """Whether texts in a column are JSON."""
    if isinstance(feature, dict):
        return any(has_json(inner) for inner in feature.values())
    return isinstance(feature, Json) or (isinstance(feature, List) and has_json(feature.feature))


def _converted(table: Table, name: str, old: FeatureType, new: FeatureType) -> View:
    writer = ColumnWriter(name, declared=new)
    made_json = has_json(new) and not has_json(old)
    for start, arrays in table.blocks([name], size=table.block_rows([name], limit=1 << 14)):
        values = to_python(arrays[name]) if made_json else arrays[name]
        if isinstance(old, ClassLabel) and isinstance(new, Value) and "string" in new.dtype:
            names = [None if v is None or v < 0 else old.names[v] for v in to_python(values)]
            values = pa.array(names, type=pa.string())
        writer.append(to_arrow(values, feature=new, column=name, first_row=start))
    return writer.finish()[0]


def class_encode_column(self: Dataset, column: str, include_nulls: bool = False) -> Dataset:
    """The data set with one column as class labels: its distinct values, as text and sorted, become the names.

    Nulls stay nulls, or become the class "None" with `include_nulls=True`.
    """
    store_type = self.table.column(column).store.type
    if isinstance(self.features[column], ClassLabel):
        raise DataError(f"Column {column!r} holds class labels already, which have names: cast it to text first.")
    if pa.types.is_nested(store_type):
        raise DataError(
            f"Column {column!r} of type {store_type} cannot become class labels: its values are no scalars."
        )
    values = self.table.to_arrow([column])[column]
    texts = _as_text(values)
    if include_nulls:
        texts = pc.fill_null(texts, "None")
    names = sorted(value for value in to_python(pc.unique(texts)) if value is not None)
    numbers = pc.index_in(texts, value_set=pa.array(names, type=pa.string()))
    label = ClassLabel(names=names)
    array = pc.cast(numbers.combine_chunks() if numbers.num_chunks != 1 else numbers.chunk(0), pa.int64())
    store = Store([array] if len(array) else [], pa.int64())
    table = self.table.with_columns({column: View(store, range(len(self)))})
    return self.derive(table, Features({**self.features, column: label}), same_rows=True)


def _as_text(values: Any) -> Any:
    """Values as text, written as Python writes them: True, 1, 1.5."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_integer(values.type) or pa.types.is_large_string(values.type):
        return pc.cast(values, pa.string())
    texts = [None if value is None else str(value) for value in to_python(values)]
    return pa.chunked_array([pa.array(texts, type=pa.string())])


def align_labels_with_mapping(self: Dataset, label2id: Mapping[str, int], label_column: str) -> Dataset:
    """The data set with the numbers of a class label column changed to those of `label2id` (a model's).

    Raises `DataError` for a column of another type, and for a class that `label2id` does not name, in any case.
    """
    self.table.column(label_column)
    old = self.features[label_column]
    if not isinstance(old, ClassLabel):
        raise DataError(f"Column {label_column!r} must be a ClassLabel, but is {old!r}.")
    wanted = {str(name).lower(): int(number) for name, number in label2id.items()}
    names = [name for name, _ in sorted(label2id.items(), key=lambda item: int(item[1]))]
    change = []
    for name in old.names:
        if name.lower() not in wanted:
            raise DataError(f"label2id has no number for {name!r}.{nearest(name, label2id)}")
        change.append(wanted[name.lower()])
    values = self.table.to_arrow([label_column])[label_column]
    numbers = [None if v is None else v if v < 0 else change[v] for v in to_python(values)]
    added = Table.from_arrays({label_column: pa.array(numbers, type=pa.int64())})
    features = Features({**self.features, label_column: ClassLabel(names=[str(name) for name in names])})
    return self.derive(self.table.with_columns(added.columns), features, same_rows=True)


def flatten(self: Dataset, max_depth: int = 16, **ignored: Any) -> Dataset:
    """The data set with the fields of structs and translations as columns of their own, named `parent.child`.

    Pictures and sounds fall into bytes and path with `decode=False`, and stay whole otherwise.
    """
    no_effect("flatten", ignored)
    flat = self
    for _ in range(max_depth - 1):
        spread = {name: fields for name, feature in flat.features.items() if (fields := fields_of(feature)) is not None}
        if not spread:
            break
        columns: dict[str, View] = {}
        features: dict[str, FeatureType] = {}
        for name, view in flat.table.columns.items():
            if name not in spread:
                columns[name], features[name] = view, flat.features[name]
                continue
            parts = [chunk.flatten() for chunk in view.store.chunks]
            for inner, feature in spread[name].items():
                if f"{name}.{inner}" in flat.table.columns:
                    raise DataError(
                        f"There would be two columns called '{name}.{inner}': rename the one that is there."
                    )
                # by name: a struct may hold its fields in another order
                index = view.store.type.get_field_index(inner)
                store = Store([part[index] for part in parts], arrow_of(feature), starts=view.store.starts)
                columns[f"{name}.{inner}"] = View(store, view.rows)
                features[f"{name}.{inner}"] = feature
        flat = flat.derive(Table(columns, len(flat)), Features(features), same_rows=True)
    return flat


def unique(self: Dataset, column: str) -> list[Any]:
    """The distinct values of a column, null among them, in the order in which they first appear.

    Raises `ColumnError` for a column that is not there.
    """
    kind = self.table.column(column).store.type
    if not pa.types.is_nested(kind):
        return to_python(pc.unique(self.table.to_arrow([column])[column]))
    found: dict[str, Any] = {}
    for _, arrays in self.table.blocks([column]):
        for value in to_python(arrays[column]):
            found.setdefault(repr(value), value)
    return list(found.values())


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
