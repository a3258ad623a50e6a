"""From data to modules, complete: `build` is the one place where a spec becomes a module, `initialise` fills one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from plait.nn.cells import Score
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


Deviation = float | Callable[[str, nn.Module], float] | None


def initialise(
    module: nn.Module,
    *,
    std: Deviation = None,
    cutoff: float | None = None,
    only: Collection[nn.Module] | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Draw every parameter of `module` anew, or those of the parts `only`.

    Weights of linear layers and embeddings come from a normal distribution with standard deviation `std` (the
    `initializer_range` of BERT, GPT-2 and Llama configurations), or what that gives for the name of a part and the part
    itself; nothing is drawn farther out than `cutoff` deviations. Biases are zero, norms are plain, the vector of the
    padding token is zero. With `std=None` linear weights are uniform as in Glorot & Bengio (2010) and embeddings
    normal with deviation width^-0.5, the choice of the original Transformer (arXiv:1706.03762).
    """
    parts = [(name, part) for name, part in module.named_modules() if only is None or part in only]
    for name, part in parts:
        deviation = std(name, part) if callable(std) else std
        match part:
            case Norm():
                part.initialise()
            case Score():
                part.initialise(std=deviation, generator=generator)
            case Experts():
                part.initialise(std=deviation, generator=generator)
            case nn.Linear() | nn.Conv1d():
                _weight(part.weight, deviation, cutoff, generator)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
                if isinstance(part, GroupedRouter):
                    nn.init.zeros_(part.correction)
    # Embeddings come last, so that a tied head ends with the embedding's numbers.
    for name, part in parts:
        if isinstance(part, nn.Embedding):
            plain = 1 / math.sqrt(part.embedding_dim) if std is None else std
            _weight(part.weight, plain(name, part) if callable(plain) else plain, cutoff, generator)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()


def _weight(weight: Tensor, std: float | None, cutoff: float | None, generator: torch.Generator | None) -> None:
    if std is None:
        nn.init.xavier_uniform_(weight, generator=generator)
    elif cutoff is None:
        nn.init.normal_(weight, std=std, generator=generator)
    else:
        nn.init.trunc_normal_(weight, std=std, a=-cutoff * std, b=cutoff * std, generator=generator)
