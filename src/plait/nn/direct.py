"""Where a computation on a CPU may be written out by hand, complete."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_PLAIN = (Tensor, nn.Parameter)  # others compute in ways of their own: traced, divided among processes, in few bits


def direct(x: Tensor, *weights: Tensor) -> bool:
    """Whether `x` is numbers on a CPU, computed with now, and none of `weights` learns.

    Not so under autocast, which chooses types by the names of functions, in a graph that is compiled, which fuses by
    itself, or traced, and within `torch.func` or forward-mode differentiation, which want functions in a form of their
    own.
    """
    if type(x) not in _PLAIN or forward_ad._current_level >= 0:
        return False
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    return not learns and not torch._C._are_functorch_transforms_active()
