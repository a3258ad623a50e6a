"""A language model of a few numbers, so that the loop is tested in microseconds and by hand.

`BagModel`: the logits are a sum over the valid tokens, each weighted by its position; a lost token, a counted padding
or a shifted position changes the answer. Everything is float64, so that the order of the sums does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class BagCache:
    def __init__(self, batch: int) -> None:
        self.sums: Tensor | None = None
        self.lengths = torch.zeros(batch, 1, dtype=torch.long)

    def select(self, rows: Tensor, *, memory: bool) -> None:
        assert self.sums is not None
        self.sums, self.lengths = self.sums[rows], self.lengths[rows]


class BagModel:
    """Vocabulary of `size`; counts its calls and the tokens that it read."""

    def __init__(self, size: int = 13, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(size, size, generator=generator, dtype=torch.float64)
        self.calls = 0
        self.widths: list[int] = []

    def new_cache(self, batch: int, *, capacity: int) -> BagCache:
        return BagCache(batch)

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        self.calls += 1
        self.widths.append(tokens.shape[1])
        cache = cache or BagCache(tokens.shape[0])
        if positions is None:
            positions = cache.lengths + torch.arange(tokens.shape[1])
        mask = torch.ones_like(tokens) if valid is None else valid.long()
        weighted = self.weights[tokens] * torch.cos(positions.double())[..., None] * mask[..., None]  # (B, T, V)
        sums = weighted.sum(dim=1)
        cache.sums = sums if cache.sums is None else cache.sums + sums
        cache.lengths = cache.lengths + tokens.shape[1]
        return cache.sums


class ScriptModel:
    """Says the tokens of `script` one after another, whatever it reads; a list of lists is one script per row."""

    def __init__(self, script: list[list[int]], size: int = 10) -> None:
        self.script = torch.tensor(script)
        self.size = size
        self.calls = 0

    def new_cache(self, batch: int, *, capacity: int) -> list[int]:
        return []

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        self.calls += 1
        cache.append(tokens.shape[1])
        ids = self.script[:, len(cache) - 1]  # (B,)
        return torch.nn.functional.one_hot(ids, self.size).float()


class LetterTokenizer:
    """Token i is the i-th letter; its detokenizer is the shape that the streaming parts need."""

    letters = "abcdefghijklmnopqrstuvwxyz"

    def detokenizer(self, **options: Any) -> LetterTokenizer:
        return LetterTokenizer()

    def add(self, token: int) -> str:
        return self.letters[token]

    def finish(self) -> str:
        return ""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(self.letters[token] for token in ids)
