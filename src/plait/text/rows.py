"""One encoding call from texts to columns, complete: `Rows`, the texts of a batch cut into rows and made into columns.

    texts ──engine──▶ plain encodings ──windows──▶ rows of ids ──fill──▶ one (B, T) array per column

The quick way reads nothing but ids from the engine. Details (offsets, word ids) take a second, slower encoding, made
only when they are part of the result or asked for later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from plait.errors import TokenizerError
from plait.text import options, pad
from plait.text.engine import Engine, Raw
from plait.text.frame import Encoding, Fill, Frame, Window
from plait.text.inputs import Inputs, surrogate
from plait.text.options import Plan

Cut = tuple[int, tuple[Window, ...]]  # which sample, and the window of each of its sequences


class Rows:
    """The rows of one call. `fill` holds what a padded place gets; its counts are those of no row yet."""

    def __init__(
        self,
        engine: Engine,
        inputs: Inputs,
        frame: Frame,
        plan: Plan,
        *,
        fill: Fill,
        details: bool,
        split_special: bool,
    ) -> None:
        self._engine, self._inputs, self._frame, self._plan, self.fill = engine, inputs, frame, plan, fill
        self._split_special, self._detailed = split_special, details
        self._raws = self._encode(details=details)
        budget = None if plan.max_length is None else plan.max_length - frame.special_count
        lengths = [[len(raw) for raw in column] for column in self._raws]
        self._cuts: list[Cut] | None = None
        if plan.truncation is not None:
            self._cuts = [
                (sample, cut)
                for sample, counts in enumerate(zip(*lengths, strict=True))
                for cut in options.windows(counts, budget, plan)
            ]
        self._lengths = lengths
        self.ids = self._ids()
        self.width = plan.width(max(map(len, self.ids), default=0)) if plan.padding else None

    def _encode(self, *, details: bool) -> list[Sequence[Raw]]:
        """The plain encodings, one list for each sequence."""
        inputs = self._inputs
        try:
            return [
                self._engine.encode(column, words=inputs.words, details=details, split_special=self._split_special)
                for column in inputs.columns
            ]
        except (TypeError, UnicodeEncodeError) as error:
            if wrong := surrogate(inputs.columns):
                raise wrong from error
            raise

    def _ids(self) -> list[list[int]]:
        """The ids of every row, special tokens included, before padding."""
        frame, raws = self._frame, self._raws
        if self._cuts is None:
            if len(raws) == 1:
                return [frame.ids((raw.ids,)) for raw in raws[0]]
            return [frame.ids((first.ids, second.ids)) for first, second in zip(*raws, strict=True)]
        return [
            frame.ids([column[sample].ids[start:stop] for column, (start, stop) in zip(raws, cut, strict=True)])
            for sample, cut in self._cuts
        ]

    @cached_property
    def cuts(self) -> list[Cut]:
        """Sample and windows of each row."""
        if self._cuts is not None:
            return self._cuts
        return [
            (sample, tuple((0, length) for length in lengths))
            for sample, lengths in enumerate(zip(*self._lengths, strict=True))
        ]

    def samples(self) -> list[int]:
        """Which sample each row comes from."""
        return [sample for sample, _ in self.cuts]

    def type_ids(self) -> list[list[int]]:
        """The token type ids of every row, before padding."""
        if self._frame.plain:
            return [[0] * len(row) for row in self.ids]
        return [self._frame.type_ids([stop - start for start, stop in cut]) for _, cut in self.cuts]

    def column(self, rows: Sequence[Sequence[int]], value: int, kind: pad.Framework | None) -> Any:
        """Rows as a padded column: lists, or a tensor (B, T)."""
        if kind is not None and (self.width is not None or len({len(row) for row in rows}) <= 1):
            width = len(rows[0]) if self.width is None and rows else self.width or 0
            return pad.wrap(pad.fill(rows, width, value=value, side=self._plan.padding_side), kind)
        return (
            rows if self.width is None else pad.fill_lists(rows, self.width, value=value, side=self._plan.padding_side)
        )

    def attention(self, kind: pad.Framework | None) -> Any:
        """1 for tokens, 0 for padding, as a column."""
        if kind is not None and self.width is not None:
            import numpy as np

            mask = pad.valid([len(row) for row in self.ids], self.width, side=self._plan.padding_side)
            return pad.wrap(mask.astype(np.int64), kind)
        return self.column([[1] * len(row) for row in self.ids], 0, kind)

    def lengths(self) -> list[int]:
        """The length of each row, padding included."""
        return [max(len(row), self.width or 0) for row in self.ids]

    @cached_property
    def _made(self) -> list[Encoding]:
        return self._rows_of(self._raws)

    def _rows_of(self, raws: Sequence[Sequence[Raw]]) -> list[Encoding]:
        left = self._plan.padding_side == "left"
        made = []
        for row, (sample, cut) in zip(self.ids, self.cuts, strict=True):
            spare = max((self.width or 0) - len(row), 0)
            fill = self.fill.of(left=spare) if left else self.fill.of(right=spare)
            made.append(Encoding(self._frame, [column[sample] for column in raws], cut, fill))
        return made

    def encodings(self) -> list[Encoding]:
        """The rows with all their details; encodes the texts again when the first time was the quick way."""
        if not self._detailed:
            raws = self._encode(details=True)
            if [[raw.ids for raw in column] for column in raws] != [
                [raw.ids for raw in column] for column in self._raws
            ]:
                raise TokenizerError("Tokens were added since this batch was encoded; encode it again for its details.")
            self._raws, self._detailed = raws, True
        return self._made
