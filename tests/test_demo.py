"""The demo's stages on small settings, what it does without a network, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plait.demo import files, models, power, reviews, run_demo, talk
from plait.demo.stages import Stages
from plait.errors import IntegrityError, NotFoundError, OfflineError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in model, after one pass over the sentences."""
    return str(models.train_small(Stages(), tmp_path_factory.mktemp("small"), epochs=1))


def test_the_tables_are_found_in_a_clone_and_missed_by_name() -> None:
    assert files.table("reviews.csv").name == "reviews.csv"
    with pytest.raises(
        NotFoundError, match=r"the demo's table no.csv is neither at .*data/no.csv nor at .*; reinstall"
    ):
        files.table("no.csv")


def test_the_small_model_writes_and_never_reads_the_test_sentences(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from plait.models.auto import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(small)
    sentence = "Zürich's film – 你好 – is 100% fine."
    assert tokenizer.decode(tokenizer(sentence)["input_ids"], skip_special_tokens=True).strip() == sentence
    parts = reviews.load()
    assert not set(parts["train"]["text"]) & set(parts["test"]["text"])
    answer = talk.run(Stages(), small, max_new_tokens=8)
    output = capsys.readouterr().out
    assert "it has no answers, but it writes" in output
    assert "The film is" + answer in output
    assert answer == talk.run(Stages(), small, max_new_tokens=8), "the same text every time"


def test_regression_leaves_a_report_with_its_rivals(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    power.run(Stages(), small, tmp_path, epochs=1)
    scores = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["scores"]
    assert set(scores) == {"frozen Transformer", "random weights", "mean", "linear", "trees"}
    # Known from scikit-learn on random fifths of this table: a line errs by 1.1 kW, trees by 0.5, the mean by about 6.
    assert 1.0 < scores["linear"]["mae"] < 1.3
    assert 0.4 < scores["trees"]["mae"] < 0.6
    assert 5.5 < scores["mean"]["mae"] < 6.5
    assert abs(scores["mean"]["r2"]) < 0.01
    # One pass through an untrained-for-it network already beats the mean by far.
    assert scores["frozen Transformer"]["mae"] < 3.0
    output = capsys.readouterr().out
    assert "MAE [kW]" in output
    assert output.count(" → ") >= 4, "the columns, and three hours with prediction and measurement"
    assert (tmp_path / "predicted_against_actual.png").stat().st_size > 10_000


def test_the_cache_keeps_the_two_tokenizers_apart(small: str, minilm: Path) -> None:
    from plait.models.auto import AutoTokenizer

    parts = reviews.load()
    for reference in (small, minilm, small):
        tokenizer = AutoTokenizer.from_pretrained(reference)
        row = reviews.encoded(parts, tokenizer)["test"][0]
        assert row["input_ids"] == tokenizer(parts["test"][0]["text"])["input_ids"]
        assert row["label"] == parts["test"][0]["label"]


def test_classification_reports_held_out_accuracy_and_saves(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from plait.models.auto import AutoModelForSequenceClassification

    reviews.run(Stages(), small, tmp_path, small=True, epochs=1)
    output = capsys.readouterr().out
    assert "800 sentences to learn from, 200 held out" in output
    assert "accuracy on the held-out sentences: " in output
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert dict(model.config.id2label) == {0: "negative", 1: "positive"}


def test_without_a_network_it_says_so_and_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PLAIT_OFFLINE", "1")
    monkeypatch.setattr(models, "train_small", lambda stages, folder: folder)
    chosen = models.choose(Stages(), tmp_path, offline=False)
    assert chosen == models.Models(str(tmp_path / "small"), str(tmp_path / "small"), small=True)
    output = capsys.readouterr().out
    assert "So without a network: a small Transformer, trained here from scratch, takes their place." in output
    assert models.ENCODER in output


def test_damage_is_not_taken_for_a_missing_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise IntegrityError("the digest differs")

    monkeypatch.setattr("plait.hub.resolve", damaged)
    with pytest.raises(IntegrityError):
        models.choose(Stages(), tmp_path, offline=False)


def test_a_failing_stage_does_not_stop_the_others_and_sets_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OfflineError("no such luck")

    monkeypatch.setattr(models, "choose", lambda *_, **__: models.Models("encoder", "decoder"))
    monkeypatch.setattr(power, "run", lambda *_, **__: None)
    monkeypatch.setattr(reviews, "run", fails)
    monkeypatch.setattr(talk, "run", lambda *_: None)
    assert run_demo(tmp_path) == 1
    output = capsys.readouterr().out
    assert "This stage failed. no such luck" in output
    assert "4. Language: " in output
    assert "Failed: Classification." in output
    monkeypatch.setattr(reviews, "run", lambda *_, **__: None)
    assert run_demo(tmp_path) == 0


@pytest.mark.slow
def test_the_whole_demo_from_a_shell_without_a_network(tmp_path: Path) -> None:
    code = "from plait.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "demo", "--offline"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PLAIT_OFFLINE": "1"},
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "runs/demo/power/report.json").read_text(encoding="utf-8"))
    assert report["scores"]["frozen Transformer"]["mae"] < report["scores"]["linear"]["mae"]
    for title in ("Models", "Regression", "Classification", "Language"):
        assert f"{title} took" in result.stdout
