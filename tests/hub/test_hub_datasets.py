"""Data sets by name: which files of a repository come, from which hub, and how its README is read."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from fake_hub import FakeHub
from PIL import Image as Pillow

from plait.data import ClassLabel, Value, get_dataset_config_names, get_dataset_split_names, load_dataset
from plait.errors import ColumnError, DataError, HubError, NotFoundError, OfflineError, OptionError

CARD = """---
license: mit
configs:
- config_name: mrpc
  data_files:
  - split: train
    path: mrpc/train-*.csv
  - split: test
    path: [mrpc/test.csv]
  sep: ";"
- config_name: cola
  data_dir: cola
  default: true
dataset_info:
- config_name: mrpc
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': not_equivalent
          '1': equivalent
  license: cc
  homepage: https://example.org
---
# A data set
"""
GLUE = {
    "README.md": CARD.encode(),
    ".gitattributes": b"*.csv filter=lfs",
    "mrpc/train-0.csv": b"text;label\na;1\n",
    "mrpc/train-1.csv": b"text;label\nb;0\n",
    "mrpc/test.csv": b"text;label\nc;-1\n",
    "cola/train.jsonl": b'{"text": "x"}\n',
    "cola/dev.jsonl": b'{"text": "y"}\n' * 40,
    "other.bin": b"0" * 200,
}


def files(hub: FakeHub) -> list[str]:
    """The files that were fetched, in order."""
    return [path.partition("/resolve/")[2].partition("/")[2] for path in hub.paths() if "/resolve/" in path]


def table(**columns: list[Any]) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def test_a_configuration_of_a_repository(hub: FakeHub) -> None:
    commit = hub.add("org/glue", GLUE, kind="dataset")
    found = load_dataset("org/glue", "mrpc")
    assert {name: part.to_dict() for name, part in found.items()} == {
        "train": {"text": ["a", "b"], "label": [1, 0]},
        "test": {"text": ["c"], "label": [-1]},
    }
    assert found["train"].features == {
        "text": Value("string"),
        "label": ClassLabel(names=["not_equivalent", "equivalent"]),
    }
    assert files(hub) == ["README.md", "mrpc/train-0.csv", "mrpc/train-1.csv", "mrpc/test.csv"]
    assert hub.paths()[:2] == [
        "/api/datasets/org/glue/revision/main",
        f"/api/datasets/org/glue/tree/{commit}?recursive=true&expand=false",
    ]
    hub.log.clear()
    again = load_dataset("org/glue", "mrpc", split="train")
    assert again.cache_files == found["train"].cache_files
    assert hub.log == [], "what is cached is opened without a request"


def test_what_is_said_about_it(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    info = load_dataset("org/glue", "mrpc", split="test").info
    assert (info.builder_name, info.dataset_name, info.config_name) == ("csv", "glue", "mrpc")
    assert (info.license, info.homepage) == ("cc", "https://example.org")
    assert info.splits is not None
    assert {name: split.num_examples for name, split in info.splits.items()} == {"test": 1}
    assert info.download_size == len(GLUE["mrpc/test.csv"])
    assert info.dataset_size == info.splits["test"].num_bytes > 0


def test_only_the_splits_that_are_asked_for_come(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    assert load_dataset("org/glue", split="validation[:2]")["text"] == ["y", "y"]
    assert files(hub) == ["README.md", "cola/dev.jsonl"]
    with pytest.raises(ColumnError, match=r"There is no split 'test'. Splits are \['train', 'validation'\]"):
        load_dataset("org/glue", split="test")


def test_the_default_configuration_and_unknown_ones(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    assert load_dataset("org/glue")["train"].to_dict() == {"text": ["x"]}
    assert get_dataset_config_names("org/glue") == ["mrpc", "cola"]
    assert get_dataset_split_names("org/glue", "mrpc") == ["train", "test"]
    assert get_dataset_split_names("org/glue") == ["train", "validation"]
    with pytest.raises(OptionError) as caught:
        load_dataset("org/glue", "mprc")
    assert str(caught.value) == ("org/glue has no configuration 'mprc'. Did you mean 'mrpc'? It has ['mrpc', 'cola'].")
    hub.add("org/two", {**GLUE, "README.md": CARD.replace("  default: true\n", "").encode()}, kind="dataset")
    with pytest.raises(OptionError) as caught:
        load_dataset("org/two")
    assert str(caught.value) == (
        "org/two has the configurations ['mrpc', 'cola']. Name one: load_dataset('org/two', 'mrpc')."
    )


def test_a_plain_name_is_redirected(hub: FakeHub) -> None:
    hub.add("nyu-mll/glue", GLUE, kind="dataset")
    hub.renamed["glue"] = "nyu-mll/glue"
    assert load_dataset("glue", "mrpc", split="test")["text"] == ["c"]


def test_modelscope_and_other_hubs(hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    assert load_dataset("ms:org/glue", "mrpc", split="train")["text"] == ["a", "b"]
    assert all(path.startswith("/api/v1/datasets/org/glue/repo") for path in hub.paths())
    monkeypatch.setenv("PLAIT_HUBS", f"{other_hub.address},modelscope")
    other_hub.add("org/else", GLUE, kind="dataset")
    assert load_dataset("org/else", split="train")["text"] == ["x"]
    assert load_dataset("org/glue", split="train")["text"] == ["x"], "the second hub has it"


def test_the_token_and_the_revision(hub: FakeHub) -> None:
    commit = hub.add("org/glue", GLUE, kind="dataset")
    hub.add("org/glue", {"train.csv": b"a\n7\n"}, kind="dataset", branch="next/one")
    assert load_dataset("org/glue", revision="next/one", split="train", token="secret")["a"] == [7]
    assert {headers.get("authorization") for _, _, headers in hub.log} == {"Bearer secret"}
    assert load_dataset(f"org/glue@{commit}", "cola", split="train")["text"] == ["x"]
    with pytest.raises(NotFoundError, match="answered 404: it has no such revision"):
        load_dataset("hf:org/glue", revision="nowhere")


def test_data_files_and_data_dir_of_a_repository(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    one = load_dataset("org/glue", data_files={"x": "cola/*.jsonl"}, split="x[:3]")
    assert one["text"] == ["y", "y", "y"]
    assert load_dataset("org/glue", data_dir="mrpc", split="test", sep=";")["text"] == ["c"]
    assert load_dataset("org/glue/mrpc/test.csv", split="train", sep=";")["text"] == ["c"]
    assert load_dataset("csv", data_files="hf://datasets/org/glue/mrpc/t*.csv", split="train", sep=";").num_rows == 3
    address = f"{hub.address}/datasets/org/glue/resolve/main/mrpc/test.csv"
    assert load_dataset("csv", data_files=address, split="train", sep=";")["text"] == ["c"]
    assert load_dataset(address, split="train", sep=";")["text"] == ["c"]
    with pytest.raises(DataError, match="org/glue has no file 'mrcp/test.csv'. Did you mean 'mrpc/test.csv'"):
        load_dataset("org/glue", data_files="mrcp/test.csv")
    with pytest.raises(DataError, match="org/glue has no file 'mrcp'"):
        load_dataset("org/glue", data_dir="mrcp")


SHARDS = {f"data/{name}-0000{n}-of-00002.parquet": table(a=[n]) for name in ("train", "extra.small") for n in (0, 1)}


def test_shards_name_their_splits(hub: FakeHub) -> None:
    hub.add("org/shards", {**SHARDS, "notes.txt": b"x"}, kind="dataset")
    found = load_dataset("org/shards")
    assert {name: part["a"][:] for name, part in found.items()} == {"train": [0, 1], "extra.small": [0, 1]}


def test_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    load_dataset("org/glue", "mrpc", split="train")
    hub.log.clear()
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    assert load_dataset("org/glue", "mrpc", split="train").num_rows == 2
    with pytest.raises(OfflineError, match=r"its copy is incomplete: it lacks cola/dev.jsonl"):
        load_dataset("org/glue", split="validation")
    with pytest.raises(OfflineError, match="'org/none' is neither a format"):
        load_dataset("org/none")
    assert hub.log == []


def test_caches_of_the_other_libraries(
    hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy without a list of its files may be a part: it is taken only when no hub can be asked."""
    commit = hub.add("org/glue", GLUE, kind="dataset")
    theirs = cache.parent / "hf" / "hub" / "datasets--org--glue"
    for name, data in {"README.md": GLUE["README.md"], "mrpc/test.csv": GLUE["mrpc/test.csv"]}.items():
        (theirs / "snapshots" / commit / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / "snapshots" / commit / name).write_bytes(data)
    (theirs / "refs").mkdir()
    (theirs / "refs" / "main").write_text(commit)
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    with pytest.raises(DataError, match=r"org/glue has no file 'mrpc/train-\*.csv'"):
        load_dataset("org/glue", "mrpc", split="test")
    found = load_dataset("org/glue", data_files="mrpc/test.csv", split="train", sep=";")
    assert found["text"] == ["c"]
    assert "org/glue: no list of its files tells whether" in caplog.text
    (theirs / "trees").mkdir()
    listed = {name: {"size": len(data)} for name, data in GLUE.items()}
    (theirs / "trees" / f"{commit}.json").write_text(json.dumps({"format_version": 1, "files": listed}))
    assert load_dataset("org/glue", "mrpc", split="test")["text"] == ["c"]
    assert hub.log == []
    monkeypatch.delenv("PLAIT_OFFLINE")
    (theirs / "trees" / f"{commit}.json").unlink()
    assert load_dataset("org/glue", "mrpc", split="train")["text"] == ["a", "b"]
    assert files(hub) == ["README.md", "mrpc/train-0.csv", "mrpc/train-1.csv"]


