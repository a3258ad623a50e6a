"""Changes to the next-token logits, complete for greedy decoding and sampling: each is a callable of its own.

A processor is any callable `(tokens (B, T), logits (B, V)) -> logits (B, V)`; it returns new logits and leaves its
arguments as they are. The class names are those that users know; a plain function does as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from plait.errors import OptionError

Processor: TypeAlias = Callable[[Tensor, Tensor], Tensor]
FORBIDDEN = -float("inf")


def _require(condition: bool, name: str, rule: str, value: object) -> None:
    if not condition:
        raise OptionError(f"`{name}` must be {rule}, but is {value!r}.")


def token_ids(value: int | Iterable[int] | Tensor) -> list[int]:
    """One id or several, as a list."""
    return [value] if isinstance(value, int) else [int(item) for item in value]


def _forbid(logits: Tensor, ids: Sequence[int]) -> Tensor:
    known = [index for index in ids if 0 <= index < logits.shape[-1]]  # no other can be chosen anyway
    return logits.index_fill(-1, torch.tensor(known, dtype=torch.long, device=logits.device), FORBIDDEN)


def _only(logits: Tensor, ids: Sequence[int], name: str) -> Tensor:
    for index in ids:
        _require(0 <= index < logits.shape[-1], name, f"one of the {logits.shape[-1]} tokens", index)
    return torch.full_like(logits, FORBIDDEN).index_fill(-1, torch.tensor(ids, device=logits.device), 0.0)


class LogitsProcessor:
    """The usual base class of a processor; it is not required."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(tokens, logits) -> logits.")


class LogitsProcessorList(list[Processor]):
    """Processors applied one after another; a processor itself."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        for process in self:
            logits = process(tokens, logits)
        return logits


class TemperatureLogitsWarper(LogitsProcessor):
    """Divide by `temperature` > 0: below 1 the distribution sharpens, above 1 it flattens."""

    def __init__(self, temperature: float) -> None:
        _require(
            temperature > 0, "temperature", "above 0 (for the most probable token, say do_sample=False)", temperature
        )
        self.temperature = float(temperature)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return logits / self.temperature


class TopKLogitsWarper(LogitsProcessor):
    """Keep the `top_k` most probable tokens (Fan et al. 2018, arXiv:1805.04833); ties with the last one stay too."""

    def __init__(self, top_k: int, filter_value: float = FORBIDDEN, min_tokens_to_keep: int = 1) -> None:
        _require(top_k >= 1, "top_k", "at least 1", top_k)
        self.top_k = max(top_k, min_tokens_to_keep)
        self.filter_value = filter_value

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        count = min(self.top_k, logits.shape[-1])
        threshold = logits.topk(count, dim=-1).values[:, -1:]  # (B, 1)
        return logits.masked_fill(logits < threshold, self.filter_value)


class TopPLogitsWarper(LogitsProcessor):
    """Keep the smallest set of tokens whose probabilities sum to `top_p` (Holtzman et al. 2020, arXiv:1904.09751)."""

    def __init__(self, top_p: float, filter_value: float = FORBIDDEN, min_tokens_to_keep: int = 1) -> None:
        _require(0 <= top_p <= 1, "top_p", "between 0 and 1", top_p)
        self.top_p = float(top_p)
        self.filter_value = filter_value
        self.keep = min_tokens_to_keep

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        # A token stays while the mass *before* it is short of top_p, so the one that crosses the line stays as well.
        outside = probabilities.cumsum(dim=-1) - probabilities >= self.top_p
        outside[:, : self.keep] = False
        return logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), self.filter_value)


class MinPLogitsWarper(LogitsProcessor):
    """Keep tokens at least `min_p` times as probable as the most probable one (arXiv:2407.01082)."""

    def __init__(self, min_p: float, filter_value: float = FORBIDDEN, min_tokens_to_keep: int = 1) -> None:
        _require(0 <= min_p <= 1, "min_p", "between 0 and 1", min_p)
        self.min_p = float(min_p)
        self.filter_value = filter_value
        self.keep = min_tokens_to_keep

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        outside = probabilities < self.min_p * probabilities.amax(dim=-1, keepdim=True)
        best = probabilities.topk(min(self.keep, logits.shape[-1]), dim=-1).indices
        return logits.masked_fill(outside.scatter(-1, best, False), self.filter_value)


class RepetitionPenaltyLogitsProcessor(LogitsProcessor):
    """Make tokens that occurred less probable: a logit is divided by `penalty`, or multiplied where it is negative.

    Keskar et al. 2019, arXiv:1909.05858. `prompt_ignore_length` is the number of leading tokens that do not count:
    one for all rows, or one per row, such as the lengths of the left padding.
    """

    def __init__(self, penalty: float, prompt_ignore_length: int | Tensor | None = None) -> None:
        _require(penalty > 0, "repetition_penalty", "above 0 (1 changes nothing)", penalty)
        self.penalty = float(penalty)
        self.ignored = prompt_ignore_length

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        seen = _occurrences(tokens, logits, self.ignored)
        return torch.where(seen, torch.where(logits < 0, logits * self.penalty, logits / self.penalty), logits)


def _counted(tokens: Tensor, ignored: int | Tensor | None) -> Tensor:
    """(B, T) bool: the tokens behind the `ignored` first ones of each row."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    first = torch.as_tensor(0 if ignored is None else ignored, device=tokens.device).reshape(-1, 1)
    return (places >= first).expand_as(tokens)


