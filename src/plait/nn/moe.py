"""Mixtures of experts, complete: a router chooses a few of many MLPs for each token (arXiv:2401.04088 §2.1).

Each projection's weights of all experts are one tensor. Tokens are grouped by expert, so that an expert computes once,
on those tokens alone that chose it, and one that nobody chose not at all. Shapes: N tokens, K experts active for each,
E experts, W their width, D the width of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.linear import Linear
from plait.nn.mlp import MLP, activation
from plait.nn.spec import MoESpec


class Experts(nn.Module):
    """MLPs of one shape: `down(activation(gate(x)) * up(x))`, without biases."""

    def __init__(self, spec: MoESpec, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(spec.experts, spec.width, width))
        self.up = nn.Parameter(torch.empty(spec.experts, spec.width, width))
        self.down = nn.Parameter(torch.empty(spec.experts, width, spec.width))
        self.activation = activation(spec.activation)

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """(N, D), of which the first `counts[0]` rows are for expert 0, the next `counts[1]` for expert 1 -> (N, D)."""
        # With gradients, one `unbind` gathers those of all experts, where indexing would make E tensors of full size.
        stacks = [part.unbind() if torch.is_grad_enabled() else part for part in (self.gate, self.up, self.down)]
        parts = [x[:0]]
        for expert, rows in enumerate(torch.split(x, list(counts))):
            if len(rows):
                gate, up, down = (part[expert] for part in stacks)
                y = self.activation(functional.linear(rows, gate)) * functional.linear(rows, up)
                parts.append(functional.linear(y, down))
        return torch.cat(parts)

    def initialise(self, *, std: float | None, generator: torch.Generator | None = None) -> None:
        """Each expert's weights drawn as those of a linear layer; see `plait.nn.build.initialise`."""
        for stacked in (self.gate, self.up, self.down):
            for weight in stacked:
                if std is None:
                    nn.init.xavier_uniform_(weight, generator=generator)
                else:
                    nn.init.normal_(weight, std=std, generator=generator)

    if TYPE_CHECKING:
        __call__ = forward


class MoE(nn.Module):
    """The sum of the `active` experts that a token's scores are highest for, times those scores, and the shared one."""

    def __init__(self, spec: MoESpec, width: int) -> None:
        super().__init__()
        if not 1 <= spec.active <= spec.experts:
            raise ConfigError(
                f"`active` must be from 1 to the number of experts ({spec.experts}), but is {spec.active}: a token "
                "passes through that many of them"
            )
        self.spec = spec
        self.router = Linear(width, spec.experts, bias=False)
        self.experts = Experts(spec, width)
        self.shared = MLP(spec.shared.mlp, width) if spec.shared else None
        self.shared_gate = Linear(width, 1, bias=False) if spec.shared and spec.shared.gated else None

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> float32 factors and expert numbers, (N, K) each, the highest score first."""
        scores = self.router(x).softmax(dim=-1, dtype=torch.float32)
        factors, chosen = scores.topk(self.spec.active, dim=-1)
        if self.spec.renormalise:
            factors = factors / factors.sum(dim=-1, keepdim=True)
        return factors, chosen

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        tokens = x.reshape(-1, x.shape[-1])  # (..., D) -> (N, D)
        factors, chosen = self.route(tokens)
        choices = chosen.flatten()  # (N, K) -> (N·K)
        order = choices.argsort(stable=True)  # those of one expert side by side
        counts = choices.bincount(minlength=self.spec.experts).tolist()
        y = self.experts(tokens[order // self.spec.active], counts)
        # In the order of the tokens again, and (N·K, D) -> (N, K, D); the sum is taken in float32, as the factors are.
        y = y[order.argsort()].view(*chosen.shape, x.shape[-1])
        y = (y * factors[..., None]).sum(dim=1).to(x.dtype)
        if self.shared is not None:
            shared = self.shared(tokens)
            y = y + (shared if self.shared_gate is None else torch.sigmoid(self.shared_gate(tokens)) * shared)
        return y.reshape(x.shape)

    if TYPE_CHECKING:
        __call__ = forward
