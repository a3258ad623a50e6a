"""Errors equal scikit-learn's, the baselines are what they say, and the verdict follows the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from plait.errors import DataError
from plait.tabular import Report, Scores
from plait.tabular.baselines import BASELINES
from plait.tabular.plot import family_for

GENERATOR = np.random.default_rng(5)
ACTUAL = GENERATOR.normal(10, 3, 400)


def noisy(deviation: float) -> np.ndarray:
    return ACTUAL + np.random.default_rng(7).normal(0, deviation, 400)


def report(**predictions: np.ndarray) -> Report:
    named = {name.replace("_", " "): values for name, values in predictions.items()}
    return Report(target="实发功率", label="AC power", unit="kW", actual=ACTUAL, predictions=named, split="by time")


def test_scores_are_scikit_learns() -> None:
    predicted = noisy(1.0)
    scores = Scores.of(ACTUAL, predicted)
    # The same float64 sums in another order.
    assert scores.mae == pytest.approx(mean_absolute_error(ACTUAL, predicted), rel=1e-13)
    assert scores.rmse == pytest.approx(root_mean_squared_error(ACTUAL, predicted), rel=1e-13)
    assert scores.r2 == pytest.approx(r2_score(ACTUAL, predicted), rel=1e-12)


def test_scores_by_hand_and_of_a_constant() -> None:
    assert Scores.of(np.array([0.0, 2.0]), np.array([1.0, 5.0])) == Scores(mae=2.0, rmse=5**0.5, r2=-4.0)
    assert np.isnan(Scores.of(np.array([2.0, 2.0]), np.array([1.0, 5.0])).r2)


def test_predictions_that_would_broadcast_are_refused() -> None:
    with pytest.raises(DataError, match=r"predictions have the shape \(400, 1\), actual values \(400,\)"):
        Scores.of(ACTUAL, ACTUAL.reshape(-1, 1))


def test_baselines() -> None:
    features = GENERATOR.normal([1000, 0.5], [5, 0.1], (300, 2))
    targets = features @ [0.3, 7.0] + GENERATOR.normal(0, 0.5, 300)
    train, test = slice(0, 200), slice(200, 300)
    arguments = features[train], targets[train], features[test]
    assert BASELINES["mean"](*arguments).tolist() == [targets[train].mean()] * 100
    reference = LinearRegression().fit(features[train], targets[train]).predict(features[test])
    # Two least-squares solvers of a problem with condition number ~1 once standardised, values ~300.
    np.testing.assert_allclose(BASELINES["linear"](*arguments), reference, rtol=1e-10)
    errors = np.abs(BASELINES["trees"](*arguments) - targets[test]).mean()
    assert 0.4 < errors < np.abs(BASELINES["mean"](*arguments) - targets[test]).mean()


def test_the_verdict_says_when_the_transformer_helps() -> None:
    verdict = report(model=noisy(0.5), mean=np.full(400, 10.0), linear=noisy(1.5)).verdict()
    assert verdict.startswith("The Transformer helps: it errs by 0.363 kW")
    assert "the best baseline (linear) by 1.09 kW" in verdict


def test_the_verdict_says_when_it_adds_nothing() -> None:
    verdict = report(model=noisy(1.5), linear=noisy(0.5)).verdict()
    assert verdict.startswith("The Transformer adds nothing here: ")
    assert "the best baseline (linear) by 0.363 kW" in verdict
    assert verdict.endswith("with 95% confidence.")


def test_the_verdict_says_when_nothing_can_be_told() -> None:
    other = ACTUAL + np.random.default_rng(8).permutation(noisy(1.0) - ACTUAL)  # the same errors on other rows
    assert report(model=noisy(1.0), linear=other).verdict().startswith("The Transformer adds nothing that can be told")


def test_the_verdict_weighs_pretraining() -> None:
    assert "Pretraining helps: " in report(model=noisy(0.5), random_weights=noisy(1.0), linear=noisy(2.0)).verdict()
    assert "Pretraining makes it worse: " in report(model=noisy(1.0), random_weights=noisy(0.5)).verdict()


def test_the_table_is_in_the_units_of_the_data() -> None:
    text = report(model=ACTUAL + 2.0, mean=np.full(400, ACTUAL.mean())).table()
    assert "实发功率: errors on 400 held-out rows" in text
    assert "MAE [kW]" in text
    model = next(line for line in text.splitlines() if "model" in line and "MAE" not in line)
    assert [cell.strip() for cell in model.strip("│ ").split("│")][:3] == ["model", "2", "2"]


def test_the_folder_holds_numbers_and_picture(tmp_path: Path) -> None:
    written = report(model=noisy(0.5), linear=noisy(1.5))
    written.save(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert content["scores"]["linear"]["mae"] == written.scores["linear"].mae
    assert content["target"] == "实发功率"
    assert content["verdict"] == written.verdict()
    assert (tmp_path / "run" / "predicted_against_actual.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_font_is_chosen_by_its_glyphs() -> None:
    assert family_for("AC power [kW]") == "DejaVu Sans"
    assert family_for("\U000e0001") is None  # no font writes a language tag