def test_cache_dir_holds_everything(hub: FakeHub, tmp_path: Path, cache: Path) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    found = load_dataset("org/glue", "mrpc", split="train", cache_dir=tmp_path / "mine")
    assert all(file["filename"].startswith(str(tmp_path / "mine")) for file in found.cache_files)
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= {"hubs", "blobs", "data"}
    assert not cache.exists()


def test_force_redownload_asks_again(hub: FakeHub) -> None:
    hub.add("org/glue", {"train.csv": b"a\n1\n"}, kind="dataset")
    assert load_dataset("org/glue", split="train")["a"] == [1]
    hub.add("org/glue", {"train.csv": b"a\n2\n"}, kind="dataset")
    assert load_dataset("org/glue", split="train")["a"] == [1]
    assert load_dataset("org/glue", split="train", download_mode="force_redownload")["a"] == [2]
    with pytest.raises(OptionError, match="Did you mean 'force_redownload'"):
        load_dataset("org/glue", download_mode="force_redownlod")


def test_pages_and_addresses(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    page = f"{hub.address}/datasets/org/glue"
    assert load_dataset(page, "mrpc", split="test")["text"] == ["c"]
    assert load_dataset(f"{page}/tree/main", split="train")["text"] == ["x"]
    digest = hashlib.sha256(GLUE["mrpc/test.csv"]).hexdigest()
    pinned = f"{hub.address.replace('127.0.0.1', 'localhost')}/datasets/org/glue/resolve/main/mrpc/test.csv"
    found = load_dataset("csv", data_files=f"{pinned}#sha256={digest}", split="train", sep=";")
    assert found["text"] == ["c"]
    hub.log.clear()
    load_dataset("csv", data_files=f"{pinned}#sha256={digest}", split="train", sep=";")
    assert hub.log == []
    for address in ("hf://org/glue/a.csv", "hf://datasets/org"):
        with pytest.raises(DataError, match="is written hf://datasets/org/name/path, with @revision behind the name"):
            load_dataset("csv", data_files=address)
    with pytest.raises(DataError, match="is the page of a repository; name a file in it"):
        load_dataset("csv", data_files=page)


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Pillow.new("L", (2, 2), shade).save(stream, format="PNG")
    return stream.getvalue()


def test_pictures_of_a_repository(hub: FakeHub) -> None:
    described = b"file_name,y\ntrain/1.png,5\ntest/2.png,6\n"
    pictures = {"train/1.png": picture(1), "test/2.png": picture(2)}
    hub.add("org/pictures", {**pictures, "metadata.csv": described, "notes.txt": b"x"}, kind="dataset")
    found = load_dataset("org/pictures")
    assert {name: part["y"][:] for name, part in found.items()} == {"train": [5], "test": [6]}
    assert found["test"][0]["image"].getpixel((0, 0)) == 2


def test_archives_of_a_repository(hub: FakeHub) -> None:
    def packed(shade: int) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a/1.png", picture(shade))
            archive.writestr("b/2.png", picture(shade))
            archive.writestr("about.txt", "x")
        return stream.getvalue()

    hub.add("org/zips", {"train.zip": packed(1), "test.zip": packed(2), "README.md": b"# x"}, kind="dataset")
    found = load_dataset("org/zips")
    assert {name: part["label"][:] for name, part in found.items()} == {"train": [0, 1], "test": [0, 1]}
    assert found["test"][0]["image"].getpixel((0, 0)) == 2
    named = load_dataset("org/zips", data_files={"x": "t*.zip"}, split="x")
    assert [row["image"].getpixel((0, 0)) for row in named] == [2, 2, 1, 1]


def test_a_stream_of_a_repository(hub: FakeHub) -> None:
    hub.add("org/glue", GLUE, kind="dataset")
    stream = load_dataset("org/glue", "mrpc", split="train", streaming=True)
    assert list(stream) == [{"text": "a", "label": 1}, {"text": "b", "label": 0}]


def test_types_of_a_readme_that_do_not_fit(hub: FakeHub) -> None:
    card = "---\ndataset_info:\n  features: [{name: a, dtype: int8}]\n---\n"
    files = {"README.md": card.encode(), "train.csv": b"a\n300\n"}
    hub.add("org/stale", files, kind="dataset")
    remedy = r" The types are those of README.md of org/stale; features= declares others\.$"
    with pytest.raises(DataError, match=r"line 2, column 'a': '300' does not fit .*" + remedy):
        load_dataset("org/stale")
    assert load_dataset("org/stale", split="train", features={"a": "int64"})["a"] == [300]
    hub.add("org/stale", {"README.md": card.encode(), "train.parquet": table(a=[1], b=[2])}, kind="dataset")
    with pytest.raises(DataError, match=r"columns that features= does not name: \['b'\]. Choose some .*" + remedy):
        load_dataset("org/stale", download_mode="force_redownload")
    assert load_dataset("org/stale", split="train", columns=["b"])["b"] == [2]


# --- scripts ---


def test_a_script_is_not_run(hub: FakeHub) -> None:
    hub.add("org/old", {"old.py": b"raise SystemExit", "README.md": b"# old"}, kind="dataset")
    with pytest.raises(DataError) as caught:
        load_dataset("org/old")
    assert str(caught.value) == (
        "org/old is read by a script of its own, old.py. No code comes with a data set here, so it is not run. Name "
        "the files to read with data_files=…, of the repository or at the addresses that the script names, or ask its "
        "authors for Parquet files."
    )
    hub.add("org/old", {"old.py": b"", "requirements.txt": b"x", "raw/a.csv": b"a\n1\n"}, kind="dataset")
    with pytest.raises(DataError, match="org/old is read by a script of its own, old.py"):
        load_dataset("org/old", download_mode="force_redownload")
    assert load_dataset("org/old", data_files="raw/*.csv", split="train")["a"] == [1]
    with pytest.raises(OptionError, match="trust_remote_code=True is refused: no code comes with a data set"):
        load_dataset("org/old", trust_remote_code=True)


def test_the_parquet_branch_of_a_script(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add("org/old", {"old.py": b"raise SystemExit"}, kind="dataset")
    branch = {
        "plain/train/0000.parquet": table(a=[1]),
        "plain/train/0001.parquet": table(a=[2]),
        "plain/partial-test/0000.parquet": table(a=[3]),
        "fancy/train/0000.parquet": table(a=[4]),
    }
    hub.add("org/old", branch, kind="dataset", branch="refs/convert/parquet")
    with caplog.at_level(logging.INFO, logger="plait.data"):
        found = load_dataset("org/old", "plain")
    assert {name: part["a"][:] for name, part in found.items()} == {"train": [1, 2], "test": [3]}
    assert "org/old: a script, so its branch refs/convert/parquet is read" in caplog.text
    with pytest.raises(OptionError, match=r"org/old has the configurations \['fancy', 'plain'\]. Name one"):
        load_dataset("org/old")


# --- what cannot be read ---


def test_repositories_without_data(hub: FakeHub) -> None:
    hub.add("org/pictures", {"a.bin": b"x", "README.md": b"---\n: {\n---\n"}, kind="dataset")
    with pytest.raises(DataError, match=r"^The YAML at the top of README.md of org/pictures cannot be read: "):
        load_dataset("org/pictures")
    hub.add("org/none", {"a.bin": b"x"}, kind="dataset")
    with pytest.raises(NotFoundError) as caught:
        load_dataset("org/none")
    assert str(caught.value) == "org/none holds no data files of a known format. It holds a.bin."
    with pytest.raises(HubError) as other:
        load_dataset("hf:org/nowhere")
    assert "'hf:org/nowhere' is neither a format (csv, json," in str(other.value)
    assert "answered 404: there is no such repository or file" in str(other.value)


def test_a_card_cannot_lead_out_of_its_repository(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for path in ("../../secret.csv", str(tmp_path / "secret.csv")):
        card = f"---\nconfigs:\n- config_name: x\n  data_files: {path}\n---\n"
        hub.add("org/evil", {"README.md": card.encode(), "a.csv": b"a\n"}, kind="dataset")
        with pytest.raises(DataError, match="org/evil has no file "):
            load_dataset("org/evil", download_mode="force_redownload")


def test_addresses_in_a_card_get_no_token(
    hub: FakeHub, other_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hub that the token is for gets it; a place that a README names does not."""
    other_hub.add("org/files", {"a.csv": b"a\n1\n"}, kind="dataset")
    monkeypatch.setenv("PLAIT_HUBS", hub.address)
    monkeypatch.setenv("HF_ENDPOINT", other_hub.address)
    card = "---\nconfigs:\n- config_name: x\n  data_files: hf://datasets/org/files/a.csv\n---\n"
    hub.add("org/card", {"README.md": card.encode()}, kind="dataset")
    assert load_dataset("org/card", split="train", token="secret")["a"] == [1]
    assert {headers.get("authorization") for _, _, headers in hub.log} == {"Bearer secret"}
    assert {headers.get("authorization") for _, _, headers in other_hub.log} == {None}
    for address in (f"file://{tmp_path}/secret.csv", "memory://secret.csv", "http://example.org/a.csv"):
        hub.add(
            "org/evil", {"README.md": card.replace("hf://datasets/org/files/a.csv", address).encode()}, kind="dataset"
        )
        with pytest.raises(DataError, match="a README may name files of its repository, and addresses that begin with"):
            load_dataset("org/evil", download_mode="force_redownload")


def test_a_token_goes_to_no_other_address(hub: FakeHub, other_hub: FakeHub) -> None:
    other_hub.add("org/files", {"a.csv": b"a\n1\n"}, kind="dataset")
    digest = hashlib.sha256(b"a\n1\n").hexdigest()
    address = f"{other_hub.address}/datasets/org/files/resolve/main/a.csv#sha256={digest}"
    assert load_dataset("csv", data_files=address, split="train", token="secret")["a"] == [1]
    assert {headers.get("authorization") for _, _, headers in other_hub.log} == {None}


def test_a_package_with_data(wheels: Any) -> None:
    wheels.add("weather", "1.0", {"weather/train.csv": b"a\n1\n", "weather/test.csv": b"a\n2\n"})
    assert load_dataset("pypi:weather==1.0", split="test")["a"] == [2]


# --- clones ---


def test_a_folder_wins_over_a_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("org/here", {"train.csv": b"a\n1\n"}, kind="dataset")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "here").mkdir(parents=True)
    (tmp_path / "org" / "here" / "train.csv").write_text("a\n2\n")
    with caplog.at_level(logging.INFO, logger="plait.data"):
        assert load_dataset("org/here", split="train")["a"] == [2]
    assert "'org/here' is the folder here, and wins over a hub's (write hf:org/here or ms:org/here" in caplog.text
    assert load_dataset("hf:org/here", split="train")["a"] == [1]


def test_a_local_clone(tmp_path: Path) -> None:
    for name, data in GLUE.items():
        (tmp_path / "glue" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "glue" / name).write_bytes(data)
    place = str(tmp_path / "glue")
    assert load_dataset(place, "mrpc", split="train", keep_in_memory=True)["label"] == [1, 0]
    assert load_dataset(place, split="validation", keep_in_memory=True).num_rows == 40
    assert get_dataset_config_names(place) == ["mrpc", "cola"]
    assert load_dataset(place, data_files="cola/*.jsonl", split="train", keep_in_memory=True).num_rows == 41
    (tmp_path / "glue" / "cola" / "dev.jsonl").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    with pytest.raises(DataError, match="dev.jsonl is a pointer of git-lfs, .* Run `git lfs install && git lfs pull`"):
        load_dataset(place, split="validation", keep_in_memory=True)
