"""One layer of a Transformer, complete: sublayers, the norm slots around them, and the residual that carries through.

             ┌────────────────────────── dropout ── branch ──┐
x ──┬── before ── attention / cross-attention / mlp ─────────┘
    └────────────────────────────────────────────── + ── after ──>
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.attention import Attention
from plait.nn.cache import LayerCache
from plait.nn.disentangled import DisentangledAttention
from plait.nn.latent import LatentAttention
from plait.nn.linear import Convolution
from plait.nn.mask import Mask
from plait.nn.mlp import MLP, activation
from plait.nn.moe import MoE
from plait.nn.norm import Norm
from plait.nn.packing import Packed
from plait.nn.position import Relative
from plait.nn.record import Recorder
from plait.nn.rope import Rotation
from plait.nn.spec import (
    AttentionSpec,
    ConvolutionSpec,
    ConvolvedLayerSpec,
    DisentangledSpec,
    LatentAttentionSpec,
    LayerSpec,
    MaskSpec,
    MoESpec,
    ParallelLayerSpec,
    RopeSpec,
    SublayerSpec,
)


@dataclass(frozen=True)
class Context:
    """What all layers of one forward share: each distinct mask and each distinct rotation table, made once.

    `valid` (B, T): False at padding, None for no padding.
    `memory` (B, S, width) is the output of the other stack, `memory_mask` which of its positions may be seen.
    `capacity` is the number of slots that a cache should allocate. `relative` are the vectors of distances.
    """

    masks: Mapping[MaskSpec, Mask | Packed]
    rotations: dict[RopeSpec, Rotation]
    capacity: int = 0
    valid: Tensor | None = None
    memory: Tensor | None = None
    memory_mask: Mask = Mask()
    relative: Relative | None = None


class Around(nn.Module):
    """The slots around a sublayer: `after(x + dropout(branch(f(before(x)))))`."""

    def __init__(self, spec: SublayerSpec, width: int) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.before = Norm(spec.before, width) if spec.before else None
        self.branch = Norm(spec.branch, width) if spec.branch else None
        self.after = Norm(spec.after, width) if spec.after else None

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor], *, last: int | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, last, D) around a sublayer that computes the `last` positions alone."""
        y = sublayer(x if self.before is None else self.before(x))
        if self.branch is not None:
            y = self.branch(y)
        y = (x if last is None else x[:, -last:]) + functional.dropout(y, self.dropout, training=self.training)
        return y if self.after is None else self.after(y)

    if TYPE_CHECKING:
        __call__ = forward


Mixer = Attention | DisentangledAttention | LatentAttention


def _mixer(spec: AttentionSpec | DisentangledSpec | LatentAttentionSpec, width: int) -> Mixer:
    match spec:
        case AttentionSpec():
            return Attention(spec, width)
        case DisentangledSpec():
            return DisentangledAttention(spec, width)
        case LatentAttentionSpec():
            return LatentAttention(spec, width)


def _attend(
    attention: Mixer,
    x: Tensor,
    context: Context,
    cache: LayerCache | None,
    record: Recorder | None,
    last: int | None = None,
) -> Tensor:
    """Self-attention with what the layers share; of the `last` positions only where the mixer `narrows`."""
    weights = record.attentions if record else None
    mask = context.masks[attention.spec.mask]
    if isinstance(attention, DisentangledAttention):
        if cache is not None:
            raise ConfigError("disentangled attention keeps no cache: every token sees those behind it as well")
        assert context.relative is not None
        return attention(x, mask, relative=context.relative, weights=weights)
    if isinstance(attention, LatentAttention):
        rotation = context.rotations[attention.spec.rope]
        return attention(x, mask, rotation=rotation, cache=cache, capacity=context.capacity, weights=weights)
    spec = attention.spec
    return attention(
        x,
        mask,
        rotation=context.rotations[spec.rope] if spec.rope else None,
        cache=cache,
        capacity=context.capacity,
        weights=weights,
        last=last,
    )


