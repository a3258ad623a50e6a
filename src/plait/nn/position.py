"""Trained relative positions that all layers share, complete for T5's biases (arXiv:1910.10683 §2.1) and DeBERTa's
vectors (arXiv:2006.03654 §3.1).

Shapes: B batch, T queries, S keys, H heads, R vectors to either side, D width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from plait.errors import ConfigError
from plait.nn.linear import Embedding
from plait.nn.norm import Norm
from plait.nn.spec import RelativeBiasSpec, RelativeVectorsSpec


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


class Relative(NamedTuple):
    """The `vectors` (2R, D) of distances, and which of them belongs to each query and key: `places` (B or 1, T, S)."""

    vectors: Tensor
    places: Tensor


def place(spec: RelativeVectorsSpec, steps: Tensor) -> Tensor:
    """The row of the table for each number of steps from a key to a query, negative for keys behind it."""
    near = spec.reach // 2
    if spec.distance is not None:
        far = steps.abs()
        # Never less than `near` here, so that no logarithm is negative.
        ratio = torch.log(far.clamp(min=near) / near) / torch.log(torch.tensor((spec.distance - 1) / near))
        wide = torch.ceil(ratio * (near - 1)).long() + near
        steps = torch.where(far <= near, steps, wide * steps.sign())
    return (steps + spec.reach).clamp(0, 2 * spec.reach - 1)


class RelativeVectors(nn.Module):
    """A vector per distance, normalised where the spec says so.

    Raises ConfigError where `reach` leaves no half, or `distance` lies within the nearer one.
    """

    def __init__(self, spec: RelativeVectorsSpec, width: int) -> None:
        super().__init__()
        if spec.distance is not None and (spec.reach < 2 or spec.distance <= spec.reach // 2 + 1):
            raise ConfigError(
                f"`reach` of relative vectors must be at least 2 and `distance` exceed half of it by two or more, but "
                f"they are {spec.reach} and {spec.distance}"
            )
        self.spec = spec
        self.table = Embedding(2 * spec.reach, width)
        self.norm = Norm(spec.norm, width) if spec.norm else None

    def forward(self, queries: Tensor, keys: Tensor) -> Relative:
        """For positions of queries (B or 1, T) and keys (B or 1, S)."""
        vectors = self.table.weight if self.norm is None else self.norm(self.table.weight)
        # (B, T, 1) - (B, 1, S) -> (B, T, S)
        return Relative(vectors, place(self.spec, queries[:, :, None] - keys[:, None, :]))

    if TYPE_CHECKING:
        __call__ = forward
