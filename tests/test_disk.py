"""Files that come to disk whole: their bytes, what an error leaves, and who may read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plait import AutoTokenizer, load_dataset
from plait.disk import left_behind, replaced, write_json
from plait.errors import DataError, TokenizerError, WeightsError
from plait.weights.checkpoint import open_checkpoint


def test_json_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.json"
    write_json(file, {"b": 1, "a": "é"})
    write_json(file, {"b": 2, "a": "é"})
    assert file.read_text(encoding="utf-8") == '{\n "a": "é",\n "b": 2\n}'
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]


def stop_halfway(file: Path) -> None:
    with replaced(file) as aside:
        aside.write_text("half", encoding="utf-8")
        raise RuntimeError("halfway")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(file, {"a": object()})
    with pytest.raises(RuntimeError, match="halfway"):
        stop_halfway(file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_umask_says_who_may_read(tmp_path: Path, mask: int) -> None:
    """A cache that several people share is of no use when its small files are for one of them alone."""
    before = os.umask(mask)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o666 & ~mask


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"


def test_what_git_lfs_left_behind_is_told_from_a_file(tmp_path: Path) -> None:
    pointer, text, empty = tmp_path / "model.bin", tmp_path / "notes.txt", tmp_path / "empty"
    pointer.write_text(POINTER, encoding="utf-8")
    text.write_text("about " + POINTER, encoding="utf-8")
    empty.touch()
    assert left_behind(pointer).startswith("is a pointer of git-lfs, not the file itself: ")
    assert [left_behind(path) for path in (text, empty, tmp_path / "nothing", tmp_path)] == [""] * 4


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.gguf"])
def test_weights_that_git_lfs_holds_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(WeightsError, match=f"^{name} of .* is a pointer of git-lfs.*Run `git lfs install && git lfs"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model", "qwen.tiktoken"])
def test_tokenizers_that_git_lfs_holds_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(POINTER, encoding="utf-8")
    with pytest.raises(TokenizerError, match=f"{name} is a pointer of git-lfs"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_data_that_git_lfs_holds_are_not_rows(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "train.csv").write_text(POINTER, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.csv is a pointer of git-lfs"):
        load_dataset("csv", data_files=str(tmp_path / "train.csv"), split="train", streaming=streaming)
