"""How the next token is chosen from its logits, complete: greedily, or at random from the distribution.

A sampler is a callable `logits (B, V) -> ids (B,)`, and a chooser `(scores (B, N), count) -> places (B, count)` takes
several of the same row. What shapes the distribution (temperature, top-k, …) is a processor and has run before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from plait.errors import GenerationError

Sampler = Callable[[Tensor], Tensor]
Chooser = Callable[[Tensor, int], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of each row; of equals, the one with the smallest id."""
    return logits.argmax(dim=-1)


def highest(scores: Tensor, count: int) -> Tensor:
    """The places of the `count` highest scores of each row, the best first."""
    return scores.topk(count, dim=-1).indices


class Multinomial:
    """One draw per row from softmax(logits); `several` draws without putting back.

    The randomness comes from `generator` alone (on the logits' device), or from torch's global state when it is None.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __call__(self, logits: Tensor) -> Tensor:
        return self.several(logits, 1).squeeze(-1)

    def several(self, logits: Tensor, count: int) -> Tensor:
        """`count` different places of each row, in the order in which they are drawn."""
        probabilities = logits.softmax(dim=-1)
        try:
            return torch.multinomial(probabilities, count, generator=self.generator)
        except RuntimeError as error:
            raise GenerationError(
                f"No token can be drawn: the probabilities of a row are not numbers ({error}). "
                "Either the processors forbid every token, or the model's logits hold NaN or infinity."
            ) from error
