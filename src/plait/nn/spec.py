"""What a Transformer is, as data: a tree of frozen dataclasses, complete for every architecture that plait builds.

No torch here: a spec is read from a configuration in microseconds, is hashable, and can be compared, printed and tested
as a value. `plait.nn.build.build` is the one place that turns it into modules. The rule for every variation: a number,
a presence or a choice inside one formula is a field; a sub-computation with parameters of its own is a member of a
union; a change of wiring is a class. Absence is `None`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plait.nn.table_spec import CellHeadSpec as CellHeadSpec

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """A normalisation over the last dimension. `offset` is added to the stored weight (Gemma stores w - 1)."""

    kind: Literal["layer", "rms"]
    eps: float
    bias: bool = False
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """Positions divided by `factor` (position interpolation, arXiv:2306.15595)."""

    factor: float


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Low frequencies divided by `factor`, high ones kept, a smooth ramp between them (Llama 3.1)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_positions: int


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """Interpolation by parts with an attention temperature (YaRN, arXiv:2309.00071).

    `attention_factor` multiplies the rotated vectors; `beta_fast` and `beta_slow` are rotations over the original
    length; `truncate` rounds the ramp's ends to whole dimensions.
    """

    factor: float
    original_positions: int
    attention_factor: float
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True, kw_only=True)
class LongRopeScaling:
    """A divisor of its own for each frequency (LongRoPE, arXiv:2402.13753): `short_factors` in calls whose positions
    all lie below `original_positions`, `long_factors` in others.

    `attention_factor` multiplies the rotated vectors. Keys that a cache already holds keep the rotation they got.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_positions: int
    attention_factor: float


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling | LongRopeScaling


@dataclass(frozen=True, kw_only=True)
class RopeSpec:
    """Rotary positions on the first `dim` dimensions of each head (arXiv:2104.09864).

    A pair that turns together is dimensions i and i + dim/2, or neighbours 2i and 2i + 1 when `interleaved`.
    """

    theta: float
    dim: int
    interleaved: bool = False
    scaling: RopeScaling | None = None


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """Which keys a query may see, by position: all, none later (`causal`), none `window` or more positions away."""

    causal: bool = False
    window: int | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectionBias:
    """Which of the four projections of an attention carry a bias."""

    query: bool = False
    key: bool = False
    value: bool = False
    output: bool = False

    @classmethod
    def all(cls, bias: bool = True) -> ProjectionBias:
        """The same for all four."""
        return cls(query=bias, key=bias, value=bias, output=bias)


