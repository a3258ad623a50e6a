"""Features as files hold them, complete: JSON objects and Arrow schemas, equal to what datasets 5.x writes and reads.

An Arrow schema carries its features in the metadata key `huggingface`, as
`{"info": {"features": {"text": {"dtype": "string", "_type": "Value"}}}}`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from plait.data import kinds, pictures
from plait.data.dtypes import type_name
from plait.data.features import (
    ClassLabel,
    Features,
    FeatureType,
    LargeList,
    List,
    Sequence,
    Value,
    arrow_of,
    as_feature,
)
from plait.errors import DataError, nearest

KEY = b"huggingface"
_EXTENSION_NAME = b"ARROW:extension:name"
_EXTENSION_DATA = b"ARROW:extension:metadata"
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Value,
        ClassLabel,
        kinds.Array2D,
        kinds.Array3D,
        kinds.Array4D,
        kinds.Array5D,
        kinds.Translation,
        kinds.TranslationVariableLanguages,
        kinds.Json,
        pictures.Image,
        pictures.Audio,
    )
}


# --- JSON ------------------------------------------------------------------------------------------------------------


def feature_to_json(feature: FeatureType) -> Any:
    """A feature as the JSON that datasets writes: fields that have their default value are left out."""
    if isinstance(feature, dict):
        return {name: feature_to_json(inner) for name, inner in feature.items()}
    if isinstance(feature, List):
        found: dict[str, Any] = {"feature": feature_to_json(feature.feature)}
        if feature.length >= 0:
            found["length"] = feature.length
    else:
        declared: Any = feature  # every other kind is a dataclass
        found = {
            item.name: getattr(feature, item.name)
            for item in dataclasses.fields(declared)
            if item.default is dataclasses.MISSING or getattr(feature, item.name) != item.default
        }
    return {**found, "_type": type(feature).__name__}


def feature_from_json(found: Any) -> FeatureType:
    """A feature from its JSON; raises `DataError` for a kind that is not known here."""
    if isinstance(found, list):
        return List(feature_from_json(found[0]))
    if not isinstance(found, Mapping):
        raise DataError(f"{found!r} does not describe a feature.")
    kind = found.get("_type")
    if not isinstance(kind, str):
        # a struct; it may have a field that is itself called _type
        return {name: feature_from_json(inner) for name, inner in found.items()}
    options = {name: value for name, value in found.items() if name != "_type"}
    if kind in ("List", "LargeList", "Sequence"):
        inner = feature_from_json(options["feature"])
        if kind == "LargeList":
            return LargeList(inner)
        make: Any = List if kind == "List" else Sequence
        feature: FeatureType = make(inner, length=options.get("length", -1))
        return feature
    if kind not in _KINDS:
        raise DataError(f"A column has the type {kind!r}, which is not supported.{nearest(kind, _KINDS)}")
    if kind == "ClassLabel":
        names = options.get("names")
        if isinstance(names, Mapping):  # dataset cards write {"0": "negative", "1": "positive"}
            names = [names[key] for key in sorted(names, key=int)]
        return ClassLabel(names=names, num_classes=None if names else options.get("num_classes"))
    known = {item.name for item in dataclasses.fields(_KINDS[kind])}
    made: FeatureType = _KINDS[kind](**{name: value for name, value in options.items() if name in known})
    return made


def features_from_json(found: Mapping[str, Any]) -> Features:
    """The features of all columns from a JSON object."""
    return Features({name: feature_from_json(inner) for name, inner in found.items()})


# --- Arrow -----------------------------------------------------------------------------------------------------------


def feature_of(kind: pa.DataType) -> FeatureType:
    """The feature that a column of an Arrow type has when nothing else is known of it."""
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(kind)
    if pa.types.is_struct(kind):
        return {kind.field(i).name: feature_of(kind.field(i).type) for i in range(kind.num_fields)}
    if pa.types.is_fixed_size_list(kind):
        return List(feature_of(kind.value_type), length=kind.list_size)
    if pa.types.is_list(kind):
        return List(feature_of(kind.value_type))
    if pa.types.is_large_list(kind):
        return LargeList(feature_of(kind.value_type))
    return Value(type_name(kind))


def _of_extension(kind: Any) -> FeatureType:
    name = kind.extension_name
    if name == "arrow.json":
        return kinds.Json()
    short = name.rsplit(".", 1)[-1].removesuffix("ExtensionType")
    if name.startswith("datasets.") and short in _KINDS:
        shape, dtype = json.loads(kind.__arrow_ext_serialize__())
        feature: FeatureType = _KINDS[short](shape=tuple(shape), dtype=dtype)
        return feature
    return feature_of(kind.storage_type)


def _of_field(column: pa.Field) -> FeatureType:
    """The feature of a field, whose extension type may be named in its metadata only."""
    metadata = column.metadata or {}
    name = metadata.get(_EXTENSION_NAME, b"").decode()
    if name == "arrow.json":
        return kinds.Json()
    short = name.rsplit(".", 1)[-1].removesuffix("ExtensionType")
    if name.startswith("datasets.") and short in _KINDS:
        shape, dtype = json.loads(metadata[_EXTENSION_DATA])
        feature: FeatureType = _KINDS[short](shape=tuple(shape), dtype=dtype)
        return feature
    return feature_of(column.type)


def features_of(schema: pa.Schema) -> Features:
    """The features of an Arrow schema: those of its metadata wherever they fit the column, else from the types."""
    described: Mapping[str, Any] = {}
    if schema.metadata and KEY in schema.metadata:
        described = json.loads(schema.metadata[KEY]).get("info", {}).get("features") or {}
    found: dict[str, FeatureType] = {}
    for column in schema:
        natural = _of_field(column)
        if column.name in described:
            feature = feature_from_json(described[column.name])
            found[column.name] = feature if arrow_of(feature).equals(arrow_of(natural)) else natural
        else:
            found[column.name] = natural
    return Features(found)


def schema_of(features: Mapping[str, Any], *, extensions: bool = False) -> pa.Schema:
    """The Arrow schema of features, with the features in its metadata.

    `extensions=True` also marks the columns that datasets stores as extension types, so that it reads them as such.
    """
    features = Features(features)
    if extensions:
        fields = [_marked(name, feature) for name, feature in features.items()]
    else:
        fields = [pa.field(name, arrow_of(feature)) for name, feature in features.items()]
    info = {"info": {"features": features.to_dict()}}
    return pa.schema(fields, metadata={KEY: json.dumps(info).encode()})


def _marked(name: str, feature: FeatureType) -> pa.Field:
    """A field whose metadata, and that of the fields within it, name the extension types of datasets."""
    if isinstance(feature, dict):
        return pa.field(name, pa.struct([_marked(inner, kind) for inner, kind in feature.items()]))
    if isinstance(feature, LargeList):
        return pa.field(name, pa.large_list(_marked("item", feature.feature)))
    if isinstance(feature, List):
        return pa.field(name, pa.list_(_marked("item", feature.feature), feature.length))
    found = pa.field(name, arrow_of(feature))
    return found.with_metadata(_extension(feature)) if _extension(feature) else found


def _extension(feature: FeatureType) -> dict[bytes, bytes] | None:
    if isinstance(feature, kinds.Json):
        return {_EXTENSION_NAME: b"arrow.json", _EXTENSION_DATA: b""}
    if isinstance(feature, kinds.ArrayFeature):
        name = f"datasets.features.features.{type(feature).__name__}ExtensionType"
        data = json.dumps([list(feature.shape), feature.dtype])
        return {_EXTENSION_NAME: name.encode(), _EXTENSION_DATA: data.encode()}
    return None


def as_features(value: Any) -> Features:
    """Features from any mapping of names to features, or from an Arrow schema."""
    if isinstance(value, Features):
        return value
    if isinstance(value, pa.Schema):
        return features_of(value)
    if isinstance(value, Mapping):
        return Features({name: as_feature(inner) for name, inner in value.items()})
    raise DataError(f"features must be a mapping of column names to types, but is {value!r}.")
