"""Products of a few vectors with matrices on a CPU, complete: without a copy of the matrix, and with what comes behind.

oneDNN first brings the second factor of a product into an order of its own. In `rows @ matrixᵀ` that is the matrix, and
for few rows it takes as long as the product itself. In `matrix @ columns` it is the vectors, and the sums are the same.
So vectors stand in columns here. Gradients reach the columns and never the matrix.
Shapes: I inputs, O outputs, N vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from plait.nn.direct import direct
from plait.nn.spec import Activation
from plait.nn.transposed import held

_LINE = 64  # bytes that a CPU reads at once
_SPLIT = 128  # as many vectors at most where the rows of a bfloat16 matrix lie across such lines
# What oneDNN calls the activations that it computes before a sum is rounded: name, numbers, variant.
_WITHIN: dict[str, tuple[str, list[float], str]] = {
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "relu": ("relu", [], ""),
    "silu": ("swish", [], ""),
    "tanh": ("tanh", [], ""),
}


def few(x: Tensor, *weights: Tensor, most: int) -> bool:
    """Whether `x` (..., I) is `most` vectors or fewer, which this CPU multiplies with `weights` sooner when turned.

    At most 128 where a matrix of bfloat16 begins within a line of the cache, as it may in a mapped file: for every 16
    vectors its rows are then read in parts of two lines each, which usual products, that reorder them, do once.
    """
    count = x.numel() // max(x.shape[-1], 1)
    if not (0 < count <= most and direct(x, *weights) and _kernel_takes(x, count)):
        return False
    if not all(_beside(weight, x) for weight in weights):
        return False
    return x.dtype != torch.bfloat16 or count <= _SPLIT or not any(weight.data_ptr() % _LINE for weight in weights)


def fixed(bias: Tensor | None) -> bool:
    """Whether no gradient is to reach a bias: those of a turned product reach its vectors alone."""
    return bias is None or not (bias.requires_grad and torch.is_grad_enabled())


def columns(x: Tensor) -> Tensor:
    """(..., I) -> (I, N)."""
    return x.reshape(-1, x.shape[-1]).t()


def product(weight: Tensor, bias: Tensor | None, vectors: Tensor) -> Tensor:
    """`weight @ vectors + bias`, (O, N) for vectors (I, N)."""
    if torch.is_grad_enabled() and vectors.requires_grad:
        return _Turned.apply(vectors, weight, bias)  # type: ignore[no-untyped-call,no-any-return]
    return _turned(vectors, weight, bias)


def activated(
    weight: Tensor, bias: Tensor | None, vectors: Tensor, name: Activation, function: Callable[[Tensor], Tensor]
) -> Tensor:
    """The activation of a product, by its `function`, or before the product is rounded where oneDNN has the `name`."""
    if bias is None and name in _WITHIN and not (torch.is_grad_enabled() and vectors.requires_grad):
        return _kernel()(weight, vectors.t(), None, *_WITHIN[name])  # type: ignore[no-any-return]
    return function(product(weight, bias, vectors))


def scaled(weight: Tensor, bias: Tensor | None, vectors: Tensor, factor: Tensor) -> Tensor:
    """A product times `factor` (O, N), computed before the product is rounded where there is no bias."""
    if bias is None and not (torch.is_grad_enabled() and (vectors.requires_grad or factor.requires_grad)):
        return _kernel().binary(weight, factor, vectors.t(), None, "mul")  # type: ignore[no-any-return]
    return product(weight, bias, vectors) * factor


def _turned(vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return _kernel()(weight, vectors.t(), None, "none", [], "")  # type: ignore[no-any-return]
    # The kernel adds one number per vector, not one per output; what is as large as the product it adds as well.
    whole = bias[:, None].expand(-1, vectors.shape[1])
    return _kernel().binary(weight, whole, vectors.t(), None, "add")  # type: ignore[no-any-return]


def _kernel() -> Any:
    """oneDNN's product and what comes behind: of its "input", here a matrix, and its "weight", here vectors (N, I)."""
    return torch.ops.mkldnn._linear_pointwise


class _Turned(torch.autograd.Function):
    """`weight @ vectors + bias` of numbers that do not learn."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.columns = vectors.is_contiguous()
        ctx.transposed = held(weight)
        return _turned(vectors, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.transposed is not None and not torch.is_grad_enabled():  # the kernel has no gradient of its own
            found = _turned(gradients[0], ctx.transposed, None)  # (I, N)
            return (found if ctx.columns else found.t().contiguous().t()), None, None
        # (N, O) @ (O, I) -> (N, I), laid out as the vectors were: what is computed with both then runs along memory
        rows = gradients[0].t().contiguous() @ weight
        return (rows.t().contiguous() if ctx.columns else rows.t()), None, None


def _kernel_takes(x: Tensor, count: int) -> bool:
    """Whether the kernel is there for `count` vectors of this type."""
    if x.dtype == torch.bfloat16:
        return _takes_bfloat16()
    # A single vector of float32 is multiplied without a copy anyway.
    return x.dtype == torch.float32 and count > 1 and _available()


def _beside(weight: Tensor, x: Tensor) -> bool:
    """Whether a matrix is plain numbers that lie where `x` does, of the same type."""
    return type(weight) in (nn.Parameter, Tensor) and weight.dtype == x.dtype and weight.device == x.device


@cache
def _available() -> bool:
    return torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call,no-any-return]


@cache
def _takes_bfloat16() -> bool:
    return _available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
