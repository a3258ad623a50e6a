"""Which parts of a network are quantised or prepacked, complete: surgery on any family, before or after its weights are
there.

Replaced are the matrices of the layers: projections of attention, MLPs, experts. Left as they are: embeddings, heads
(which often share the embedding's numbers), poolers, norms, biases, and routers, whose choices hang on small
differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from plait.errors import OptionError
from plait.nn.linear import Linear
from plait.nn.moe import Experts
from plait.nn.stack import Stack
from plait.weights.quantise import Matrix, Prepacked, QuantisedLinear, check_kind, quantised


def quantise(network: nn.Module, kind: str) -> None:
    """Replace the matrices of the layers by those of `kind`, "int8", "int4" or "prepacked", in place.

    Those on "meta" are made while a load fills them, so that memory never holds the model twice. int4 takes rows
    of whole groups of 32; others become int8. Raises OptionError for another kind, and for a network that is quantised.
    """
    if kind != "prepacked":
        check_kind(kind)
    require_whole(network, remedy="Load it once, with the kind that you want.")
    for stack in [part for part in network.modules() if isinstance(part, Stack)]:
        for owner in list(stack.layers.modules()):
            for name, part in list(owner._modules.items()):
                # Routers are linear layers of a kind of their own.
                if type(part) is Linear:
                    owner._modules[name] = QuantisedLinear(part, kind)
                elif isinstance(part, Experts):
                    owner._modules[name] = QuantisedExperts(part, kind)


def require_whole(network: nn.Module, *, remedy: str = "") -> None:
    """Raise OptionError when a network is quantised or prepacked: files hold weights as they were trained."""
    for part in network.modules():
        if isinstance(part, Matrix):
            usual = (
                f"Load it without {'prepack' if isinstance(part, Prepacked) else 'quantize'}= to save or to fill it."
            )
            raise OptionError(f"The weights of this model are {part.title}. {remedy or usual}")


def require_bfloat16(model: nn.Module) -> None:
    """Raise OptionError for a model of another type, which prepacked matrices do not serve."""
    dtype = next(model.parameters()).dtype
    if dtype != torch.bfloat16:
        raise OptionError(
            f"prepack=True orders matrices of bfloat16, but this model is {str(dtype).removeprefix('torch.')}. Pass "
            "dtype='bfloat16' as well, or leave it out."
        )


class QuantisedExperts(nn.Module):
    """Experts whose projections are quantised, each expert's by itself."""

    def __init__(self, experts: Experts, kind: str) -> None:
        super().__init__()
        self.kind, self.activation = kind, experts.activation
        self.matrices = nn.ModuleDict()
        for name, stacked in experts.named_parameters(recurse=False):
            self.register_parameter(name, stacked)
            if not stacked.is_meta:
                self.receive(name, stacked.detach())

    def receive(self, name: str, tensor: Tensor) -> bool:
        """Take the numbers (E, …) of a projection instead of the tensor."""
        del self._parameters[name]
        self.matrices[name] = nn.ModuleList(quantised(weight, self.kind) for weight in tensor)
        return True

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """(N, D), of which the first `counts[0]` rows are for expert 0, the next `counts[1]` for expert 1 -> (N, D)."""
        return torch.cat([x[:0], *self._computed(x, counts)])

    def _computed(self, x: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
        parts = zip(*(self.matrices[name] for name in ("gate", "up", "down")), strict=True)
        for rows, (gate, up, down) in zip(torch.split(x, list(counts)), parts, strict=True):
            if len(rows):
                yield down(self.activation(gate(rows)) * up(rows))
