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
from plait.nn.mask import Mask, Places, biased, made
from plait.nn.norm import Norm
from plait.nn.packing import Packed, Packing
from plait.nn.position import RelativeBias, RelativeVectors
from plait.nn.record import Recorder
from plait.nn.rope import rotation
from plait.nn.rows import Rows
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
        rows = Rows(given, positions, valid=valid, cache=cache, packing=packing)
        x = self.frontend(tokens, self._counted(rows, segments), embeddings=embeddings, segments=segments)
        places = packing or rows.placed()
        context = self._context(rows, places, memory, memory_valid)
        narrows = last is not None and last < rows.count
        for index, number in enumerate(self.order, start=1):
            if record:
                record.states.append(x)
            layer, past = self.layers[number], cache.layers[index - 1] if cache else None
            if narrows and index == len(self.order) and getattr(layer, "narrows", False):
                assert last is not None
                assert isinstance(places, Places)
                context = replace(context, masks=self._made(places.last(last)))
                x = layer(x, context, cache=past, last=last)
            else:
                x = self._run(layer, x, context, cache=past, record=record)
        x = self.finished(x if last is None else x[:, -last:])
        if record:
            record.states.append(x)
        return x

    def _counted(self, rows: Rows, segments: Tensor | None) -> Tensor:
        """The positions that the table of learned ones is read at, (B or 1, T): of slots, or counted over the tokens
        that are no padding, or over those of a cell. Raises ConfigError beyond the end of the table."""
        table = self.spec.frontend.positions
        if not isinstance(table, LearnedPositions):
            return rows.slots
        counted = rows.slots if table.over == "slots" else rows.tokens()
        if table.over == "cells" and rows.counted:
            counted = within_cells(rows.slots, segments, last=table.count - 1)
        # Those that are not simply the slots, counted on, are read (a copy from the device).
        known = counted is rows.slots and rows.counted
        highest, count = rows.end - 1 if known else int(counted.max()), table.count - table.offset
        if highest >= count:
            raise ConfigError(
                f"position {highest} does not exist: this model has learned positions for 0 to {count - 1}. "
                f"Cut the text to {count} tokens (truncation=True, max_length={count})"
            )
        return counted

    def _context(
        self, rows: Rows, places: Places | Packing, memory: Tensor | None, memory_valid: Tensor | None
    ) -> Context:
        """What the layers share: of rows in their `places`, or packed ones."""
        length, order = None, rows.slots
        if isinstance(places, Packing):
            # A scaling that depends on the length of the text reads that of the padded rows, packed or not.
            masks, order, length = self._packed(places), places.longest, places.shape[1]
        else:
            masks, order = self._made(places), order if places.asking is None else places.asking
        return Context(
            masks=masks,
            rotations={spec: rotation(spec, rows.slots, length=length) for spec in self._ropes},
            capacity=rows.cache.capacity if rows.cache else 0,
            relative=self.relative_vectors(order, order) if self.relative_vectors else None,
            valid=rows.valid,
            memory=memory,
            memory_mask=Mask() if memory_valid is None else Mask(allowed=memory_valid[:, None, None, :].bool()),
        )

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

    def _made(self, places: Places) -> dict[MaskSpec, Mask | Packed]:
        """Each distinct mask of the layers, with the relative bias where the stack has one."""
        if self.relative_bias is None:
            return {spec: made(spec, places) for spec in self._masks}
        bias = self.relative_bias(*places.positions())
        return {spec: biased(made(spec, places), bias) for spec in self._masks}

    def _packed(self, packing: Packing) -> dict[MaskSpec, Mask | Packed]:
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
                    for mask in [made(spec, Places(length, length, device))]
                ),
            )
            for spec in self._masks
        }

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
