"""What a person sees: a bar on a terminal with loss and evaluation, a final line, log records elsewhere."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from train_models import Regressor, numbers

from plait import console
from plait.train import Trainer, TrainingArguments


class FakeBar:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def advance(self, steps: float = 1) -> None:
        self.seen.append("+")

    def note(self, text: str) -> None:
        self.seen.append(" ".join(word for word in text.split() if not word[0].isdigit() or "/" in word))


def run(folder: Path, **options: Any) -> Trainer:
    args = TrainingArguments(
        str(folder), loss="mse", use_cpu=True, report_to="none", save_strategy="no", num_train_epochs=1, **options
    )
    trainer = Trainer(Regressor(), args, train_dataset=numbers(16), eval_dataset=numbers(16))
    trainer.train()
    return trainer


def test_the_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tuple[str, Any, FakeBar]] = []

    @contextmanager
    def bar(description: str, *, total: Any = None, unit: str = "") -> Any:
        bars.append((f"{description} {unit}", total, FakeBar()))
        yield bars[-1][2]

    monkeypatch.setattr(console, "bar", bar)
    trainer = run(tmp_path, logging_steps=1, eval_strategy="epoch")
    trainer.evaluate()
    assert [(title, total) for title, total, _ in bars] == [("training steps", 2), ("evaluating batches", 2)]
    # An evaluation on the way borrows the bar, then gives it back.
    borrowed = ["loss evaluating 1/2", "loss evaluating 2/2", "loss"]
    assert bars[0][2].seen == ["loss", "+", "loss", *borrowed, "+"]
    assert bars[1][2].seen == ["+", "+"]
    bars.clear()
    run(tmp_path, disable_tqdm=True)
    assert bars == []


def test_nothing_is_written_away_from_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_PROGRESS", "0")
    with caplog.at_level(logging.INFO, "plait.train"):
        run(tmp_path, logging_steps=1)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages[-1].startswith("trained 2 steps in ")
    assert caplog.messages[0].startswith("step 1: loss ")


def test_a_file_has_a_line_per_entry_of_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `nohup python train.py` leaves: no records are shown there unless the script asks for them."""
    monkeypatch.delenv("PLAIT_PROGRESS", raising=False)
    run(tmp_path, logging_steps=1)
    printed, lines = capfd.readouterr()
    assert printed == ""
    assert [line.split(":")[0].split(" in ")[0] for line in lines.splitlines()] == [
        "step 1",
        "step 2",
        "step 2",
        "trained 2 steps",
    ]
    assert ", learning_rate 5e-05, epoch 0.5" in lines.splitlines()[0]
    run(tmp_path, logging_steps=1, disable_tqdm=True)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_keeps_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_PROGRESS", "1")
    run(tmp_path, logging_steps=1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "trained 2 steps in " in err.splitlines()[-1]


def test_a_bar_is_closed_when_training_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    @contextmanager
    def bar(*args: Any, **options: Any) -> Any:
        try:
            yield FakeBar()
        finally:
            closed.append(True)

    monkeypatch.setattr(console, "bar", bar)
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = Trainer(Regressor(), args, train_dataset=numbers(16))
    with pytest.raises(ValueError, match="gave no loss"):
        trainer.train()
    assert closed == [True]
