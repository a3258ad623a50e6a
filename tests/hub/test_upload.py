"""Data sets uploaded to a hub: what lies there afterwards, what the README says, and that it is read back the same."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import PIL.Image
import pyarrow.parquet as parquet
import pytest
import yaml
from datasets.info import DatasetInfo, DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from datasets.utils.metadata import MetadataConfigs
from fake_hub import FakeHub
from huggingface_hub import DatasetCardData

from plait.data import (
    Array2D,
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDatasetDict,
    Json,
    LargeList,
    List,
    Translation,
    TranslationVariableLanguages,
    Value,
    load_dataset,
)
from plait.data.card import features_of_yaml
from plait.data.card_update import Update, Uploaded, features_to_yaml, updated_card
from plait.errors import DataError, HubError, OfflineError, OptionError, ReferenceFormatError

REPOSITORY = "datasets/org/things"


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return "hf_secret"


def front(text: bytes | str) -> Any:
    text = text.decode() if isinstance(text, bytes) else text
    return yaml.safe_load(text.split("---\n")[1])


def local_copy(hub: FakeHub, folder: Path) -> str:
    """The repository as a folder, for a library that must not ask the network."""
    for path, data in hub.repositories[REPOSITORY].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return str(folder)


def test_a_new_repository_is_made_and_read_back(hub: FakeHub, token: str, tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    dataset = Dataset.from_dict({"text": ["a", "b", "é"], "label": [0, 1, 1]}, features=features)
    commit = dataset.push_to_hub("org/things", num_shards=2, private=True, commit_description="why")
    assert set(hub.repositories[REPOSITORY]) == {
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "README.md",
    }
    assert hub.commits[0] == {"created": "org/things", "private": True}
    assert (hub.commits[1]["summary"], hub.commits[1]["description"]) == ("Upload dataset", "why")
    assert commit.oid == hub.commit(REPOSITORY)
    files = hub.repositories[REPOSITORY]
    assert front(files["README.md"]) == {
        "dataset_info": {
            "features": [
                {"name": "text", "dtype": "string"},
                {"name": "label", "dtype": {"class_label": {"names": {"0": "neg", "1": "pos"}}}},
            ],
            "splits": [{"name": "train", "num_bytes": dataset.dataset_size, "num_examples": 3}],
            "download_size": sum(len(data) for path, data in files.items() if path.startswith("data/")),
            "dataset_size": dataset.dataset_size,
        },
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    back = load_dataset("org/things", split="train")
    assert back.to_dict() == dataset.to_dict()
    assert back.features == dataset.features
    theirs = reference.load_dataset(local_copy(hub, tmp_path / "copy"), cache_dir=str(tmp_path / "cache"))
    assert theirs["train"].to_dict() == dataset.to_dict()
    assert repr(theirs["train"].features) == repr(dataset.features)


def test_a_bare_name_belongs_to_the_user(hub: FakeHub, token: str) -> None:
    Dataset.from_dict({"a": [1]}).push_to_hub("things")
    assert list(hub.repositories) == ["datasets/me/things"]
    assert "README.md" in hub.repositories["datasets/me/things"]


def test_splits_and_configurations_come_together(hub: FakeHub, token: str, tmp_path: Path) -> None:
    train, test = Dataset.from_dict({"a": list(range(100))}), Dataset.from_dict({"a": [7]})
    train.push_to_hub("org/things", num_shards=3)
    test.push_to_hub("org/things", split="test")
    card = front(hub.repositories[REPOSITORY]["README.md"])
    assert [split["name"] for split in card["dataset_info"]["splits"]] == ["train", "test"]
    assert card["dataset_info"]["dataset_size"] == 808
    train.take(10).push_to_hub("org/things")  # fewer files than before: the surplus ones go
    assert hub.commits[-1]["deleted"] == [f"data/train-0000{i}-of-00003.parquet" for i in range(3)]
    card = front(hub.repositories[REPOSITORY]["README.md"])
    files = {path: len(data) for path, data in hub.repositories[REPOSITORY].items() if path.startswith("data/")}
    assert sorted(files) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    assert card["dataset_info"]["download_size"] == sum(files.values())
    assert card["dataset_info"]["dataset_size"] == 88
    other = DatasetDict({"train": Dataset.from_dict({"b": ["x"]}), "dev": Dataset.from_dict({"b": ["y"]})})
    other.push_to_hub("org/things", "words", num_shards={"train": 1})
    card = front(hub.repositories[REPOSITORY]["README.md"])
    assert [info["config_name"] for info in card["dataset_info"]] == ["default", "words"]
    assert card["configs"][1] == {
        "config_name": "words",
        "data_files": [{"split": "train", "path": "words/train-*"}, {"split": "dev", "path": "words/dev-*"}],
    }
    copy = local_copy(hub, tmp_path / "copy")
    for read in (
        lambda *name: load_dataset("org/things", *name, download_mode="force_redownload"),
        lambda *name: reference.load_dataset(copy, *name, cache_dir=str(tmp_path / "cache")),
    ):
        assert {name: split["a"][:] for name, split in read().items()} == {"train": list(range(10)), "test": [7]}
        assert {name: split["b"][:] for name, split in read("words").items()} == {"train": ["x"], "dev": ["y"]}
    DatasetDict({"train": Dataset.from_dict({"b": ["z"]})}).push_to_hub("org/things", "words")
    card = front(hub.repositories[REPOSITORY]["README.md"])
    assert card["configs"][1]["data_files"] == [{"split": "train", "path": "words/train-*"}]


def test_streams_are_read_and_uploaded(hub: FakeHub, token: str, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"an encoded picture")
    features = Features({"n": Value("int8"), "p": Image(decode=False)})
    rows = Dataset.from_dict({"n": [1, 2, 3], "p": [str(tmp_path / "p.png"), None, b"y"]}, features=features)
    rows.to_iterable_dataset(num_shards=2).push_to_hub("org/things", num_shards=1, split="dev")
    data = hub.repositories[REPOSITORY]["data/dev-00000-of-00001.parquet"]
    assert parquet.read_table(io.BytesIO(data)).to_pylist() == [
        {"n": 1, "p": {"bytes": b"an encoded picture", "path": "p.png"}},
        {"n": 2, "p": None},
        {"n": 3, "p": {"bytes": b"y", "path": None}},
    ]
    both = IterableDatasetDict({"a": rows.to_iterable_dataset(), "b": rows.take(1).to_iterable_dataset()})
    both.push_to_hub("org/things", "two", num_shards={"a": 3})
    card = front(hub.repositories[REPOSITORY]["README.md"])
    assert [split["num_examples"] for split in card["dataset_info"][1]["splits"]] == [3, 1]
    assert len([path for path in hub.repositories[REPOSITORY] if path.startswith("two/a-")]) == 3


def test_what_a_readme_holds_besides_stays(hub: FakeHub, token: str) -> None:
    text = "---\nlicense: mit\ntags:\n- 中文\n---\n\n# Things\n\n---\nmore\n"
    hub.add("org/things", {"README.md": text.encode(), "extra.txt": b"x"}, kind="dataset")
    Dataset.from_dict({"a": [1]}).push_to_hub("org/things", data_dir="rows")
    written = hub.repositories[REPOSITORY]["README.md"].decode()
    assert written.startswith(
        "---\nlicense: mit\ntags:\n- 中文\ndataset_info:\n  features:\n  - name: a\n    dtype: int64\n"
    )
    assert written.endswith("---\n\n# Things\n\n---\nmore\n")
    assert set(hub.repositories[REPOSITORY]) == {"README.md", "extra.txt", "rows/train-00000-of-00001.parquet"}
    assert [record for record in hub.commits if "created" in record] == []


def test_large_files_branches_and_proposals(hub: FakeHub, token: str, tmp_path: Path) -> None:
    hub.large = 500
    hub.add("org/things", {}, kind="dataset")
    dataset = Dataset.from_dict({"a": list(range(1000))}, split="validation")
    commit = dataset.push_to_hub("org/things", revision="next", create_pr=True, commit_message="Add rows")
    assert list(hub.blobs.values()) == [hub.repositories[REPOSITORY]["data/validation-00000-of-00001.parquet"]]
    assert "next" in hub.branches
    assert (hub.commits[-1]["summary"], hub.commits[-1]["create_pr"]) == ("Add rows", "1")
    assert commit.pr_url.endswith("/discussions/1")
    assert [path for path in hub.paths() if "/commit/next" in path]
    assert load_dataset("org/things", split="validation")["a"] == list(range(1000))


def test_pictures_and_sounds_become_bytes(hub: FakeHub, token: str, tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    picture.save(tmp_path / "p.png")
    (tmp_path / "s.wav").write_bytes(b"RIFF-stand-in")
    features = Features({"p": Image(), "many": List(Image()), "in": {"s": Audio(decode=False)}, "n": Value("int64")})
    row = {
        "p": str(tmp_path / "p.png"),
        "many": [str(tmp_path / "p.png"), None],
        "in": {"s": str(tmp_path / "s.wav")},
        "n": 1,
    }
    dataset = Dataset.from_list([row, {"p": None, "many": None, "in": None, "n": 2}], features=features)
    dataset.push_to_hub("org/things", split="train")
    data = hub.repositories[REPOSITORY]["data/train-00000-of-00001.parquet"]
    rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    png = (tmp_path / "p.png").read_bytes()
    assert rows[0]["p"] == {"bytes": png, "path": "p.png"}
    assert rows[0]["many"] == [{"bytes": png, "path": "p.png"}, None]
    assert rows[0]["in"]["s"] == {"bytes": b"RIFF-stand-in", "path": "s.wav"}
    assert (rows[1]["p"], rows[1]["many"], rows[1]["n"]) == (None, None, 2)
    (tmp_path / "p.png").unlink()
    back = load_dataset("org/things", split="train")
    assert np.array_equal(np.asarray(back[0]["p"]), np.asarray(picture))
    with pytest.raises(DataError, match="p.png is not there any more, so it cannot be uploaded"):
        dataset.push_to_hub("org/things")
    dataset.push_to_hub("org/things", embed_external_files=False)
    data = hub.repositories[REPOSITORY]["data/train-00000-of-00001.parquet"]
    assert parquet.read_table(io.BytesIO(data)).to_pylist()[0]["p"] == {"bytes": None, "path": str(tmp_path / "p.png")}


def test_an_upload_that_was_overtaken_looks_again(hub: FakeHub, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.hub.upload import Destination

    hub.add("org/things", {"README.md": b"old"}, kind="dataset")
    look, others = Destination.look, [b"newer", b"newest"]

    def overtaken(self: Destination) -> Any:
        seen = look(self)
        if others:
            hub.repositories[REPOSITORY]["README.md"] = others.pop(0)
        return seen

    monkeypatch.setattr(Destination, "look", overtaken)
    Dataset.from_dict({"a": [1]}).push_to_hub("org/things")
    assert hub.repositories[REPOSITORY]["README.md"].decode().endswith("---\nnewest")
    others = [bytes([number]) for number in range(65, 80)]
    with pytest.raises(HubError, match="org/things was changed by others 5 times during the upload"):
        Dataset.from_dict({"a": [2]}).push_to_hub("org/things")


def test_the_token_goes_to_its_own_origin_alone(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hf").mkdir(exist_ok=True)
    (tmp_path / "hf" / "token").write_text("hf_of_the_login")  # of huggingface.co, and HF_ENDPOINT is another place
    with pytest.raises(HubError, match="org/things was not uploaded to http://127.0.0.1.*uploading needs a token"):
        Dataset.from_dict({"a": [1]}).push_to_hub("org/things")
    assert hub.log == []
    Dataset.from_dict({"a": [1]}).push_to_hub("org/things", token="hf_given")
    sent = {headers.get("authorization") for _, path, headers in hub.log if not path.startswith("/blobs/")}
    assert sent <= {"Bearer hf_given", None}
    assert "Bearer hf_given" in sent


def test_uploads_that_cannot_be(hub: FakeHub, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.from_dict({"a": [1]})
    dataset.push_to_hub("org/things")
    before = dict(hub.repositories[REPOSITORY])
    with pytest.raises(DataError, match="The columns differ from those of the split 'train', which is there already"):
        Dataset.from_dict({"b": ["x"]}).push_to_hub("org/things", split="test")
    with pytest.raises(OptionError, match="A configuration cannot be called 'data'"):
        dataset.push_to_hub("org/things", "data")
    with pytest.raises(OptionError, match="A split is called with letters, digits, '_' and single dots, not 'a b'"):
        dataset.push_to_hub("org/things", split="a b")
    with pytest.raises(OptionError, match="Give max_shard_size or num_shards, not both"):
        dataset.push_to_hub("org/things", max_shard_size="1MB", num_shards=2)
    with pytest.raises(ReferenceFormatError, match="'a/b/c' cannot be uploaded to: a repository is"):
        dataset.push_to_hub("a/b/c")
    with pytest.raises(ReferenceFormatError, match="it has the component '..'"):
        dataset.push_to_hub("org/things", data_dir="../x")
    with pytest.raises(DataError, match="There is a configuration called 'default', so 'x' cannot be the default one"):
        dataset.push_to_hub("org/things", "x", set_default=True)
    with pytest.raises(OptionError, match="num_shards names the split 'tset'"):
        DatasetDict({"test": dataset}).push_to_hub("org/things", num_shards={"tset": 1})
    with pytest.raises(DataError, match="All splits need the same columns, but 'a' and 'b' differ"):
        DatasetDict({"a": dataset, "b": Dataset.from_dict({"b": [1]})}).push_to_hub("org/things")
    hub.statuses["/commit/"] = [403]
    with pytest.raises(HubError, match="org/things could not be written: http://127.* answered 403.* allowed to write"):
        dataset.push_to_hub("org/things")
    assert hub.repositories[REPOSITORY] == before
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(HubError, match="org/things could not be opened: http://127.0.0.1:9 could not be reached .Conn"):
        dataset.push_to_hub("org/things")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="org/things was not uploaded: the network is switched off"):
        dataset.push_to_hub("org/things")


# --- the README, against the reference library ---


def test_features_in_yaml_equal_the_reference() -> None:
    def made(library: Any) -> dict[str, Any]:
        value, items, label = library.Value, library.List, library.ClassLabel
        return {
            "a": value("int64"),
            "y": label(names=["neg", "pos"]),
            "l": items(value("string")),
            "ll": items(items(value("int8"), length=2)),
            "fl": items(value("float32"), length=3),
            "lg": library.LargeList(value("int64")),
            "s": {"x": value("int64"), "z": {"q": items(label(names=["u", "v"]))}},
            "ls": items({"k": value("string"), "y": label(names=["u", "v"])}),
            "im": library.Image(),
            "im2": library.Image(mode="RGB"),
            "lim": items(library.Image(mode="L")),
            "au": library.Audio(sampling_rate=16000),
            "g": library.Array2D(shape=(None, 2), dtype="float32"),
            "t": library.Translation(languages=["en", "zh"]),
            "tv": library.TranslationVariableLanguages(languages=["en", "zh"]),
            "j": library.Json(),
            "lj": items(library.Json()),
            "ts": value("timestamp[us, tz=UTC]"),
            "d": value("decimal128(9, 2)"),
        }

    class Ours:
        pass

    for kind in (Value, List, ClassLabel, LargeList, Image, Audio, Array2D, Json):
        setattr(Ours, kind.__name__, kind)
    Ours.Translation, Ours.TranslationVariableLanguages = Translation, TranslationVariableLanguages
    ours = Features(made(Ours))
    assert features_to_yaml(ours) == reference.Features(made(reference))._to_yaml_list()
    assert features_of_yaml(yaml.safe_load(yaml.safe_dump(features_to_yaml(ours)))) == ours


@pytest.mark.parametrize("names", [["default"], ["en"], ["en", "default", "fr"]])
def test_cards_equal_the_reference(names: list[str]) -> None:
    text: str | None = None
    theirs = DatasetCardData()
    for number, name in enumerate(names):
        uploaded = {"train": Uploaded(rows=3, bytes_of_rows=24, bytes_of_files=100 + number)}
        update = Update(
            config_name=name,
            data_dir=name,
            features=Features({"a": Value("int64")}),
            splits=uploaded,
            set_default=name == "en" and len(names) == 1,
        )
        text = updated_card(text, update)
        info = DatasetInfo(
            config_name=name, features=reference.Features({"a": reference.Value("int64")}), splits=SplitDict()
        )
        info.splits.add(SplitInfo(name="train", num_bytes=24, num_examples=3))
        info.download_size, info.dataset_size = 100 + number, 24
        DatasetInfosDict({name: info}).to_dataset_card_data(theirs)
        config = {"data_files": [{"split": "train", "path": f"{name}/train-*"}]}
        MetadataConfigs({name: {**config, **({"default": True} if update.set_default else {})}}).to_dataset_card_data(
            theirs
        )
    assert text is not None
    assert front(text) == yaml.safe_load(theirs.to_yaml())


def test_files_without_configurations_get_theirs() -> None:
    update = Update(
        config_name="extra",
        data_dir="extra",
        features=Features({"a": Value("int64")}),
        splits={"train": Uploaded(rows=1, bytes_of_rows=8, bytes_of_files=50)},
        files=("data/train-00000-of-00001-0123456789abcdef.parquet", "data/test-00000-of-00001.parquet", "x.csv"),
    )
    assert front(updated_card("# Hello\n", update))["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/train-*"}, {"split": "test", "path": "data/test-*"}],
        },
        {"config_name": "extra", "data_files": [{"split": "train", "path": "extra/train-*"}]},
    ]
    with pytest.raises(DataError, match="The YAML at the top of the repository's README.md cannot be read"):
        updated_card("---\na: [\n---\n", update)
    with pytest.raises(DataError, match="README.md is no mapping of names to values"):
        updated_card("---\n- a\n---\n", update)
