"""What generation needs of a model, complete: two methods, and no class to inherit from.

Notation: B rows, T new tokens, V vocabulary entries.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class LanguageModel(Protocol):
    """A model that scores the token after a sequence."""

    def new_cache(self, batch: int, *, capacity: int) -> Any:
        """A fresh cache for `batch` rows with room for `capacity` tokens (it may grow). The caller owns it.

        Beam search calls the cache's `select(rows, *, memory)`, which keeps the rows named by their indices, in that
        order; with `memory=False` rows only change places with others of the same prompt.
        """

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Read `tokens` (B, T) after what the cache holds; return float32 logits (B, V) of the token that follows.

        `valid` (B, T) marks the tokens that are no padding; None means all. `positions` (B, T) counts the valid tokens
        of a row from 0; None means that they continue the cache. With `cache=None` the tokens are the whole sequence.
        """
