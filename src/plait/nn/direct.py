"""Where a computation on a CPU may be written out by hand, complete."""

from __future__ import annotations

import torch
from torch import Tensor


def direct(x: Tensor, *weights: Tensor) -> bool:
    """Whether `x` is numbers on a CPU, computed with now, and none of `weights` learns.

    Not so under autocast, which chooses types by the names of functions, in a compiled graph, which fuses by itself,
    and within `torch.func`, which wants every function in a form of its own.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    return not learns and not torch._C._are_functorch_transforms_active()
