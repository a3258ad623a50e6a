"""Types of columns: names, JSON and Arrow schemas equal to the reference library's; widening by property."""

from __future__ import annotations

import json
from typing import Any

import datasets as reference
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

import plait.data as ours
from plait.data import ClassLabel, Dataset, Features, List, Value
from plait.data.decode import to_python
from plait.data.dtypes import arrow_type, type_name
from plait.data.encode import to_arrow
from plait.data.schema import feature_of, features_of, schema_of
from plait.data.widen import cast, widen, widest
from plait.errors import ColumnError, DataError, OptionError

TYPES = [
    *("null", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32"),
    *("float64", "date32", "date64", "time32[s]", "time64[ns]", "timestamp[ns]", "timestamp[us, tz=Asia/Shanghai]"),
    *("duration[ms]", "decimal128(10, 2)", "decimal256(40, 3)", "string", "large_string", "string_view", "binary"),
    *("large_binary", "binary_view", "fixed_size_binary[4]"),
]


@pytest.mark.parametrize("name", TYPES)
def test_names_of_types_equal_the_reference(name: str) -> None:
    assert type_name(arrow_type(name)) == name
    natural = reference.features.features.generate_from_arrow_type(arrow_type(name))
    assert repr(natural) == repr(feature_of(arrow_type(name))) == f"Value({name!r})"
    if not name.startswith("fixed_size_binary"):  # a name that the reference library writes but does not read
        assert reference.Value(name).pa_type == Value(name).pa_type == arrow_type(name)


def test_a_type_that_does_not_exist() -> None:
    with pytest.raises(DataError, match="'in64' is not the name of a type. Did you mean 'int64'?"):
        Value("in64")
    with pytest.raises(DataError, match="is not a possible type"):
        Value("decimal128(99, 2)")
    with pytest.raises(DataError, match="Columns of Arrow type map<string, int32> are not supported"):
        Dataset(pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32()))}))
    assert Value("double") == Value("float64")


def every_kind(library: Any) -> dict[str, Any]:
    return {
        "value": library.Value("string"),
        "label": library.ClassLabel(names=["x", "y"]),
        "count": library.ClassLabel(num_classes=2),
        "sequence": library.Sequence(library.Value("int32")),
        "fixed": library.List(library.Value("int64"), length=3),
        "large": library.LargeList(library.Value("int32")),
        "struct": {"g": library.Value("float32"), "h": [library.Value("string")]},
        "sequence of struct": library.Sequence({"x": library.Value("int8")}),
        "array": library.Array2D((2, 3), "float32"),
        "arrays": library.Array5D((None, 1, 2, 3, 4), "uint8"),
        "image": library.Image(),
        "grey": library.Image(mode="L", decode=False),
        "audio": library.Audio(sampling_rate=16000),
        "translation": library.Translation(languages=["zh", "en"]),
        "variable": library.TranslationVariableLanguages(languages=["zh", "en"]),
        "json": library.Json(),
        "stamp": library.Value("timestamp[us, tz=UTC]"),
    }


@pytest.mark.parametrize("name", every_kind(ours))
def test_every_kind_is_written_and_read_as_by_the_reference(name: str) -> None:
    mine, theirs = Features({name: every_kind(ours)[name]}), reference.Features({name: every_kind(reference)[name]})
    assert repr(mine) == repr(theirs)
    assert mine.to_dict() == theirs.to_dict()
    assert Features.from_dict(theirs.to_dict()) == mine
    assert reference.Features.from_dict(mine.to_dict()) == theirs
    schema = theirs.arrow_schema
    assert json.loads(mine.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])
    assert features_of(schema) == mine
    written = pa.ipc.read_schema(mine.arrow_schema.serialize())
    assert reference.Features.from_arrow_schema(written) == theirs


def test_metadata_that_does_not_fit_gives_way_to_the_types() -> None:
    schema = schema_of(Features({"a": Value("int64"), "b": ClassLabel(names=["x"])}))
    changed = schema.set(0, pa.field("a", pa.string()))
    assert features_of(changed) == Features({"a": Value("string"), "b": ClassLabel(names=["x"])})


def test_old_spellings_are_read() -> None:
    found = Features.from_dict(
        {
            "a": {"feature": {"dtype": "int64", "_type": "Value"}, "length": -1, "_type": "Sequence"},
            "b": [{"dtype": "string", "id": None, "_type": "Value"}],
            "c": {"feature": {"x": {"dtype": "int8", "_type": "Value"}}, "_type": "Sequence"},
            "d": {"names": {"0": "no", "1": "yes"}, "_type": "ClassLabel"},
            "e": {"num_classes": 2, "names": ["p", "q"], "id": None, "_type": "ClassLabel"},
        }
    )
    assert repr(found) == (
        "{'a': List(Value('int64')), 'b': List(Value('string')), 'c': {'x': List(Value('int8'))}, "
        "'d': ClassLabel(names=['no', 'yes']), 'e': ClassLabel(names=['p', 'q'])}"
    )
    with pytest.raises(DataError, match="has the type 'Valu', which is not supported. Did you mean 'Value'?"):
        Features.from_dict({"a": {"_type": "Valu", "dtype": "int64"}})


