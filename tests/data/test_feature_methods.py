"""What features do besides being types: spread out, encode, decode, reorder, round-trip; equal to the reference."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import datasets as reference
import polars
import pyarrow as pa
import pytest

from plait.data import (
    Array2D,
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    Json,
    LargeList,
    List,
    Sequence,
    Translation,
    TranslationVariableLanguages,
    Value,
)
from plait.errors import DataError, OptionError, RowError


def made(library: Any) -> dict[str, Any]:
    """The same features by this library or by the reference library."""
    ours = library is None
    value, items, label = (Value, List, ClassLabel) if ours else (library.Value, library.List, library.ClassLabel)
    languages = (Translation if ours else library.Translation)(languages=["zh", "en"])
    variable = (TranslationVariableLanguages if ours else library.TranslationVariableLanguages)(languages=["en"])
    picture = (Image if ours else library.Image)(decode=False)
    return {
        "t": languages,
        "v": variable,
        "p": picture,
        "s": {"x": value("int64"), "in": {"y": items(label(names=["a", "b"])), "p": picture}},
        "l": items({"x": value("int64")}),
        "n": value("float32"),
    }


@pytest.mark.parametrize("depth", [1, 2, 3, 16])
def test_spreading_equals_the_reference(depth: int) -> None:
    ours, theirs = Features(made(None)), reference.Features(made(reference))
    flat, those = ours.flatten(max_depth=depth), theirs.flatten(max_depth=depth)
    assert set(flat) == set(those)
    assert {name: repr(feature) for name, feature in flat.items()} == {name: repr(those[name]) for name in flat}


def test_columns_spread_with_their_values() -> None:
    features = Features(made(None))
    row = {
        "t": {"en": "a", "zh": "甲"},
        "v": {"en": ["x", "y"]},
        "p": {"bytes": b"1", "path": "p.png"},
        "s": {"x": 1, "in": {"y": ["b"], "p": None}},
        "l": [{"x": 2}],
        "n": 0.5,
    }
    dataset = Dataset.from_list([row, row], features=features).select([1])
    flat = dataset.flatten()
    assert flat.features == features.flatten()
    assert flat[0] == {
        "t.en": "a",
        "t.zh": "甲",
        "v.language": ["en", "en"],
        "v.translation": ["x", "y"],
        "p.bytes": b"1",
        "p.path": "p.png",
        "s.x": 1,
        "s.in.y": [1],
        "s.in.p.bytes": None,
        "s.in.p.path": None,
        "l": [{"x": 2}],
        "n": 0.5,
    }
    assert dataset.flatten(max_depth=2).column_names[-4:] == ["s.x", "s.in", "l", "n"]
    whole = Features({"p": Image(), "a": Audio()})
    assert whole.flatten() == whole  # what is decoded stays whole; the reference library fails


def test_encoding_and_decoding_equal_the_reference() -> None:
    def both(library: Any) -> Any:
        value, items = (Value, List) if library is None else (library.Value, library.List)
        label = ClassLabel if library is None else library.ClassLabel
        kinds = {"a": items({"x": label(names=["p", "q"])}), "b": value("int32"), "c": label(names=["u", "v"])}
        return Features(kinds) if library is None else library.Features(kinds)

    ours, theirs = both(None), both(reference)
    row = {"a": [{"x": "p"}, {"x": "q"}], "b": 1, "c": "v"}
    assert ours.encode_example(row) == theirs.encode_example(row) == {"a": [{"x": 0}, {"x": 1}], "b": 1, "c": 1}
    assert ours.encode_example({"b": 1}) == {"a": None, "b": 1, "c": None}
    rows = {"a": [[{"x": "p"}], []], "b": [1, 2], "c": ["u", 1]}
    assert ours.encode_batch(rows) == theirs.encode_batch(rows)
    assert ours.encode_column(["u", "v"], "c") == theirs.encode_column(["u", "v"], "c") == [0, 1]
    stored = {"a": [{"x": 0}], "b": 2, "c": 1}
    assert ours.decode_example(stored) == theirs.decode_example(stored) == stored
    assert ours.decode_batch({"b": [1]}) == theirs.decode_batch({"b": [1]}) == {"b": [1]}
    assert ours.decode_column([1], "b") == theirs.decode_column([1], "b") == [1]
    assert ours["c"].str2int(["v", "u"]) == theirs["c"].str2int(["v", "u"]) == [1, 0]
    assert ours["c"].int2str([1, 0]) == theirs["c"].int2str([1, 0]) == ["v", "u"]
    assert (ours["c"].num_classes, ours["c"].dtype, ours["c"].pa_type) == (2, "int64", pa.int64())
    assert ours.type == theirs.type


def test_reordering_copying_and_round_trips() -> None:
    ours = Features({"s": {"x": Value("int8"), "y": List({"p": Value("string"), "q": Json()})}, "n": Value("int8")})
    other = Features({"n": Value("int8"), "s": {"y": List({"q": Json(), "p": Value("string")}), "x": Value("int8")}})
    moved = ours.reorder_fields_as(other)
    assert list(moved) == ["n", "s"]
    assert list(moved["s"]) == ["y", "x"]
    assert list(moved["s"]["y"].feature) == ["q", "p"]
    with pytest.raises(DataError, match="The names in the table differ"):
        ours.reorder_fields_as(Features({"n": Value("int8")}))
    copied = ours.copy()
    copied["new"] = Value("string")
    assert "new" not in ours
    assert Features.from_dict(ours.to_dict()) == ours
    assert Features.from_arrow_schema(ours.arrow_schema) == ours
    written = pa.ipc.read_schema(ours.arrow_schema.serialize())  # as it comes from a file
    assert reference.Features.from_arrow_schema(written).to_dict() == ours.to_dict()
    assert Features.from_dict(dic={"a": {"dtype": "int8", "_type": "Value"}}) == Features({"a": Value("int8")})
    assert Features.from_arrow_schema(pa_schema=pa.schema({"a": pa.int8()})) == Features({"a": Value("int8")})


def test_every_spelling_of_a_nested_type() -> None:
    ours = Features({"a": [Value("int32")], "b": {"c": [{"d": Value("string")}]}, "e": Sequence({"f": Value("bool")})})
    theirs = reference.Features(
        {
            "a": [reference.Value("int32")],
            "b": {"c": [{"d": reference.Value("string")}]},
            "e": reference.Sequence({"f": reference.Value("bool")}),
        }
    )
    assert repr(ours) == repr(theirs)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.type == theirs.type
    assert LargeList(Value("int8")).pa_type == pa.large_list(pa.int8())
    assert Array2D(shape=(1, 2), dtype="int8").pa_type == pa.list_(pa.list_(pa.int8()))
    assert (Image().dtype, Audio().dtype, Translation(["en"]).dtype) == ("PIL.Image.Image", "dict", "dict")


def test_arguments_without_effect_say_so(caplog: pytest.LogCaptureFixture) -> None:
    dataset = Dataset.from_dict({"a": [3, 1, 2]})
    with caplog.at_level("INFO", logger="plait.data"):
        assert dataset.sort("a", keep_in_memory=True)["a"] == [1, 2, 3]
        assert dataset.cast_column("a", Value("int8"), new_fingerprint="x")["a"] == [3, 1, 2]
        assert dataset.add_item({"a": 4}, new_fingerprint="x")["a"] == [3, 1, 2, 4]
    assert [record.message for record in caplog.records] == [
        "sort(keep_in_memory=…) has no effect: nothing is written to the disk for it",
        "cast_column(new_fingerprint=…) has no effect: the fingerprint follows from what the data set holds",
        "add_item(new_fingerprint=…) has no effect: the fingerprint follows from what the data set holds",
    ]
    with pytest.raises(OptionError, match=r"cast\(\) has no argument 'num_procs'. Did you mean 'num_proc'\?"):
        dataset.cast(dataset.features, num_procs=2)
    with pytest.raises(OptionError, match=r"rename_column\(\) has no argument 'inplace'"):
        dataset.rename_column("a", "b", inplace=True)
    assert dataset.shuffle(seed=0).flatten_indices(features={"a": Value("string")})["a"] == [
        str(value) for value in dataset.shuffle(seed=0)["a"]
    ]


def test_files_of_row_numbers(tmp_path: Path) -> None:
    table = pa.table({"a": [10, 11, 12]})
    numbers = pa.table({"indices": pa.array([2, 0], type=pa.uint64())})
    for name, content in (("rows", table), ("numbers", numbers), ("wrong", pa.table({"indices": [3]}))):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
            writer.write_table(content)
    for in_memory in (False, True):
        found = Dataset.from_file(tmp_path / "rows", indices_filename=tmp_path / "numbers", in_memory=in_memory)
        assert found["a"] == [12, 10]
    buffers = [(tmp_path / name).read_bytes() for name in ("rows", "numbers")]
    assert Dataset.from_buffer(buffers[0], indices_buffer=buffers[1])["a"] == [12, 10]
    with pytest.raises(RowError, match="There is no row 3: the data set has 3 rows"):
        Dataset.from_file(tmp_path / "rows", indices_filename=tmp_path / "wrong")


def test_polars_frames_take_their_options() -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    assert dataset.to_polars(schema_overrides={"a": polars.Int8}).schema == {"a": polars.Int8}
    frames = list(dataset.to_polars(2, batched=True, schema_overrides={"a": polars.Int8}))
    assert [frame["a"].to_list() for frame in frames] == [[1, 2], [3]]
    assert frames[1].schema == {"a": polars.Int8}


def test_dicts_pass_arguments_on(caplog: pytest.LogCaptureFixture) -> None:
    both = DatasetDict({"train": Dataset.from_dict({"a": [2, 1]}), "test": Dataset.from_dict({"a": [3]})})
    with caplog.at_level("INFO", logger="plait.data"):
        both.shuffle(seed=1, indices_cache_file_names={"train": "x"})
        both.sort("a", indices_cache_file_names={"test": "x"})
    assert {record.message.partition("(")[0] for record in caplog.records} == {"shuffle", "sort"}
    with pytest.raises(OptionError, match=r"sort\(\) has no argument 'revers'. Did you mean 'reverse'"):
        both.sort("a", revers=True)
    assert inspect.signature(DatasetDict.sort).parameters.keys() == inspect.signature(Dataset.sort).parameters.keys()
