"""Metrics against scikit-learn and scipy, whole and in any blocks; refusals by their text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from plait.errors import OptionError, TrainingError
from plait.train import EvalPrediction, load_metric

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 4, size=200)
GUESSES = np.where(RANDOM.random(200) < 0.6, LABELS, RANDOM.integers(0, 4, size=200))
ACTUAL = RANDOM.normal(1e6, 3, size=200)  # large and close together: sums of squares would lose all of the spread
PREDICTED = ACTUAL + RANDOM.normal(0, 1, size=200)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize(
    ("name", "theirs"), [("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)]
)
def test_averages_of_classes(name: str, theirs: Any, average: str | None) -> None:
    ours = load_metric(name).compute(predictions=GUESSES, references=LABELS, average=average)
    assert ours[name] == pytest.approx(theirs(LABELS, GUESSES, average=average), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"), [("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score)]
)
def test_two_classes(name: str, theirs: Any) -> None:
    ours = load_metric(name).compute(predictions=GUESSES > 1, references=LABELS > 1)
    assert ours == {name: pytest.approx(theirs(LABELS > 1, GUESSES > 1))}


def test_metrics_of_labels() -> None:
    assert load_metric("accuracy").compute(predictions=[0, 1, 1, 2], references=[0, 1, 2, 2]) == {"accuracy": 0.75}
    assert load_metric("accuracy").compute(predictions=[0, 1], references=[0, 2], normalize=False) == {"accuracy": 1.0}
    value = load_metric("matthews_correlation").compute(predictions=GUESSES, references=LABELS)
    assert value["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(LABELS, GUESSES), abs=1e-12)
    assert load_metric("accuracy").compute(predictions=["a", "b"], references=["a", "c"]) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mae", sk.mean_absolute_error),
        ("mse", sk.mean_squared_error),
        ("rmse", sk.root_mean_squared_error),
        ("r2", sk.r2_score),
        ("pearsonr", lambda actual, predicted: scipy.stats.pearsonr(predicted, actual).statistic),
    ],
)
@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 200), max_size=5))
def test_numbers_in_any_blocks(name: str, theirs: Any, cuts: list[int]) -> None:
    metric = load_metric(name)
    edges = [0, *sorted(cuts), 200]
    for start, stop in zip(edges, edges[1:], strict=False):
        metric.add_batch(predictions=PREDICTED[start:stop], references=ACTUAL[start:stop])
    value = metric.compute()[name]
    # Values of 1e6 carry 16 - 6 digits; squares around 1 computed from them keep about 9.
    assert value == pytest.approx(theirs(ACTUAL, PREDICTED), rel=1e-8)
    assert type(value) is float


def test_blocks_of_labels_and_a_fresh_start() -> None:
    metric = load_metric("f1")
    for start in range(0, 200, 37):
        metric.add_batch(predictions=GUESSES[start : start + 37], references=LABELS[start : start + 37])
    assert metric.compute(average="macro")["f1"] == pytest.approx(sk.f1_score(LABELS, GUESSES, average="macro"))
    metric.add(prediction=1, reference=1)
    assert metric.compute() == {"f1": 1.0}


def test_edges() -> None:
    assert load_metric("r2").compute(predictions=[2.0, 2.0], references=[2.0, 2.0]) == {"r2": 1.0}
    assert load_metric("r2").compute(predictions=[1.0, 2.0], references=[2.0, 2.0]) == {"r2": 0.0}
    assert load_metric("pearsonr").compute(predictions=[1.0, 1.0], references=[2.0, 3.0]) == {"pearsonr": 0.0}
    assert load_metric("matthews_correlation").compute(predictions=[1, 1], references=[1, 1]) == {
        "matthews_correlation": 0.0
    }
    assert load_metric("f1").compute(predictions=[0, 0], references=[0, 0]) == {"f1": 0.0}
    assert load_metric("mean_absolute_error").compute(predictions=[1], references=[3]) == {"mae": 2.0}


def test_scores_become_labels() -> None:
    metric = load_metric("accuracy")
    metric.add_scores(np.array([[[0.1, 0.9], [0.8, 0.2], [0.0, 1.0]]]), np.array([[1, 1, -100]]))
    assert metric.compute() == {"accuracy": 0.5}
    numbers = load_metric("mae")
    numbers.add_scores(np.array([[1.0], [3.0]]), np.array([1.5, 3.5]))
    assert numbers.compute() == {"mae": 0.5}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: load_metric("glue", "mrpc"),
            "load_metric('glue', 'mrpc'): metrics have no configurations. Load each that you want by its own name; "
            "there are accuracy, f1,",
        ),
        (lambda: load_metric("acuracy"), "there is no metric 'acuracy'; there are accuracy, f1,"),
        (lambda: load_metric("acuracy"), "Did you mean 'accuracy'?"),
        (
            lambda: load_metric("f1", cache_dirs="x"),
            "load_metric has no argument 'cache_dirs'. Did you mean 'cache_dir'",
        ),
        (lambda: load_metric("mae").compute(), "mae of nothing: no predictions were given."),
        (lambda: load_metric("accuracy").compute(), "accuracy of nothing: no predictions were given."),
        (
            lambda: load_metric("accuracy").compute(predictions=np.zeros((3, 2)), references=[0, 1, 0]),
            "accuracy compares predictions of shape (3, 2) with references of shape (3,). Take np.argmax(",
        ),
        (
            lambda: load_metric("f1").compute(predictions=[0, 1, 2], references=[0, 1, 2]),
            "f1 with average='binary' needs two classes of which one is pos_label=1, but there are [0, 1, 2].",
        ),
        (
            lambda: load_metric("f1").compute(predictions=[0, 1], references=[0, 1], average="mean"),
            "average must be one of binary, macro, micro, weighted or None, but is 'mean'.",
        ),
    ],
)
def test_refusals(call: Any, text: str) -> None:
    with pytest.raises((OptionError, TrainingError)) as caught:
        call()
    assert text in str(caught.value)


def test_eval_prediction_unpacks() -> None:
    predictions, labels = EvalPrediction("p", "l")
    assert (predictions, labels) == ("p", "l")
    given = EvalPrediction(predictions="p", label_ids="l", inputs="i")
    assert (given[0], given.label_ids, given[2], len(list(given))) == ("p", "l", "i", 3)


def test_arguments_about_code_have_no_effect_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "plait.train"):
        metric = load_metric("accuracy", trust_remote_code=True, cache_dir=None)
    assert metric.compute(predictions=[1], references=[1]) == {"accuracy": 1.0}
    assert caplog.messages == [
        "load_metric: no effect of trust_remote_code: metrics are plait's own, and nothing is fetched"
    ]
