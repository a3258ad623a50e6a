"""Losses: their numbers, and that no split of a batch changes them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from plait.nn.loss import binary_cross_entropy, cross_entropy, mean_squared_error


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.floats(0, 0.5))
def test_any_split_gives_the_same_cross_entropy(sizes: list[int], smoothing: float) -> None:
    scores, labels = torch.randn(sum(sizes), 7), torch.randint(0, 7, (sum(sizes),))
    labels[::3] = -100
    whole = cross_entropy(scores, labels, smoothing=smoothing)
    parts = [
        cross_entropy(s, y, smoothing=smoothing) for s, y in zip(scores.split(sizes), labels.split(sizes), strict=True)
    ]
    total, count = sum(part.total for part in parts), sum(part.count for part in parts)
    assert float(count) == float(whole.count) == float((labels != -100).sum())
    assert float(total) == pytest.approx(float(whole.total), rel=1e-5, abs=1e-5)
    if whole.count > 0:
        expected = functional.cross_entropy(scores, labels, label_smoothing=smoothing)
        assert float(whole.mean()) == pytest.approx(float(expected), rel=1e-5)


def test_nothing_that_counts_is_zero_and_not_nan() -> None:
    terms = cross_entropy(torch.randn(2, 3), torch.tensor([-100, -100]))
    assert float(terms.mean()) == 0.0


def test_mean_squared_error_is_float32_for_half_precision() -> None:
    """In bfloat16 1237.5 is 1240; labels keep their value and the loss is exact."""
    terms = mean_squared_error(torch.tensor([1232.0], dtype=torch.bfloat16), torch.tensor([1237.5]))
    assert terms.total.dtype == torch.float32
    assert float(terms.total) == 5.5**2
    assert float(mean_squared_error(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.int64)).count) == 6


def test_binary_cross_entropy() -> None:
    terms = binary_cross_entropy(torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]]))
    assert float(terms.total) == pytest.approx(math.log(2) + math.log(1 + math.exp(2)), rel=1e-6)
    assert float(terms.count) == 2
