"""Disentangled attention, complete for DeBERTa's versions 2 and 3 (arXiv:2006.03654 §3.1, arXiv:2111.09543).

Shapes: B batch, T tokens, H heads, D dimensions of a head, R vectors of distances to either side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from plait.nn.linear import Linear
from plait.nn.mask import Mask, biased, weighed
from plait.nn.packing import Packed
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

    def forward(
        self, x: Tensor, mask: Mask | Packed, *, relative: Relative, weights: list[Tensor] | None = None
    ) -> Tensor:
        """(B, T, width) -> (B, T, width). Attention weights (B, H, T, T) are appended to a list `weights`.

        With a `Packed` mask `x` is one packed row (1, N, width), `relative` is that of its longest sequence, and there
        are no weights.
        """
        dropout = self.spec.dropout if self.training else 0.0
        if x.shape[1] == 1 and weights is None and not dropout:
            # One token has itself alone to attend to: its softmax is 1 whatever the scores are.
            return self.output(self.value(x))
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        vectors = functional.dropout(relative.vectors, self.spec.position_dropout, training=self.training)[None]
        # (1, H, 2R, D) each: a distance as a key, and as a query
        ends = self._heads(self.key(vectors)), self._heads(self.query(vectors))
        if isinstance(mask, Packed):
            runs = zip(*(mask.packing.split(part) for part in (query, key, value)), mask.masks, strict=True)
            mixed = mask.packing.join(self._mixed(q, k, v, m, ends, relative.places, None) for q, k, v, m in runs)
        else:
            # (B, H, T, D) -> (B, T, H * D)
            mixed = self._mixed(query, key, value, mask, ends, relative.places, weights).transpose(1, 2).flatten(2)
        return self.output(mixed)

    def _mixed(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask,
        ends: tuple[Tensor, Tensor],
        places: Tensor,
        weights: list[Tensor] | None,
    ) -> Tensor:
        """The values (B, H, T, D), mixed for each query; `places` may be those of more tokens, from the first on."""
        count, dropout = query.shape[2], self.spec.dropout if self.training else 0.0
        mask = biased(mask, _by_distance(query, key, ends, places[:, :count, :count]) * self.spec.scale)
        assert mask.bias is not None
        if weights is None:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask.bias, dropout_p=dropout, scale=self.spec.scale
            )
        attention = weighed(query @ key.transpose(2, 3) * self.spec.scale, mask).to(query.dtype)
        weights.append(attention)
        return functional.dropout(attention, dropout, training=self.training) @ value

    def _heads(self, x: Tensor) -> Tensor:
        # (B, T, H * D) -> (B, H, T, D)
        return x.view(x.shape[0], x.shape[1], self.spec.heads, self.spec.head_dim).transpose(1, 2)

    if TYPE_CHECKING:
        __call__ = forward


def _by_distance(query: Tensor, key: Tensor, ends: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    """What distances add to the scores, before scaling: (B, H, T, T)."""
    as_key, as_query = ends
    # (B or 1, T, T) -> (B, H, T, T)
    places = places[:, None].expand(*query.shape[:2], -1, -1)
    # (B, H, T, 2R), of which each query takes the places of its keys
    of_queries = (query @ as_key.transpose(2, 3)).gather(3, places)
    # the same for keys, whose rows are then the columns
    of_keys = (key @ as_query.transpose(2, 3)).gather(3, places.transpose(2, 3)).transpose(2, 3)
    return of_queries + of_keys
