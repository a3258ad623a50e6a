"""Folders of data sets: ours open in the reference library and theirs here; a folder appears whole or not at all."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pyarrow as pa
import pytest

from plait.data import Array2D, ClassLabel, Dataset, DatasetDict, Features, LargeList, List, Translation, Value
from plait.data import load_from_disk as load
from plait.data.kinds import Json
from plait.errors import DataError, NotFoundError, OptionError

COLUMNS: dict[str, list[Any]] = {
    "text": ["a", None, "ccc"],
    "number": [1, 2, None],
    "small": [1, 2, 3],
    "when": [datetime.datetime(2020, 1, 1, 12), None, datetime.datetime(2021, 5, 5)],
    "day": [datetime.date(2020, 1, 1), None, datetime.date(2021, 5, 5)],
    "price": [Decimal("1.25"), None, Decimal("-3.50")],
    "blob": [b"x", b"", None],
    "label": [0, 1, None],
    "list": [[1, 2], [], None],
    "fixed": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    "large": [[1], [2], []],
    "struct": [{"x": 1, "y": ["p"]}, None, {"x": None, "y": []}],
    "table": [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0]]],
    "pair": [{"en": "a", "zh": "甲"}, {"en": "b", "zh": "乙"}, {"en": None, "zh": None}],
    "any": [{"p": 1}, [1, "x"], None],
}


def features_in(library: Any) -> dict[str, Any]:
    value, items = library.Value, library.List
    return {
        "text": value("string"),
        "number": value("int64"),
        "small": value("int8"),
        "when": value("timestamp[us]"),
        "day": value("date32"),
        "price": value("decimal128(10, 2)"),
        "blob": value("binary"),
        "label": library.ClassLabel(names=["neg", "pos"]),
        "list": items(value("int32")),
        "fixed": items(value("float32"), length=2),
        "large": library.LargeList(value("int64")),
        "struct": {"x": value("int64"), "y": items(value("string"))},
        "table": library.Array2D(shape=(None, 2), dtype="float32"),
        "pair": library.Translation(languages=["en", "zh"]),
        "any": library.Json(),
    }


class Ours:
    Value, List, ClassLabel, LargeList, Array2D, Translation, Json = (
        Value,
        List,
        ClassLabel,
        LargeList,
        Array2D,
        Translation,
        Json,
    )


def test_ours_opens_in_the_reference_library(tmp_path: Path) -> None:
    dataset = Dataset.from_dict(COLUMNS, features=Features(features_in(Ours)), split="train")
    dataset.save_to_disk(tmp_path / "d", num_shards=2)
    theirs = reference.load_from_disk(str(tmp_path / "d"))
    assert repr(theirs.features) == repr(dataset.features)
    assert theirs.to_dict() == dataset.to_dict()
    assert theirs.split == "train"
    assert type(theirs.data.schema.field("table").type).__name__ == "Array2DExtensionType"
    theirs.map(lambda row: {"z": row["text"]})


def without_pair(mapping: dict[str, Any]) -> dict[str, Any]:
    """The reference library cannot save translations: its estimate of the size fails."""
    return {name: value for name, value in mapping.items() if name != "pair"}


def test_theirs_opens_here(tmp_path: Path) -> None:
    features = reference.Features(without_pair(features_in(reference)))
    theirs = reference.Dataset.from_dict(without_pair(COLUMNS), features=features, split="test")
    theirs.with_format("numpy", columns=["number"]).save_to_disk(str(tmp_path / "d"), num_shards=2)
    ours = load(tmp_path / "d")
    assert isinstance(ours, Dataset)
    assert repr(ours.features) == repr(theirs.features)
    assert ours.with_format(None).to_dict() == theirs.to_dict()
    assert ours.format["type"] == "numpy"
    assert ours.format["columns"] == ["number"]
    assert ours.split == "test"
    assert ours.with_format(None).map(lambda row: {"n": row["small"] + 1})["n"] == [2, 3, 4]


def test_the_same_schema_and_description_are_written(tmp_path: Path) -> None:
    columns = without_pair(COLUMNS)
    ours = Dataset.from_dict(columns, features=Features(without_pair(features_in(Ours))))
    theirs = reference.Dataset.from_dict(columns, features=reference.Features(without_pair(features_in(reference))))
    ours.save_to_disk(tmp_path / "ours")
    theirs.save_to_disk(str(tmp_path / "theirs"))
    name = "data-00000-of-00001.arrow"
    schemas = [pa.ipc.open_stream(tmp_path / who / name).schema for who in ("ours", "theirs")]
    assert schemas[0].equals(schemas[1])
    found = [json.loads(schema.metadata[b"huggingface"])["info"]["features"] for schema in schemas]
    assert found[0] == found[1]
    described = [json.loads((tmp_path / who / "dataset_info.json").read_text()) for who in ("ours", "theirs")]
    assert described[0]["features"] == described[1]["features"]
    assert set(json.loads((tmp_path / "ours" / "state.json").read_text())) == set(
        json.loads((tmp_path / "theirs" / "state.json").read_text())
    )


def test_dicts_both_ways(tmp_path: Path) -> None:
    ours = DatasetDict({"train": Dataset.from_dict({"a": [1, 2]}), "test": Dataset.from_dict({"a": [3]})})
    ours.save_to_disk(tmp_path / "ours", num_shards={"train": 2})
    theirs = reference.load_from_disk(str(tmp_path / "ours"))
    assert {name: split["a"][:] for name, split in theirs.items()} == {"train": [1, 2], "test": [3]}
    theirs.save_to_disk(str(tmp_path / "theirs"))
    back = load(tmp_path / "theirs")
    assert isinstance(back, DatasetDict)
    assert {name: split["a"][:] for name, split in back.items()} == {"train": [1, 2], "test": [3]}
    assert sorted(path.name for path in (tmp_path / "ours" / "train").iterdir())[:2] == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
    ]


def test_a_view_is_written_in_its_order(tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"a": list(range(5000)), "b": [str(i) for i in range(5000)]}).shuffle(seed=1)
    dataset.save_to_disk(tmp_path / "d", max_shard_size="20KB")
    back = load(tmp_path / "d")
    assert isinstance(back, Dataset)
    assert back["a"][:] == dataset["a"][:]
    assert len(back.cache_files) > 1
    assert isinstance(back.table.columns["a"].rows, range)
    assert back.select([4999, 0, 2500])["b"] == [dataset["b"][i] for i in (4999, 0, 2500)]


def test_a_data_set_may_replace_its_own_folder(tmp_path: Path) -> None:
    Dataset.from_dict({"a": [1, 2, 3]}).save_to_disk(tmp_path / "d")
    dataset = load(tmp_path / "d")
    assert isinstance(dataset, Dataset)
    dataset.map(lambda row: {"b": row["a"] * 2}, keep_in_memory=True).save_to_disk(tmp_path / "d")
    assert dataset["a"] == [1, 2, 3]  # what is open stays readable
    assert load(tmp_path / "d").to_dict() == {"a": [1, 2, 3], "b": [2, 4, 6]}
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.data import disk

    Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "d")

    def fails(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(disk, "write_arrow", fails)
    with pytest.raises(OSError, match="disk full"):
        Dataset.from_dict({"a": [2]}).save_to_disk(tmp_path / "d")
    assert load(tmp_path / "d").to_dict() == {"a": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_thousand_files_are_one_data_set(tmp_path: Path) -> None:
    Dataset.from_dict({"a": np.arange(20_000)}).save_to_disk(tmp_path / "d", num_shards=1000)
    assert len(list((tmp_path / "d").glob("*.arrow"))) == 1000
    assert load(tmp_path / "d")["a"][:] == list(range(20_000))


def test_folders_that_are_no_data_sets(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(NotFoundError, match="There is no folder .*/dada. Did you mean 'data'?"):
        load(tmp_path / "dada")
    (tmp_path / "data" / "a.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="has neither state.json nor dataset_dict.json, but .'a.csv'.. To read data"):
        load(tmp_path / "data")
    with pytest.raises(DataError, match="is a folder with other files in it; save to a new folder"):
        Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "data")
    with pytest.raises(DataError, match="is a file; a data set is saved to a folder"):
        Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "data" / "a.csv")
    DatasetDict({"train": Dataset.from_dict({"a": [1]})}).save_to_disk(tmp_path / "dict")
    with pytest.raises(DataError, match="holds a dict of data sets"):
        Dataset.load_from_disk(tmp_path / "dict")
    with pytest.raises(DataError, match="holds one data set"):
        DatasetDict.load_from_disk(tmp_path / "dict" / "train")
    (tmp_path / "dict" / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="is incomplete: data-00000-of-00001.arrow is missing"):
        load(tmp_path / "dict")


def test_descriptions_that_are_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    DatasetDict({"a": Dataset.from_dict({"x": [1]})}).save_to_disk(folder)
    state = folder / "a" / "state.json"
    whole = state.read_text(encoding="utf-8")
    for text, said in (
        (whole[:9], r"state.json is not valid JSON \(.*\). Save the data set again.$"),
        ("[]", "state.json was not written by save_to_disk: it has no '_data_files'.$"),
        ('{"epoch": 1}', "state.json was not written by save_to_disk: it has no '_data_files'.$"),
    ):
        state.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            load(folder)
    state.write_text(whole, encoding="utf-8")
    (folder / "a" / "dataset_info.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="dataset_info.json was not written by save_to_disk.$"):
        load(folder)
    state.unlink()
    with pytest.raises(DataError, match="a is incomplete: state.json is missing.$"):
        load(folder)
    (folder / "dataset_dict.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="dataset_dict.json was not written by save_to_disk: it has no 'splits'.$"):
        load(folder)


def test_a_description_must_not_lead_outside(tmp_path: Path) -> None:
    Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "d")
    Dataset.from_dict({"a": [2]}).save_to_disk(tmp_path / "secret")
    state = json.loads((tmp_path / "d" / "state.json").read_text())
    for name in ("../secret/data-00000-of-00001.arrow", str(tmp_path / "secret" / "data-00000-of-00001.arrow")):
        state["_data_files"] = [{"filename": name}]
        (tmp_path / "d" / "state.json").write_text(json.dumps(state))
        with pytest.raises(DataError, match="which lies outside the folder"):
            load(tmp_path / "d")


def test_sizes(tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"a": [1]})
    with pytest.raises(OptionError, match="'lots' is not a size. Write for example '500MB'"):
        dataset.save_to_disk(tmp_path / "d", max_shard_size="lots")
    with pytest.raises(OptionError, match="Give max_shard_size or num_shards, not both"):
        dataset.save_to_disk(tmp_path / "d", max_shard_size="1MB", num_shards=1)
