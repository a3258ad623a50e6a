"""What comes before the layers, complete for text: token ids, segments and positions become vectors.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.linear import Embedding, Linear
from plait.nn.norm import Norm
from plait.nn.spec import LearnedPositions, NarrowTables, NarrowTokens, SinusoidalPositions, TextFrontendSpec


def sinusoids(positions: Tensor, width: int, *, halves: bool = False) -> Tensor:
    """(B, T) positions -> (B, T, width) float32: sine on even, cosine on odd dimensions, wavelengths 2π to 20000π.

    With `halves`, all sines come first. Source: arXiv:1706.03762 §3.5.
    """
    even = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angles = positions[..., None].float() * torch.exp(even * (-math.log(10000.0) / width))
    if halves:
        return torch.cat((angles.sin(), angles.cos()), dim=-1)[..., :width]
    # (B, T, D/2, 2) -> (B, T, D): sine and cosine of a frequency side by side
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :width]


class TextFrontend(nn.Module):
    """`projection(dropout(norm(scale * tokens + segments + positions)))`, each part but the tokens optional."""

    def __init__(self, spec: TextFrontendSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        tables = spec.narrow.width if isinstance(spec.narrow, NarrowTables) else width
        tokens = spec.narrow.width if spec.narrow else width
        self.projection = Linear(tokens, width, bias=tables == tokens) if spec.narrow else None
        self.width = width = tables
        self.tokens = Embedding(spec.vocabulary, tokens, padding_idx=spec.padding)
        kinds = spec.segments if isinstance(spec.segments, tuple) else (spec.segments or 0,)
        self.segments = Embedding(sum(kinds), width) if sum(kinds) else None
        # One table holds the vectors of every kind, those of a kind behind those of the kinds before it.
        self.kinds = [sum(kinds[:kind]) for kind in range(len(kinds))]
        learned = isinstance(spec.positions, LearnedPositions)
        self.positions = Embedding(spec.positions.count, width) if learned else None  # type: ignore[union-attr]
        self.offset = spec.positions.offset if isinstance(spec.positions, LearnedPositions) else 0
        self.norm = Norm(spec.norm, width) if spec.norm else None

    def forward(
        self,
        tokens: Tensor | None,
        positions: Tensor,
        *,
        embeddings: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Ids (B, T), or `embeddings` (B, T, D) in place of their scaled vectors, and `positions` (B or 1, T)
        -> (B, T, D).

        `segments` (B, T) are ids of segments, or (B, T, kinds) of each kind; None means segment 0.
        """
        x = self._scaled(tokens) if embeddings is None else embeddings
        if self.projection is not None and isinstance(self.spec.narrow, NarrowTokens):
            x = self.projection(x)
        if self.segments is not None:
            x = x + self._segmented(self.segments, segments)
        elif segments is not None:
            raise ConfigError("segment ids (token_type_ids) were given, but this model has no segment embedding")
        if self.positions is not None:
            x = x + self.positions(positions + self.offset)
        elif isinstance(self.spec.positions, SinusoidalPositions):
            x = x + sinusoids(positions, self.width, halves=self.spec.positions.halves).to(x.dtype)
        if self.norm is not None:
            x = self.norm(x)
        x = functional.dropout(x, self.spec.dropout, training=self.training)
        return self.projection(x) if self.projection is not None and isinstance(self.spec.narrow, NarrowTables) else x

    def _segmented(self, table: nn.Embedding, segments: Tensor | None) -> Tensor:
        if segments is None:
            return table(torch.tensor(self.kinds, device=table.weight.device)).sum(dim=0)  # type: ignore[no-any-return]
        if len(self.kinds) == 1:
            return table(segments)  # type: ignore[no-any-return]
        # (B, T, kinds, D) -> (B, T, D)
        return table(segments + torch.tensor(self.kinds, device=segments.device)).sum(dim=2)  # type: ignore[no-any-return]

    def _scaled(self, tokens: Tensor | None) -> Tensor:
        try:
            x: Tensor = self.tokens(tokens)
        except IndexError as error:  # torch names neither the id nor the table
            assert tokens is not None
            count = self.tokens.num_embeddings
            wrong = tokens[(tokens < 0) | (tokens >= count)][0].item()
            raise ConfigError(
                f"token id {wrong} does not exist: this model knows {count} tokens, 0 to {count - 1}. Use the model's "
                "own tokenizer; after tokenizer.add_tokens(…), call model.resize_token_embeddings(len(tokenizer))."
            ) from error
        # The factor is a number of the model's own dtype: trained in bfloat16, sqrt(3072) = 55.4 was 55.5.
        return x if self.spec.scale == 1.0 else x * torch.tensor(self.spec.scale, dtype=x.dtype)

    if TYPE_CHECKING:
        __call__ = forward
