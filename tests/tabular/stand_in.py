"""A backbone of a few numbers, whose output is known by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn


class Doubling(nn.Module):
    """`last_hidden_state` is scale × inputs_embeds, with dropout in between; width 3."""

    def __init__(self, *, scale: float = 2.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=3)
        self.scale = nn.Parameter(torch.tensor(scale, dtype=dtype))
        self.dropout = nn.Dropout(0.5)

    def forward(self, *, inputs_embeds: Tensor) -> SimpleNamespace:
        assert inputs_embeds.ndim == 3
        assert inputs_embeds.shape[1] == 1, "one token per row"
        assert inputs_embeds.dtype == self.scale.dtype
        return SimpleNamespace(last_hidden_state=self.dropout(inputs_embeds * self.scale))
