"""Looking inside a forward, complete: what a `Recorder` passed to a stack collects."""

from __future__ import annotations

from torch import Tensor


class Recorder:
    """Collects what passes through a stack; pass it as `record=`.

    `states`: the input of every layer and the final output, L + 1 tensors (B, T, D). `sublayers`: the output of every
    sublayer in order, each with its name such as "layers.3.mlp". With `attentions=True`, `attentions` and
    `cross_attentions` hold the attention weights (B, H, T, S) of every layer; otherwise they are None, because to
    collect them the weights must be materialised, which the fast path never does. `routed` holds the scores (B * T, E)
    by which each mixture of experts chose.
    """

    def __init__(self, *, attentions: bool = False) -> None:
        self.states: list[Tensor] = []
        self.sublayers: list[tuple[str, Tensor]] = []
        self.routed: list[Tensor] = []
        self.attentions: list[Tensor] | None = [] if attentions else None
        self.cross_attentions: list[Tensor] | None = [] if attentions else None

    def sublayer(self, name: str, x: Tensor) -> None:
        """Note the output of a sublayer of the layer whose input was noted last."""
        self.sublayers.append((f"layers.{len(self.states) - 1}.{name}", x))
