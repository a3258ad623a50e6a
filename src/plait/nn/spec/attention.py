"""Norms, rotary positions, masks and attentions as data, complete: what mixes the tokens of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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


@dataclass(frozen=True, kw_only=True)
class DynamicScaling:
    """A larger theta for longer texts (dynamic NTK-aware scaling, arXiv:2309.00071 §3.3): in calls whose positions
    reach beyond `original_positions`, that times `factor * length / original_positions - (factor - 1)` to the power
    `dim / (dim - 2)`; the plain one in others. Keys that a cache already holds keep the rotation they got.
    """

    factor: float
    original_positions: int


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling | LongRopeScaling | DynamicScaling


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
