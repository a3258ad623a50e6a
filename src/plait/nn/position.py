"""Trained relative positions, complete for T5's buckets (arXiv:1910.10683 §2.1): one bias that all layers share.

Shapes: B batch, T queries, S keys, H heads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from plait.errors import ConfigError
from plait.nn.linear import Embedding
from plait.nn.spec import RelativeBiasSpec


def bucket(spec: RelativeBiasSpec, steps: Tensor) -> Tensor:
    """The bucket of each number of steps from a query to a key, negative for keys before it; of any shape.

    Buckets of keys behind the query follow those of keys before it. Of the n buckets of one side, the first n / 2 hold
    the distances 0 to n / 2 - 1, the others ranges whose ends grow geometrically up to `distance`.
    """
    buckets = spec.buckets // 2 if spec.bidirectional else spec.buckets
    exact = buckets // 2
    far = steps.abs() if spec.bidirectional else (-steps).clamp(min=0)
    # Never less than `exact` here, so that no logarithm of 0 is taken.
    ratio = torch.log(far.clamp(min=exact).float() / exact) / math.log(spec.distance / exact)
    wide = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    found = torch.where(far < exact, far, wide)
    return found + buckets * (steps > 0) if spec.bidirectional else found


class RelativeBias(nn.Module):
    """What is added to the score of a key, by its distance from the query and the head.

    Raises ConfigError for fewer buckets than one narrow and one wide on each side, or a `distance` inside the narrow
    ones.
    """

    def __init__(self, spec: RelativeBiasSpec, heads: int) -> None:
        super().__init__()
        sides = 2 if spec.bidirectional else 1
        if spec.buckets < 2 * sides or spec.buckets % sides:
            raise ConfigError(
                f"`buckets` of a relative bias must be {'an even number of ' * (sides - 1)}at least {2 * sides}, but "
                f"is {spec.buckets}"
            )
        exact = spec.buckets // sides // 2
        if spec.distance <= exact:
            raise ConfigError(
                f"`distance` of a relative bias must exceed the {exact} distances with a bucket of their own, but is "
                f"{spec.distance}"
            )
        self.spec = spec
        self.table = Embedding(spec.buckets, heads)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions of queries (B or 1, T) and keys (B or 1, S) -> (B or 1, H, T, S)."""
        # (B, 1, S) - (B, T, 1) -> (B, T, S)
        steps = keys[:, None, :] - queries[:, :, None]
        # (B, T, S, H) -> (B, H, T, S)
        bias: Tensor = self.table(bucket(self.spec, steps)).permute(0, 3, 1, 2)
        return bias

    if TYPE_CHECKING:
        __call__ = forward
