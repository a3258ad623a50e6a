"""When generation ends, complete: by length, by end token, by a string in the text, by time; any mix of them.

A stop is any callable `(tokens (B, T), logits (B, V)) -> finished (B,) bool`, called after each new token.
`StopStrings` is the same question asked of text as it streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from plait.errors import OptionError
from plait.generate.processors import token_ids

Stop: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class StoppingCriteria:
    """The usual base class of a stop; it is not required."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(tokens, logits) -> finished (B,).")


class StoppingCriteriaList(list[Stop]):
    """Stops of which any one ends a row; a stop itself. A stop of one's own may return a plain bool for all rows."""

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        finished = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for stop in self:
            finished = finished | torch.as_tensor(stop(tokens, logits), device=tokens.device)
        return finished


class MaxLengthCriteria(StoppingCriteria):
    """End all rows at `max_length` tokens, the prompt included."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return torch.full((tokens.shape[0],), tokens.shape[1] >= self.max_length, device=tokens.device)


class MaxTimeCriteria(StoppingCriteria):
    """End all rows `max_time` seconds after `initial_timestamp` (of `time.monotonic`; default: now)."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        self.deadline = (time.monotonic() if initial_timestamp is None else initial_timestamp) + max_time

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        return torch.full((tokens.shape[0],), time.monotonic() >= self.deadline, device=tokens.device)


class EosTokenCriteria(StoppingCriteria):
    """End a row at any of the end tokens `eos_token_id`."""

    def __init__(self, eos_token_id: int | Iterable[int]) -> None:
        self.ids = torch.tensor(token_ids(eos_token_id), dtype=torch.long)

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        self.ids = self.ids.to(tokens.device)
        return (tokens[:, -1:] == self.ids).any(dim=-1)


class StopStrings:
    """Text in pieces, cut before the first of `strings`; what may be the beginning of one is held back.

    The string that is complete first ends the text, so the result does not depend on how the text is split.
    `stopped` is that string, or None.
    """

    def __init__(self, strings: str | Iterable[str]) -> None:
        self.strings = [strings] if isinstance(strings, str) else list(strings)
        if not all(isinstance(string, str) and string for string in self.strings):
            raise OptionError(f"Stop strings must be texts of at least one character, but are {self.strings!r}.")
        self.held = ""
        self.stopped: str | None = None

    def add(self, piece: str) -> str:
        """Take the next piece; return the text that is certain to come before any stop string."""
        if self.stopped is not None:
            return ""
        self.held += piece
        found = [
            (self.held.find(string) + len(string), -len(string), string)
            for string in self.strings
            if string in self.held
        ]
        if found:
            end, _, self.stopped = min(found)
            text, self.held = self.held[: end - len(self.stopped)], ""
            return text
        keep = self._overlap()
        text, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return text

    def finish(self) -> str:
        """The text is over: what was held back is no stop string after all."""
        text, self.held = self.held, ""
        return text

    def _overlap(self) -> int:
        """Characters at the end of the held text that may begin a stop string."""
        longest = min(len(self.held), max(map(len, self.strings), default=1) - 1)
        for count in range(longest, 0, -1):
            if any(string.startswith(self.held[-count:]) for string in self.strings):
                return count
        return 0


class StopStringCriteria(StoppingCriteria):
    """End a row once its generated text holds any of `stop_strings`. For one generation: it keeps state per row."""

    def __init__(self, tokenizer: Any, stop_strings: str | Iterable[str]) -> None:
        self.tokenizer = tokenizer
        self.strings = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
        self.rows: list[tuple[Any, StopStrings]] = []

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        if not self.rows:
            self.rows = [(self.tokenizer.detokenizer(), StopStrings(self.strings)) for _ in range(tokens.shape[0])]
        for (detokenizer, strings), token in zip(self.rows, tokens[:, -1].tolist(), strict=True):
            strings.add(detokenizer.add(token))
        return torch.tensor([strings.stopped is not None for _, strings in self.rows], device=tokens.device)


class StopStringsOfBeams(StoppingCriteria):
    """`StopStringCriteria` for rows that change places: it keeps nothing, and decodes what follows `start` tokens."""

    def __init__(self, tokenizer: Any, stop_strings: str | Iterable[str], *, start: int) -> None:
        self.tokenizer = tokenizer
        self.strings = StopStrings(stop_strings).strings
        self.start = start

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:
        texts = (self.tokenizer.decode(row, skip_special_tokens=True) for row in tokens[:, self.start :].tolist())
        ended = [any(string in text for string in self.strings) for text in texts]
        return torch.tensor(ended, device=tokens.device)
