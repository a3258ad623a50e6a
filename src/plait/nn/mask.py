"""Which key each query may attend to, complete: one predicate on positions, materialised once per distinct mask.

A position of -1 marks a slot that holds nothing: padding, or an empty place of a cache. Because the predicate looks at
positions and never at the order of slots, left padding, right padding, chunks and caches are one rule.
Shapes: B batch, T queries, S keys.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from plait.nn.spec import MaskSpec


class Mask(NamedTuple):
    """`allowed` is bool (B or 1, 1, T, S), or None where every key may be seen or, with `causal`, every earlier one.

    `causal` tells the attention kernel to use its own lower triangle, so that nothing is materialised. `bias`
    (B or 1, H, T, S) is added to the scores; where it is there, it is -inf at every key that may not be seen.
    """

    allowed: Tensor | None = None
    causal: bool = False
    bias: Tensor | None = None


class Places(NamedTuple):
    """Where `queries` queries and `keys` keys stand: at positions `asking` (B, T) and `there` (B, S), -1 at padding.

    Both are None where the keys are 0 … S-1, all there, and the queries the last T of them.
    """

    queries: int
    keys: int
    device: torch.device
    asking: Tensor | None = None
    there: Tensor | None = None

    def last(self, count: int) -> Places:
        """Of the last `count` queries alone."""
        return self._replace(queries=count, asking=None if self.asking is None else self.asking[:, -count:])

    def positions(self) -> tuple[Tensor, Tensor]:
        """Of queries (B or 1, T) and keys (B or 1, S)."""
        if self.asking is not None and self.there is not None:
            return self.asking, self.there
        order = torch.arange(self.keys, device=self.device)[None]
        return order[:, self.keys - self.queries :], order


def made(spec: MaskSpec, places: Places) -> Mask:
    """The mask of `spec`: nothing or the kernel's own triangle where that suffices, else made from the positions."""
    mask = plain(spec, places.queries, places.keys) if places.asking is None else None
    return Mask(allowed=allowed(spec, *places.positions())) if mask is None else mask


def biased(mask: Mask, bias: Tensor) -> Mask:
    """The mask with `bias` (B or 1, H, T, S) added to the scores of what may be seen."""
    seen = mask.allowed
    if mask.causal:
        seen = torch.ones(bias.shape[2:], dtype=torch.bool, device=bias.device).tril()
    return Mask(bias=bias if seen is None else bias.masked_fill(~seen, float("-inf")))


def weighed(scores: Tensor, mask: Mask) -> Tensor:
    """The softmax of `scores` (B, H, T, S) over the keys that may be seen, in float32 at least."""
    if mask.bias is not None:
        scores = scores + mask.bias
    seen = mask.allowed
    if mask.causal:
        seen = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    if seen is not None:
        scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def allowed(spec: MaskSpec, queries: Tensor, keys: Tensor) -> Tensor:
    """The predicate, bool (B or 1, 1, T, S), for positions `queries` (B or 1, T) and `keys` (B or 1, S)."""
    # (B, T) -> (B, 1, T, 1) and (B, S) -> (B, 1, 1, S)
    q, k = queries[:, None, :, None], keys[:, None, None, :]
    seen = k >= 0
    if spec.causal:
        seen = seen & (k <= q)
    if spec.window is not None:
        seen = seen & ((q - k).abs() < spec.window)
    # A query that is padding itself sees everything: its output is never read, and a row without any key would be NaN.
    return seen | (q < 0)


def plain(spec: MaskSpec, queries: int, keys: int) -> Mask | None:
    """The mask when keys 0 … S-1 are all there and the queries are the last T of them, or None if it must be made."""
    if spec.window is not None and keys > spec.window:
        return None
    if not spec.causal or queries == 1:
        return Mask()
    return Mask(causal=True) if queries == keys else None
