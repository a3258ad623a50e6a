"""Normalisation over the last dimension, complete: LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.direct import direct
from plait.nn.spec import NormSpec


class Norm(nn.Module):
    """`x`, centred (layer only) and scaled to unit variance (layer) or mean square (rms), times `offset + weight`,
    plus `bias`.

    Statistics are taken in float32 whatever the dtype of `x` (ATen's kernels accumulate so).
    """

    def __init__(self, spec: NormSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if spec.bias else None

    def initialise(self) -> None:
        """Make the module the plain normalisation: a factor of one, a shift of zero."""
        nn.init.constant_(self.weight, 1.0 - self.spec.offset)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if self.spec.kind == "rms" and self.bias is None and direct(x, self.weight):
            # The stored weight is near zero where there is an offset, and keeps its digits in a sum taken in float32.
            weight = _wide(self.weight) + self.spec.offset if self.spec.offset else self.weight
            return root_mean_square(x, weight, self.spec.eps)
        if not self.spec.offset:
            return self._normalised(x, self.weight)
        return self._normalised(_wide(x), _wide(self.weight) + self.spec.offset).to(x.dtype)

    def _normalised(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.spec.kind == "layer":
            # The kernel wants weight and bias of one type, which under autocast is not that of `x`.
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return functional.layer_norm(x, weight.shape, weight, bias, self.spec.eps)
        y = functional.rms_norm(x, weight.shape, weight, self.spec.eps)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    if TYPE_CHECKING:
        __call__ = forward


def root_mean_square(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` (..., D) in few passes; gradients reach `x` and never the weight."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _RootMeanSquare.apply(x, weight, eps)  # type: ignore[no-untyped-call,no-any-return]
    return _scaled(x, weight, eps)


def _scaled(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = _wide(x)
    scale = _scale(wide, eps)
    scaled = wide * scale if wide is x else wide.mul_(scale)
    return scaled.mul_(weight).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _scale(x: Tensor, eps: float) -> Tensor:
    """What brings each vector (..., D) to a mean square of one, (..., 1)."""
    # A norm is one pass that keeps nothing; the square of its root is off by less than the sum itself.
    return torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + eps)


class _RootMeanSquare(torch.autograd.Function):
    """The gradient of `root_mean_square` in one formula: nothing but `x` is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return _scaled(x, weight, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        wide = _wide(x)
        scale, slope = _scale(wide, ctx.eps), gradients[0] * weight.to(wide.dtype)
        # d(x s)/dx with ds/dx = -s³ x / D: s (g - x s² (g · x) / D)
        along = (slope * wide).sum(dim=-1, keepdim=True) * scale.square() / -x.shape[-1]
        return (torch.addcmul(slope, wide, along) * scale).to(x.dtype), None, None