class ParallelLayer(nn.Module):
    """Self-attention and an MLP side by side: `x + attention(norm(x)) + mlp(norm(x))`."""

    def __init__(self, spec: ParallelLayerSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.norm = Norm(spec.norm, width)
        self.mlp_norm = Norm(spec.mlp_norm, width) if spec.mlp_norm else None
        self.attention = Attention(spec.attention, width)
        self.mlp = MLP(spec.mlp, width)

    def forward(
        self, x: Tensor, context: Context, *, cache: LayerCache | None = None, record: Recorder | None = None
    ) -> Tensor:
        """(B, T, D) -> (B, T, D). What is recorded as "attention" is what attention adds."""
        y = self.norm(x)
        attended = _attend(self.attention, y, context, cache, record)
        if record:
            record.sublayer("attention", attended)
        added = self.mlp(y if self.mlp_norm is None else self.mlp_norm(x))
        for part in (attended, added):
            x = x + functional.dropout(part, self.spec.dropout, training=self.training)
        if record:
            record.sublayer("mlp", x)
        return x

    if TYPE_CHECKING:
        __call__ = forward


class Layer(nn.Module):
    """Self-attention, attention over `context.memory` where the spec has it and there is one, and an MLP.

    A layer that `narrows` can compute the last positions alone, from the keys and values of all.
    """

    def __init__(self, spec: LayerSpec, width: int) -> None:
        super().__init__()
        if spec.cross is not None and (spec.cross.mask != MaskSpec() or spec.cross.rope is not None):
            raise ConfigError(
                "`cross` must have neither a mask nor rotary positions: places in one sequence mean nothing in another"
            )
        self.spec = spec
        self.attention = _mixer(spec.attention, width)
        self.around_attention = Around(spec.around_attention, width)
        self.cross = Attention(spec.cross, width) if spec.cross else None
        self.around_cross = Around(spec.around_cross, width) if spec.around_cross else None
        self.mlp = MoE(spec.mlp, width) if isinstance(spec.mlp, MoESpec) else MLP(spec.mlp, width)
        self.around_mlp = Around(spec.around_mlp, width)

    @property
    def narrows(self) -> bool:
        """Whether `forward` takes `last`."""
        return type(self) is Layer and type(self.attention) is Attention

    def forward(
        self,
        x: Tensor,
        context: Context,
        *,
        cache: LayerCache | None = None,
        record: Recorder | None = None,
        last: int | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, last, D) with the masks of those positions."""

        def attend(y: Tensor) -> Tensor:
            return _attend(self.attention, y, context, cache, record, last)

        def attend_to_memory(y: Tensor) -> Tensor:
            assert self.cross is not None
            weights = record.cross_attentions if record else None
            return self.cross(y, context.memory_mask, cache=cache, memory=context.memory, weights=weights)

        def feed(y: Tensor) -> Tensor:
            return self.mlp(y, record.routed if record else None) if isinstance(self.mlp, MoE) else self.mlp(y)

        x = self.around_attention(x, attend, last=last)
        if record:
            record.sublayer("attention", x)
        if self.around_cross is not None and context.memory is not None:
            x = self.around_cross(x, attend_to_memory)
            if record:
                record.sublayer("cross", x)
        x = self.around_mlp(x, feed)
        if record:
            record.sublayer("mlp", x)
        return x

    if TYPE_CHECKING:
        __call__ = forward


class Convolved(nn.Module):
    """What stands beside a layer: `norm(y + activation(dropout(convolution(x))))` of its input x and its output y."""

    def __init__(self, spec: ConvolutionSpec, width: int) -> None:
        super().__init__()
        if spec.kernel % 2 == 0:
            raise ConfigError(f"`kernel` must be odd, so that a token has a middle to stand in, but is {spec.kernel}")
        self.spec = spec
        self.convolution = Convolution(width, width, spec.kernel, padding=spec.kernel // 2, groups=spec.groups)
        self.norm = Norm(spec.norm, width)
        self.activation = activation(spec.activation)

    def forward(self, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D) twice -> (B, T, D). Padding is nothing, as what lies beyond either end of a text."""
        if valid is not None:
            x = x * valid[:, :, None]
        # A convolution takes (B, D, T).
        around = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        around = functional.dropout(around, self.spec.dropout, training=self.training)
        return self.norm(y + self.activation(around))

    if TYPE_CHECKING:
        __call__ = forward


class ConvolvedLayer(Layer):
    """A layer with a convolution beside it: `Convolved` of what it takes and what it gives."""

    def __init__(self, spec: ConvolvedLayerSpec, width: int) -> None:
        super().__init__(spec, width)
        self.beside = Convolved(spec.convolution, width)

    def forward(
        self,
        x: Tensor,
        context: Context,
        *,
        cache: LayerCache | None = None,
        record: Recorder | None = None,
        last: int | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D). Raises ConfigError with a cache: a token's neighbours come behind it as well."""
        if cache is not None:
            raise ConfigError("a layer with a convolution keeps no cache: every token sees the next ones as well")
        if last is not None:
            raise ConfigError("a layer with a convolution computes all positions: the last ones read their neighbours")
        return self.beside(x, super().forward(x, context, record=record), context.valid)

    if TYPE_CHECKING:
        __call__ = forward
