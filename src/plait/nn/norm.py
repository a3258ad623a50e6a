"""Normalisation over the last dimension, complete: LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        if not self.spec.offset:
            return self._normalised(x, self.weight)
        # The stored weight is near zero, and keeps its digits in a sum taken in float32.
        return self._normalised(x.float(), self.weight.float() + self.spec.offset).to(x.dtype)

    def _normalised(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.spec.kind == "layer":
            # The kernel wants weight and bias of one type, which under autocast is not that of `x`.
            bias = None if self.bias is None else self.bias.to(weight.dtype)
            return functional.layer_norm(x, weight.shape, weight, bias, self.spec.eps)
        y = functional.rms_norm(x, weight.shape, weight, self.spec.eps)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    if TYPE_CHECKING:
        __call__ = forward
