"""Disentangled attention, complete for DeBERTa's versions 2 and 3 (arXiv:2006.03654 §3.1, arXiv:2111.09543).

Shapes: B batch, T tokens, H heads, D dimensions of a head, R vectors of distances to either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.linear import Linear
from plait.nn.mask import Mask, biased
from plait.nn.position import Relative
from plait.nn.spec import DisentangledSpec


class DisentangledAttention(nn.Module):
    """`output(softmax(scale * (query @ keyᵀ + query @ placeᵀ + place @ keyᵀ)) @ value)` per head.

    A place is the vector of the distance of query and key, as a key in the second product and as a query in the third.
    """

    def __init__(self, spec: DisentangledSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        inner = spec.heads * spec.head_dim
        self.query = Linear(width, inner)
        self.key = Linear(width, inner)
        self.value = Linear(width, inner)
        self.output = Linear(inner, width)

    def forward(self, x: Tensor, mask: Mask, *, relative: Relative, weights: list[Tensor] | None = None) -> Tensor:
        """(B, T, width) -> (B, T, width). Attention weights (B, H, T, T) are appended to a list `weights`."""
        dropout = self.spec.dropout if self.training else 0.0
        if x.shape[1] == 1 and weights is None and not dropout:
            # One token has itself alone to attend to: its softmax is 1 whatever the scores are.
            return self.output(self.value(x))  # type: ignore[no-any-return]
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        mask = biased(mask, self._by_distance(query, key, relative) * self.spec.scale)
        assert mask.bias is not None
        if weights is None:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask.bias, dropout_p=dropout, scale=self.spec.scale
            )
        else:
            scores = query @ key.transpose(2, 3) * self.spec.scale + mask.bias
            attention = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
            weights.append(attention)
            mixed = functional.dropout(attention, dropout, training=self.training) @ value
        # (B, H, T, D) -> (B, T, H * D)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        # (B, T, H * D) -> (B, H, T, D)
        return x.view(x.shape[0], x.shape[1], self.spec.heads, self.spec.head_dim).transpose(1, 2)

    def _by_distance(self, query: Tensor, key: Tensor, relative: Relative) -> Tensor:
        """What distances add to the scores, before scaling: (B, H, T, T)."""
        vectors = functional.dropout(relative.vectors, self.spec.position_dropout, training=self.training)[None]
        # (1, H, 2R, D) each
        as_key, as_query = self._heads(self.key(vectors)), self._heads(self.query(vectors))
        # (B or 1, T, T) -> (B, H, T, T)
        places = relative.places[:, None].expand(*query.shape[:2], -1, -1)
        # (B, H, T, 2R), of which each query takes the places of its keys
        of_queries = (query @ as_key.transpose(2, 3)).gather(3, places)
        # the same for keys, whose rows are then the columns
        of_keys = (key @ as_query.transpose(2, 3)).gather(3, places.transpose(2, 3)).transpose(2, 3)
        return of_queries + of_keys

    if TYPE_CHECKING:
        __call__ = forward
