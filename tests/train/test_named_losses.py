"""Losses by name against torch's own, (sum, count) of any split, and how an output is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from plait.errors import OptionError, TrainingError
from plait.nn.loss import LossTerms
from plait.train.loss import as_terms, count_of, named_loss, read_loss, read_predictions


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_means_equal_those_of_torch() -> None:
    predictions, labels = numbers(5, 3), numbers(5, 3, seed=1)
    for name, options, theirs in [
        ("mse", {}, functional.mse_loss(predictions, labels)),
        ("mae", {}, functional.l1_loss(predictions, labels)),
        ("huber", {}, functional.huber_loss(predictions, labels)),
        ("huber", {"delta": 0.3}, functional.huber_loss(predictions, labels, delta=0.3)),
    ]:
        terms = named_loss(name, options)(predictions, labels)
        assert float(terms.count) == 15
        assert float(terms.mean()) == pytest.approx(float(theirs), rel=1e-6)
    yes_no = (labels > 0).float()
    theirs = functional.binary_cross_entropy_with_logits(predictions, yes_no)
    assert float(named_loss("binary_cross_entropy")(predictions, yes_no).mean()) == pytest.approx(
        float(theirs), rel=1e-6
    )


def test_cross_entropy_smoothed_and_shifted() -> None:
    scores, labels = numbers(2, 4, 7), torch.tensor([[1, 2, -100, 0], [6, -100, -100, 3]])
    theirs = functional.cross_entropy(scores.reshape(8, 7), labels.reshape(8), label_smoothing=0.1)
    terms = named_loss("cross_entropy", smoothing=0.1)(scores, labels)
    assert float(terms.count) == 5
    assert float(terms.mean()) == pytest.approx(float(theirs), rel=1e-6)
    shifted = named_loss("causal_cross_entropy")(scores, labels)
    theirs = functional.cross_entropy(scores[:, :-1].reshape(6, 7), labels[:, 1:].reshape(6))
    assert float(shifted.count) == 3
    assert float(shifted.mean()) == pytest.approx(float(theirs), rel=1e-6)


def test_pinball_by_hand() -> None:
    # Label 2: below by 1 at q 0.1 costs 0.1, above by 1 at q 0.9 costs 0.1, exact costs 0.
    terms = named_loss("pinball", {"quantiles": [0.1, 0.5, 0.9]})(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2.0]))
    assert float(terms.total) == pytest.approx(0.2)
    assert float(terms.count) == 3
    # The other way round costs nine times as much.
    terms = named_loss("pinball", {"quantiles": [0.9, 0.1]})(torch.tensor([[1.0, 3.0]]), torch.tensor([2.0]))
    assert float(terms.total) == pytest.approx(1.8)


def test_the_best_constant_of_pinball_is_the_quantile() -> None:
    labels = torch.arange(101.0)
    costs = [
        float(named_loss("pinball", {"quantiles": [0.9]})(torch.full((101, 1), float(c)), labels).total)
        for c in range(101)
    ]
    assert costs.index(min(costs)) == 90


@settings(deadline=None)
@given(
    cut=st.lists(st.integers(0, 12), max_size=4),
    name=st.sampled_from(["mse", "mae", "huber", "pinball", "cross_entropy", "binary_cross_entropy"]),
)
def test_sums_of_any_split_are_the_sum_of_all(cut: list[int], name: str) -> None:
    edges = [0, *sorted(cut), 12]
    predictions, labels = numbers(12, 3), numbers(12, 3, seed=1)
    if name == "cross_entropy":
        labels = torch.tensor([0, 1, 2, -100, 1, 0, -100, 2, 2, 1, 0, 0])
    if name == "pinball":
        labels = labels[:, 0]
    if name == "binary_cross_entropy":
        labels = (labels > 0).float()
    whole = named_loss(name)(predictions, labels)
    parts = [named_loss(name)(predictions[a:b], labels[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert sum(float(part.count) for part in parts) == float(whole.count)
    assert sum(float(part.total) for part in parts) == pytest.approx(float(whole.total), rel=1e-5)


def test_half_precision_is_scored_in_float32() -> None:
    predictions, labels = torch.tensor([1234.5, 1237.5]).bfloat16(), torch.tensor([1234.5, 1237.5], dtype=torch.float64)
    terms = named_loss("mse")(predictions, labels)
    # 1234.5 is 1232 and 1237.5 is 1240 in bfloat16: the predictions are off, the labels stay exact.
    assert terms.total.dtype is torch.float32
    assert float(terms.total) == 2.5**2 + 2.5**2


def test_a_column_fits_but_nothing_is_broadcast() -> None:
    assert float(named_loss("mse")(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])).mean()) == 2.0
    assert float(named_loss("mae")(torch.tensor([1.0, 2.0]), torch.tensor([[1.0], [4.0]])).total) == 2.0
    with pytest.raises(TrainingError) as caught:
        named_loss("mse")(torch.zeros(3, 2), torch.zeros(3))
    assert "predictions have shape (3, 2) and labels (3,)." in str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: named_loss("hubber"), "there is no loss 'hubber'; there are mse, mae, huber, pinball"),
        (lambda: named_loss("hubber"), "Did you mean 'huber'?"),
        (
            lambda: named_loss("huber", {"detla": 1}),
            "loss 'huber' has no option 'detla'; it has delta. Did you mean 'delta'?",
        ),
        (lambda: named_loss("mse", {"delta": 1}), "loss 'mse' has no option 'delta'; it has none."),
        (lambda: named_loss("mse", smoothing=0.1), "label_smoothing_factor is for cross-entropy; the loss is 'mse'."),
        (
            lambda: named_loss("pinball", {"quantiles": [0, 1]})(numbers(2, 2), numbers(2)),
            "must lie strictly between 0 and 1",
        ),
        (lambda: named_loss("pinball")(numbers(2, 2), numbers(2)), "needs predictions of shape (…, 3) for labels (…)"),
    ],
)
def test_refusals(call: Any, text: str) -> None:
    with pytest.raises((OptionError, TrainingError)) as caught:
        call()
    assert text in str(caught.value)


class Answer:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_reading_an_output() -> None:
    terms = LossTerms(torch.tensor(6.0), torch.tensor(3.0))
    five = torch.tensor(5.0)
    assert read_loss(Answer(loss_terms=terms, loss=torch.tensor(9.0)), five, "Net") is terms
    for output in (
        Answer(loss=torch.tensor(2.0)),
        {"loss": torch.tensor(2.0)},
        Answer(loss=torch.tensor([2.0]), loss_terms=None),
    ):
        read = read_loss(output, five, "Net")
        assert (float(read.total), float(read.count)) == (10.0, 5.0)
    with pytest.raises(TrainingError) as caught:
        read_loss({"logits": numbers(2)}, five, "Net")
    assert "Net gave no loss. Either the batch has no labels that its forward takes, or the model only predicts" in str(
        caught.value
    )
    with pytest.raises(
        TrainingError, match=r"a loss must be one number, a pair \(sum, count\) or LossTerms, but it is \(4,\)"
    ):
        as_terms(numbers(4), five)


def test_a_mean_over_nothing_adds_nothing() -> None:
    terms = as_terms(torch.tensor(float("nan")), torch.tensor(0.0))
    assert (float(terms.total), float(terms.count)) == (0.0, 0.0)


def test_counts() -> None:
    rows = {"x": numbers(4, 2)}
    assert float(count_of([torch.tensor([[1, -100], [2, 3]])], rows)) == 3
    assert float(count_of([torch.tensor([-100.0, 1.0])], rows)) == 2  # a number, not a mark
    assert float(count_of([], rows)) == 4


def test_predictions() -> None:
    a, b = numbers(2), numbers(3)
    assert read_predictions(a) is a
    assert read_predictions(Answer(logits=a)) is a
    assert read_predictions({"loss": b, "scores": a}) is a
    both = read_predictions({"loss": b, "start": a, "end": b})
    assert both[0] is a
    assert both[1] is b
    assert read_predictions((a, None)) is a
    assert read_predictions({"loss": a}) is None