def test_class_labels() -> None:
    label = ClassLabel(names=["neg", "pos", "7"])
    assert label.num_classes == 3
    assert label.str2int("pos") == 1
    assert label.str2int(["neg", "7"]) == [0, 2]
    assert label.int2str(2) == "7"
    assert label.int2str([0, 1]) == ["neg", "pos"]
    assert label.encode_example("1") == 1
    assert label.encode_example(-1) == -1
    with pytest.raises(DataError, match="'poss' is not a class. Did you mean 'pos'. Classes are 'neg', 'pos', '7'"):
        label.str2int("poss")
    with pytest.raises(DataError, match="3 is not the number of a class: there are 3, from 0"):
        label.int2str(3)
    with pytest.raises(DataError, match=r"names must differ, but these are repeated: \['a'\]"):
        ClassLabel(names=["a", "a"])
    with pytest.raises(DataError, match="ClassLabel has 1 names, but num_classes=2"):
        ClassLabel(names=["a"], num_classes=2)
    with pytest.raises(OptionError, match="ClassLabel needs names, names_file or num_classes"):
        ClassLabel()


def test_features_are_a_dict_that_knows_its_names() -> None:
    features = Features({"温度": "float32", "ids": ["int64"]})
    assert features == {"温度": Value("float32"), "ids": List(Value("int64"))}
    with pytest.raises(ColumnError, match="There is no column '温渡'. Did you mean '温度'?"):
        features["温渡"]
    features["new"] = {"a": Value("int8")}
    assert features.flatten() == {"温度": Value("float32"), "ids": List(Value("int64")), "new.a": Value("int8")}
    assert features.copy() == features
    with pytest.raises(DataError, match="3 is not a feature. Write for example"):
        Features({"a": 3})
    other = Features({"new": {"a": Value("int8")}, "ids": List(Value("int64")), "温度": Value("float32")})
    assert list(features.reorder_fields_as(other)) == ["new", "ids", "温度"]


def test_arrays_of_fixed_rank() -> None:
    features = Features({"m": ours.Array2D(shape=(None, 2), dtype="float32")})
    dataset = Dataset.from_dict({"m": [np.ones((3, 2)), [[1, 2]]]}, features=features)
    assert dataset[1] == {"m": [[1.0, 2.0]]}
    assert dataset.with_format("numpy")[0]["m"].dtype == np.float32
    with pytest.raises(DataError, match=r"column 'm', row 0: An array of shape \(2, 3\) does not fit Array2D"):
        Dataset.from_dict({"m": [np.ones((2, 3))]}, features=features)
    with pytest.raises(DataError, match="Array2D has 2 axes, but shape=.1, 2, 3. has 3. Use Array3D"):
        ours.Array2D(shape=(1, 2, 3), dtype="float32")


def test_pictures_and_sounds() -> None:
    import PIL.Image

    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    features = Features({"p": ours.Image(), "s": ours.Audio()})
    wave = np.array([0.0, 0.5, -0.5, 0.25], np.float32)
    columns = {
        "p": [PIL.Image.fromarray(pixels), pixels, None],
        "s": [{"array": wave, "sampling_rate": 8000}, None, None],
    }
    dataset = Dataset.from_dict(columns, features=features)
    assert np.array_equal(np.asarray(dataset[0]["p"]), pixels)
    assert dataset[2]["p"] is None
    assert dataset[0]["s"]["sampling_rate"] == 8000
    assert np.array_equal(dataset[0]["s"]["array"], wave)
    assert dataset.with_format("torch")[:2]["p"].shape == (2, 3, 2, 2)
    assert np.array_equal(dataset.with_format("numpy")[1]["p"], pixels)
    with pytest.raises(DataError, match="A file of sound has the stream 0 alone, but stream_index=1"):
        dataset.cast_column("s", ours.Audio(stream_index=1))[0]
    stored = dataset.cast_column("p", ours.Image(decode=False))
    assert stored[0]["p"]["bytes"].startswith(b"\x89PNG")
    grey = dataset.cast_column("p", ours.Image(mode="L"))
    assert grey[0]["p"].mode == "L"
    # a picture that is changed in place is a change; one that is only looked at is not written
    smaller = dataset.map(lambda row: row["p"].thumbnail((1, 1)) or row if row["p"] is not None else None)
    assert smaller[0]["p"].size == (1, 1)
    looked = dataset.map(lambda row: {"w": row["p"].width if row["p"] else 0})
    assert looked.table.columns["p"].store is dataset.table.columns["p"].store


# --- widening ---

PLAIN = [arrow_type(name) for name in TYPES if name not in ("null",)]
kinds = st.recursive(
    st.sampled_from(
        [pa.null(), pa.bool_(), pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()]
    )
    | st.sampled_from([pa.string(), pa.large_string(), pa.date32(), pa.timestamp("s"), pa.timestamp("us")]),
    lambda inner: (
        inner.map(pa.list_)
        | st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=3).map(
            lambda fields: pa.struct(sorted(fields.items()))
        )
    ),
    max_leaves=5,
)


