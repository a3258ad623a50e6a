"""Pools, heads and topologies as data, complete: what is made of states, and how stacks are wired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plait.nn.spec.attention import NormSpec
from plait.nn.spec.layer import Activation
from plait.nn.spec.stack import StackSpec
from plait.nn.spec.table import CellHeadSpec


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """One vector per sequence: of the first or the last valid token, or the mean of all valid ones.

    With an `activation`, a square dense layer and that activation follow (BERT's pooler).
    """

    where: Literal["first", "last", "mean"]
    activation: Activation | None = None


@dataclass(frozen=True, kw_only=True)
class TransformSpec:
    """What a head does before it scores: `norm(activation(dense(dropout(x))))`; `bias` is that of the dense layer."""

    activation: Activation
    bias: bool = True
    norm: NormSpec | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LanguageHeadSpec:
    """Scores over the vocabulary. `tied` shares the weight of the token embedding.

    A `transform` comes first in masked-language heads; its dense layer leads to the width of the embedding. `scale`
    multiplies what is scored.
    """

    vocabulary: int
    tied: bool
    bias: bool = False
    transform: TransformSpec | None = None
    softcap: float | None = None
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ClassifierHeadSpec:
    """A linear layer to `labels` scores, on the pooled vector or, where the topology has no pool, on every token.

    `dropout` acts on what is scored, behind the `transform` where there is one.
    """

    labels: int
    bias: bool = True
    transform: TransformSpec | None = None
    dropout: float = 0.0


HeadSpec = LanguageHeadSpec | ClassifierHeadSpec | CellHeadSpec


@dataclass(frozen=True, kw_only=True)
class Single:
    """One stack, with an optional pool and an optional head: encoders and decoders alike."""

    stack: StackSpec
    pool: PoolSpec | None = None
    head: HeadSpec | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder:
    """Two stacks: the decoder's layers attend to the encoder's output. `shared` makes both use one token embedding.

    An optional pool makes a vector of each target, and an optional head follows.
    """

    encoder: StackSpec
    decoder: StackSpec
    pool: PoolSpec | None = None
    head: HeadSpec | None = None
    shared: bool = True


Topology = Single | EncoderDecoder
