"""Mixtures of experts, complete: a router chooses a few of many MLPs for each token (arXiv:2401.04088 §2.1).

Each projection's weights of all experts are one tensor. Tokens are grouped by expert, so that an expert computes once,
on those tokens alone that chose it, and one that nobody chose not at all. Shapes: N tokens, K experts active for each,
E experts, W their width, D the width of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.linear import Linear
from plait.nn.mlp import MLP, activation
from plait.nn.spec import GroupedRouterSpec, MoESpec, SoftmaxRouterSpec


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


class SoftmaxRouter(Linear):
    """The `active` experts of the highest scores, with their share of the softmax (arXiv:2401.04088 §2.1)."""

    def __init__(self, spec: SoftmaxRouterSpec, *, width: int, experts: int, active: int) -> None:
        super().__init__(width, experts, bias=False)
        self.renormalise, self.active = spec.renormalise, active

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) -> factors and expert numbers, (N, K) each, and the scores (N, E) before the softmax."""
        scores: Tensor = self(x)
        shares = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        factors, chosen = shares.topk(self.active, dim=-1)
        if self.renormalise:
            factors = factors / factors.sum(dim=-1, keepdim=True)
        return factors, chosen, scores


class GroupedRouter(Linear):
    """The `active` experts of the highest corrected sigmoids, of the best groups alone (arXiv:2412.19437 §2.1.2)."""

    # Sigmoids of neighbouring experts differ by less than bfloat16 can tell.
    own_dtypes = MappingProxyType({"correction": torch.float32})

    def __init__(self, spec: GroupedRouterSpec, *, width: int, experts: int, active: int) -> None:
        super().__init__(width, experts, bias=False)
        if experts % spec.groups or not 1 <= spec.chosen_groups <= spec.groups:
            raise ConfigError(
                f"`groups` must divide the {experts} experts and `chosen_groups` be at most that many, but they are "
                f"{spec.groups} and {spec.chosen_groups}"
            )
        if active > experts // spec.groups * spec.chosen_groups:
            raise ConfigError(
                f"{spec.chosen_groups} of {spec.groups} groups hold {experts // spec.groups * spec.chosen_groups} of "
                f"the {experts} experts, but {active} are to be `active`: choose more groups, or fewer experts"
            )
        self.spec, self.active = spec, active
        # Set by the balance of the load and never by a gradient, which the choice of experts has none of.
        self.correction = nn.Parameter(torch.empty(experts), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, E) of (N, D), computed in float32 at least."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return functional.linear(x.to(wide), self.weight.to(wide))

    def route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) -> factors and expert numbers, (N, K) each, and the scores (N, E) before the sigmoid."""
        scores: Tensor = self(x)
        shares = scores.sigmoid()
        chosen = self._eligible(shares + self.correction.float()).topk(self.active, dim=-1).indices
        factors = shares.gather(1, chosen)
        if self.spec.renormalise:
            factors = factors / factors.sum(dim=-1, keepdim=True)
        return factors * self.spec.scale, chosen, scores

    def _eligible(self, corrected: Tensor) -> Tensor:
        """(N, E), -inf outside the groups whose two best experts sum highest."""
        if self.spec.chosen_groups == self.spec.groups:
            return corrected
        size = corrected.shape[1] // self.spec.groups
        grouped = corrected.view(-1, self.spec.groups, size)  # (N, E) -> (N, groups, E / groups)
        best = grouped.topk(min(2, size), dim=-1).values.sum(dim=-1)
        kept = torch.zeros_like(best, dtype=torch.bool)
        kept.scatter_(1, best.topk(self.spec.chosen_groups, dim=-1).indices, True)
        return grouped.masked_fill(~kept[..., None], float("-inf")).flatten(1)


class MoE(nn.Module):
    """The sum of the experts that the router chooses for a token, times its factors, and the shared one."""

    def __init__(self, spec: MoESpec, width: int) -> None:
        super().__init__()
        if not 1 <= spec.active <= spec.experts:
            raise ConfigError(
                f"`active` must be from 1 to the number of experts ({spec.experts}), but is {spec.active}: a token "
                "passes through that many of them"
            )
        self.spec = spec
        kind = GroupedRouter if isinstance(spec.router, GroupedRouterSpec) else SoftmaxRouter
        sizes = {"width": width, "experts": spec.experts, "active": spec.active}
        self.router: SoftmaxRouter | GroupedRouter = kind(spec.router, **sizes)  # type: ignore[arg-type]
        self.experts = Experts(spec, width)
        self.shared = MLP(spec.shared.mlp, width) if spec.shared else None
        self.shared_gate = Linear(width, 1, bias=False) if spec.shared and spec.shared.gated else None

    def forward(self, x: Tensor, routed: list[Tensor] | None = None) -> Tensor:
        """(..., D) -> (..., D). The router's scores (N, E) are appended to a list `routed`."""
        tokens = x.reshape(-1, x.shape[-1])  # (..., D) -> (N, D)
        factors, chosen, scores = self.router.route(tokens)
        if routed is not None:
            routed.append(scores)
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


def load_balance(routed: Sequence[Tensor], *, active: int, valid: Tensor | None = None) -> Tensor:
    """How unevenly tokens are spread over experts, float32 (): `active` when each has the same share, more otherwise.

    `routed` are the routers' scores (N, E) of all layers, `valid` (N,) which tokens count. For each expert, the part of
    the tokens that chose it times the mean of its probability; the sum over experts, times their number
    (arXiv:2101.03961 §2.2).
    """
    first = routed[0]
    weight = torch.ones_like(first[:, :1], dtype=torch.float32) if valid is None else valid.flatten().float()[:, None]
    chosen, probability = torch.zeros(2, first.shape[1], device=first.device)
    for scores in routed:
        shares = scores.softmax(dim=-1)
        # (N, K) -> (N, E): 1 where the expert was chosen
        hits = torch.zeros_like(shares, dtype=torch.float32).scatter_(1, shares.topk(active, dim=-1).indices, 1.0)
        chosen = chosen + (hits * weight).sum(dim=0)
        probability = probability + (shares.float() * weight).sum(dim=0)
    rows = weight.sum() * len(routed)
    balance: Tensor = (chosen / rows * (probability / rows)).sum() * first.shape[1]
    return balance
