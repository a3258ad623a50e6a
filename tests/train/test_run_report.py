"""The report folder: its files, plots that show what they should, labels in Chinese, trackers that are missing."""

from __future__ import annotations

import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib.font_manager
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from train_models import Regressor, Tagger, numbers, pad_rows, tokens

from plait import errors
from plait.train import Trainer, TrainingArguments, report

ROWS = numbers(30)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is written."""
    figures: list[Figure] = []
    write = Figure.savefig

    def savefig(self: Figure, *args: Any, **options: Any) -> None:
        figures.append(self)
        write(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


def train(folder: Path, **options: Any) -> Trainer:
    given = {
        "loss": "mse",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 4,
        "eval_strategy": "epoch",
        **options,
    }
    trainer = Trainer(
        Regressor(),
        TrainingArguments(str(folder), **given),
        train_dataset=ROWS,
        eval_dataset=ROWS,
        compute_metrics=lambda p: {"mae": float(np.abs(p.predictions - p.label_ids).mean())},
    )
    trainer.train()
    return trainer


def test_the_folder_of_a_run(tmp_path: Path, drawn: list[Figure]) -> None:
    trainer = train(tmp_path, run_name="first")
    folder = tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == {
        "arguments.json",
        "versions.json",
        "log.jsonl",
        "curves.png",
        "eval-predictions.png",
    }
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert lines == trainer.state.log_history
    assert json.loads((folder / "arguments.json").read_text())["run_name"] == "first"
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["torch"].startswith(torch.__version__.split("+")[0])
    assert versions["plait"] == "0.1.0"
    assert len(drawn) == 2  # predictions of the last evaluation alone, then the curves
    curves = drawn[1]
    assert [axes.get_title() for axes in curves.axes] == ["", "eval_mae", "grad_norm", "learning_rate"]
    loss, evaluated = curves.axes[0].get_lines()
    assert (loss.get_label(), evaluated.get_label()) == ("loss", "eval_loss")
    assert [*loss.get_ydata()] == [entry["loss"] for entry in lines if "loss" in entry]
    assert [*evaluated.get_xdata()] == [4, 8, 12]
    for name in ("curves.png", "eval-predictions.png"):
        pixels = np.asarray(Image.open(folder / name).convert("L"))
        assert pixels.std() > 10  # something is drawn


def test_none_means_none(tmp_path: Path) -> None:
    train(tmp_path, report_to="none")
    assert not [*tmp_path.iterdir()]


def test_a_place_of_its_own(tmp_path: Path) -> None:
    train(tmp_path / "run", logging_dir=str(tmp_path / "logs"))
    assert (tmp_path / "logs" / "curves.png").exists()


def test_a_resumed_log_has_no_line_twice(tmp_path: Path) -> None:
    train(tmp_path, save_strategy="epoch", eval_strategy="no")
    given = TrainingArguments(
        str(tmp_path), loss="mse", use_cpu=True, save_strategy="epoch", logging_steps=4, eval_strategy="no"
    )
    again = Trainer(Regressor(), given, train_dataset=ROWS)
    again.train(resume_from_checkpoint=tmp_path / "checkpoint-8")
    lines = [json.loads(line) for line in (tmp_path / "report" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 12]
    assert lines == again.state.log_history


def test_predictions_against_actual(tmp_path: Path, drawn: list[Figure]) -> None:
    actual = np.array([[1.0], [2.0], [4.0]])
    report.plot_regression(actual + [[0.0], [0.0], [1.0]], actual, tmp_path / "p.png", label="power", unit="W")
    text = words(drawn[0])
    # Errors 0, 0, 1 against a spread of 14/3: R² = 1 - 3/14.
    assert "MAE 0.3333, RMSE 0.5774, R² 0.7857  (n = 3)" in text
    assert "actual power [W]" in text


def test_a_confusion_matrix(tmp_path: Path, drawn: list[Figure]) -> None:
    report.plot_confusion([0, 1, 1, 1], [0, 0, 1, 1], tmp_path / "c.png", labels={0: "bad", 1: "good", 2: "other"})
    text = words(drawn[0])
    assert "accuracy 0.7500  (n = 4)" in text
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bad", "good", "other"]
    assert [text.get_text() for text in axes.texts] == ["1", "1", "0", "0", "2", "0", "0", "0", "0"]


def test_labels_of_tokens_make_a_confusion_matrix(tmp_path: Path, drawn: list[Figure]) -> None:
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    Trainer(Tagger(), args, data_collator=pad_rows).predict(tokens(20))
    counted = sum(label != -100 for row in tokens(20) for label in row["labels"])
    assert f"(n = {counted})" in words(drawn[0])
    assert (tmp_path / "report" / "test-predictions.png").exists()


def test_labels_that_no_font_has_are_escaped(
    tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report, "_CJK_FONTS", ())
    report.plot_regression([1.0, 2.0], [1.0, 2.5], tmp_path / "p.png", label="实发功率", title="5 $ a day")
    text = words(drawn[0])
    assert r"actual \u5b9e\u53d1\u529f\u7387" in text
    assert "Labels are escaped: no installed font has their characters (on Debian: apt install fonts-noto-cjk)." in text
    assert "p.png: Labels are escaped" in caplog.text
    assert r"5 \$ a day" in text  # a dollar, not the start of a formula


def test_a_font_that_has_them_is_used(tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a font of mathematical letters in the place of a Chinese one: no machine is sure to have one of these."""
    letter = chr(0x1D4B6)  # a script letter that STIXGeneral has and DejaVu Sans lacks
    charmaps = {
        name: matplotlib.font_manager.get_font(matplotlib.font_manager.findfont(name)).get_charmap()
        for name in ("DejaVu Sans", "STIXGeneral")
    }
    assert [ord(letter) in charmap for charmap in charmaps.values()] == [False, True]
    monkeypatch.setattr(report, "_CJK_FONTS", ("Not Installed", "STIXGeneral"))
    report.plot_regression([1.0, 2.0], [1.0, 2.5], tmp_path / "p.png", label=letter)
    assert f"actual {letter}" in words(drawn[0])
    assert "escaped" not in words(drawn[0])