def widened(types: list[pa.DataType]) -> Any:
    try:
        return widest(types)
    except DataError:
        return "none"


def sorted_fields(kind: Any) -> Any:
    """A type with the fields of structs in the order of their names."""
    if isinstance(kind, str):
        return kind
    if pa.types.is_struct(kind):
        fields = sorted((kind.field(i).name, sorted_fields(kind.field(i).type)) for i in range(kind.num_fields))
        return ("struct", tuple(fields))
    return ("list", sorted_fields(kind.value_type)) if pa.types.is_list(kind) else str(kind)


@settings(deadline=None, max_examples=300)
@given(types=st.lists(kinds, min_size=1, max_size=4), data=st.data())
def test_the_widest_type_does_not_depend_on_order(types: list[pa.DataType], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(types))
    first, second = widened(types), widened(list(shuffled))
    assert sorted_fields(first) == sorted_fields(second)


def test_widening_rules() -> None:
    assert widen(pa.null(), pa.string()) == pa.string()
    assert widen(pa.int8(), pa.int64()) == pa.int64()
    assert widen(pa.uint8(), pa.int8()) == pa.int16()
    assert widen(pa.uint64(), pa.int64()) == pa.float64()
    assert widen(pa.int64(), pa.float32()) == pa.float64()
    assert widen(pa.list_(pa.null()), pa.list_(pa.int8())) == pa.list_(pa.int8())
    with pytest.raises(DataError, match="there is no common type of int64 and string"):
        widen(pa.int64(), pa.string())


values = st.recursive(
    st.none() | st.integers(-(2**62), 2**62),
    lambda inner: st.lists(inner, max_size=3) | st.fixed_dictionaries({}, optional={"x": inner, "y": inner}),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(st.lists(values, max_size=5))
def test_reading_is_what_arrow_reads(rows: list[Any]) -> None:
    try:
        array = to_arrow(rows)
    except DataError:
        return
    assert to_python(array) == array.to_pylist()
    assert to_python(array[1:]) == array.to_pylist()[1:]
    assert to_python(pa.chunked_array([array[:2], array[2:]])) == array.to_pylist()
    wide = cast(array, array.type)
    assert wide.equals(array)


scalars = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": st.text(max_size=5),
    "binary": st.binary(max_size=5),
    "date32": st.dates(),
    "timestamp[us]": st.datetimes(),
}


@settings(deadline=None, max_examples=200)
@given(data=st.data(), name=st.sampled_from(sorted(scalars)))
def test_values_come_back_as_they_went_in(data: st.DataObject, name: str) -> None:
    rows = data.draw(st.lists(st.none() | scalars[name], max_size=6))
    dataset = Dataset.from_dict({"a": rows}, features=Features({"a": Value(name)}))
    assert dataset["a"][:] == rows
    assert [dataset[index]["a"] for index in range(len(rows))] == rows
    assert list(dataset) == [{"a": row} for row in rows]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"a": st.none() | st.integers(-5, 5) | st.floats(0, 1), "b": st.text()}),
        min_size=1,
    ),
    st.data(),
)
def test_types_do_not_depend_on_the_order_of_rows(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    first, second = Dataset.from_list(rows), Dataset.from_list(list(shuffled))
    assert dict(first.features) == dict(second.features)
    generated = Dataset.from_generator(lambda: iter(rows))
    assert dict(generated.features) == dict(first.features)
    assert generated.select_columns(first.column_names).to_list() == first.to_list()


def test_what_kinds_of_columns_refuse(tmp_path: Any) -> None:
    with pytest.raises(OptionError, match="^ClassLabel takes names or names_file, not both.$"):
        ClassLabel(names=["a"], names_file=tmp_path / "names.txt")
    with pytest.raises(DataError, match=r"^Only the first axis may have no fixed length, but shape=\(2, None\).$"):
        ours.Array2D(shape=(2, None), dtype="int8")
    picture, sound = ours.Image(), ours.Audio()
    with pytest.raises(DataError, match=r"^A picture given as an array must be uint8 \(0 … 255\), but is float64.$"):
        picture.encode_example(np.zeros((2, 2)))
    with pytest.raises(DataError, match="^A sound given as an array needs its sampling_rate .Hz. beside it.$"):
        sound.encode_example({"array": [0.0]})
    with pytest.raises(
        DataError, match=r"^A sound is stored from a path, bytes, or {'bytes': …, 'path': …}, but got 5.$"
    ):
        sound.encode_example(5)
    stereo = sound.encode_example({"array": np.zeros((2, 8), np.float32), "sampling_rate": 8000})
    with pytest.raises(DataError, match="^A sound has 2 channels, but num_channels=3.$"):
        ours.Audio(num_channels=3).decode_example(stereo)
