"""Which cells of a table answer a question, and how they are put together, complete (TAPAS, arXiv:2004.02349 §2).

Tokens know their cell by their segments: kind 1 is the column, kind 2 the row, from 1; the question is in column 0 and
row 0. Shapes: B batch, T tokens, D width, R rows and C columns at most, A operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn.linear import Linear
from plait.nn.spec import CellHeadSpec

COLUMN, ROW = 1, 2  # kinds of segments
_NEVER = -10000.0  # added to what shall not be chosen
_TINY = 1e-10


class Cells(NamedTuple):
    """What a `CellHead` gives: `scores` (B, T) of tokens to be in the answer, `operations` (B, A), None for none.

    For a loss: `tokens` (B, T) are the scores before a column was chosen, `chances` (B, C) those of the columns, None
    where cells may come from any; `places` (B, T) the cell of each token, row * C + column; `there` (B, R * C) which
    cells there are; `valid` (B, T) which tokens, `cell_tokens` (B, T) which are of a cell, neither question nor header.
    """

    scores: Tensor
    operations: Tensor | None
    tokens: Tensor
    chances: Tensor | None
    places: Tensor
    there: Tensor
    valid: Tensor
    cell_tokens: Tensor


class Score(nn.Module):
    """One number for a vector: `x · weight + bias`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(()))

    def initialise(self, *, std: float | None = None, generator: torch.Generator | None = None) -> None:
        """A normal weight of deviation `std`, by default width^-0.5, and no bias."""
        nn.init.normal_(self.weight, std=len(self.weight) ** -0.5 if std is None else std, generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) -> (…)."""
        return x @ self.weight + self.bias

    if TYPE_CHECKING:
        __call__ = forward


class CellHead(nn.Module):
    """Scores of cells, of columns, and of what to do with the cells (nothing, their sum, their number, …)."""

    def __init__(self, spec: CellHeadSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.cells = Score(width)
        self.columns = Score(width)
        self.operations = Linear(width, spec.operations) if spec.operations else None

    def forward(self, states: Tensor, pooled: Tensor | None, segments: Tensor | None, valid: Tensor | None) -> Cells:
        """States (B, T, D), their vector (B, D), segments (B, T, kinds) and which tokens are valid (B, T)."""
        shape = states.shape[:2]
        seen = torch.ones(shape, device=states.device) if valid is None else valid.float()
        places = torch.zeros(shape, dtype=torch.long, device=states.device)
        of_cells = torch.zeros_like(seen)
        if segments is not None:
            row, column = segments[..., ROW].clamp(max=self.spec.rows - 1), segments[..., COLUMN]
            places = row * self.spec.columns + column.clamp(max=self.spec.columns - 1)
            of_cells = (row > 0) * seen
        states = functional.dropout(states, self.spec.dropout, training=self.training)
        empty = seen.new_zeros(shape[0], self.spec.rows * self.spec.columns)
        there = empty.scatter_reduce(1, places, seen, reduce="amax")
        tokens = self.cells(states).float() / self.spec.temperature
        # Without a pool, the first token speaks for the text.
        operations = None if self.operations is None else self.operations(states[:, 0] if pooled is None else pooled)
        if self.spec.pick == "tokens":
            return Cells(tokens, operations, tokens, None, places, there, seen, of_cells)
        by_cell = means(tokens, places, there.shape[1], seen)
        if self.spec.pick == "cells":
            scores = by_cell.gather(1, places)
            return Cells(scores, operations, scores, None, places, there, seen, of_cells)
        chances = self._chances(self.columns(states).float(), places, there, seen)
        # (B, R * C): the column of each cell; column 0 is the question's
        column = torch.arange(there.shape[1], device=places.device)[None] % self.spec.columns
        chosen = there * ((column == chances.argmax(dim=1, keepdim=True)) & (column != 0))
        scores = (by_cell + _NEVER * (1 - chosen)).gather(1, places)
        return Cells(scores, operations, tokens, chances, places, there, seen, of_cells)

    if TYPE_CHECKING:
        __call__ = forward

    def _chances(self, scores: Tensor, places: Tensor, there: Tensor, seen: Tensor) -> Tensor:
        """Scores of tokens (B, T), averaged over cells and those over columns: (B, C)."""
        shape = -1, self.spec.rows, self.spec.columns
        # (B, R * C) -> (B, R, C) -> (B, C)
        total = (means(scores, places, there.shape[1], seen) * there).view(shape).sum(dim=1)
        count = there.view(shape).sum(dim=1)
        chances = total / (count + _TINY)
        first = torch.arange(self.spec.columns, device=scores.device)[None] == 0
        chances = chances + _NEVER * ((count < 0.5) & ~first)
        return chances if self.spec.pick == "column_or_none" else chances + _NEVER * first


def means(values: Tensor, places: Tensor, count: int, valid: Tensor) -> Tensor:
    """The mean of the `values` (B, T) at each of `count` places (B, T) where `valid` (B, T) is 1: (B, count); 0 where
    there is none."""
    empty = values.new_zeros(values.shape[0], count)
    numbers = empty.scatter_add(1, places, valid)
    return empty.scatter_add(1, places, values * valid) / numbers.clamp(min=1)


def within_cells(positions: Tensor, segments: Tensor | None, *, last: int) -> Tensor:
    """Positions (B or 1, T) counted from the first token of each cell, `last` at most."""
    if segments is None:
        return positions.clamp(max=last)
    row, column = segments[..., ROW], segments[..., COLUMN]
    places = row * (int(column.max()) + 1) + column
    where = positions.expand(places.shape)
    first = torch.full((places.shape[0], int(places.max()) + 1), where.shape[1], device=where.device)
    first = first.scatter_reduce(1, places, where, reduce="amin")
    return (where - first.gather(1, places)).clamp(max=last)