def test_without_matplotlib_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.font_manager"):
        monkeypatch.setitem(sys.modules, name, None)
    train(tmp_path)
    assert (tmp_path / "report" / "log.jsonl").exists()
    assert not [*(tmp_path / "report").glob("*.png")]
    assert "curves.png is left out of the report: `matplotlib" in caplog.text
    assert "pip install 'plait[train]'" in caplog.text


# -- trackers ----------------------------------------------------------------------------------------------------------


def test_missing_trackers_do_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    train(tmp_path, report_to=["tensorboard", "wandb"])
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert "report_to='tensorboard' is left out: `tensorboard` is needed to write TensorBoard event files" in said[0]
    assert "pip install 'plait[train]'" in said[0]
    assert said[1].endswith("is not installed. Install it with: pip install wandb")


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = train(tmp_path, report_to=["tensorboard"])
    events = EventAccumulator(str(tmp_path / "report"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "eval/loss", "eval/mae"} <= {*events.Tags()["scalars"]}
    written = [(event.step, event.value) for event in events.Scalars("train/loss")]
    logged = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    assert written == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in logged]


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in for the package: what is sent, in which order, and that no network is used when offline."""
    sent: list[tuple[str, Any]] = []

    class Run:
        def log(self, numbers: dict[str, float], step: int) -> None:
            sent.append(("log", (sorted(numbers), step)))

        def finish(self) -> None:
            sent.append(("finish", None))

    def init(**options: Any) -> Run:
        sent.append(("init", options))
        return Run()

    package = types.ModuleType("wandb")
    package.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    train(tmp_path, report_to="wandb", run_name="mine")
    assert sent[0][1]["name"] == "mine"
    assert sent[0][1]["mode"] == "offline"
    assert sent[0][1]["config"]["learning_rate"] == 5e-5
    assert sent[1] == ("log", (["train/epoch", "train/grad_norm", "train/learning_rate", "train/loss"], 4))
    assert sent[-1] == ("finish", None)


def test_errors_keep_their_text() -> None:
    with pytest.raises(errors.MissingExtraError):
        errors.require("no_such_package", extra="train", purpose="draw plots")
