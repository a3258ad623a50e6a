"""Linear layers, convolutions and embeddings that draw no numbers when they are made, complete.

PyTorch's own draw random weights at once: wasted on a model whose tensors come from a file, and on the "meta" device
the draw alone loads PyTorch's compiler, over a second of imports. Here `plait.nn.build.initialise` or a load fills the
weights; everything else is PyTorch's.
"""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """`x @ weightᵀ + bias`, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Convolution(nn.Conv1d):
    """A convolution over the last dimension, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Embedding(nn.Embedding):
    """A table of vectors, its numbers not yet set."""

    def reset_parameters(self) -> None:
        """Draw nothing."""
