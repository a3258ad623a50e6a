"""Frontends and stacks as data, complete: from token ids through layers to states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plait.nn.spec.attention import NormSpec
from plait.nn.spec.layer import LayerSpec, ParallelLayerSpec


@dataclass(frozen=True, kw_only=True)
class LearnedPositions:
    """A table of `count` trained vectors; position 0 has the row `offset`.

    Positions that are not given count all slots from 0, or with `over="tokens"` only those that are no padding, or with
    `over="cells"` those of each cell of a table, whose columns and rows the segments tell, up to the last one.
    """

    count: int
    offset: int = 0
    over: Literal["slots", "tokens", "cells"] = "slots"


@dataclass(frozen=True, kw_only=True)
class SinusoidalPositions:
    """Fixed sines and cosines of geometrically spaced wavelengths (arXiv:1706.03762 §3.5): no parameter, no limit.

    They alternate, or with `halves` all sines come first.
    """

    halves: bool = False


@dataclass(frozen=True, kw_only=True)
class NarrowTables:
    """All tables and the norm have this `width`, and a linear layer leads from what they give to the stack's
    (arXiv:1909.11942 §3.1)."""

    width: int


@dataclass(frozen=True, kw_only=True)
class NarrowTokens:
    """Token vectors alone have this `width`, and a linear layer without bias leads to the stack's before the rest."""

    width: int


@dataclass(frozen=True, kw_only=True)
class TextFrontendSpec:
    """Token ids to vectors: `dropout(norm(scale * tokens + positions + segments))`, each part but the tokens optional.

    `segments` is how many there are, or how many of each kind: a token then has an id of every kind, and their vectors
    are added. `padding` is the id of the padding token, or None: its vector receives no gradient. `narrow` says which
    tables are narrower than the stack.
    """

    vocabulary: int
    narrow: NarrowTables | NarrowTokens | None = None
    positions: LearnedPositions | SinusoidalPositions | None = None
    segments: int | tuple[int, ...] | None = None
    scale: float = 1.0
    norm: NormSpec | None = None
    dropout: float = 0.0
    padding: int | None = None


@dataclass(frozen=True, kw_only=True)
class RelativeBiasSpec:
    """A trained number per head and bucket of distances, added to the scores of every layer (arXiv:1910.10683 §2.1).

    Half of the `buckets` hold one distance each, the others ever wider ranges up to `distance`, and the last one all
    beyond. `bidirectional` shares the buckets between keys before and behind; otherwise those behind count as distance
    0, which suits a causal mask.
    """

    buckets: int
    distance: int
    bidirectional: bool = True


@dataclass(frozen=True, kw_only=True)
class RelativeVectorsSpec:
    """A trained vector per distance, for distances to either side (DeBERTa, arXiv:2006.03654 §3.1).

    There are `reach` of them on each side. Without a `distance`, each has one distance and the last one all beyond;
    with it, the nearer half has, and the others ever wider ranges up to `distance`.
    """

    reach: int
    distance: int | None = None
    norm: NormSpec | None = None


@dataclass(frozen=True, kw_only=True)
class StackSpec:
    """A frontend, layers of one width, and a norm behind them. One entry per layer: a pattern is different entries.

    `relative_bias` is one for all layers, which then have the same number of heads. `order` are the indices of the
    layers as they run, where some run again (arXiv:1909.11942 §3.1); None is one after the other. `relative_vectors`
    are those of layers with disentangled attention. `dropout` acts on what the norm gives. With `narrow`, a linear
    layer without bias leads from that to this width.
    """

    width: int
    frontend: TextFrontendSpec
    layers: tuple[LayerSpec | ParallelLayerSpec, ...]
    norm: NormSpec | None = None
    relative_bias: RelativeBiasSpec | None = None
    relative_vectors: RelativeVectorsSpec | None = None
    order: tuple[int, ...] | None = None
    narrow: int | None = None
    dropout: float = 0.0

    @property
    def out(self) -> int:
        """The width of what the stack gives."""
        return self.narrow or self.width