def _occurrences(tokens: Tensor, logits: Tensor, ignored: int | Tensor | None) -> Tensor:
    """(B, V) bool: which vocabulary entries occur in each row; an id beyond the logits cannot be chosen anyway."""
    vocabulary = logits.shape[-1]
    spare = tokens.masked_fill(~_counted(tokens, ignored), vocabulary).clamp(max=vocabulary)
    return logits.new_zeros(logits.shape[0], vocabulary + 1, dtype=torch.bool).scatter(1, spare, True)[:, :-1]


class NoRepeatNGramLogitsProcessor(LogitsProcessor):
    """Forbid every token that would complete an n-gram of `ngram_size` tokens that the row already holds.

    `prompt_ignore_length` as for `RepetitionPenaltyLogitsProcessor`: n-grams that begin in there do not count.
    """

    def __init__(self, ngram_size: int, prompt_ignore_length: int | Tensor | None = None) -> None:
        _require(ngram_size >= 1, "no_repeat_ngram_size", "at least 1", ngram_size)
        self.size = ngram_size
        self.ignored = prompt_ignore_length

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        length, vocabulary = tokens.shape[1], logits.shape[-1]
        if length < self.size:
            return logits
        grams = tokens.unfold(1, self.size, 1)  # (B, T - n + 1, n)
        suffix = tokens[:, length - self.size + 1 :]  # (B, n - 1)
        begun = (grams[..., :-1] == suffix[:, None, :]).all(dim=-1) & _counted(tokens, self.ignored)[
            :, : grams.shape[1]
        ]
        completing = grams[..., -1].masked_fill(~begun, vocabulary).clamp(max=vocabulary)
        banned = logits.new_zeros(logits.shape[0], vocabulary + 1, dtype=torch.bool).scatter(1, completing, True)
        return logits.masked_fill(banned[:, :-1], FORBIDDEN)


