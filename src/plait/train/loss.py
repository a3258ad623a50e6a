"""Losses by name for models that only predict, and how any model's output is read as (sum, count), complete.

Every loss is a sum and a count in float32 (plait.nn.loss); the trainer alone divides. A loss that comes as a mean is
multiplied by the number of labels it was taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from plait.errors import OptionError, TrainingError, nearest
from plait.nn.loss import LossTerms, binary_cross_entropy, cross_entropy, mean_squared_error

Loss = Callable[[Tensor, Tensor], LossTerms]


def mean_absolute_error(predictions: Tensor, labels: Tensor) -> LossTerms:
    """Absolute differences of two tensors of one shape."""
    difference = predictions.float() - labels.float()
    return _terms(difference.abs())


def huber(predictions: Tensor, labels: Tensor, *, delta: float = 1.0) -> LossTerms:
    """Squared below `delta`, linear above (Huber 1964), of two tensors of one shape."""
    return _terms(functional.huber_loss(predictions.float(), labels.float(), reduction="none", delta=delta))


def pinball(predictions: Tensor, labels: Tensor, *, quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> LossTerms:
    """Quantile loss (Koenker & Bassett 1978): `predictions` (…, Q) against `labels` (…), one column per quantile."""
    levels = torch.tensor(quantiles, dtype=torch.float32, device=predictions.device)
    if not bool(((levels > 0) & (levels < 1)).all()):
        raise OptionError(f"quantiles must lie strictly between 0 and 1, but are {list(quantiles)}.")
    if predictions.shape[-1] != len(levels) or predictions.shape[:-1] != labels.shape:
        raise TrainingError(
            f"pinball loss of {len(levels)} quantiles needs predictions of shape (…, {len(levels)}) for labels (…), "
            f"but predictions are {tuple(predictions.shape)} and labels {tuple(labels.shape)}."
        )
    difference = labels.float().unsqueeze(-1) - predictions.float()
    return _terms(torch.maximum(levels * difference, (levels - 1) * difference))


def shifted_cross_entropy(scores: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> LossTerms:
    """Cross-entropy of `scores` (B, T, C) at each position against the label of the next, `labels` (B, T)."""
    return cross_entropy(scores[:, :-1], labels[:, 1:], smoothing=smoothing)


def _terms(losses: Tensor) -> LossTerms:
    return LossTerms(losses.sum(), torch.tensor(float(losses.numel()), device=losses.device))


LOSSES: dict[str, Callable[..., LossTerms]] = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "huber": huber,
    "pinball": pinball,
    "cross_entropy": cross_entropy,
    "causal_cross_entropy": shifted_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}
_ELEMENTWISE = {"mse", "mae", "huber", "binary_cross_entropy"}
_SMOOTHED = {"cross_entropy", "causal_cross_entropy"}


def named_loss(name: str, options: Mapping[str, Any] | None = None, *, smoothing: float = 0.0) -> Loss:
    """The loss called `name` with its `options`, as a function (predictions, labels) -> LossTerms.

    Raises `OptionError` for an unknown name or option, and `TrainingError`, when called, for shapes that do not fit.
    """
    if name not in LOSSES:
        raise OptionError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}.{nearest(name, LOSSES)}")
    given = dict(options or {})
    known = [*(LOSSES[name].__kwdefaults__ or {})]
    for option in given:
        if option not in known:
            raise OptionError(
                f"loss {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}.{nearest(option, known)}"
            )
    if smoothing:
        if name not in _SMOOTHED:
            raise OptionError(f"label_smoothing_factor is for cross-entropy; the loss is {name!r}.")
        given.setdefault("smoothing", smoothing)

    def loss(predictions: Tensor, labels: Tensor) -> LossTerms:
        if name in _ELEMENTWISE:
            predictions = _like(predictions, labels, name)
        return LOSSES[name](predictions, labels, **given)

    return loss


def _like(predictions: Tensor, labels: Tensor, name: str) -> Tensor:
    """`predictions` in the shape of `labels`: (B, 1) fits (B,), but nothing is broadcast.

    Broadcasting (B,) against (B, 1) would compare every prediction with every label, without a word.
    """
    if predictions.shape == labels.shape:
        return predictions
    if predictions.squeeze(-1).shape == labels.squeeze(-1).shape:
        return predictions.reshape(labels.shape)
    raise TrainingError(
        f"loss {name!r} compares element by element, but predictions have shape {tuple(predictions.shape)} and labels "
        f"{tuple(labels.shape)}."
    )


def count_of(labels: Sequence[Tensor], inputs: Mapping[str, Any]) -> Tensor:
    """How much a mean was taken over, float32 (): label elements that are not -100, or rows when there are no labels.

    Several label tensors (the two ends of an answer) describe the same rows: the first counts. Call it before the batch
    goes to an accelerator, which would have to be waited for.
    """
    if labels:
        first = labels[0]
        return (first != -100).sum().float() if not first.is_floating_point() else torch.tensor(float(first.numel()))
    rows = next((len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()), 1)
    return torch.tensor(float(rows))


def as_terms(loss: Any, count: Tensor) -> LossTerms:
    """A loss as (sum, count): `LossTerms` or a pair stay, a scalar is a mean over `count`."""
    if isinstance(loss, LossTerms):
        return loss
    if isinstance(loss, tuple) and len(loss) == 2:
        return LossTerms(loss[0], torch.as_tensor(loss[1], dtype=torch.float32))
    if isinstance(loss, Tensor) and loss.numel() == 1:
        if not float(count):  # a mean over nothing is NaN; it adds nothing, and has no gradient
            return LossTerms(torch.zeros((), device=loss.device), count)
        return LossTerms(loss.reshape(()).float() * float(count), count)
    shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
    raise TrainingError(f"a loss must be one number, a pair (sum, count) or LossTerms, but it is {shape}.")


def read_loss(output: Any, count: Tensor, model: str) -> LossTerms:
    """The loss inside a model's output: `loss_terms` when present, else `loss` as a mean over `count`."""
    if (terms := getattr(output, "loss_terms", None)) is not None:
        return as_terms(terms, count)
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise TrainingError(
            f"{model} gave no loss. Either the batch has no labels that its forward takes, or the model only predicts: "
            f"then say how to score it, with TrainingArguments(loss={'|'.join(LOSSES)!r}) or compute_loss_func."
        )
    return as_terms(loss, count)


def read_predictions(output: Any) -> Any:
    """The predictions inside a model's output: its `logits`, else what is left of it without the loss.

    A tensor, or a tuple of tensors; None when there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if logits is not None:
        return logits
    if isinstance(output, Mapping):
        rest = tuple(value for name, value in output.items() if name != "loss" and isinstance(value, Tensor))
    elif isinstance(output, tuple):
        rest = tuple(value for value in output if isinstance(value, Tensor))
    else:
        rest = ()
    return rest[0] if len(rest) == 1 else rest or None
