"""Optimizers, complete: which parameters decay, AdamW under its usual names, and the optimizers that `optim` names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from plait.console import logger
from plait.errors import OptionError, TrainingError
from plait.weights.quantise import Matrix

if TYPE_CHECKING:
    from plait.train.arguments import TrainingArguments

log = logger("train")


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay (arXiv:1711.05101), torch's, under the argument names of old scripts.

    The moments are always corrected for their start at zero; `correct_bias=False` raises `OptionError`. There is no
    warning that `no_deprecation_warning` could silence.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        no_deprecation_warning: bool = False,
    ) -> None:
        if not correct_bias:
            raise OptionError("AdamW always corrects the bias of its moments: correct_bias=False is not available.")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def decays(parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices and kernels, not to biases, gains and other vectors."""
    return parameter.dim() >= 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups, with and without decay; every one is in exactly one of them."""
    trainable = trainable_parameters(model)
    groups = [
        {"params": [p for p in trainable.values() if decays(p)], "weight_decay": weight_decay},
        {"params": [p for p in trainable.values() if not decays(p)], "weight_decay": 0.0},
    ]
    assert not check_covered(model, groups)
    return [group for group in groups if group["params"]]


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter for all that require a gradient; raises `TrainingError` when there is none."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    few_bits = next((part.title for part in model.modules() if isinstance(part, Matrix)), None)
    if not trainable and few_bits:
        raise TrainingError(
            f"nothing to train: the matrices of {type(model).__name__} are {few_bits}, which no gradient reaches, and "
            "its other parameters are frozen. Train the head (model.unfreeze(last=0)) or parts that you add; or the "
            "model itself, as its weights are without quantize=, or after model.dequantize()."
        )
    if not trainable:
        raise TrainingError(
            f"nothing to train: every parameter of {type(model).__name__} is frozen. Unfreeze some, for example with "
            f"model.unfreeze(last=3) or parameter.requires_grad_(True)."
        )
    return trainable


def check_covered(model: nn.Module, groups: Iterable[dict[str, Any]]) -> list[str]:
    """The names of trainable parameters that no group holds.

    Raises `TrainingError` when a group holds a tensor that is no parameter of the model: it would be updated, and the
    model would not, as happens to an optimizer made before the model was replaced.
    """
    held = {id(p) for group in groups for p in group["params"]}
    known = {id(p) for p in model.parameters()}
    if strangers := len(held - known):
        raise TrainingError(
            f"the optimizer holds {strangers} tensors that are no parameters of {type(model).__name__}. Make the "
            f"optimizer after the model, from model.parameters()."
        )
    return [name for name, p in trainable_parameters(model).items() if id(p) not in held]


def check_optimizer(model: nn.Module, optimizer: Optimizer) -> None:
    """Check an optimizer that the user made: its tensors are the model's, and what it leaves out is logged."""
    if missing := check_covered(model, optimizer.param_groups):
        log.warning(
            "%d trainable parameters are in no group of the optimizer and stay as they are: %s%s",
            len(missing),
            ", ".join(missing[:5]),
            " …" if len(missing) > 5 else "",
        )


def make_optimizer(model: nn.Module, args: TrainingArguments) -> Optimizer:
    """The optimizer that `args.optim` names: "adamw", "adamw_fused" (one kernel for all parameters) or "sgd"."""
    groups = parameter_groups(model, args.weight_decay)
    if args.optim == "sgd":
        return torch.optim.SGD(groups, lr=args.learning_rate)
    return torch.optim.AdamW(
        groups,
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=args.optim == "adamw_fused",
    )