@dataclass(frozen=True, kw_only=True)
class AttentionSpec:
    """Multi-head attention; `kv_heads < heads` shares each key and value among a group of queries (arXiv:2305.13245).

    `scale` multiplies the scores; `softcap` bounds them by `softcap * tanh(scores / softcap)`; `qk_norm` normalises
    each head's query and key before rotation; `dropout` acts on the attention weights.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    mask: MaskSpec = MaskSpec()
    bias: ProjectionBias = ProjectionBias()
    rope: RopeSpec | None = None
    qk_norm: NormSpec | None = None
    softcap: float | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DisentangledSpec:
    """Attention in which queries and keys also meet the vectors of their distance (DeBERTa, arXiv:2006.03654 §3.1).

    Those vectors are the stack's `relative_vectors`; they pass through the projections of the tokens. `scale`
    multiplies the sum of the three scores, `dropout` acts on the attention weights, `position_dropout` on the vectors.
    Every token sees every other one, and positions come in by distance alone.
    """

    heads: int
    head_dim: int
    scale: float
    dropout: float = 0.0
    position_dropout: float = 0.0

    @property
    def mask(self) -> MaskSpec:
        """All keys."""
        return MaskSpec()

    @property
    def rope(self) -> None:
        """No rotation."""
        return


@dataclass(frozen=True, kw_only=True)
class LatentAttentionSpec:
    """Attention whose keys and values come from one short vector per token (DeepSeek-V2, arXiv:2405.04434 §2.1).

    That vector, `latent` wide and normalised by `norm`, is what a cache keeps, beside one key of `rope.dim` dimensions
    that all heads share: places are known from those alone. A head's query and key have `plain_dim` dimensions more,
    its value has `value_dim`. With `query_latent`, queries come from a short normalised vector too. `bias` is that of
    the projections from and to the stack's width; `scale` multiplies the scores.
    """

    heads: int
    latent: int
    plain_dim: int
    value_dim: int
    rope: RopeSpec
    scale: float
    norm: NormSpec
    query_latent: int | None = None
    mask: MaskSpec = MaskSpec()
    bias: bool = False
    dropout: float = 0.0

    @property
    def head_dim(self) -> int:
        """How many numbers a head gives."""
        return self.value_dim


@dataclass(frozen=True, kw_only=True)
class MLPSpec:
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated (arXiv:2002.05202).

    `dropout` acts on what goes into `down`.
    """

    width: int
    activation: Activation
    gated: bool = False
    bias: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SharedExpertSpec:
    """An MLP for all tokens beside the chosen experts; `gated` multiplies it by `sigmoid(linear(x))`, one number."""

    mlp: MLPSpec
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class SoftmaxRouterSpec:
    """The experts of the highest scores, each by its share of the softmax over all of them, or with `renormalise` over
    the chosen ones (arXiv:2401.04088 §2.1)."""

    renormalise: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupedRouterSpec:
    """The experts of the highest `sigmoid(score) + correction`, each by its sigmoid alone (arXiv:2412.19437 §2.1.2).

    The corrections are a number per expert that balances their load. Experts lie in `groups` of equal size; those of
    the `chosen_groups` alone take part whose two best sum highest. `renormalise` divides by the sum over the chosen
    experts; `scale` multiplies.
    """

    groups: int = 1
    chosen_groups: int = 1
    renormalise: bool = False
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class MoESpec:
    """A mixture of experts (arXiv:2401.04088): gated MLPs of one `width`, of which `active` compute for each token.

    What they give is multiplied by the factors of the `router` and added, together with the `shared` expert where there
    is one.
    """

    experts: int
    active: int
    width: int
    activation: Activation
    router: SoftmaxRouterSpec | GroupedRouterSpec = SoftmaxRouterSpec()
    shared: SharedExpertSpec | None = None


@dataclass(frozen=True, kw_only=True)
class SublayerSpec:
    """The slots around a sublayer f: `after(x + dropout(branch(f(before(x)))))`.

    Only `after` is post-norm (BERT), only `before` is pre-norm (GPT-2, Llama), `before` and `branch` the sandwich
    (Gemma).
    """

    before: NormSpec | None = None
    branch: NormSpec | None = None
    after: NormSpec | None = None
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One layer: self-attention, attention over another stack's output when `cross` is there, and an MLP or several."""

    attention: AttentionSpec | DisentangledSpec | LatentAttentionSpec
    mlp: MLPSpec | MoESpec
    around_attention: SublayerSpec
    around_mlp: SublayerSpec
    cross: AttentionSpec | None = None
    around_cross: SublayerSpec | None = None


@dataclass(frozen=True, kw_only=True)
class ConvolutionSpec:
    """A convolution over neighbouring tokens: `kernel` of them, an odd number, in `groups` of dimensions."""

    kernel: int
    activation: Activation
    norm: NormSpec
    groups: int = 1
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ConvolvedLayerSpec(LayerSpec):
    """A layer with a convolution beside it: `norm(layer(x) + activation(dropout(convolution(x))))`
    (arXiv:2006.03654 §A.5)."""

    convolution: ConvolutionSpec


@dataclass(frozen=True, kw_only=True)
class ParallelLayerSpec:
    """One layer whose two parts read the same input: `x + attention(norm(x)) + mlp(norm(x))`.

    The MLP shares the norm, or has `mlp_norm` of its own. `dropout` acts on what each part adds.
    """

    attention: AttentionSpec
    mlp: MLPSpec
    norm: NormSpec
    mlp_norm: NormSpec | None = None
    dropout: float = 0.0


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
