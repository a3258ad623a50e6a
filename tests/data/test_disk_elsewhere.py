"""Folders at addresses, several writers, every kind of column and description, older folders with row numbers."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import datasets as reference
import fsspec
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet
import pytest

from plait.data import (
    Array2D,
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    Image,
    Json,
    List,
    NamedSplit,
    Split,
    SplitInfo,
    TranslationVariableLanguages,
    Value,
    load_from_disk,
)
from plait.errors import DataError, NotFoundError, OptionError

KINDS = [
    *(
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ),
    *("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null", "date32", "date64"),
    *("time32[s]", "time64[us]", "timestamp[ms]", "timestamp[us, tz=UTC]", "duration[s]"),
    *("decimal128(9, 2)", "decimal256(40, 3)"),
]


@pytest.fixture
def memory() -> Any:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_arrow_type_goes_both_ways(tmp_path: Path, kind: str) -> None:
    feature = Value(kind)
    arrow = pa.array([None, None], type=feature.arrow)
    dataset = Dataset(pa.table({"a": arrow}), features=Features({"a": feature}))
    dataset.save_to_disk(tmp_path / "ours")
    theirs = reference.load_from_disk(str(tmp_path / "ours"))
    assert repr(theirs.features) == repr(dataset.features)
    theirs.save_to_disk(str(tmp_path / "theirs"))
    back = load_from_disk(tmp_path / "theirs")
    assert back.features == dataset.features
    assert back.data.schema.field("a").type == feature.arrow


def test_pictures_sounds_and_languages_go_both_ways(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(stream, "PNG")
    features = Features(
        {
            "picture": Image(),
            "sound": Audio(sampling_rate=8000),
            "words": TranslationVariableLanguages(languages=["en", "zh"]),
            "grid": Array2D(shape=(2, 2), dtype="int16"),
            "label": List(ClassLabel(names=["a", "b"])),
        }
    )
    sound = {"array": np.array([0.0, 0.5, -0.5, 0.25], dtype=np.float32), "sampling_rate": 8000}
    row = {
        "picture": stream.getvalue(),
        "sound": sound,
        "words": {"en": ["a", "b"], "zh": "甲"},
        "grid": [[1, 2], [3, 4]],
        "label": ["b", "a"],
    }
    ours = Dataset.from_list([row, row], features=features)
    ours.save_to_disk(tmp_path / "ours")
    theirs = reference.load_from_disk(str(tmp_path / "ours"))
    assert repr(theirs.features) == repr(ours.features)
    assert ours[1]["words"] == {"language": ["en", "en", "zh"], "translation": ["a", "b", "甲"]}
    assert theirs.select_columns("words")[1]["words"] == ours[1]["words"]
    # the reference library neither casts nor saves translations, and its decoder of sounds is another package
    theirs = theirs.remove_columns("words").cast_column("sound", reference.Audio(decode=False))
    assert np.array_equal(np.asarray(theirs[0]["picture"]), np.asarray(ours[0]["picture"]))
    theirs.save_to_disk(str(tmp_path / "theirs"))
    back = load_from_disk(tmp_path / "theirs").cast_column("sound", Audio(sampling_rate=8000))
    assert back[0]["sound"]["array"].tolist() == [0.0, 0.5, -0.5, 0.25]
    assert back[1]["label"] == [1, 0]
    assert back[1]["grid"] == [[1, 2], [3, 4]]


def test_extension_types_within_lists_and_structs_go_both_ways(tmp_path: Path) -> None:
    features = Features(
        {"a": List({"q": Json()}), "b": {"g": Array2D(shape=(1, 2), dtype="int8")}, "c": List(Json(), length=2)}
    )
    rows = {"a": [[{"q": {"z": 1}}], None], "b": [{"g": [[1, 2]]}, {"g": [[3, 4]]}], "c": [[1, "x"], [None, [2]]]}
    ours = Dataset.from_dict(rows, features=features)
    ours.save_to_disk(tmp_path / "ours")
    theirs = reference.load_from_disk(str(tmp_path / "ours"))
    assert repr(theirs.features) == repr(ours.features)
    assert theirs.to_list() == ours.to_list()
    theirs.save_to_disk(str(tmp_path / "theirs"))
    back = load_from_disk(tmp_path / "theirs")
    assert back.features == features
    assert back.to_list() == ours.to_list()
    # stored as they are here, however they came
    assert {name: back.table.columns[name].store.type for name in rows} == {
        name: ours.table.columns[name].store.type for name in rows
    }
    assert back.map(lambda row: {"n": len(row["c"])})["n"] == [2, 2]


def test_an_address_holds_what_a_folder_holds(memory: Any) -> None:
    dataset = Dataset.from_dict({"a": list(range(1000)), "b": [str(i) for i in range(1000)]}).shuffle(seed=3)
    dataset.with_format("numpy", columns=["a"]).save_to_disk("memory://saved/one", num_shards=3)
    names = sorted(name.rpartition("/")[2] for name in memory.find("/saved/one"))
    assert names == [*(f"data-0000{i}-of-00003.arrow" for i in range(3)), "dataset_info.json", "state.json"]
    back = load_from_disk("memory://saved/one")
    assert back.format["type"] == "numpy"
    assert back.with_format(None).to_dict() == dataset.to_dict()
    theirs = reference.load_from_disk("memory://saved/one")
    assert theirs.with_format(None).to_dict() == dataset.to_dict()
    theirs.with_format(None).save_to_disk("memory://saved/theirs")
    assert load_from_disk("memory://saved/theirs", keep_in_memory=True).to_dict() == dataset.to_dict()
    dataset.take(2).save_to_disk("memory://saved/one")  # what was there before is gone, its surplus files too
    assert len(memory.find("/saved/one")) == 3
    assert Dataset.load_from_disk("memory://saved/one").to_dict() == dataset.take(2).to_dict()


def test_dicts_at_an_address(memory: Any) -> None:
    ours = DatasetDict({"train": Dataset.from_dict({"a": [1, 2]}), "test": Dataset.from_dict({"a": [3]})})
    ours.save_to_disk("memory://saved/dict", num_shards={"train": 2}, storage_options={"skip_instance_cache": True})
    back = DatasetDict.load_from_disk("memory://saved/dict", storage_options={"skip_instance_cache": True})
    assert {name: split["a"][:] for name, split in back.items()} == {"train": [1, 2], "test": [3]}
    theirs = reference.load_from_disk("memory://saved/dict")
    assert {name: split["a"][:] for name, split in theirs.items()} == {"train": [1, 2], "test": [3]}


def test_what_is_not_at_an_address(memory: Any) -> None:
    with pytest.raises(NotFoundError, match="There is no folder memory://none/here"):
        load_from_disk("memory://none/here")
    with memory.open("/other/a.csv", "w") as stream:
        stream.write("a\n1\n")
    with pytest.raises(DataError, match="memory://other was not written by save_to_disk: .*'a.csv'"):
        load_from_disk("memory://other")
    with pytest.raises(DataError, match="memory://other is a folder with other files in it; save to a new folder"):
        Dataset.from_dict({"a": [1]}).save_to_disk("memory://other")
    assert memory.find("/other") == ["/other/a.csv"]
    with pytest.raises(OptionError, match="nonsense://x cannot be opened: Protocol not known: nonsense"):
        Dataset.from_dict({"a": [1]}).save_to_disk("nonsense://x")


def test_files_named_outside_their_folder_are_refused(memory: Any, tmp_path: Path) -> None:
    Dataset.from_dict({"a": [1]}).save_to_disk("memory://saved/bad")
    state = json.loads(memory.cat("/saved/bad/state.json"))
    state["_data_files"] = [{"filename": "../../etc/passwd"}]
    memory.pipe("/saved/bad/state.json", json.dumps(state).encode())
    with pytest.raises(DataError, match="names the file '../../etc/passwd', which lies outside the folder"):
        load_from_disk("memory://saved/bad")
    DatasetDict({"train": Dataset.from_dict({"a": [1]})}).save_to_disk(tmp_path / "d")
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["../d/train"]}')
    with pytest.raises(DataError, match="names the file '../d/train', which lies outside the folder"):
        load_from_disk(tmp_path / "d")


def test_several_threads_write_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.data import disk

    dataset = Dataset.from_dict({"a": list(range(1000)), "b": [str(i) for i in range(1000)]}).shuffle(seed=1)
    together, write = threading.Barrier(3), disk.write_arrow

    def watched(*args: Any) -> None:
        together.wait(30)  # passes only when three are here at once
        write(*args)

    monkeypatch.setattr(disk, "write_arrow", watched)
    dataset.save_to_disk(tmp_path / "three", num_proc=3)
    monkeypatch.undo()
    dataset.save_to_disk(tmp_path / "one", num_shards=3)
    for name in ("data-00000-of-00003.arrow", "data-00002-of-00003.arrow"):
        assert (tmp_path / "three" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    with pytest.raises(OptionError, match="num_proc must be at least 1, but is 0"):
        dataset.save_to_disk(tmp_path / "x", num_proc=0)
    with pytest.raises(OptionError, match="num_shards must be at least 1, but is 0"):
        dataset.save_to_disk(tmp_path / "x", num_shards=0)
    with pytest.raises(OptionError, match="max_shard_size must be at least one byte, but is 0"):
        dataset.save_to_disk(tmp_path / "x", max_shard_size=0)


def test_more_files_than_rows(tmp_path: Path) -> None:
    Dataset.from_dict({"a": [1, 2]}).save_to_disk(tmp_path / "d", num_shards=5)
    assert load_from_disk(tmp_path / "d").to_dict() == {"a": [1, 2]}
    assert reference.load_from_disk(str(tmp_path / "d")).to_dict() == {"a": [1, 2]}


def test_an_older_folder_with_row_numbers_beside_its_rows(tmp_path: Path) -> None:
    Dataset.from_dict({"a": [10, 11, 12]}).save_to_disk(tmp_path / "d")
    rows = pa.table({"indices": pa.array([2, 0], type=pa.uint64())})
    with pa.OSFile(str(tmp_path / "d" / "indices.arrow"), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    state = json.loads((tmp_path / "d" / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "d" / "state.json").write_text(json.dumps(state))
    assert load_from_disk(tmp_path / "d").to_dict() == {"a": [12, 10]}


# --- what is said about a data set ---

INFO = {
    "description": "About.",
    "citation": "@misc{x}",
    "homepage": "https://example.org",
    "license": "CC0",
    "supervised_keys": {"input": "a", "output": "b"},
    "builder_name": "csv",
    "dataset_name": "things",
    "config_name": "default",
    "version": "1.2.3",
    "splits": {"train": {"name": "train", "num_bytes": 5, "num_examples": 2, "dataset_name": "things"}},
    "download_checksums": {"a.csv": {"num_bytes": 3, "checksum": "c"}},
    "download_size": 3,
    "dataset_size": 4,
    "size_in_bytes": 7,
}


def test_descriptions_go_both_ways(tmp_path: Path) -> None:
    ours = Dataset.from_dict({"a": [1], "b": [2]}, info=DatasetInfo(**INFO), split="train")
    theirs = reference.Dataset.from_dict({"a": [1], "b": [2]}, info=reference.DatasetInfo(**INFO), split="train")
    ours.save_to_disk(tmp_path / "ours")
    theirs.save_to_disk(str(tmp_path / "theirs"))
    described = [json.loads((tmp_path / who / "dataset_info.json").read_text()) for who in ("ours", "theirs")]
    assert described[0] == described[1]
    there, here = reference.load_from_disk(str(tmp_path / "ours")), load_from_disk(tmp_path / "theirs")
    for name in ("description", "citation", "homepage", "license", "builder_name", "config_name", "download_size"):
        assert getattr(here, name) == getattr(there, name) == INFO[name]
    assert (here.supervised_keys.input, here.supervised_keys.output) == ("a", "b")
    assert (there.supervised_keys.input, there.supervised_keys.output) == ("a", "b")
    assert str(here.version) == str(there.version) == "1.2.3"
    assert here.download_checksums == there.download_checksums == INFO["download_checksums"]
    assert (here.dataset_size, here.size_in_bytes) == (there.dataset_size, there.size_in_bytes) == (4, 7)
    assert here.info.splits["train"] == SplitInfo(name="train", num_bytes=5, num_examples=2, dataset_name="things")
    assert repr(here.info.splits["train"].num_examples) == repr(there.info.splits["train"].num_examples)
    assert here.split == there.split == "train" == NamedSplit("train") == Split.TRAIN
    assert repr(here.split) == repr(there.split) == "NamedSplit('train')"
    assert here.info.features is here.features


def test_descriptions_of_their_own(tmp_path: Path) -> None:
    info = DatasetInfo(description="x", license="MIT", version="1.0.0", features=Features({"a": Value("int8")}))
    info.write_to_directory(tmp_path / "d", pretty_print=True)
    assert (tmp_path / "d" / "LICENSE").read_text() == "MIT"
    assert DatasetInfo.from_directory(tmp_path / "d") == info
    theirs = reference.DatasetInfo.from_directory(str(tmp_path / "d"))
    assert (theirs.description, str(theirs.version), repr(theirs.features)) == ("x", "1.0.0", repr(info.features))
    assert repr(info) == repr(theirs).replace("version=1.0.0", "version='1.0.0'")
    other = DatasetInfo(description="y", license="MIT")
    merged, those = (
        DatasetInfo.from_merge([info, None, other]),
        reference.DatasetInfo.from_merge(
            [
                reference.DatasetInfo(description="x", license="MIT", version="1.0.0"),
                reference.DatasetInfo(description="y", license="MIT"),
            ]
        ),
    )
    assert (merged.description, merged.license) == (those.description, those.license) == ("x\n\ny", "MIT")
    assert DatasetInfo.from_merge([info, info.copy()]) == info
    info.update(DatasetInfo(description="z"))
    assert (info.description, info.version) == ("z", "1.0.0")
    info.update(DatasetInfo(description="z"), ignore_none=False)
    assert info.version is None
    kept = DatasetInfo.from_dict({"description": "x", "unknown": [1]})
    assert kept.to_json()["unknown"] == [1]
    with pytest.raises(DataError, match="The version of a data set is written like '1.0.0', not 'one'"):
        DatasetInfo(version="one")
    with pytest.raises(NotFoundError, match="There is no file .*none/dataset_info.json"):
        DatasetInfo.from_directory(tmp_path / "none")


def test_what_is_said_of_one_is_not_said_of_another() -> None:
    dataset = Dataset.from_dict({"a": [1, 2]})
    part = dataset.select([0])
    part.info.description = "part"
    assert dataset.description == ""
    assert part.select([0]).description == "part"
    assert dataset.remove_columns("a").info.features == Features()
    assert dataset.info.features == Features({"a": Value("int64")})
    assert dataset.dataset_size == 16  # two numbers of eight bytes


# --- several data sets ---


def test_dicts_of_files_and_their_data(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    (tmp_path / "b.csv").write_text("x\n3\n")
    paths = {"train": str(tmp_path / "a.csv"), "test": [str(tmp_path / "b.csv")]}
    both = DatasetDict.from_csv(paths)
    theirs = reference.DatasetDict.from_csv(paths, cache_dir=str(tmp_path / "cache"))
    assert {name: split.to_dict() for name, split in both.items()} == {n: s.to_dict() for n, s in theirs.items()}
    assert {name: table["x"].to_pylist() for name, table in both.data.items()} == {"train": [1, 2], "test": [3]}
    assert DatasetDict.from_csv(paths, Features({"x": Value("int8")}))["test"].features["x"] == Value("int8")
    for split, dataset in both.items():
        dataset.to_json(tmp_path / f"{split}.jsonl")
        dataset.to_parquet(tmp_path / f"{split}.parquet")
    for form, ending in (("json", "jsonl"), ("parquet", "parquet")):
        read = getattr(DatasetDict, f"from_{form}")({name: str(tmp_path / f"{name}.{ending}") for name in both})
        assert {name: split.to_dict() for name, split in read.items()} == {"train": {"x": [1, 2]}, "test": {"x": [3]}}
    assert DatasetDict.from_text(paths)["test"].to_dict() == {"text": ["x", "3"]}


def test_functions_are_told_their_split(tmp_path: Path) -> None:
    both = DatasetDict({"train": Dataset.from_dict({"a": [1, 2]}), "test": Dataset.from_dict({"a": [3]})})
    both.save_to_disk(tmp_path / "d")
    both = DatasetDict.load_from_disk(tmp_path / "d")  # from files, so that results are kept

    def named(row: Any, index: int, split: str, end: str = "") -> dict[str, str]:
        return {"from": f"{split} {index}{end}"}

    found = both.map(named, with_indices=True, with_split=True, fn_kwargs={"end": "."})
    assert found["train"]["from"] == ["train 0.", "train 1."]
    assert found["test"]["from"] == ["test 0."]
    same = DatasetDict({"p": both["test"], "q": both["test"]})  # the same rows under two names
    assert {name: split["from"][:] for name, split in same.map(named, with_indices=True, with_split=True).items()} == {
        "p": ["p 0"],
        "q": ["q 0"],
    }

    async def waits(row: Any, split: str) -> dict[str, str]:
        return {"from": split}

    assert both.map(waits, with_split=True)["test"]["from"] == ["test"]


def test_tables_are_written_to_addresses(memory: Any, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Dataset.from_dict({"a": [1, 2]})
    dataset.to_csv("memory://out/a.csv", storage_options={"skip_instance_cache": True})
    assert memory.cat("/out/a.csv") == b"a\n1\n2\n"
    dataset.to_json("memory://out/a.jsonl")
    assert memory.cat("/out/a.jsonl") == b'{"a": 1}\n{"a": 2}\n'
    dataset.to_parquet("memory://out/a.parquet")
    with memory.open("/out/a.parquet", "rb") as stream:
        assert pa.parquet.read_table(stream)["a"].to_pylist() == [1, 2]
    with caplog.at_level("INFO", logger="plait.data"):
        dataset.to_csv("memory://out/a.csv", num_proc=2)
    assert "to_csv(num_proc=…) has no effect: the work is done in this process" in caplog.text
