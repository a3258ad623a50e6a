"""The generation loop, complete for one sequence or many: prefill once, then decode token by token.

Notation: B rows, T prompt tokens, n new tokens, V vocabulary entries. Exactly 1 + (n - 1) model calls give n tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from plait.errors import GenerationError
from plait.generate.processors import Processor
from plait.generate.protocol import LanguageModel
from plait.generate.sampling import Sampler, greedy
from plait.generate.stopping import Stop

# Room that a new cache reserves for tokens to come; beyond it the cache grows by itself.
RESERVED_TOKENS = 256


def check_prompt(tokens: Tensor, valid: Tensor | None) -> Tensor | None:
    """Validate a prompt; return `valid` (B, T) as bool, or None when no token is padding."""
    if tokens.dim() != 2 or tokens.shape[1] == 0:
        raise GenerationError(
            f"The prompt must have the shape (rows, tokens) with at least one token, but has {tuple(tokens.shape)}."
        )
    if valid is None:
        return None
    if valid.shape != tokens.shape:
        raise GenerationError(
            f"The attention mask has the shape {tuple(valid.shape)}, but the prompt {tuple(tokens.shape)}; "
            "they must be equal."
        )
    valid = valid.bool()
    if not bool(valid[:, -1].all()):
        row = int((~valid[:, -1]).nonzero()[0])
        raise GenerationError(
            f"Row {row} of the prompt ends in padding, so the next token would follow padding. "
            "Pad on the left: tokenizer(…, padding=True, padding_side='left')."
        )
    return None if bool(valid.all()) else valid


def prefill(model: LanguageModel, tokens: Tensor, *, cache: Any, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Read the prompt (B, T): the logits (B, V) after it, and, if rows are padded, the next position (B, 1)."""
    if valid is None:
        return model.next_logits(tokens, cache=cache), None
    positions = (valid.cumsum(dim=-1) - 1).clamp(min=0)  # (B, T)
    return model.next_logits(tokens, cache=cache, valid=valid, positions=positions), positions[:, -1:] + 1


def decode(model: LanguageModel, ids: Tensor, *, cache: Any, positions: Tensor | None) -> Tensor:
    """Read one more token per row (B,): the logits (B, V) after it."""
    return model.next_logits(ids[:, None], cache=cache, positions=positions)


@torch.no_grad()
def generate_tokens(
    model: LanguageModel,
    tokens: Tensor,
    *,
    valid: Tensor | None = None,
    processors: Sequence[Processor] = (),
    sampler: Sampler = greedy,
    stop: Stop | None = None,
    max_new_tokens: int,
    pad_token_id: int = 0,
) -> Iterator[Tensor]:
    """Yield the ids (B,) of each next token after `tokens` (B, T), at most `max_new_tokens` times.

    `valid` (B, T) is False at the padding on the left. A row that `stop` calls finished continues with `pad_token_id`;
    the iteration ends when all rows are finished. Raises GenerationError for a prompt that cannot be continued.
    """
    if max_new_tokens < 1:
        raise GenerationError(f"`max_new_tokens` must be at least 1, but is {max_new_tokens}.")
    valid = check_prompt(tokens, valid)
    batch, width = tokens.shape
    history = tokens.new_empty(batch, width + max_new_tokens)  # processors and stops see views of it, never copies
    history[:, :width] = tokens
    cache = model.new_cache(batch, capacity=width + min(max_new_tokens, RESERVED_TOKENS))
    logits, positions = prefill(model, tokens, cache=cache, valid=valid)
    finished: Tensor | None = None
    for length in range(width, width + max_new_tokens):
        for process in processors:
            logits = process(history[:, :length], logits)
        ids = sampler(logits)
        if finished is not None:
            ids = ids.masked_fill(finished, pad_token_id)
        history[:, length] = ids
        yield ids
        if stop is not None:
            ended = stop(history[:, : length + 1], logits)
            finished = ended if finished is None else finished | ended
            if bool(finished.all()):
                return
        if length + 1 < width + max_new_tokens:
            logits = decode(model, ids, cache=cache, positions=positions)
            positions = None if positions is None else positions + 1
