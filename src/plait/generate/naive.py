"""The references for the loop and for beam search, kept for ever: no cache, no padding tricks, each row by itself.

They read the whole sequence again for every token, so they are slow and plainly right; tests hold the others to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from plait.generate.processors import LogitNormalization, Processor
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


@torch.no_grad()
def search_naively(
    model: LanguageModel,
    tokens: Tensor,
    *,
    processors: Sequence[Processor] = (LogitNormalization(),),
    eos_token_ids: Sequence[int] = (),
    max_new_tokens: int,
    beams: int,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
) -> list[tuple[float, list[int]]]:
    """Beam search for answers to one sequence `tokens` (T,): the scores and ids of the `beams` best, the best first.

    `processors` make log-probabilities of the logits; the options are those of `plait.generate.beam.BeamRules`.
    """
    growing: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, max_new_tokens + 1):
        options: list[tuple[float, list[int]]] = []
        for score, answer in growing:
            sequence = torch.cat([tokens, tokens.new_tensor(answer)])[None]
            logits = model.next_logits(sequence, cache=None)
            for process in processors:
                logits = process(sequence, logits)
            options += [(score + more, [*answer, token]) for token, more in enumerate(logits[0].tolist())]
        options.sort(key=lambda option: -option[0])
        over = [length == max_new_tokens or answer[-1] in eos_token_ids for _, answer in options]
        best = zip(options[:beams], over, strict=False)
        ended += [(score / length**length_penalty, answer) for (score, answer), ends in best if ends]
        ended = sorted(ended, key=lambda option: -option[0])[:beams]
        growing = [option for option, ends in zip(options, over, strict=True) if not ends][:beams]
        if not growing:
            break
        longest = max_new_tokens if early_stopping == "never" and length_penalty > 0 else length
        hope = growing[0][0] / longest**length_penalty
        if len(ended) == beams and (early_stopping is True or hope <= ended[-1][0]):
            break
    return ended


class History(list[tuple[Tensor, Tensor]]):
    """Tokens (B, T) and which of them are valid (B, T), one entry per call."""

    def select(self, rows: Tensor, *, memory: bool = True) -> None:
        """Keep the rows named by their indices, in that order."""
        self[:] = [(tokens[rows], valid[rows]) for tokens, valid in self]


class Uncached:
    """A model whose cache only remembers the tokens and reads them all again: `generate(…, use_cache=False)`."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def new_cache(self, batch: int, *, capacity: int) -> History:
        """An empty history."""
        return History()

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
