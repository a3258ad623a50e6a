"""The decoder of a model of two stacks, bound to the sources that it answers, complete: what `plait.generate` needs.

So the loop is the same as for a decoder alone. Shapes: B batch, S tokens of the source, T tokens of the target, D
width, V words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from plait.nn.cache import Cache
from plait.nn.topology import EncoderDecoderModel

if TYPE_CHECKING:
    from plait.generate import GenerationConfig


class Reading:
    """A decoder that answers one batch of sources; it satisfies `plait.generate.protocol.LanguageModel`.

    `memory` (B, S, D) is the encoder's output, `valid` (B, S) where it is no padding. A batch of n times as many rows
    gives each source to n neighbours.
    """

    def __init__(
        self,
        network: EncoderDecoderModel,
        memory: Tensor,
        valid: Tensor | None,
        *,
        generation_config: GenerationConfig | None = None,
    ) -> None:
        self.network, self.memory, self.valid = network, memory, valid
        self.generation_config = generation_config

    def new_cache(self, batch: int, *, capacity: int) -> Cache:
        """A fresh cache of the decoder with room for `capacity` tokens; the caller owns it."""
        return Cache(len(self.network.decoder.layers), capacity=capacity)

    def next_logits(
        self, tokens: Tensor, *, cache: Cache | None, valid: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """float32 logits (B, V) of the token behind `tokens` (B, T); see `plait.generate.protocol`."""
        self._spread(tokens.shape[0])
        scores = self.network(
            None,
            tokens,
            valid=self.valid,
            targets_valid=valid,
            target_positions=positions,
            memory=self.memory,
            cache=cache,
            keep=1,
        ).scores
        assert scores is not None
        return scores[:, -1].float()

    def _spread(self, rows: int) -> None:
        times = rows // self.memory.shape[0]
        if times > 1:
            self.memory = self.memory.repeat_interleave(times, dim=0)
            self.valid = None if self.valid is None else self.valid.repeat_interleave(times, dim=0)
