"""Rotary positions (arXiv:2104.09864), complete: the frequencies of every scaling, their tables, and the rotation.

Tables are float32 whatever the dtype of the model: bfloat16 cannot tell neighbouring positions of a long text apart.
Shapes: B batch, T tokens, H heads, R rotated dimensions of a head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from plait.nn.spec import DynamicScaling, LinearScaling, Llama3Scaling, LongRopeScaling, RopeSpec, YarnScaling


class Rotation(NamedTuple):
    """Of the angle of each pair of dimensions at each position: cosines for both dimensions, float32 (B or 1, 1, T, R),
    and sines for the pair, (B or 1, 1, T, R/2); and whether pairs are neighbours."""

    cosine: Tensor
    sine: Tensor
    interleaved: bool = False

    def last(self, count: int | None) -> Rotation:
        """Of the last `count` positions, None for all."""
        if count is None:
            return self
        return Rotation(self.cosine[..., -count:, :], self.sine[..., -count:, :], self.interleaved)


def frequencies(spec: RopeSpec, *, length: int = 0, device: torch.device | None = None) -> tuple[Tensor, float]:
    """The angle per position of each pair of dimensions, float32 (R/2,), and the factor on the rotated vectors.

    `length` is the number of positions of the text, on which two of the scalings depend.
    """
    exponents = torch.arange(0, spec.dim, 2, dtype=torch.float32, device=device) / spec.dim
    plain = 1.0 / spec.theta**exponents
    match spec.scaling:
        case None:
            return plain, 1.0
        case LinearScaling(factor=factor):
            return plain / factor, 1.0
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling), 1.0
        case YarnScaling() as scaling:
            return _yarn(plain, spec, scaling), scaling.attention_factor
        case LongRopeScaling() as scaling:
            factors = scaling.long_factors if length > scaling.original_positions else scaling.short_factors
            return plain / plain.new_tensor(factors), scaling.attention_factor
        case DynamicScaling(factor=factor, original_positions=original):
            longer = factor * max(length, original) / original - (factor - 1)
            # A single pair, at exponent 0, turns alike whatever theta is.
            return 1.0 / (spec.theta * longer ** (spec.dim / max(spec.dim - 2, 1))) ** exponents, 1.0


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended linearly in 1/wavelength.

    Source: the rope_scaling of Llama 3.1 (arXiv:2407.21783 §3.1 and its published configuration).
    """
    # How often each wave turns over the original length: few turns are low frequencies.
    turns = scaling.original_positions * plain / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling.factor + kept * plain


def _yarn(plain: Tensor, spec: RopeSpec, scaling: YarnScaling) -> Tensor:
    """Dimensions that turn more than `beta_fast` times over the original length are kept, those below `beta_slow`
    are divided by `factor`, with a linear ramp over the dimensions between (arXiv:2309.00071 §3.2)."""

    def dimension(turns: float) -> float:
        length = scaling.original_positions
        return spec.dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(spec.theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.dim - 1)
    steps = torch.arange(len(plain), dtype=torch.float32, device=plain.device)
    divided = ((steps - low) / max(high - low, 0.001)).clamp(0, 1)
    return divided * plain / scaling.factor + (1 - divided) * plain


def rotation(spec: RopeSpec, positions: Tensor, *, length: int | None = None) -> Rotation:
    """The tables for `positions` (B or 1, T); `length` is that of the text, by default as its last position says."""
    if length is None:
        # To know it is a copy from the device, so only where it matters.
        matters = isinstance(spec.scaling, LongRopeScaling | DynamicScaling)
        length = int(positions.max()) + 1 if matters else 0
    per_position, factor = frequencies(spec, length=length, device=positions.device)
    # (B, T) x (R/2,) -> (B, 1, T, R/2): the same for every head
    angles = positions[:, None, :, None].float() * per_position
    cosine = angles.cos() * factor
    # (…, R/2) -> (…, R)
    cosine = cosine.repeat_interleave(2, dim=-1) if spec.interleaved else torch.cat((cosine, cosine), dim=-1)
    return Rotation(cosine, angles.sin() * factor, spec.interleaved)


def rotate(x: Tensor, tables: Rotation) -> Tensor:
    """Rotate the first R dimensions of each head of `x` (B, H, T, D); dimension i turns with dimension i + R/2, or
    2i with 2i + 1 when the tables are interleaved."""
    size = tables.cosine.shape[-1]
    whole, rest = x[..., :size], x[..., size:]
    whole = whole if x.dtype == torch.float64 else whole.float()
    if tables.interleaved:
        first, second = slice(0, None, 2), slice(1, None, 2)
    else:
        first, second = slice(size // 2), slice(size // 2, None)
    turned = whole * tables.cosine
    turned[..., first].addcmul_(whole[..., second], tables.sine, value=-1)
    turned[..., second].addcmul_(whole[..., first], tables.sine)
    turned = turned.to(x.dtype)
    return turned if rest.shape[-1] == 0 else torch.cat((turned, rest), dim=-1)
