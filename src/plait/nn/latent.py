"""Latent attention, complete for DeepSeek-V2 and V3 (arXiv:2405.04434 §2.1): keys and values from one short vector.

A cache keeps that vector and one rotated key per token, whatever the number of heads. The scores are reached by two
ways, equal up to rounding, and the one with fewer multiplications is taken:

    expanded   each token's keys and values are made from its vector:   query · (key @ latent)
    absorbed   the queries go to the vectors instead, all keys stay:    (keyᵀ @ query) · latent

Shapes: B batch, T queries, S keys, H heads, L width of the latent vector, P plain, R rotated and V value dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.cache import LayerCache
from plait.nn.linear import Linear, bare
from plait.nn.mask import Mask, weighed
from plait.nn.norm import Norm
from plait.nn.packing import Packed
from plait.nn.rope import Rotation, rotate
from plait.nn.spec import LatentAttentionSpec


class LatentAttention(nn.Module):
    """`output(softmax(scale * query @ keyᵀ) @ value)` per head, keys and values expanded from `latent`."""

    def __init__(self, spec: LatentAttentionSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        per_query = spec.heads * (spec.plain_dim + spec.rope.dim)
        self.query_latent = Linear(width, spec.query_latent, bias=spec.bias) if spec.query_latent else None
        self.query_norm = Norm(spec.norm, spec.query_latent) if spec.query_latent else None
        self.query = Linear(spec.query_latent or width, per_query, bias=False)
        self.latent = Linear(width, spec.latent, bias=spec.bias)
        self.latent_norm = Norm(spec.norm, spec.latent)
        self.rotated_key = Linear(width, spec.rope.dim, bias=spec.bias)
        self.key = Linear(spec.latent, spec.heads * spec.plain_dim, bias=False)
        self.value = Linear(spec.latent, spec.heads * spec.value_dim, bias=False)
        self.output = Linear(spec.heads * spec.value_dim, width, bias=spec.bias)

    def forward(
        self,
        x: Tensor,
        mask: Mask | Packed,
        *,
        rotation: Rotation,
        cache: LayerCache | None = None,
        capacity: int = 0,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """(B, T, width) -> (B, T, width). Attention weights (B, H, T, S) are appended to a list `weights`.

        With a `Packed` mask `x` is one packed row (1, N, width), and there is neither cache nor weights.
        """
        latent = self.latent_norm(self.latent(x))
        dropped = self.training and self.spec.dropout > 0
        if x.shape[1] == 1 and cache is None and weights is None and not dropped:
            # One token has itself alone to attend to: its softmax is 1 whatever the scores are.
            return self.output(self.value(latent))
        plain, rotated = self._queries(x, rotation)
        # (B, T, L) -> (B, 1, T, L), and the same of the key: one head, as a cache holds them
        latent, key = latent[:, None], rotate(self.rotated_key(x)[:, None], rotation)
        if cache is not None:
            latent, key = cache.append(latent, key, capacity=capacity)
        if isinstance(mask, Packed):
            runs = zip(*(mask.packing.split(part) for part in (plain, rotated, latent, key)), mask.masks, strict=True)
            mixed = mask.packing.join(self._attended(p, r, c, k, m, None) for p, r, c, k, m in runs)
        else:
            # (B, H, T, V) -> (B, T, H * V)
            mixed = self._attended(plain, rotated, latent, key, mask, weights).transpose(1, 2).flatten(2)
        return self.output(mixed)

    def _queries(self, x: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """The plain and the rotated part of the queries, (B, H, T, P) and (B, H, T, R)."""
        if self.query_latent is not None and self.query_norm is not None:
            x = self.query_norm(self.query_latent(x))
        query = self._heads(self.query(x), self.spec.plain_dim + self.spec.rope.dim)
        plain, turning = query[..., : self.spec.plain_dim], query[..., self.spec.plain_dim :]
        return plain, rotate(turning, rotation)

    def _heads(self, x: Tensor, dim: int) -> Tensor:
        # (B, T, H * dim) -> (B, H, T, dim)
        return x.view(*x.shape[:2], self.spec.heads, dim).transpose(1, 2)

    def _absorbs(self, queries: int, keys: int) -> bool:
        """Whether to take the queries to the latent vectors is less work than to expand all of those.

        A part that is no plain layer (quantised, adapted, watched) is only ever called.
        """
        if not (bare(self.key) and bare(self.value)):
            return False
        spec = self.spec
        both, shared = spec.latent * (spec.plain_dim + spec.value_dim), spec.rope.dim
        expanded = keys * both + queries * keys * (spec.plain_dim + spec.value_dim + shared)
        return queries * both + queries * keys * (2 * spec.latent + shared) < expanded

    def _attended(
        self, plain: Tensor, rotated: Tensor, latent: Tensor, key: Tensor, mask: Mask, weights: list[Tensor] | None
    ) -> Tensor:
        """(B, H, T, V), by the way with fewer multiplications."""
        way = self._absorbed if self._absorbs(plain.shape[2], latent.shape[2]) else self._expanded
        return way(plain, rotated, latent, key, mask, weights)

    def _expanded(
        self, plain: Tensor, rotated: Tensor, latent: Tensor, key: Tensor, mask: Mask, weights: list[Tensor] | None
    ) -> Tensor:
        plain_key = self._heads(self.key(latent[:, 0]), self.spec.plain_dim)
        value = self._heads(self.value(latent[:, 0]), self.spec.value_dim)
        # (B, 1, S, R) -> (B, H, S, R), and joined (B, H, S, P + R)
        key = torch.cat((plain_key, key.expand(-1, self.spec.heads, -1, -1)), dim=-1)
        return self._mixed(torch.cat((plain, rotated), dim=-1), key, value, mask, weights)

    def _absorbed(
        self, plain: Tensor, rotated: Tensor, latent: Tensor, key: Tensor, mask: Mask, weights: list[Tensor] | None
    ) -> Tensor:
        # (H * P, L) -> (H, P, L), and (B, H, T, P) @ (H, P, L) -> (B, H, T, L)
        query = plain @ self.key.weight.view(self.spec.heads, self.spec.plain_dim, self.spec.latent)
        query, key = torch.cat((query, rotated), dim=-1), torch.cat((latent, key), dim=-1)
        if plain.shape[2] == 1 and weights is None and mask.bias is None:
            # One query per head: all heads become the queries of the one key head, and no key is repeated.
            # (B, H, 1, L + R) -> (B, 1, H, L + R), and back
            mixed = self._mixed(query.transpose(1, 2), key, latent, mask, None).transpose(1, 2)
        else:
            heads = (-1, self.spec.heads, -1, -1)
            mixed = self._mixed(query, key.expand(heads), latent.expand(heads), mask, weights)
        # (H * V, L) -> (H, L, V), and (B, H, T, L) @ (H, L, V) -> (B, H, T, V)
        return mixed @ self.value.weight.view(self.spec.heads, self.spec.value_dim, self.spec.latent).transpose(1, 2)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask, weights: list[Tensor] | None) -> Tensor:
        """The values (B, H, S, *) by how well the query meets each key."""
        dropout = self.spec.dropout if self.training else 0.0
        if weights is None:
            seen = mask.allowed if mask.bias is None else mask.bias.to(query.dtype)
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask=seen, dropout_p=dropout, is_causal=mask.causal, scale=self.spec.scale
            )
        # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
        scores = query @ key.transpose(2, 3) * self.spec.scale
        attention = weighed(scores, mask).to(query.dtype)
        weights.append(attention)
        return functional.dropout(attention, dropout, training=self.training) @ value

    if TYPE_CHECKING:
        __call__ = forward