class NoBadWordsLogitsProcessor(LogitsProcessor):
    """Forbid token sequences: the last token of each of `bad_words_ids` once the ones before it stand."""

    def __init__(self, bad_words_ids: Sequence[Sequence[int]], eos_token_id: int | Iterable[int] | None = None) -> None:
        _require(all(bad_words_ids), "bad_words_ids", "a list of lists of at least one id", bad_words_ids)
        ends = [] if eos_token_id is None else token_ids(eos_token_id)
        self.words = [list(word) for word in bad_words_ids if list(word) not in [[end] for end in ends]]

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        logits = logits.clone()
        for *start, last in self.words:
            if len(start) > tokens.shape[1] or not 0 <= last < logits.shape[-1]:
                continue
            tail = tokens[:, tokens.shape[1] - len(start) :]  # (B, len(start))
            begun = (tail == torch.tensor(start, dtype=tokens.dtype, device=tokens.device)).all(dim=-1)
            logits[begun, last] = FORBIDDEN
        return logits


class MinLengthLogitsProcessor(LogitsProcessor):
    """Forbid the end of the sequence while it has fewer than `min_length` tokens, the prompt included."""

    def __init__(self, min_length: int, eos_token_id: int | Iterable[int]) -> None:
        _require(min_length >= 0, "min_length", "at least 0", min_length)
        self.min_length = min_length
        self.ends = token_ids(eos_token_id)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _forbid(logits, self.ends) if tokens.shape[1] < self.min_length else logits


class MinNewTokensLengthLogitsProcessor(LogitsProcessor):
    """Forbid the end of the sequence until `min_new_tokens` follow the prompt of `prompt_length_to_skip` tokens."""

    def __init__(self, prompt_length_to_skip: int, min_new_tokens: int, eos_token_id: int | Iterable[int]) -> None:
        _require(min_new_tokens >= 0, "min_new_tokens", "at least 0", min_new_tokens)
        self.min_length = prompt_length_to_skip + min_new_tokens
        self.ends = token_ids(eos_token_id)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _forbid(logits, self.ends) if tokens.shape[1] < self.min_length else logits


class SuppressTokensLogitsProcessor(LogitsProcessor):
    """Forbid `suppress_tokens` at every step."""

    def __init__(self, suppress_tokens: Iterable[int]) -> None:
        self.ids = token_ids(suppress_tokens)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _forbid(logits, self.ids)


class SuppressTokensAtBeginLogitsProcessor(LogitsProcessor):
    """Forbid `begin_suppress_tokens` as the token at index `begin_index`, the first one generated."""

    def __init__(self, begin_suppress_tokens: Iterable[int], begin_index: int) -> None:
        self.ids = token_ids(begin_suppress_tokens)
        self.begin_index = begin_index

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _forbid(logits, self.ids) if tokens.shape[1] == self.begin_index else logits


class ForcedBOSTokenLogitsProcessor(LogitsProcessor):
    """Make `bos_token_id` the token after a prompt of one token (the decoder start of sequence-to-sequence models)."""

    def __init__(self, bos_token_id: int) -> None:
        self.id = bos_token_id

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _only(logits, [self.id], "forced_bos_token_id") if tokens.shape[1] == 1 else logits


class ForcedEOSTokenLogitsProcessor(LogitsProcessor):
    """Make `eos_token_id` the last of `max_length` tokens."""

    def __init__(self, max_length: int, eos_token_id: int | Iterable[int]) -> None:
        self.max_length = max_length
        self.ends = token_ids(eos_token_id)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return _only(logits, self.ends, "forced_eos_token_id") if tokens.shape[1] == self.max_length - 1 else logits


class InfNanRemoveLogitsProcessor(LogitsProcessor):
    """Replace NaN by 0 and the infinities by the largest and smallest finite numbers."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        limits = torch.finfo(logits.dtype)
        return logits.nan_to_num(nan=0.0, posinf=limits.max, neginf=limits.min)


class LogitNormalization(LogitsProcessor):
    """Turn logits into log probabilities."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return logits.log_softmax(dim=-1)


class Recorder(LogitsProcessor):
    """Keep the logits of every step in `steps` and change nothing; its place in the list says what it sees."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        self.steps.append(logits)
        return logits


# The spellings of some tutorials.
LogitsProcess = LogitsProcessor
LogitsProcessList = LogitsProcessorList
