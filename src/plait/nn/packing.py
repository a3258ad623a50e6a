"""Ragged batches without their padding, complete: which tokens there are, and attention within each sequence alone.

The tokens of a padded batch lie one behind the other in a single row (1, N), the sequences sorted by length.
Embeddings, norms, projections and MLPs then compute nothing for padding, and attention takes each run of equally long
sequences as a batch of its own: a view, without a copy and without a mask for padding.

    a b c · ·                                        run of 2 sequences, 2 tokens each
    d e · · ·   ->   d e f g a b c h i j k l    =      d e | f g    and runs of 1:    a b c,    h i j k l
    f g · · ·
    h i j k l

Shapes: B batch, T slots of a padded row, N tokens of all rows, H heads, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor

from plait.nn.mask import Mask


class Run(NamedTuple):
    """Neighbouring sequences of one length."""

    rows: int
    length: int


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the tokens of a padded batch are: `places` (N,) in the flattened batch of `shape` (B, T), in packed order.

    `runs` divide the N tokens into sequences.
    """

    shape: tuple[int, int]
    places: Tensor
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, valid: Tensor) -> Self | None:
        """The packing of a batch whose tokens are where `valid` (B, T) is true, padding on either side of a row.

        None when a row has padding between tokens, since a distance would then count what is no longer there, and when
        no row has a token.
        """
        valid = valid.bool()
        begins = valid.clone()
        begins[:, 1:] &= ~valid[:, :-1]
        if int(begins.sum(dim=1).amax()) != 1:
            return None
        lengths, rows = valid.sum(dim=1).sort(stable=True)
        # (B, T) numbers of slots, its rows sorted, those of tokens picked -> (N,)
        slots = torch.arange(valid.numel(), device=valid.device).view(valid.shape)
        places = slots[rows][valid[rows]]
        runs = (Run(rows=count, length=length) for length, count in sorted(Counter(lengths.tolist()).items()))
        return cls((valid.shape[0], valid.shape[1]), places, tuple(run for run in runs if run.length))

    @property
    def count(self) -> int:
        """How many tokens there are, N."""
        return self.places.shape[0]

    @staticmethod
    def pays(valid: Tensor) -> bool:
        """Whether to pack is faster: an eighth or more is padding, and a kernel for each run costs little to start."""
        return valid.device.type == "cpu" and int(valid.sum()) <= 7 / 8 * valid.numel()

    @cached_property
    def slots(self) -> Tensor:
        """The slot of each token in its padded row, (1, N)."""
        return (self.places % self.shape[1])[None]

    @cached_property
    def order(self) -> Tensor:
        """How many tokens of its sequence come before each token, (1, N)."""
        device = self.places.device
        return torch.cat([torch.arange(run.length, device=device).repeat(run.rows) for run in self.runs])[None]

    @property
    def longest(self) -> Tensor:
        """The positions in the longest sequence, (1, L)."""
        return torch.arange(max(run.length for run in self.runs), device=self.places.device)[None]

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, …) -> (1, N, …)."""
        return x.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, x: Tensor) -> Tensor:
        """(1, N, …) -> (B, T, …), zero at padding."""
        empty = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[2:])
        return empty.index_copy(0, self.places, x[0]).view(*self.shape, *x.shape[2:])

    def split(self, x: Tensor) -> list[Tensor]:
        """(1, H, N, D) -> for each run a view of its sequences, (rows, H, length, D)."""
        parts = torch.split(x[0], [run.rows * run.length for run in self.runs], dim=1)
        # (H, rows * length, D) -> (H, rows, length, D) -> (rows, H, length, D)
        shapes = [(x.shape[1], *run, x.shape[3]) for run in self.runs]
        return [part.view(shape).transpose(0, 1) for part, shape in zip(parts, shapes, strict=True)]

    @staticmethod
    def join(parts: Iterable[Tensor]) -> Tensor:
        """What was made of the runs, (rows, H, length, D) each, -> (1, N, H * D)."""
        # (rows, H, length, D) -> (rows, length, H, D) -> (rows * length, H * D)
        return torch.cat([part.transpose(1, 2).flatten(2).flatten(0, 1) for part in parts])[None]


class Packed(NamedTuple):
    """What the tokens of a packed row may see: within its own sequence, for each run as its mask says."""

    packing: Packing
    masks: tuple[Mask, ...]
