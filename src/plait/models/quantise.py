"""Which parts of a network are quantised, complete: surgery on any family, before or after its weights are there, what
files hold of it, and back.

Replaced are the matrices of the layers: projections of attention, MLPs, experts. Left as they are: embeddings, heads
(which often share the embedding's numbers), poolers, norms, biases, and routers, whose choices hang on small
differences. In a file, what was replaced has our names (`stack.layers.0.attention.query.matrix.numbers`), since it need
not correspond to one tensor of theirs; config.json says the kind under `quantization_config`, without the
`quant_method` that transformers asks for, which therefore refuses such a folder instead of drawing what it misses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase

import torch
from torch import Tensor, nn

from plait.errors import ConfigError, OptionError
from plait.models.config import Config
from plait.nn.linear import Linear
from plait.nn.moe import Experts
from plait.nn.stack import Stack
from plait.weights.quantise import KINDS, Matrix, QuantisedLinear, check_kind, quantised, quantised_bytes
from plait.weights.rules import Rules, rename

NOTE = "quantization_config"


def quantise(network: nn.Module, kind: str) -> None:
    """Replace the matrices of the layers by those of `kind`, "int8" or "int4", in place.

    Those on "meta" are made while a load fills them, so that memory never holds the model twice. int4 takes rows
    of whole groups of 32; others become int8. No gradient reaches them; that the parameters left train without them is
    for the caller to ask, and until then nothing does. Raises OptionError for another kind, and for a network that is
    quantised.
    """
    check_kind(kind)
    for matrix in _matrices(network):
        raise OptionError(f"The weights of this model are {matrix.title}. Load it once, with the kind that you want.")
    for stack in [part for part in network.modules() if isinstance(part, Stack)]:
        for owner in list(stack.layers.modules()):
            for name, part in list(owner._modules.items()):
                # Routers are linear layers of a kind of their own.
                if type(part) is Linear:
                    owner._modules[name] = QuantisedLinear(part, kind)
                elif isinstance(part, Experts):
                    owner._modules[name] = QuantisedExperts(part, kind)
    network.requires_grad_(False)


def dequantise(network: nn.Module, dtype: torch.dtype) -> None:
    """Put ordinary matrices of `dtype`, with the numbers that the few bits stand for, in place of all; they train."""
    made: dict[int, nn.Module] = {}  # layers may share a matrix
    for owner in list(network.modules()):
        for name, part in list(owner._modules.items()):
            if isinstance(part, QuantisedLinear | QuantisedExperts):
                if id(part) not in made:
                    made[id(part)] = _whole(part, dtype)
                owner._modules[name] = made[id(part)]


def _whole(part: QuantisedLinear | QuantisedExperts, dtype: torch.dtype) -> nn.Module:
    if isinstance(part, QuantisedLinear):
        assert part.matrix is not None
        linear = Linear(part.in_features, part.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(part.matrix.dense(dtype).contiguous())
        linear.bias = part.bias  # type: ignore[assignment]
        return linear
    experts = Experts.__new__(Experts)
    nn.Module.__init__(experts)
    experts.activation = part.activation
    for name, matrices in part.matrices.items():
        dense = torch.stack([matrix.dense(dtype) for matrix in matrices])  # type: ignore[attr-defined]
        experts.register_parameter(name, nn.Parameter(dense))
    return experts


def kind_of(network: nn.Module) -> str | None:
    """The kind of a network's matrices, None for the usual one."""
    kinds = (part.kind for part in network.modules() if isinstance(part, QuantisedLinear | QuantisedExperts))
    return next(kinds, None)


def _matrices(network: nn.Module) -> Iterator[Matrix]:
    return (part for part in network.modules() if isinstance(part, Matrix))


# -- in files ----------------------------------------------------------------------------------------------------------


def noted_kind(config: Config) -> str | None:
    """The kind in which files hold the matrices, by their config.json; None for the usual one.

    Raises ConfigError for a kind that is none of ours.
    """
    note = config.get(NOTE)
    if note is None:
        return None
    kind = note.get("kind") if isinstance(note, Mapping) else None
    if kind in KINDS and set(note) == {"library", "kind"} and note["library"] == "plait":
        return str(kind)
    tool = note.get("quant_method", "another tool") if isinstance(note, Mapping) else "another tool"
    raise ConfigError(
        f"The weights of {config.label} are quantised by {tool}, in a format that plait does not read. Load the model "
        "that they were made from, with quantize='int8' or quantize='int4'."
    )


def noted(config: Config, kind: str | None) -> Config:
    """The configuration with the note that says `kind`, or without one."""
    values = {key: value for key, value in config.values.items() if key != NOTE}
    if kind in KINDS:
        values[NOTE] = {"library": "plait", "kind": kind}
    return Config(values, label=config.label)


def agreed_kind(stored: str | None, wanted: str | None, *, prepack: bool, label: str) -> str | None:
    """The kind to load as. Raises OptionError when a file is quantised and another kind, or none, is `wanted` of it."""
    if stored is None or (wanted in (None, stored) and not prepack):
        return stored or wanted
    asked = "prepack=True" if prepack else f"quantize={wanted!r}"
    raise OptionError(
        f"The weights of {label} are quantised to {stored}, and {asked} was given. Leave it out, or load the model "
        "that they were made from."
    )


def expect_matrices(network: nn.Module) -> None:
    """Let a quantised network on "meta" wait for the few-bit numbers of a file instead of whole matrices."""
    for part in list(network.modules()):
        if isinstance(part, QuantisedLinear | QuantisedExperts):
            for name, parameter in list(part.named_parameters(recurse=False)):
                part.receive(name, parameter)


def with_matrices(rules: Rules, network: nn.Module) -> Rules:
    """The names of a file that holds the matrices of a quantised `network` as they are."""
    own = [
        f"{prefix}.{leaf}"
        for prefix, part in network.named_modules()
        if isinstance(part, Matrix)
        for leaf in part._buffers
    ]
    templates = dict.fromkeys(map(_template, own))
    return rules.plus(*(rename(template, template) for template in templates))


def _template(name: str) -> str:
    """With a placeholder for each index: "layers.3.x.7.numbers" is "layers.{a}.x.{b}.numbers"."""
    letters = iter(ascii_lowercase)
    return re.sub(r"(?<=\.)\d+(?=\.)", lambda _: f"{{{next(letters)}}}", name)


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
        if name not in self._parameters:
            return False
        del self._parameters[name]
        self.matrices[name] = nn.ModuleList(quantised(weight, self.kind) for weight in tensor)
        return True

    def taken_bytes(self, name: str) -> int | None:
        """Bytes of the matrices that the parameter `name` (E, …) on "meta" will become; None for anything else."""
        stacked = self._parameters.get(name)
        return None if stacked is None else len(stacked) * quantised_bytes(stacked[0], self.kind)

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """(N, D), of which the first `counts[0]` rows are for expert 0, the next `counts[1]` for expert 1 -> (N, D)."""
        return torch.cat([x[:0], *self._computed(x, counts)])

    def _computed(self, x: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
        parts = zip(*(self.matrices[name] for name in ("gate", "up", "down")), strict=True)
        for rows, (gate, up, down) in zip(torch.split(x, list(counts)), parts, strict=True):
            if len(rows):
                yield down(self.activation(gate(rows)) * up(rows))
