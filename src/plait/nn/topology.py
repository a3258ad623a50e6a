"""How stacks are wired, complete: one stack alone, or an encoder whose output a decoder attends to.

Shapes: B batch, T tokens, D width, V what the head scores: words or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from plait.errors import ConfigError
from plait.nn.cache import Cache
from plait.nn.cells import CellHead, Cells
from plait.nn.heads import ClassifierHead, LanguageHead, Pool
from plait.nn.packing import Packing
from plait.nn.record import Recorder
from plait.nn.spec import CellHeadSpec, ClassifierHeadSpec, EncoderDecoder, HeadSpec, Single
from plait.nn.stack import Stack


@dataclass(frozen=True)
class Hidden:
    """What a forward gives: `states` (B, T, D), `pooled` (B, D), and `scores` of the head, (B, T, V) or (B, V).

    `memory` (B, S, D) is the encoder's output, where there is one, and `cells` are those of a table.
    """

    states: Tensor
    pooled: Tensor | None = None
    scores: Tensor | None = None
    memory: Tensor | None = None
    cells: Cells | None = None


def _head(spec: HeadSpec | None, width: int, tokens: nn.Embedding) -> LanguageHead | ClassifierHead | CellHead | None:
    if spec is None:
        return None
    if isinstance(spec, ClassifierHeadSpec):
        return ClassifierHead(spec, width)
    if isinstance(spec, CellHeadSpec):
        return CellHead(spec, width)
    head = LanguageHead(spec, width, embedding=tokens.embedding_dim)
    if spec.tied:
        head.projection.weight = tokens.weight
    return head


class SingleModel(nn.Module):
    """One stack, with an optional pool and an optional head."""

    def __init__(self, spec: Single) -> None:
        super().__init__()
        self.spec = spec
        self.stack = Stack(spec.stack)
        self.pool = Pool(spec.pool, spec.stack.out) if spec.pool else None
        self.head = _head(spec.head, spec.stack.out, self.stack.frontend.tokens)

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        valid: Tensor | None = None,
        cache: Cache | None = None,
        record: Recorder | None = None,
        keep: int | None = None,
        packing: Packing | None = None,
    ) -> Hidden:
        """See `Stack.forward`; the language head scores the last `keep` positions, or all when None. Behind a language
        head alone, and where nothing is recorded, the states are of these positions as well.

        With the `packing` of `valid`, the stack and the head compute for tokens alone; what comes out has the shapes of
        the padded batch, with zeros at padding.
        """
        if packing is not None:
            return self._packed(packing, tokens, embeddings, segments, valid, keep)
        alone = isinstance(self.head, LanguageHead) and self.pool is None and record is None
        states = self.stack(
            tokens,
            embeddings=embeddings,
            segments=segments,
            positions=positions,
            valid=valid,
            cache=cache,
            record=record,
            last=keep if alone else None,
        )
        pooled = self.pool(states, valid) if self.pool is not None else None
        if isinstance(self.head, CellHead):
            cells = self.head(states, pooled, segments, valid)
            return Hidden(states=states, pooled=pooled, scores=cells.scores, cells=cells)
        scores = None
        if isinstance(self.head, LanguageHead):
            scores = self.head(states if keep is None else states[:, -keep:])
        elif isinstance(self.head, ClassifierHead):
            scores = self.head(states if pooled is None else pooled)
        return Hidden(states=states, pooled=pooled, scores=scores)

    def _packed(
        self,
        packing: Packing,
        tokens: Tensor | None,
        embeddings: Tensor | None,
        segments: Tensor | None,
        valid: Tensor | None,
        keep: int | None,
    ) -> Hidden:
        row = self.stack(
            None if tokens is None else packing.pack(tokens),
            embeddings=None if embeddings is None else packing.pack(embeddings),
            segments=None if segments is None else packing.pack(segments),
            packing=packing,
        )
        states = packing.unpack(row)
        pooled = self.pool(states, valid) if self.pool is not None else None
        if isinstance(self.head, CellHead):
            cells = self.head(states, pooled, segments, valid)
            return Hidden(states=states, pooled=pooled, scores=cells.scores, cells=cells)
        scores = None
        if isinstance(self.head, ClassifierHead) and pooled is not None:
            scores = self.head(pooled)
        elif isinstance(self.head, ClassifierHead | LanguageHead):
            scores = self.head(states[:, -keep:]) if keep else packing.unpack(self.head(row))
        return Hidden(states=states, pooled=pooled, scores=scores)

    if TYPE_CHECKING:
        __call__ = forward


class EncoderDecoderModel(nn.Module):
    """An encoder, and a decoder whose layers attend to its output (arXiv:1706.03762).

    Raises ConfigError when the two have different widths, or share an embedding of different shapes.
    """

    def __init__(self, spec: EncoderDecoder) -> None:
        super().__init__()
        if spec.encoder.out != spec.decoder.width:
            raise ConfigError(
                f"encoder and decoder must have one `width`, but have {spec.encoder.out} and {spec.decoder.width}: "
                "the decoder attends to what the encoder gives"
            )
        self.spec = spec
        self.encoder = Stack(spec.encoder)
        self.decoder = Stack(spec.decoder)
        if spec.shared:
            tables = [stack.frontend.tokens.weight for stack in (self.encoder, self.decoder)]
            if tables[0].shape != tables[1].shape:
                raise ConfigError(
                    "encoder and decoder must have one vocabulary and one width of embeddings when they are `shared`, "
                    f"but have {tuple(tables[0].shape)} and {tuple(tables[1].shape)}"
                )
            self.decoder.frontend.tokens.weight = tables[0]
        self.pool = Pool(spec.pool, spec.decoder.out) if spec.pool else None
        self.head = _head(spec.head, spec.decoder.out, self.decoder.frontend.tokens)

    def forward(
        self,
        tokens: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        target_embeddings: Tensor | None = None,
        valid: Tensor | None = None,
        targets_valid: Tensor | None = None,
        target_positions: Tensor | None = None,
        memory: Tensor | None = None,
        cache: Cache | None = None,
        record: Recorder | None = None,
        encoder_record: Recorder | None = None,
        keep: int | None = None,
    ) -> Hidden:
        """Source ids `tokens` (B, S), or their `memory` (B, S, D) from an earlier call, and target ids (B, T).

        `embeddings` (B, S, D) and `target_embeddings` (B, T, D) stand in for ids. `valid` (B, S) and `targets_valid`
        (B, T) are False at padding. `target_positions` (B or 1, T): None continues the cache, from 0. `cache` and
        `record` are the decoder's; the language head scores the last `keep` positions, or all when None.
        """
        if memory is None:
            memory = self.encode(tokens, embeddings=embeddings, valid=valid, record=encoder_record)
        states = self.decoder(
            targets,
            embeddings=target_embeddings,
            positions=target_positions,
            valid=targets_valid,
            memory=memory,
            memory_valid=valid,
            cache=cache,
            record=record,
        )
        pooled = self.pool(states, targets_valid) if self.pool is not None else None
        scores = None
        if isinstance(self.head, LanguageHead):
            scores = self.head(states if keep is None else states[:, -keep:])
        elif isinstance(self.head, ClassifierHead):
            scores = self.head(states if pooled is None else pooled)
        return Hidden(states=states, pooled=pooled, scores=scores, memory=memory)

    if TYPE_CHECKING:
        __call__ = forward

    def encode(
        self,
        tokens: Tensor | None,
        *,
        embeddings: Tensor | None = None,
        valid: Tensor | None = None,
        record: Recorder | None = None,
    ) -> Tensor:
        """The encoder's output (B, S, D) for ids (B, S) or `embeddings` (B, S, D); zero at padding where it packs."""
        packing = None
        if valid is not None and record is None and self.encoder.packable and Packing.pays(valid):
            packing = Packing.of(valid)
        if packing is None:
            return self.encoder(tokens, embeddings=embeddings, valid=valid, record=record)
        return packing.unpack(
            self.encoder(
                None if tokens is None else packing.pack(tokens),
                embeddings=None if embeddings is None else packing.pack(embeddings),
                packing=packing,
            )
        )
