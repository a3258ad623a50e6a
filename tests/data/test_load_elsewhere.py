"""Files at addresses: fetched once per state through fsspec, or refused when the network is switched off."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from plait.data import load_dataset
from plait.errors import MissingExtraError, NotFoundError, OfflineError, OptionError, ReferenceFormatError


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file system that is elsewhere, and an empty cache."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    system = fsspec.filesystem("memory")
    system.pipe("/plait/a/train.csv", b"a\n1\n2\n")
    system.pipe("/plait/a/test.csv", b"a\n3\n")
    system.pipe("/plait/b.jsonl.gz", gzip.compress(b'{"a": 4}\n'))
    yield system
    system.rm("/plait", recursive=True)


def test_addresses_patterns_and_folders(memory: Any) -> None:
    assert load_dataset("csv", data_files="memory://plait/a/train.csv", split="train")["a"] == [1, 2]
    assert load_dataset("csv", data_files="memory://plait/a/*.csv", split="train")["a"] == [3, 1, 2]
    assert load_dataset("csv", data_files="memory://plait/a", split="train")["a"] == [3, 1, 2]
    splits = load_dataset("csv", data_files={"x": "memory://plait/a/t*t.csv", "y": ["memory://plait/a/train.csv"]})
    assert {name: part["a"][:] for name, part in splits.items()} == {"x": [3], "y": [1, 2]}
    assert load_dataset("memory://plait/b.jsonl.gz", split="train")["a"] == [4]
    with pytest.raises(NotFoundError, match=r"^There is no file memory://plait/none.csv\.$"):
        load_dataset("csv", data_files="memory://plait/none.csv")


def test_what_changed_is_fetched_again(memory: Any, tmp_path: Path) -> None:
    address = "memory://plait/a/test.csv"
    assert load_dataset("csv", data_files=address, split="train")["a"] == [3]
    assert load_dataset("csv", data_files=address, split="train")["a"] == [3]
    assert len(list((tmp_path / "home" / "data" / "fetched").glob("*/test.csv"))) == 1
    memory.pipe("/plait/a/test.csv", b"a\n5\n6\n")
    assert load_dataset("csv", data_files=address, split="train")["a"] == [5, 6]
    assert load_dataset("csv", data_files=address, split="train", cache_dir=tmp_path / "mine")["a"] == [5, 6]
    assert len(list((tmp_path / "mine" / "data" / "fetched").glob("*/test.csv"))) == 1


def test_files_here_are_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    path.write_text("a\n1\n")
    found = load_dataset("csv", data_files=path.as_uri(), split="train", cache_dir=tmp_path / "mine")
    assert found["a"] == [1]
    assert not (tmp_path / "mine" / "data" / "fetched").exists()


def test_offline(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    assert load_dataset("csv", data_files="memory://plait/a/test.csv", split="train")["a"] == [3]
    with pytest.raises(
        OfflineError, match=r"^s3://x/a.csv is not on this computer, and the network is switched off\.$"
    ):
        load_dataset("csv", data_files="s3://x/a.csv")
    with pytest.raises(OfflineError, match="is not on this computer, and the network is switched off"):
        load_dataset("csv", data_files="https://example.org/a.csv")


def test_addresses_that_cannot_be_opened(memory: Any) -> None:
    with pytest.raises(OptionError, match=r"^glacier://x/a.csv cannot be opened: Protocol not known: glacier"):
        load_dataset("csv", data_files="glacier://x/a.csv")
    with pytest.raises(ReferenceFormatError, match="plain http protects nothing; use https, or pin the file"):
        load_dataset("csv", data_files="http://example.org/a.csv")


def test_storage_options_reach_the_file_system(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    opened = fsspec.core.url_to_fs

    def url_to_fs(address: str, **options: Any) -> Any:
        given.append(options)
        return opened(address)

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    options = {"key": "k"}
    load_dataset("csv", data_files="memory://plait/a/test.csv", storage_options=options, split="train")
    assert given == [options]


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="`fsspec` is needed to read and write files elsewhere"):
        load_dataset("csv", data_files="memory://plait/a/test.csv")
