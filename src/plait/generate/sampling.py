"""How the next token is chosen from its logits, complete: greedily, or at random from the distribution.

A sampler is a callable `logits (B, V) -> ids (B,)`. What shapes the distribution (temperature, top-k, …) is a
processor and has run before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from plait.errors import GenerationError

Sampler = Callable[[Tensor], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of each row; of equals, the one with the smallest id."""
    return logits.argmax(dim=-1)


class Multinomial:
    """One draw per row from softmax(logits).

    The randomness comes from `generator` alone (on the logits' device), or from torch's global state when it is None.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def __call__(self, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        try:
            return torch.multinomial(probabilities, 1, generator=self.generator).squeeze(-1)
        except RuntimeError as error:
            raise GenerationError(
                f"No token can be drawn: the probabilities of a row are not numbers ({error}). "
                "Either the processors forbid every token, or the model's logits hold NaN or infinity."
            ) from error
