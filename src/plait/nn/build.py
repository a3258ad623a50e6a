"""From data to modules, complete: `build` is the one place where a spec becomes a module, `initialise` fills one."""

from __future__ import annotations

import math

import torch
from torch import nn

from plait.nn.moe import Experts, GroupedRouter
from plait.nn.norm import Norm
from plait.nn.spec import EncoderDecoder, Single, Topology
from plait.nn.topology import EncoderDecoderModel, SingleModel


def build(topology: Topology, *, device: torch.device | str = "meta") -> SingleModel | EncoderDecoderModel:
    """The module that `topology` describes.

    On "meta", the default, no memory is allocated and no number drawn: tensors are bound to it afterwards. On any other
    device the parameters are allocated but hold no meaningful numbers until `initialise` or a load fills them.
    """
    with torch.device("meta"):
        match topology:
            case Single():
                module: SingleModel | EncoderDecoderModel = SingleModel(topology)
            case EncoderDecoder():
                module = EncoderDecoderModel(topology)
    if torch.device(device).type != "meta":
        _allocate(module, torch.device(device))
    return module


def _allocate(module: nn.Module, device: torch.device) -> None:
    """Replace parameters on "meta" by empty ones; a parameter with several owners stays one."""
    made: dict[int, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None and parameter.is_meta:
                if id(parameter) not in made:
                    empty = torch.empty_like(parameter, device=device)
                    made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                setattr(owner, name, made[id(parameter)])


def initialise(module: nn.Module, *, std: float | None = None, generator: torch.Generator | None = None) -> None:
    """Draw every parameter of `module` anew.

    Weights of linear layers and embeddings come from a normal distribution with standard deviation `std` (the
    `initializer_range` of BERT, GPT-2 and Llama configurations), biases are zero, norms are plain, the vector of the
    padding token is zero. With `std=None` linear weights are uniform as in Glorot & Bengio (2010) and embeddings
    normal with deviation width^-0.5, the choice of the original Transformer (arXiv:1706.03762).
    """
    for part in module.modules():
        match part:
            case Norm():
                part.initialise()
            case Experts():
                part.initialise(std=std, generator=generator)
            case nn.Linear() | nn.Conv1d():
                if std is None:
                    nn.init.xavier_uniform_(part.weight, generator=generator)
                else:
                    nn.init.normal_(part.weight, std=std, generator=generator)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
                if isinstance(part, GroupedRouter):
                    nn.init.zeros_(part.correction)
    # Embeddings come last, so that a tied head ends with the embedding's numbers.
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            deviation = 1 / math.sqrt(part.embedding_dim) if std is None else std
            nn.init.normal_(part.weight, std=deviation, generator=generator)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()
