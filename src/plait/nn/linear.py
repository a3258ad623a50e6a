"""Linear layers, convolutions and embeddings that draw no numbers when they are made, complete.

PyTorch's own draw random weights at once: wasted on a model whose tensors come from a file, and on the "meta" device
the draw alone loads PyTorch's compiler, over a second of imports. Here `plait.nn.build.initialise` or a load fills the
weights. A matrix that does not learn is multiplied with few vectors as `plait.nn.product` says; everything else is
PyTorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import _has_any_global_hook

from plait.nn.product import columns, few, fixed, product

# So few vectors, and 16 times as many outputs, that it pays to bring a turned product back into rows.
_ROWS = 32


class Linear(nn.Linear):
    """`x @ weightᵀ + bias`, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return linear(x, self.weight, self.bias)

    if TYPE_CHECKING:
        __call__ = forward


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weightᵀ + bias`, (..., I) -> (..., O)."""
    if fixed(bias) and few(x, weight, most=min(_ROWS, weight.shape[0] // 16)):
        y = product(weight, bias, columns(x))
        return y.t().contiguous().view(*x.shape[:-1], -1)  # (O, N) -> (..., O)
    return functional.linear(x, weight, bias)


def bare(layer: nn.Module) -> bool:
    """Whether a layer is a `Linear` and nothing else: no surgery has replaced it or its forward, and nobody watches it,
    or all modules."""
    if type(layer) is not Linear or "forward" in layer.__dict__ or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    watched = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return not watched


class Convolution(nn.Conv1d):
    """A convolution over the last dimension, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Embedding(nn.Embedding):
    """A table of vectors, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""
