"""How new weights are drawn by families that do more than draw all with the deviation `initializer_range`.

Each function draws the parameters of `network`, or of its parts `only`, as a configuration says; which family takes
which is in the family's file. Complete for those whose papers or published code say so. PyTorch is imported when one is
called: a family file reads without it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from plait.models.config import Config

# The last weights of each sublayer, which add to the state.
_LAST = ("attention.output", "mlp.down")


def glorot(network: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """Linear weights uniform as in Glorot & Bengio (2010), embeddings normal with the deviation width^-0.5."""
    from plait.nn.build import initialise

    initialise(network, only=only)


def by_depth(network: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """Normal with the deviation `initializer_range`; weights that add to the state, twice per layer, by
    1 / sqrt(2 * layers) less (Radford et al. 2019 §2.3)."""
    from plait.nn.build import initialise

    std, last = float(config.initializer_range), math.sqrt(2 * config.num_hidden_layers)
    initialise(network, std=lambda name, part: std / last if name.endswith(_LAST) else std, only=only)


def cut_off(network: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """As `by_depth`, and no farther than `initializer_cutoff_factor` deviations (arXiv:2412.13663 §A.1).

    Heads count as weights that add to the state, but a projection to labels has the deviation width^-0.5.
    """
    from plait.nn.build import initialise
    from plait.nn.heads import ClassifierHead

    std, last = float(config.initializer_range), math.sqrt(2 * config.num_hidden_layers)
    labels = isinstance(getattr(network, "head", None), ClassifierHead)
    cutoff = config.initializer_cutoff_factor

    def deviation(name: str, part: nn.Module) -> float:
        if name == "head.projection" and labels:
            return float(config.hidden_size**-0.5)
        return std / last if name.endswith(_LAST) or name.startswith("head.") else std

    initialise(network, std=deviation, cutoff=3.0 if cutoff is None else float(cutoff), only=only)


def by_inputs(network: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """Weights by how many numbers they add up, as in the code that trained T5:

    normal with the deviation inputs^-0.5, queries divided by the root of a head's width besides, which stands in for
    the scale of the scores; embeddings and an unshared head with 1, the bias by distance with width^-0.5; all, and
    norms, times `initializer_factor`.
    """
    from torch import nn

    from plait.nn.build import initialise
    from plait.nn.heads import ClassifierHead
    from plait.nn.norm import Norm

    factor = float(config.initializer_factor)
    labels = isinstance(getattr(network, "head", None), ClassifierHead)

    def deviation(name: str, part: nn.Module) -> float:
        if name.endswith("relative_bias.table"):
            return factor * float(config.d_model**-0.5)
        if not isinstance(part, nn.Linear) or (name == "head.projection" and not labels):
            return factor
        per_head = config.d_kv**-0.5 if name.endswith(".query") else 1.0
        return factor * float(part.in_features**-0.5 * per_head)

    initialise(network, std=deviation, only=only)
    for part in network.modules() if only is None else only:
        if isinstance(part, Norm):
            nn.init.constant_(part.weight, factor)
