"""The feed-forward part of a layer, complete: plain (arXiv:1706.03762 §3.3) and gated (arXiv:2002.05202)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.linear import Linear
from plait.nn.spec import Activation, MLPSpec


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of that name, element by element."""
    match name:
        case "gelu":
            return functional.gelu
        case "gelu_tanh":
            return _gelu_tanh
        case "quick_gelu":
            return _quick_gelu
        case "relu":
            return functional.relu
        case "silu":
            return functional.silu
        case "tanh":
            return torch.tanh


class MLP(nn.Module):
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated."""

    def __init__(self, spec: MLPSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.gate = Linear(width, spec.width, bias=spec.bias) if spec.gated else None
        self.up = Linear(width, spec.width, bias=spec.bias)
        self.down = Linear(spec.width, width, bias=spec.bias)
        self.activation = activation(spec.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        y = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        return self.down(functional.dropout(y, self.spec.dropout, training=self.training))  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __call__ = forward
