"""A frontend, layers and a final norm, complete: the forward of every encoder and decoder.

Encoder or decoder is no class: it is whether the masks are causal, whether the layers have `cross`, and whether a cache
is passed. Shapes: B batch, T tokens, S tokens and those in the cache before them, D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from plait.errors import ConfigError
from plait.nn.block import Context, ConvolvedLayer, Layer, ParallelLayer
from plait.nn.cache import Cache, LayerCache
from plait.nn.cells import within_cells
from plait.nn.frontend import TextFrontend
from plait.nn.linear import Linear
from plait.nn.mask import Mask, allowed, biased, plain
from plait.nn.norm import Norm
from plait.nn.packing import Packed, Packing
from plait.nn.position import RelativeBias, RelativeVectors
from plait.nn.record import Recorder
from plait.nn.rope import rotation
from plait.nn.spec import (
    ConvolvedLayerSpec,
    DisentangledSpec,
    LayerSpec,
    LearnedPositions,
    MaskSpec,
    ParallelLayerSpec,
    StackSpec,
)


class Stack(nn.Module):
    """The Transformer itself."""

    def __init__(self, spec: StackSpec) -> None:
        super().__init__()
        self.spec = spec
        self.recomputes = False  # in training, layers are computed again in the backward pass
        self.frontend = TextFrontend(spec.frontend, spec.width)
        self.layers = nn.ModuleList(_layer(layer, spec.width) for layer in spec.layers)
        self.order = range(len(self.layers)) if spec.order is None else spec.order
        if not set(self.order) <= set(range(len(self.layers))):
            raise ConfigError(f"`order` must name layers from 0 to {len(self.layers) - 1}, but is {spec.order}")
        self.norm = Norm(spec.norm, spec.width) if spec.norm else None
        self.projection = Linear(spec.width, spec.narrow, bias=False) if spec.narrow else None
        self.relative_bias = _relative_bias(spec)
        self.relative_vectors = _relative_vectors(spec)
        # Equal specs share one mask and one table: a forward makes each distinct one once.
        self._masks = dict.fromkeys(layer.attention.mask for layer in spec.layers)
        self._ropes = dict.fromkeys(layer.attention.rope for layer in spec.layers if layer.attention.rope)

    @property
    def depth(self) -> int:
        """How many layers an input passes through; a repeated one counts each time."""
        return len(self.order)

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        valid: Tensor | None = None,
        cache: Cache | None = None,
        memory: Tensor | None = None,
        memory_valid: Tensor | None = None,
        record: Recorder | None = None,
        packing: Packing | None = None,
        last: int | None = None,
    ) -> Tensor:
        """Token ids (B, T), or `embeddings` (B, T, D) in their place -> states (B, T, D), or of the `last` positions of
        each row alone, (B, last, D), which spares most of the last layer.

        `segments` (B, T): segment ids, None for all 0. `positions` (B or 1, T): None continues the cache, from 0.
        `valid` (B, T): False at padding, None for no padding. `memory` (B, S, D) with `memory_valid` (B, S): what the
        layers' cross-attention reads. With a `packing`, which a `packable` stack takes, inputs and result are packed,
        (1, N) and (1, N, D), and positions are its own. Raises ConfigError for a sequence longer than a table of
        learned positions, and for `last` positions of what is recorded or packed.
        """
        if last is not None and (record is not None or packing is not None):
            raise ConfigError("`last` positions are neither recorded nor packed: give `last` alone")
        given = tokens if tokens is not None else embeddings
        if given is None or (tokens is not None and embeddings is not None):
            raise ConfigError("give either token ids or embeddings, and not both")
        batch, count, device = given.shape[0], given.shape[1], given.device
        start = cache.length if cache else 0
        if packing is not None:
            positions = packing.slots
        where = torch.arange(start, start + count, device=device)[None] if positions is None else positions
        counted = where if positions is not None else self._counted(where, valid, cache, batch, segments)
        if packing is not None and self._counts == "tokens":
            counted = packing.order
        self._check_positions(counted, start + count, counted is not where or positions is not None)
        x = self.frontend(tokens, counted, embeddings=embeddings, segments=segments)
        slots = None if packing else self._slots(where, positions is not None, valid, cache, batch, count)
        places = packing.longest if packing else where if slots is None else slots[0]
        context = Context(
            masks=self._packed(packing) if packing else self._made(slots, count, start + count, device),
            # A scaling that depends on the length of the text reads that of the padded rows, packed or not.
            rotations={
                spec: rotation(spec, where, length=packing.shape[1] if packing else None) for spec in self._ropes
            },
            capacity=cache.capacity if cache else 0,
            relative=self.relative_vectors(places, places) if self.relative_vectors else None,
            valid=valid,
            memory=memory,
            memory_mask=Mask() if memory_valid is None else Mask(allowed=memory_valid[:, None, None, :].bool()),
        )
        for index, number in enumerate(self.order):
            if record:
                record.states.append(x)
            layer, past = self.layers[number], cache.layers[index] if cache else None
            if last is not None and last < count and index == self.depth - 1 and getattr(layer, "narrows", False):
                asking = None if slots is None else (slots[0][:, -last:], slots[1])
                context = replace(context, masks=self._made(asking, last, start + count, device))
                x = layer(x, context, cache=past, last=last)
            else:
                x = self._run(layer, x, context, cache=past, record=record)
        x = self.finished(x if last is None else x[:, -last:])
        if record:
            record.states.append(x)
        return x

    def finished(self, x: Tensor) -> Tensor:
        """What comes behind the layers: norm, dropout and projection, (B, T, D) -> (B, T, out)."""
        if self.norm is not None:
            x = self.norm(x)
        x = functional.dropout(x, self.spec.dropout, training=self.training)
        return x if self.projection is None else self.projection(x)

    def _run(
        self, layer: nn.Module, x: Tensor, context: Context, *, cache: LayerCache | None, record: Recorder | None
    ) -> Tensor:
        """One layer; where the stack `recomputes`, nothing inside it is kept for the backward pass but its input."""
        keeps = cache is not None or record is not None  # both would take up everything twice
        if keeps or not (self.recomputes and self.training and torch.is_grad_enabled()):
            return layer(x, context, cache=cache, record=record)  # type: ignore[no-any-return]
        return checkpoint(layer, x, context, use_reentrant=False)  # type: ignore[no-any-return]

    @property
    def packable(self) -> bool:
        """Whether the stack computes packed rows: its layers read no other stack and have no convolution, and positions
        do not depend on cells."""
        return self._counts != "cells" and not any(
            isinstance(layer, ConvolvedLayerSpec) or getattr(layer, "cross", None) is not None
            for layer in self.spec.layers
        )

    @property
    def _counts(self) -> str:
        """What learned positions count."""
        table = self.spec.frontend.positions
        return table.over if isinstance(table, LearnedPositions) else "slots"

    def _counted(
        self, where: Tensor, valid: Tensor | None, cache: Cache | None, batch: int, segments: Tensor | None
    ) -> Tensor:
        """Positions for the table (B or 1, T): of the slots `where`, or counted over the tokens that are no padding, or
        over those of a cell."""
        if self._counts == "cells":
            assert isinstance(self.spec.frontend.positions, LearnedPositions)
            return within_cells(where, segments, last=self.spec.frontend.positions.count - 1)
        plain = valid is None and (cache is None or cache.plain)
        if plain or self._counts == "slots":
            return where
        seen = torch.ones(batch, where.shape[1], device=where.device) if valid is None else valid
        before = cache.counted() if cache else 0
        return (before + seen.long().cumsum(dim=1) - 1).clamp(min=0)

    def _slots(
        self,
        where: Tensor,
        explicit: bool,
        valid: Tensor | None,
        cache: Cache | None,
        batch: int,
        count: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Positions of the queries (B, T) and of all keys (B, S), -1 at padding; None when all are there, in order."""
        if valid is None and not explicit and (cache is None or cache.plain):
            if cache:
                cache.extend(None, tokens=count)
            return None
        queries = where.expand(batch, count)
        if valid is not None:
            queries = torch.where(valid.bool(), queries, -1)
        keys = cache.extend(queries, tokens=count) if cache else queries
        assert keys is not None
        return queries, keys

    def _made(
        self, slots: tuple[Tensor, Tensor] | None, queries: int, keys: int, device: torch.device
    ) -> dict[MaskSpec, Mask]:
        """Each distinct mask of the layers, with the relative bias where the stack has one."""
        masks = {spec: _mask(spec, slots, queries, keys, device) for spec in self._masks}
        if self.relative_bias is None:
            return masks
        if slots is None:
            order = torch.arange(keys, device=device)[None]
            slots = order[:, keys - queries :], order
        bias = self.relative_bias(*slots)
        return {spec: biased(mask, bias) for spec, mask in masks.items()}

    def _packed(self, packing: Packing) -> dict[MaskSpec, Packed]:
        """The masks of a packed row: one per run, for sequences that begin at position 0."""
        device, lengths, order = packing.places.device, [run.length for run in packing.runs], packing.longest
        # Distances do not depend on where a sequence begins: the biases of the longest hold those of all others.
        bias = None if self.relative_bias is None else self.relative_bias(order, order)
        return {
            spec: Packed(
                packing,
                tuple(
                    mask if bias is None else biased(mask, bias[..., :length, :length])
                    for length in lengths
                    for mask in [_mask(spec, None, length, length, device)]
                ),
            )
            for spec in self._masks
        }

    def _check_positions(self, where: Tensor, end: int, explicit: bool) -> None:
        table = self.spec.frontend.positions
        if not isinstance(table, LearnedPositions):
            return
        # An explicit tensor is read (a copy from the device); counted positions are known without it.
        highest, count = int(where.max()) if explicit else end - 1, table.count - table.offset
        if highest >= count:
            raise ConfigError(
                f"position {highest} does not exist: this model has learned positions for 0 to {count - 1}. "
                f"Cut the text to {count} tokens (truncation=True, max_length={count})"
            )

    if TYPE_CHECKING:
        __call__ = forward


