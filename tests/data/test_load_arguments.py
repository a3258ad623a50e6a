"""The arguments of load_dataset: each has its effect, is said to have none, or is refused with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from plait.data import Dataset, Features, Value, load_dataset
from plait.errors import DataError, OptionError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n")
    return str(tmp_path / "a.csv")


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"trust_remote_code": True},
        "trust_remote_code=True is refused: no code comes with a data set, and none is run. Leave it out; of a "
        "repository with a script the Parquet files are read where its hub has them.",
    ),
    ({"use_auth_token": "x"}, "load_dataset has no argument 'use_auth_token': write token=."),
    (
        {"task": "x"},
        "load_dataset has no argument 'task': rename and cast the columns with rename_column() and cast_column().",
    ),
    (
        {"download_config": 1},
        "load_dataset has no argument 'download_config': write token=, cache_dir= and storage_options=.",
    ),
    (
        {"save_infos": True},
        "load_dataset has no argument 'save_infos': what is known about a data set is in its info.",
    ),
    (
        {"download_mode": "force_redownlod"},
        "download_mode must be one of reuse_dataset_if_exists, reuse_cache_if_exists, force_redownload, but is "
        "'force_redownlod'. Did you mean 'force_redownload'?",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_is_refused(options: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_dataset("csv", data_files=path, **options)
    assert str(caught.value) == message


def test_text_files_have_one_column(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n", encoding="utf-8")
    two = Features({"a": Value("string"), "b": Value("string")})
    with pytest.raises(DataError, match=r"^Text files have one column, but features= names \['a', 'b'\].$"):
        load_dataset("text", data_files=str(tmp_path / "a.txt"), features=two)


def test_nothing_is_named() -> None:
    with pytest.raises(
        OptionError, match=r"^Say what to load: a format \(csv, json, .*\), a file, a folder, or a name"
    ):
        load_dataset(" ")


def test_a_misspelt_argument_names_the_nearest(path: str) -> None:
    with pytest.raises(OptionError, match=r"has no option 'cache_dri'. Did you mean 'cache_dir'\? Options are sep, "):
        load_dataset("csv", data_files=path, cache_dri="x")
    with pytest.raises(OptionError, match="has no option 'seperator'"):
        load_dataset("csv", data_files=path, seperator=";")


def test_what_has_no_effect_is_said(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="plait.data"):
        load_dataset("csv", data_files=path, num_proc=4, verification_mode="no_checks", trust_remote_code=False)
    assert "num_proc=4 has no effect on load_dataset: files are read by one process" in caplog.text
    assert "verification_mode='no_checks' has no effect: digests are always checked" in caplog.text


def test_a_file_has_no_configurations(path: str) -> None:
    for options in ({"name": "x"}, {"data_files": "b.csv"}, {"data_dir": "d"}):
        ((argument, value),) = options.items()
        with pytest.raises(OptionError) as caught:
            load_dataset(path, **options)
        assert str(caught.value) == f"{path} is a file, so {argument}={value!r} means nothing: leave it out."
    assert load_dataset("csv", "mine", data_files=path, split="train").info.config_name == "mine"


def test_revision_and_token_are_for_hubs(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="plait.data"):
        load_dataset("csv", data_files=path, revision="main")
    assert "revision='main' has no effect on files that are here" in caplog.text


def test_cache_dir_is_where_the_cache_lies(path: str, tmp_path: Path) -> None:
    found = load_dataset("csv", data_files=path, split="train", cache_dir=tmp_path / "mine")
    assert [str(Path(file["filename"]).parents[3]) for file in found.cache_files] == [
        str(tmp_path / "mine" / "data")
    ] * 2
    assert not (tmp_path / "home").exists()
    again = load_dataset("csv", data_files=path, split="train", cache_dir=str(tmp_path / "mine"))
    assert again.cache_files == found.cache_files
    assert again.fingerprint == load_dataset("csv", data_files=path, split="train").fingerprint, "wherever it lies"


def test_download_mode(path: str) -> None:
    first = load_dataset("csv", data_files=path, split="train")
    before = Path(first.cache_files[0]["filename"]).stat().st_ino
    for mode in ("reuse_dataset_if_exists", "REUSE_CACHE_IF_EXISTS", datasets.DownloadMode.REUSE_DATASET_IF_EXISTS):
        kept = load_dataset("csv", data_files=path, split="train", download_mode=mode)
        assert Path(kept.cache_files[0]["filename"]).stat().st_ino == before
    for mode in ("force_redownload", datasets.DownloadMode.FORCE_REDOWNLOAD):
        made = load_dataset("csv", data_files=path, split="train", download_mode=mode)
        assert Path(made.cache_files[0]["filename"]).stat().st_ino != before
        before = Path(made.cache_files[0]["filename"]).stat().st_ino


def test_what_is_said_about_the_result(path: str) -> None:
    info = load_dataset("csv", data_files={"train": path, "test": path})["train"].info
    assert (info.builder_name, info.dataset_name, info.config_name) == ("csv", "csv", "default")
    assert info.splits is not None
    sizes = {name: (split.num_examples, split.num_bytes) for name, split in info.splits.items()}
    assert list(sizes) == ["train", "test"]
    rows, size = sizes["train"]
    # two int64, two 32-bit offsets (and one at the end), two letters; buffers may be padded to 64 bytes
    assert rows == 2
    assert 2 * 8 + 2 * 4 + 2 <= size <= 3 * 64
    assert info.dataset_size == 2 * size
    assert info.download_size == 2 * Path(path).stat().st_size
    assert info.size_in_bytes == info.dataset_size + info.download_size


def test_options_of_the_other_formats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = str(tmp_path / "a.parquet")
    parquet.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), target)
    some = load_dataset(
        "parquet", data_files=target, split="train", columns=["b"], filters=[("a", ">", 1)], keep_in_memory=True
    )
    assert some.to_dict() == {"b": ["y", "z"]}
    with pytest.raises(DataError, match="There is no column 'c'"):
        load_dataset("parquet", data_files=target, columns=["c"], keep_in_memory=True)
    (tmp_path / "b.parquet").write_bytes(b"no")
    both: dict[str, Any] = {"data_files": [target, str(tmp_path / "b.parquet")], "split": "train"}
    with pytest.raises(DataError, match="b.parquet is not a Parquet file"):
        load_dataset("parquet", keep_in_memory=True, **both)
    with caplog.at_level("WARNING", logger="plait.data"):
        assert load_dataset("parquet", on_bad_files="warn", keep_in_memory=True, **both).num_rows == 3
    assert "b.parquet is left out, since it is not a Parquet file" in caplog.text
    with pytest.raises(OptionError, match="on_bad_files must be 'error', 'skip' or 'warn', but is 'drop'"):
        load_dataset("parquet", on_bad_files="drop", **both)
    lines = tmp_path / "a.json"
    lines.write_text('{"meta": 1, "rows": [{"a": {"b": [1, 2]}}, {"a": {"b": []}}]}')
    nested = load_dataset("json", data_files=str(lines), field="rows", split="train", keep_in_memory=True)
    assert nested.to_dict() == {"a": [{"b": [1, 2]}, {"b": []}]}
    with caplog.at_level("INFO", logger="plait.data"):
        load_dataset("json", data_files=str(lines), field="rows", chunksize=5, keep_in_memory=True)
    assert "chunksize=5 has no effect on json files" in caplog.text
    lines.write_text('{"a": "热"}')
    with pytest.raises(DataError, match=r"a.json is not ascii text from byte 7 on .*It looks like utf-8"):
        load_dataset("json", data_files=str(lines), encoding="ascii", keep_in_memory=True)


def test_from_methods_take_the_same_options(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\n1;2\n")
    found = Dataset.from_csv(str(tmp_path / "a.csv"), sep=";", keep_in_memory=True)
    assert found.to_dict() == {"a": [1], "b": [2]}
    assert str(found.split) == "train"


def test_a_format_goes_by_its_suffixes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    Path("rows.txt").write_text("a\tb\n1\tx,y\n")
    assert load_dataset("jsonl", data_files="rows.jsonl", split="train").to_dict() == {"a": [1, 2]}
    assert load_dataset("tsv", data_files="rows.txt", split="train").to_dict() == {"a": [1], "b": ["x,y"]}
    assert load_dataset("TXT", data_dir=".", split="train").to_dict() == {"text": ["a\tb", "1\tx,y"]}
    Path("tsv").mkdir()
    Path("tsv/rows.csv").write_text("a,b\n1,x\n")
    assert load_dataset("tsv", split="train").to_dict() == {"a": [1], "b": ["x"]}, "a folder is what it holds"
