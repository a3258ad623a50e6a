"""The types of columns, complete: scalars, class labels, lists, and the mapping of names to types that a data set has.

A feature is a `Value`, a `ClassLabel`, a `List` or `LargeList`, one of the kinds in `kinds.py`, or a dict of features
(a struct). Each knows its Arrow type (`arrow`), and how one Python value becomes what is stored (`encode`).
How features are written as JSON and read from Arrow schemas is in `schema.py`.
"""

from __future__ import annotations

from collections import Counter, abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, Union

import pyarrow as pa

from plait.data.dtypes import arrow_type
from plait.errors import ColumnError, DataError, OptionError, nearest


class Feature:
    """What every kind of feature can do; the defaults suit a kind whose stored and Python values are the same.

    Each kind says its Arrow type (`arrow`) itself.
    """

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the column."""
        raise NotImplementedError(f"{type(self).__name__} does not say its Arrow type")

    @property
    def pa_type(self) -> pa.DataType:
        """The Arrow type of the column, under the name that datasets has for it."""
        return self.arrow

    def encode_example(self, value: Any) -> Any:
        """One Python value as it is stored; `None` stays `None`."""
        return value

    def decode_example(self, value: Any) -> Any:
        """One stored value as the user sees it."""
        return value

    def flatten(self) -> FeatureType:
        """The fields that the column falls into when it is spread out; the feature itself when there are none."""
        return self

    @property
    def encoded(self) -> bool:
        """Whether `encode_example` does anything that Arrow's own conversion does not."""
        return False

    @property
    def decoded(self) -> bool:
        """Whether `decode_example` does anything, so that plain columns skip it."""
        return False

    def __call__(self) -> pa.DataType:
        return self.arrow


FeatureType: TypeAlias = Union[Feature, "dict[str, FeatureType]"]


@dataclass(frozen=True, repr=False)
class Value(Feature):
    """A scalar column: `Value("int64")`, `Value("string")`, `Value("timestamp[us, tz=UTC]")`."""

    dtype: str
    id: str | None = None

    def __post_init__(self) -> None:
        # one spelling per type, so that equal types compare equal
        aliases = {"float": "float32", "double": "float64"}
        object.__setattr__(self, "dtype", aliases.get(self.dtype, self.dtype))
        arrow_type(self.dtype)

    @property
    def arrow(self) -> pa.DataType:
        return arrow_type(self.dtype)

    def __repr__(self) -> str:
        return f"Value({self.dtype!r})" if self.id is None else f"Value(dtype={self.dtype!r}, id={self.id!r})"