def _layer(spec: LayerSpec | ParallelLayerSpec, width: int) -> Layer | ParallelLayer:
    match spec:
        case ConvolvedLayerSpec():
            return ConvolvedLayer(spec, width)
        case LayerSpec():
            return Layer(spec, width)
        case ParallelLayerSpec():
            return ParallelLayer(spec, width)


def _relative_bias(spec: StackSpec) -> RelativeBias | None:
    heads = sorted({layer.attention.heads for layer in spec.layers})
    if spec.relative_bias is None or not heads:
        return None
    if len(heads) > 1:
        raise ConfigError(
            f"a relative bias is one for all layers, so they must have the same number of heads, but have {heads}: "
            "give them one, or leave `relative_bias` out"
        )
    return RelativeBias(spec.relative_bias, heads[0])


def _relative_vectors(spec: StackSpec) -> RelativeVectors | None:
    kinds = {isinstance(layer.attention, DisentangledSpec) for layer in spec.layers}
    if spec.layers and (True in kinds) != (spec.relative_vectors is not None):
        raise ConfigError(
            "`relative_vectors` and layers with disentangled attention need each other: give the stack both, or neither"
        )
    return RelativeVectors(spec.relative_vectors, spec.width) if spec.relative_vectors else None


def _mask(spec: MaskSpec, slots: tuple[Tensor, Tensor] | None, queries: int, keys: int, device: torch.device) -> Mask:
    """The mask of one spec: nothing or the kernel's own triangle where that suffices, else made from the positions."""
    if slots is None:
        if (mask := plain(spec, queries, keys)) is not None:
            return mask
        positions = torch.arange(keys, device=device)[None]
        return Mask(allowed=allowed(spec, positions[:, keys - queries :], positions))
    return Mask(allowed=allowed(spec, *slots))
