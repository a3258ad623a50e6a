"""The reference for the generation loop, kept for ever: no cache, no padding tricks, each row by itself.

It reads the whole sequence again for every token, so it is slow and plainly right; tests hold the real loop to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plait.generate.processors import Processor
from plait.generate.protocol import LanguageModel
from plait.generate.sampling import Sampler, greedy


@torch.no_grad()
def generate_naively(
    model: LanguageModel,
    tokens: Tensor,
    *,
    processors: Sequence[Processor] = (),
    sampler: Sampler = greedy,
    eos_token_ids: Sequence[int] = (),
    max_new_tokens: int,
) -> Tensor:
    """Continue one sequence `tokens` (T,) without padding; returns (T + n,), ended by an end token or by the limit."""
    sequence = tokens
    for _ in range(max_new_tokens):
        logits = model.next_logits(sequence[None], cache=None)
        for process in processors:
            logits = process(sequence[None], logits)
        sequence = torch.cat([sequence, sampler(logits)])
        if int(sequence[-1]) in eos_token_ids:
            break
    return sequence


class Uncached:
    """A model whose cache only remembers the tokens and reads them all again: `generate(…, use_cache=False)`."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def new_cache(self, batch: int, *, capacity: int) -> list[tuple[Tensor, Tensor | None]]:
        """The history: tokens and the mask of valid ones, one entry per call."""
        return []

    def next_logits(
        self, tokens: Tensor, *, cache: Any, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Append `tokens` (B, T) to the history and score the token after all of it, (B, V)."""
        cache.append((tokens, torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid))
        history, everything = (torch.cat(parts, dim=1) for parts in zip(*cache, strict=True))
        if bool(everything.all()):
            return self.model.next_logits(history, cache=None)
        counted = (everything.cumsum(dim=-1) - 1).clamp(min=0)  # (B, S)
        return self.model.next_logits(history, cache=None, valid=everything, positions=counted)
