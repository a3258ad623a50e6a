"""How a model's answer to a batch becomes a loss, complete: whose loss it is, and where labels go.

    compute_loss_func      the caller's function of (output, labels)
    args.loss              a loss by name, of the predictions
    label smoothing        cross-entropy of the logits, smoothed
    otherwise              the model's own: output.loss_terms, or output.loss as a mean over its labels

In the first three the labels are kept from the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from plait.errors import TrainingError
from plait.nn.loss import LossTerms
from plait.train.arguments import TrainingArguments
from plait.train.loader import find_label_names, forward_names
from plait.train.loss import as_terms, count_of, named_loss, read_loss, read_predictions

LossFunction = Callable[..., Any]


class Criterion:
    """Runs a model on a batch and reads its loss as (sum, count)."""

    def __init__(self, model: nn.Module, args: TrainingArguments, loss_function: LossFunction | None = None) -> None:
        self.label_names = args.label_names or find_label_names(model)
        self.title = type(model).__name__
        arguments, anything = forward_names(model)
        self.cache_can_be_refused = "use_cache" in arguments
        self.withheld = [name for name in self.label_names if name not in arguments and not anything]
        self.loss: Callable[[Any, Any], Any] | None = loss_function
        name = args.loss
        if name is None and args.label_smoothing_factor:
            name = "causal_cross_entropy" if _predicts_next(model) else "cross_entropy"
        if loss_function is None and name is not None:
            loss = named_loss(name, args.loss_kwargs, smoothing=args.label_smoothing_factor)
            self.loss = lambda output, labels: loss(self._tensor(read_predictions(output)), labels)
        if self.loss is not None:
            self.withheld = self.label_names

    def labels(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The labels that a batch holds."""
        return tuple(batch[name] for name in self.label_names if isinstance(batch.get(name), Tensor))

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        """How many labels, or else rows, a mean over this batch is taken over."""
        return count_of(self.labels(batch), batch)

    def output(self, model: nn.Module, batch: Mapping[str, Any], *, quiet: bool = False) -> Any:
        """What the model says; `quiet` refuses a cache of keys and values, which nobody will read."""
        inputs = {name: value for name, value in batch.items() if name not in self.withheld}
        if quiet and self.cache_can_be_refused:
            inputs.setdefault("use_cache", False)
        return model(**inputs)

    def terms(self, output: Any, batch: Mapping[str, Any], count: Tensor) -> LossTerms:
        """The loss of an output; raises `TrainingError` when there is none."""
        if self.loss is None:
            return read_loss(output, count, self.title)
        labels = self.labels(batch)
        if not labels:
            raise TrainingError(
                f"the batch has no labels: it holds {', '.join(batch)}, and labels are called "
                f"{', '.join(self.label_names)}. Rename the column, or set label_names."
            )
        return as_terms(self.loss(output, labels[0] if len(labels) == 1 else labels), count)

    def _tensor(self, predictions: Any) -> Tensor:
        if isinstance(predictions, Tensor):
            return predictions
        raise TrainingError(
            f"{self.title} must return predictions as one tensor, or as `logits`, for a loss by name; it returned "
            f"{type(predictions).__name__}. Score it yourself with compute_loss_func(output, labels)."
        )


def _predicts_next(model: nn.Module) -> bool:
    """Whether each position is scored against the next label: a causal language model, plait's or another library's."""
    name = type(model).__name__
    return getattr(model, "task", None) == "causal_lm" or name.endswith(("ForCausalLM", "LMHeadModel"))
