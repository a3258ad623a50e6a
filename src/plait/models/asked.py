"""What a forward is asked beside its inputs and answers, complete: what to note, to keep and to leave out."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from torch import Tensor

from plait.errors import OptionError
from plait.nn.cache import Cache
from plait.nn.record import Recorder


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`hidden_states`, `attentions` and `router_logits` are to be noted; `keep` last positions scored, None for all.

    `cache` is that of an earlier call, and `use_cache` whether one is wanted back, None for where that is usual.
    `heads` (heads,) or (layers, heads) multiplies those of attention. `packed` is whether to leave padding out.
    """

    hidden_states: bool
    attentions: bool
    router_logits: bool
    keep: int | None
    cache: Cache | None
    use_cache: bool | None
    heads: Tensor | None
    packed: bool | None

    def recorder(self) -> Recorder | None:
        """What notes all that; None where nothing is to be noted."""
        if self.hidden_states or self.attentions or self.router_logits:
            return Recorder(attentions=self.attentions)
        return None


def kept(logits_to_keep: int | None, answers: Sized) -> int | None:
    """How many last positions are scored, None for all.

    Raises OptionError for what is no number of positions, and where a loss needs the scores of all.
    """
    if logits_to_keep is not None and (not isinstance(logits_to_keep, int) or logits_to_keep < 0):
        raise OptionError(
            f"`logits_to_keep` must be a number of last positions, or 0 for all, but is {logits_to_keep!r}."
        )
    if answers and logits_to_keep:
        raise OptionError("`logits_to_keep` leaves out scores that the loss needs: give either it or labels.")
    return logits_to_keep or None
