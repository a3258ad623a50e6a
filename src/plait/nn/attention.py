"""Multi-head attention, complete for every variation that `AttentionSpec` describes.

Shapes: B batch, T queries, S keys, H heads of queries, K heads of keys, D dimensions of a head.

    heads = 6, kv_heads = 2:   q0 q1 q2 | q3 q4 q5
                                  k0    |    k1        query head h reads key head h // (H / K)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.cache import LayerCache
from plait.nn.joined import joined
from plait.nn.linear import Linear
from plait.nn.mask import Mask, weighed
from plait.nn.norm import Norm
from plait.nn.packing import Packed
from plait.nn.rope import Rotation, rotate
from plait.nn.spec import AttentionSpec


class Attention(nn.Module):
    """`output(softmax(scale * query @ keyᵀ) @ value)` per head (arXiv:1706.03762 §3.2)."""

    def __init__(self, spec: AttentionSpec, width: int) -> None:
        super().__init__()
        if spec.heads % spec.kv_heads:
            raise ConfigError(
                f"`heads` must be a multiple of `kv_heads` ({spec.kv_heads}), but is {spec.heads}: "
                "each key head serves a whole group of query heads"
            )
        self.spec = spec
        self.query = Linear(width, spec.heads * spec.head_dim, bias=spec.bias.query)
        self.key = Linear(width, spec.kv_heads * spec.head_dim, bias=spec.bias.key)
        self.value = Linear(width, spec.kv_heads * spec.head_dim, bias=spec.bias.value)
        self.output = Linear(spec.heads * spec.head_dim, width, bias=spec.bias.output)
        self.query_norm = Norm(spec.qk_norm, spec.head_dim) if spec.qk_norm else None
        self.key_norm = Norm(spec.qk_norm, spec.head_dim) if spec.qk_norm else None

    def forward(
        self,
        x: Tensor,
        mask: Mask | Packed,
        *,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        capacity: int = 0,
        memory: Tensor | None = None,
        weights: list[Tensor] | None = None,
        last: int | None = None,
    ) -> Tensor:
        """(B, T, width) -> (B, T, width), or (B, last, width): what the `last` positions alone attend to.

        `memory` (B, S, width) is what is attended to in place of `x` itself. When `weights` is a list, the attention
        weights (B, H, T, S) are appended to it, which takes the slower path that materialises them. The mask is that of
        the positions that attend. With a `Packed` one `x` is one packed row (1, N, width), and there is neither cache,
        memory nor weights, and all positions attend.
        """
        if self._alone(x, cache, memory, weights):
            return self._value_path(x)
        query, key, value = self._inputs(x, rotation, cache, memory, last)
        if cache is not None and memory is None:
            key, value = cache.append(key, value, capacity=capacity)
        if isinstance(mask, Packed):
            parts = zip(*(mask.packing.split(part) for part in (query, key, value)), mask.masks, strict=True)
            mixed = mask.packing.join(self._mixed(*part) for part in parts)
        else:
            # (B, H, T, D) -> (B, T, H * D)
            mixed = self._mixed(query, key, value, mask, weights).transpose(1, 2).flatten(2)
        y: Tensor = self.output(mixed)
        return y

    def _mixed(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Mask, weights: list[Tensor] | None = None
    ) -> Tensor:
        """The values (B, K, S, D), mixed for each query (B, H, T, D) as it and the keys say: (B, H, T, D)."""
        if weights is None and self.spec.softcap is None:
            return self._fused(query, key, value, mask)
        return self._explicit(query, key, value, mask, weights)

    def _alone(self, x: Tensor, cache: LayerCache | None, memory: Tensor | None, weights: list[Tensor] | None) -> bool:
        """Whether there is one token and nothing else to attend to: its softmax is 1 whatever query and key are."""
        dropped = self.training and self.spec.dropout > 0
        return x.shape[1] == 1 and cache is None and memory is None and weights is None and not dropped

    def _value_path(self, x: Tensor) -> Tensor:
        value = self.value(x)
        groups = self.spec.heads // self.spec.kv_heads
        if groups > 1:
            # (B, 1, K * D) -> (B, 1, K, 1, D) -> (B, 1, K, G, D) -> (B, 1, H * D)
            batch, kv_heads, dim = x.shape[0], self.spec.kv_heads, self.spec.head_dim
            value = value.view(batch, 1, kv_heads, 1, dim).expand(-1, -1, -1, groups, -1).flatten(2)
        y: Tensor = self.output(value)
        return y

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        # (B, T, heads * D) -> (B, heads, T, D)
        return x.view(x.shape[0], x.shape[1], heads, self.spec.head_dim).transpose(1, 2)

    def _inputs(
        self, x: Tensor, rotation: Rotation | None, cache: LayerCache | None, memory: Tensor | None, last: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), and keys and values (B, K, S, D) of the input or of the `memory`."""
        if memory is None and last is None:
            whole = joined((self.query, self.key, self.value), x)
            if whole is not None:
                return self._parted(whole, rotation)
        query = self._heads(self.query(x if last is None else x[:, -last:]), self.spec.heads)
        query = self._placed(query, self.query_norm, None if rotation is None else rotation.last(last))
        if memory is not None and cache is not None and cache.memory is not None:
            return query, *cache.memory
        source = x if memory is None else memory
        key = self._heads(self.key(source), self.spec.kv_heads)
        value = self._heads(self.value(source), self.spec.kv_heads)
        key = self._placed(key, self.key_norm, rotation)
        if memory is not None and cache is not None:
            cache.memory = key, value
        return query, key, value

    def _parted(self, whole: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """The same from what the three layers give at once, (B, T, (H + 2 K) * D)."""
        heads, kv_heads = self.spec.heads, self.spec.kv_heads
        both, value = torch.split(self._heads(whole, heads + 2 * kv_heads), [heads + kv_heads, kv_heads], dim=1)
        if self.query_norm is None and self.key_norm is None:
            query, key = torch.split(self._placed(both, None, rotation), [heads, kv_heads], dim=1)
            return query, key, value
        query, key = torch.split(both, [heads, kv_heads], dim=1)
        return self._placed(query, self.query_norm, rotation), self._placed(key, self.key_norm, rotation), value

    @staticmethod
    def _placed(heads: Tensor, norm: Norm | None, rotation: Rotation | None) -> Tensor:
        """Heads of queries or keys, normed and rotated where the layer does so."""
        heads = heads if norm is None else norm(heads)
        return heads if rotation is None else rotate(heads, rotation)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        groups = self.spec.heads // self.spec.kv_heads
        if groups > 1 and query.shape[2] == 1:
            # One query per head: the heads of a group become the queries of their key head, and no key is repeated.
            # (B, H, 1, D) -> (B, K, G, D)
            query = query.view(query.shape[0], self.spec.kv_heads, groups, self.spec.head_dim)
            return self._kernel(query, key, value, mask).view(query.shape[0], self.spec.heads, 1, self.spec.head_dim)
        if groups > 1 and query.device.type != "cpu":
            # Only the kernel of a CPU reads one key for several queries at no cost: (B, K, S, D) -> (B, H, S, D)
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        return self._kernel(query, key, value, mask)

    def _kernel(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        allowed = mask.allowed
        if mask.bias is not None:
            # (B, H, T, S), or of grouped queries (B, H, 1, S) -> (B, K, G, S)
            allowed = mask.bias.reshape(mask.bias.shape[0], *query.shape[1:3], -1).to(query.dtype)
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=allowed,
            dropout_p=self.spec.dropout if self.training else 0.0,
            is_causal=mask.causal,
            scale=self.spec.scale,
            enable_gqa=bool(query.shape[1] != key.shape[1]),  # traced, a shape is a tensor
        )

    def _explicit(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask, weights: list[Tensor] | None) -> Tensor:
        groups = self.spec.heads // self.spec.kv_heads
        # (B, K, S, D) -> (B, H, S, D)
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        # (B, H, T, D) @ (B, H, D, S) -> (B, H, T, S)
        scores = query @ key.transpose(2, 3) * self.spec.scale
        if self.spec.softcap is not None:
            scores = self.spec.softcap * torch.tanh(scores / self.spec.softcap)
        attention = weighed(scores, mask).to(query.dtype)
        if weights is not None:
            weights.append(attention)
        return functional.dropout(attention, self.spec.dropout, training=self.training) @ value

    if TYPE_CHECKING:
        __call__ = forward
