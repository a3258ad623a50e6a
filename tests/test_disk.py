"""Files that come to disk whole: their bytes, what an error leaves, and who may read them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plait import AutoTokenizer, load_dataset
from plait.disk import left_behind, replaced, told, write_json
from plait.errors import DataError, DiskError, TokenizerError, WeightsError
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


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "your quota on that disk is used up"),
        (errno.EFBIG, "the file is larger than its disk or the limits of this process"),
        (errno.EROFS, "the disk can only be read"),
    ],
)
def test_what_a_disk_refuses_is_named(tmp_path: Path, number: int, reason: str) -> None:
    def fill() -> None:
        with replaced(tmp_path / "x.json") as aside:
            aside.write_text("half", encoding="utf-8")
            raise OSError(number, "what the system says")

    with pytest.raises(DiskError, match=f"x.json was not written: {reason}.*Free some space there") as caught:
        fill()
    assert caught.value.errno == number
    assert isinstance(caught.value, OSError), "whoever catches the system's error catches this one"
    assert isinstance(caught.value.__cause__, OSError)
    assert not [*tmp_path.iterdir()]


def test_other_errors_come_through_as_they_are(tmp_path: Path) -> None:
    for error in (PermissionError(errno.EACCES, "denied"), FileNotFoundError(errno.ENOENT, "x"), ValueError("x")):
        with pytest.raises(type(error)) as caught, told(tmp_path):
            raise error
        assert caught.value is error
    inner = DiskError("inside")
    with pytest.raises(DiskError) as caught, told(tmp_path), told(tmp_path / "x"):
        raise inner
    assert caught.value is inner


# What the commands of a script do in a process that may write no file beyond 100 kB, and what each leaves.
FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from plait import Dataset, Trainer, TrainingArguments, load_dataset
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = Dataset.from_dict({"a": ["x" * 1000] * 300, "n": list(range(300))})
rows.to_csv("big.csv")
class Wide(torch.nn.Linear):
    def forward(self, n):
        return super().forward(n[:, None].float().expand(-1, 300)).mean(-1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
given = dict(max_steps=1, save_steps=1, report_to="none", loss="mse", use_cpu=True)
numbered = [{"n": 1, "labels": 1.0}] * 4
commands = {
    "save_to_disk": lambda: rows.save_to_disk("saved"),
    "to_json": lambda: rows.to_json("rows.jsonl"),
    "to_parquet": lambda: rows.to_parquet("rows.parquet", compression="none", use_dictionary=False),
    "load_dataset": lambda: load_dataset("csv", data_files="big.csv"),
    "train": lambda: Trainer(Wide(300, 300), TrainingArguments("run", **given), train_dataset=numbered).train(),
}
for name, command in commands.items():
    try:
        command()
        print(name, "passed")
    except OSError as error:
        print(name, "|", type(error).__name__, "|", str(error).replace(str(Path.cwd()), "."))
print(sorted(str(path) for path in Path().rglob("*") if path.is_file()))
"""


def test_a_full_disk_is_told_with_the_place_and_nothing_half_made_stays(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "PLAIT_HOME": str(tmp_path / "home"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", FULL]
    found = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    places = {
        "save_to_disk": "saved",
        "to_json": "rows.jsonl",
        "to_parquet": "rows.parquet",
        "train": "run/.checkpoint-1.partial/model.safetensors",
    }
    for line in lines[:-1]:
        name, kind, text = line.split(" | ")
        assert kind == "DiskError", line
        place = f"{tmp_path / 'home' / 'data'}" if name == "load_dataset" else places[name]
        assert f"{place} was not written: the file is larger than its disk or the limits" in text
        assert ("PLAIT_HOME names another place" if name == "load_dataset" else "Free some space there") in text
    assert [line.split(" | ")[0] for line in lines[:-1]] == [*list(places)[:3], "load_dataset", "train"]
    assert lines[-1] == "['big.csv']"
