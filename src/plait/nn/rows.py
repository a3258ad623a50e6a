"""Where the tokens of one forward stand, complete: from position 0 or behind a cache, padded, or packed into one row.

Shapes: B batch, T tokens, S tokens and those in the cache before them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plait.nn.cache import Cache
from plait.nn.mask import Places
from plait.nn.packing import Packing


class Rows:
    """The rows of `given`, (B, T) or (B, T, D), at `positions` (B or 1, T) where these are not simply counted.

    `valid` (B, T) is False at padding, None for no padding. `cache` holds the tokens before these. With a `packing`
    there is one row, of all its tokens, and neither positions, padding nor a cache.

    `slots` (B or 1, T) is the position of each slot, `counted` whether it was counted here, and so is known without a
    look; `plain` whether all tokens are there and in order, those in the cache as well; `end` the S of all.
    """

    def __init__(
        self,
        given: Tensor,
        positions: Tensor | None,
        *,
        valid: Tensor | None,
        cache: Cache | None,
        packing: Packing | None,
    ) -> None:
        self.batch, self.count = given.shape[0], given.shape[1]
        self.device, self.valid, self.cache, self.packing = given.device, valid, cache, packing
        start = cache.length if cache else 0
        self.end = start + self.count
        self.counted = positions is None and packing is None
        self.plain = self.counted and valid is None and (cache is None or cache.plain)
        if packing is not None:
            self.slots = packing.slots
        else:
            self.slots = torch.arange(start, self.end, device=self.device)[None] if positions is None else positions

    def tokens(self) -> Tensor:
        """How many tokens come before each, those of padding left out, (B or 1, T); of explicit positions these."""
        if self.packing is not None:
            return self.packing.order
        if self.plain or not self.counted:
            return self.slots
        seen = torch.ones(self.batch, self.count, device=self.device) if self.valid is None else self.valid
        before = self.cache.counted() if self.cache else 0
        return (before + seen.long().cumsum(dim=1) - 1).clamp(min=0)

    def placed(self) -> Places:
        """Where queries and keys stand; the cache takes the rows up."""
        if self.plain:
            if self.cache:
                self.cache.extend(None, tokens=self.count)
            return Places(self.count, self.end, self.device)
        queries = self.slots.expand(self.batch, self.count)
        if self.valid is not None:
            queries = torch.where(self.valid.bool(), queries, -1)
        keys = self.cache.extend(queries, tokens=self.count) if self.cache else queries
        return Places(self.count, self.end, self.device, queries, keys)
