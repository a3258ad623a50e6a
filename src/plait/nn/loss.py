"""Losses as a sum and a count, complete for the tasks of text models.

A mean of means depends on how a batch is split. A sum and a count do not: whoever accumulates adds both and divides
once. Scores are taken to float32 first, whatever the dtype of the model: in bfloat16 a target of 1237.5 reads 1240.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class LossTerms:
    """`total` is the sum of the loss over what counts, float32 (); `count` is how much counts, float32 ()."""

    total: Tensor
    count: Tensor

    def mean(self) -> Tensor:
        """The loss itself; 0 when nothing counts."""
        return self.total / self.count.clamp(min=1)

    def plus(self, mean: Tensor) -> LossTerms:
        """The terms of a loss whose mean is larger by `mean`."""
        return LossTerms(self.total + mean * self.count, self.count)


def cross_entropy(scores: Tensor, labels: Tensor, *, ignored: int = -100, smoothing: float = 0.0) -> LossTerms:
    """`scores` (..., C) against `labels` (...) int64; a label equal to `ignored` counts nothing.

    `smoothing` spreads that much probability over all labels evenly (arXiv:1512.00567 §7).
    """
    # (..., C) -> (N, C)
    flat, target = scores.flatten(0, -2).float(), labels.flatten()
    total = functional.cross_entropy(flat, target, ignore_index=ignored, reduction="sum", label_smoothing=smoothing)
    return LossTerms(total, (target != ignored).sum().float())


def mean_squared_error(predictions: Tensor, labels: Tensor) -> LossTerms:
    """Squared differences of two tensors of one shape; every element counts."""
    difference = predictions.float() - labels.float()
    return LossTerms(difference.square().sum(), _elements(labels))


def binary_cross_entropy(scores: Tensor, labels: Tensor) -> LossTerms:
    """Independent yes/no `scores` against `labels` in [0, 1] of the same shape; every element counts."""
    total = functional.binary_cross_entropy_with_logits(scores.float(), labels.float(), reduction="sum")
    return LossTerms(total, _elements(labels))


def _elements(labels: Tensor) -> Tensor:
    return torch.tensor(float(labels.numel()), device=labels.device)
