"""The feed-forward part of a layer, complete: plain (arXiv:1706.03762 §3.3) and gated (arXiv:2002.05202)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.linear import Linear, bare
from plait.nn.product import activated, columns, few, fixed, product, scaled
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
        if self._turns(x):
            return self._turned(x)
        y = self.activation(self.up(x)) if self.gate is None else self.activation(self.gate(x)) * self.up(x)
        return self.down(functional.dropout(y, self.spec.dropout, training=self.training))

    def _turns(self, x: Tensor) -> bool:
        """Whether all three products are sooner done when turned: few vectors, and layers that are nothing else."""
        parts = [part for part in (self.gate, self.up, self.down) if part is not None]
        dropped = self.training and self.spec.dropout > 0
        return (
            not dropped
            and all(bare(part) and fixed(part.bias) for part in parts)
            and few(x, *(part.weight for part in parts), most=self.down.out_features // 3)
        )

    def _turned(self, x: Tensor) -> Tensor:
        vectors, up, down = columns(x), self.up, self.down
        if self.gate is None:
            y = activated(up.weight, up.bias, vectors, self.spec.activation, self.activation)
        else:
            gate = activated(self.gate.weight, self.gate.bias, vectors, self.spec.activation, self.activation)
            y = scaled(up.weight, up.bias, vectors, gate)
        return product(down.weight, down.bias, y).t().contiguous().view(x.shape)  # (width, N) -> (..., width)

    if TYPE_CHECKING:
        __call__ = forward