@dataclass(frozen=True, repr=False, init=False)
class ClassLabel(Feature):
    """An integer column whose values stand for names: `ClassLabel(names=["negative", "positive"])`.

    `names_file` holds one name per line. With `num_classes` alone the names are "0", "1", ….
    Raises `DataError` for repeated names or a wrong `num_classes`.
    """

    names: list[str]
    id: str | None = None

    def __init__(
        self,
        num_classes: int | None = None,
        names: abc.Sequence[str] | None = None,
        names_file: str | Path | None = None,
        id: str | None = None,
    ) -> None:
        if names is not None and names_file is not None:
            raise OptionError("ClassLabel takes names or names_file, not both.")
        if names_file is not None:
            lines = Path(names_file).read_text(encoding="utf-8").splitlines()
            names = [line.strip() for line in lines if line.strip()]
        if isinstance(names, str):
            raise OptionError(f"names must be a list of names, but is the text {names!r}.")
        if names is None:
            if num_classes is None or num_classes < 0:
                raise OptionError("ClassLabel needs names, names_file or num_classes.")
            names = [str(index) for index in range(num_classes)]
        elif num_classes is not None and num_classes != len(names):
            raise DataError(f"ClassLabel has {len(names)} names, but num_classes={num_classes}.")
        names = [str(name) for name in names]
        numbers = {name: number for number, name in enumerate(names)}
        if len(numbers) < len(names):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            raise DataError(f"ClassLabel names must differ, but these are repeated: {repeated}.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "_numbers", numbers)  # no field: it follows from the names

    def __hash__(self) -> int:
        return hash(tuple(self.names))

    @property
    def arrow(self) -> pa.DataType:
        return pa.int64()

    dtype = "int64"
    encoded = True

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    def str2int(self, values: str | Iterable[str]) -> int | list[int]:
        """The number of a name, or of each name of a list. A text like "3" that is not a name stands for 3."""
        if isinstance(values, str):
            return self._number(values)
        return [self._number(value) for value in values]

    def int2str(self, values: int | Iterable[int]) -> str | list[str]:
        """The name of a number, or of each number of a list."""
        if isinstance(values, Iterable):
            return [self.names[self._checked(int(value))] for value in values]
        return self.names[self._checked(int(values))]

    def encode_example(self, value: Any) -> Any:
        """A name or a number, as a number."""
        if value is None:
            return None
        return self._number(value) if isinstance(value, str) else self._checked(int(value), missing=True)

    def _number(self, name: str) -> int:
        numbers: dict[str, int] = self.__dict__["_numbers"]
        if name in numbers:
            return numbers[name]
        text = name.strip()
        if text in numbers:
            return numbers[text]
        if text.removeprefix("-").isdecimal():
            return self._checked(int(text), missing=True)
        raise DataError(f"{name!r} is not a class.{nearest(name, self.names)} Classes are {_shorten(self.names)}.")

    def _checked(self, number: int, *, missing: bool = False) -> int:
        # -1 is the stored mark of an unknown label in many published test splits
        if 0 <= number < len(self.names) or (missing and number == -1):
            return number
        raise DataError(f"{number} is not the number of a class: there are {len(self.names)}, from 0.")

    def __repr__(self) -> str:
        return f"ClassLabel(names={self.names})"


@dataclass(frozen=True, repr=False)
class List(Feature):
    """A column of lists: `List(Value("int64"))`, or of a fixed `length`: `List(Value("float32"), length=3)`."""

    feature: FeatureType
    length: int = -1
    id: str | None = None

    @property
    def arrow(self) -> pa.DataType:
        inner = arrow_of(self.feature)
        return pa.list_(inner, self.length) if self.length >= 0 else pa.list_(inner)

    def encode_example(self, value: Any) -> Any:
        return None if value is None else [encode_value(self.feature, item) for item in value]

    def decode_example(self, value: Any) -> Any:
        return None if value is None else [decode_value(self.feature, item) for item in value]

    @property
    def encoded(self) -> bool:
        return is_encoded(self.feature)

    @property
    def decoded(self) -> bool:
        return is_decoded(self.feature)

    def __repr__(self) -> str:
        tail = f", length={self.length}" if self.length >= 0 else ""
        return f"{type(self).__name__}({self.feature!r}{tail})"


@dataclass(frozen=True, repr=False)
class LargeList(List):
    """A column of lists with 64-bit offsets, for more than 2³¹ items in one chunk."""

    @property
    def arrow(self) -> pa.DataType:
        return pa.large_list(arrow_of(self.feature))


def Sequence(feature: Any, length: int = -1) -> FeatureType:
    """A `List`, or, for a dict of features, a dict of lists: what `Sequence(…)` means in datasets 5.x."""
    if isinstance(feature, Mapping):
        return {name: List(as_feature(inner), length=length) for name, inner in feature.items()}
    return List(as_feature(feature), length=length)


def as_feature(value: Any) -> FeatureType:
    """A feature from any spelling of it: a feature, a dict, a one-element list, an Arrow type or the name of a type."""
    if isinstance(value, Feature):
        return value
    if isinstance(value, Mapping):
        return {str(name): as_feature(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple) and len(value) == 1:
        return List(as_feature(value[0]))
    if isinstance(value, str):
        return Value(value)
    if isinstance(value, pa.DataType):
        from plait.data.schema import feature_of

        return feature_of(value)
    raise DataError(f"{value!r} is not a feature. Write for example Value('int64'), ClassLabel(names=[…]) or List(…).")


def arrow_of(feature: FeatureType) -> pa.DataType:
    """The Arrow type of a feature or of a dict of features."""
    if isinstance(feature, Feature):
        return feature.arrow
    return pa.struct([pa.field(name, arrow_of(inner)) for name, inner in feature.items()])


def encode_value(feature: FeatureType, value: Any) -> Any:
    """One Python value as its feature stores it."""
    if isinstance(feature, Feature):
        return feature.encode_example(value)
    if value is None:
        return None
    return {name: encode_value(inner, value.get(name)) for name, inner in feature.items()}


def decode_value(feature: FeatureType, value: Any) -> Any:
    """One stored value as the user sees it."""
    if isinstance(feature, Feature):
        return feature.decode_example(value)
    if value is None:
        return None
    return {name: decode_value(inner, value[name]) for name, inner in feature.items()}


def is_encoded(feature: FeatureType) -> bool:
    """Whether any part of a feature changes values when they are stored."""
    if isinstance(feature, Feature):
        return feature.encoded
    return any(is_encoded(inner) for inner in feature.values())


def is_decoded(feature: FeatureType) -> bool:
    """Whether any part of a feature changes values when they are read."""
    if isinstance(feature, Feature):
        return feature.decoded
    return any(is_decoded(inner) for inner in feature.values())


class Features(dict[str, FeatureType]):
    """The types of all columns by name, in the order of the columns. A dict, so it is read and changed as one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__({str(name): as_feature(value) for name, value in dict(*args, **kwargs).items()})

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(str(name), as_feature(value))

    def __missing__(self, name: str) -> FeatureType:
        raise ColumnError(f"There is no column {name!r}.{nearest(str(name), self)} Columns are {list(self)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Features, (dict(self),))

    def copy(self) -> Features:
        """A copy that can be changed on its own."""
        return Features(self)

    @property
    def type(self) -> pa.DataType:
        """All columns as one Arrow struct type."""
        return arrow_of(dict(self))

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema, with these features in its metadata as datasets writes them."""
        from plait.data.schema import schema_of

        return schema_of(self, extensions=True)

    @classmethod
    def from_arrow_schema(cls, pa_schema: pa.Schema) -> Features:
        """The features of an Arrow schema: from its metadata where they fit, else from its types."""
        from plait.data.schema import features_of

        return features_of(pa_schema)

    @classmethod
    def from_dict(cls, dic: Mapping[str, Any]) -> Features:
        """The features of a JSON object as `to_dict` makes it, or as dataset_info.json holds it."""
        from plait.data.schema import features_from_json

        return features_from_json(dic)

    def to_dict(self) -> dict[str, Any]:
        """These features as a JSON object, as datasets writes it."""
        from plait.data.schema import feature_to_json

        return {name: feature_to_json(feature) for name, feature in self.items()}

    def encode_example(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """One row as it is stored: class names become numbers, pictures become bytes."""
        return {name: encode_value(feature, example.get(name)) for name, feature in self.items()}

    def encode_batch(self, batch: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
        """Several rows, by column, as they are stored."""
        return {name: [encode_value(self[name], value) for value in values] for name, values in batch.items()}

    def encode_column(self, column: Iterable[Any], column_name: str) -> list[Any]:
        """One column as it is stored."""
        return [encode_value(self[column_name], value) for value in column]

    def decode_example(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """One stored row as the user sees it."""
        return {name: decode_value(self[name], value) for name, value in example.items()}

    def decode_column(self, column: Iterable[Any], column_name: str) -> list[Any]:
        """One stored column as the user sees it."""
        return [decode_value(self[column_name], value) for value in column]

    def decode_batch(self, batch: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
        """Several stored rows, by column, as the user sees them."""
        return {name: self.decode_column(values, name) for name, values in batch.items()}

    def reorder_fields_as(self, other: Features) -> Features:
        """The same features with columns and struct fields in the order of `other`; raises when names differ."""
        return Features(_reordered(dict(self), dict(other), "the table"))

    def flatten(self, max_depth: int = 16) -> Features:
        """Structs and translations spread into columns named `parent.child`, to the given depth."""
        flat: dict[str, FeatureType] = dict(self)
        for _ in range(max_depth - 1):
            deeper: dict[str, FeatureType] = {}
            for name, feature in flat.items():
                fields = fields_of(feature)
                deeper |= {name: feature} if fields is None else {f"{name}.{key}": kind for key, kind in fields.items()}
            if list(deeper) == list(flat):
                break
            flat = deeper
        return Features(flat)


def fields_of(feature: FeatureType) -> dict[str, FeatureType] | None:
    """The fields that a column falls into when it is spread out; `None` when it stays as it is."""
    spread = feature if isinstance(feature, dict) else feature.flatten()
    return spread if isinstance(spread, dict) else None


def _reordered(ours: FeatureType, other: FeatureType, place: str) -> Any:
    if isinstance(ours, dict) and isinstance(other, dict):
        if set(ours) != set(other):
            raise DataError(f"The names in {place} differ: {sorted(ours)} against {sorted(other)}.")
        return {name: _reordered(ours[name], other[name], f"{place}.{name}") for name in other}
    if isinstance(ours, List) and isinstance(other, List):
        return type(ours)(_reordered(ours.feature, other.feature, place), length=ours.length)
    return ours


def _shorten(names: abc.Sequence[str], *, limit: int = 20) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"
