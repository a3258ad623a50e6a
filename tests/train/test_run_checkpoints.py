"""Checkpoints: state through JSON and safetensors, all or nothing under SIGKILL, which is latest, which may go."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plait.errors import TrainingError
from plait.train import checkpoint


def save(parent: Path, step: int, content: str = "x") -> Path:
    return checkpoint.commit(parent, step, lambda folder: (folder / "model.bin").write_text(content))


def test_a_tree_of_state_survives(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tree = {
        "state": {0: {"step": torch.tensor(3.0), "moment": torch.randn(2, 3, dtype=torch.float64)}, 1: {}},
        "groups": [{"betas": (0.9, 0.999), "lr": 0.1 + 0.2, "fused": None, "params": [0, 1], "flag": True}],
        "views": [shared[:3], shared[3:], shared],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "array": np.arange(4, dtype=np.int64),
        "number": np.float64(0.1),
        "infinite": float("inf"),
        "mark": {"tensor": "not a tensor", "dict": {"tuple": 1}},
    }
    checkpoint.write_tree(tmp_path, "optimizer", tree)
    read = checkpoint.read_tree(tmp_path, "optimizer")
    assert {path.name for path in tmp_path.iterdir()} == {"optimizer.json", "optimizer.safetensors"}

    def same(a: Any, b: Any) -> None:
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
        elif isinstance(a, np.ndarray):
            assert isinstance(b, np.ndarray)
            assert np.array_equal(a, b)
        elif isinstance(a, dict):
            assert [*a] == [*b]
            for key in a:
                same(a[key], b[key])
        elif isinstance(a, list | tuple):
            assert type(a) is type(b)
            for x, y in zip(a, b, strict=True):
                same(x, y)
        else:
            assert a == b

    same(tree, read)


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="scheduler.a.1 cannot be saved in a checkpoint: it is a function"):
        checkpoint.write_tree(tmp_path, "scheduler", {"a": [1, save]})


def test_a_checkpoint_and_its_marker(tmp_path: Path) -> None:
    folder = save(tmp_path / "run", 7)
    assert folder == tmp_path / "run" / "checkpoint-7"
    marker = json.loads((folder / "complete.json").read_text())
    assert (marker["step"], marker["files"]) == (7, {"model.bin": 1})
    assert checkpoint.problem(folder) is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-7"]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: (folder / "complete.json").unlink(), "its marker complete.json is missing"),
        (lambda folder: (folder / "model.bin").unlink(), "its file model.bin is missing"),
        (lambda folder: (folder / "model.bin").write_text("longer"), "its file model.bin has 6 bytes, not 1"),
    ],
)
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: Any, text: str) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    damage(second)
    assert checkpoint.locate(True, tmp_path) == first
    with pytest.raises(TrainingError) as caught:
        checkpoint.locate(second, tmp_path)
    assert f"cannot resume from {second}: {text}" in str(caught.value)
    assert str(caught.value).endswith(f"The latest complete one in {tmp_path} is checkpoint-1.")


def test_none_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="resume_from_checkpoint=True, but .*empty holds no complete checkpoint"):
        checkpoint.locate(True, tmp_path / "empty")
    with pytest.raises(TrainingError, match="cannot resume from .*nowhere: there is no such folder"):
        checkpoint.locate(tmp_path / "nowhere", tmp_path)


def test_the_latest_is_the_last_saved(tmp_path: Path) -> None:
    """A folder used again from step 0 must not go on from the run before."""
    save(tmp_path, 500)
    again = save(tmp_path, 10)
    assert checkpoint.locate(True, tmp_path) == again
    assert (save(tmp_path, 500, "yy") / "model.bin").read_text() == "yy"
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-500"]


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_rotation_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    folders = [save(tmp_path, step) for step in (1, 2, 3, 4, 5)]
    checkpoint.rotate(tmp_path, None, keep=[])
    assert len(names(tmp_path)) == 5
    checkpoint.rotate(tmp_path, 3, keep=[folders[4], folders[0]])
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-4", "checkpoint-5"]
    checkpoint.rotate(tmp_path, 1, keep=[folders[4], folders[0]])
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-5"]
    checkpoint.rotate(tmp_path, 1, keep=[folders[4]])
    assert names(tmp_path) == ["checkpoint-5"]


def test_leftovers_are_finished_or_removed(tmp_path: Path) -> None:
    whole, half = save(tmp_path, 3), save(tmp_path, 4)
    whole.rename(tmp_path / ".checkpoint-3.partial")  # killed between marker and rename
    (half / "complete.json").unlink()
    half.rename(tmp_path / ".checkpoint-4.partial")  # killed while writing
    save(tmp_path / "x", 5).rename(tmp_path / ".checkpoint-5.removed")  # killed while deleting
    (tmp_path / "checkpoint-notes").mkdir()  # somebody else's
    checkpoint.sweep(tmp_path)
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-notes", "x"]


@pytest.mark.parametrize("written", ["", '{"step": 4, "fil', "{}", "null"])
def test_a_save_that_was_killed_within_its_marker_is_swept(tmp_path: Path, written: str) -> None:
    before, half = save(tmp_path, 3), save(tmp_path, 4)
    (half / "complete.json").write_text(written)
    assert checkpoint.problem(half) == "its marker complete.json is damaged, so it was not written to the end"
    assert checkpoint.locate(True, tmp_path) == before
    half.rename(tmp_path / ".checkpoint-4.partial")
    checkpoint.sweep(tmp_path)
    assert names(tmp_path) == ["checkpoint-3"]


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "optimizer.json").write_text("{")
    with pytest.raises(TrainingError, match=r"cannot read .*optimizer.json: Expecting"):
        checkpoint.read_tree(tmp_path, "optimizer")


def _save_for_ever(parent: str, ready: Any) -> None:
    parent_path = Path(parent)
    for step in range(1, 100_000):
        tree = {"step": step, "weights": [torch.full((200, 50), float(step)) for _ in range(6)]}
        written = checkpoint.commit(
            parent_path, step, lambda folder, tree=tree: checkpoint.write_tree(folder, "state", tree)
        )
        checkpoint.rotate(parent_path, 2, keep=[written])
        if step == 1:
            ready.set()


def test_sigkill_at_any_moment_leaves_a_complete_one(tmp_path: Path) -> None:
    """Kill a process that saves without a pause, 20 times; each time the latest checkpoint must be whole."""
    context = multiprocessing.get_context("fork")
    moments, reached = random.Random(0), set()
    for attempt in range(20):
        parent = tmp_path / str(attempt)
        ready = context.Event()
        process = context.Process(target=_save_for_ever, args=(str(parent), ready))
        process.start()
        assert ready.wait(60)
        time.sleep(moments.uniform(0, 0.03))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        reached |= {path.name.rpartition(".")[2] for path in parent.iterdir() if path.name.startswith(".")}
        for swept in (False, True):
            if swept:
                checkpoint.sweep(parent)
            folder = checkpoint.locate(True, parent)
            tree = checkpoint.read_tree(folder, "state")
            assert tree["step"] == checkpoint.step_of(folder)
            assert all(bool((tensor == float(tree["step"])).all()) for tensor in tree["weights"])
        assert all(name.startswith("checkpoint-") for name in names(parent))
    assert "partial" in reached  # some kills did fall into a save
