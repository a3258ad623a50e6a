"""One encoding call from texts to columns, complete: `Rows`, the texts of a batch cut into rows and made into columns.

    texts ──engine──▶ plain encodings ──windows──▶ rows of ids ──fill──▶ one (B, T) array per column

The quick way asks the engine for nothing but ids. Details (offsets, word ids) take a second, slower encoding, made only
when they are part of the result or asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from plait.errors import TokenizerError
from plait.text import options, pad
from plait.text.engine import Engine
from plait.text.frame import NO_FILL, Encoding, Fill, Frame, Window
from plait.text.inputs import Inputs, surrogate
from plait.text.options import Plan

T = TypeVar("T")
Cut = tuple[int, tuple[Window, ...]]  # which sample, and the window of each of its sequences


class Rows:
    """The rows of one call. `fill` is the padding of a row that lacks nothing."""

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
        self._split_special = split_special
        self._version = engine.version
        self._raws = self._guarded(engine.encode) if details else None
        columns = (
            self._guarded(engine.ids)
            if self._raws is None
            else [[list(raw.ids) for raw in column] for column in self._raws]
        )
        self._cuts = None if plan.truncation is None else self._cut(columns)
        self._lengths = [list(map(len, column)) for column in columns]
        self.ids = self._read(columns)
        self.width = plan.width(max(map(len, self.ids), default=0)) if plan.padding else None

    def _guarded(self, encode: Callable[..., T]) -> list[T]:
        """What the engine makes of each sequence; text that is not Unicode is named."""
        inputs = self._inputs
        try:
            return [encode(column, words=inputs.words, split_special=self._split_special) for column in inputs.columns]
        except (TypeError, UnicodeEncodeError) as error:
            if wrong := surrogate(inputs.columns):
                raise wrong from error
            raise

    def _cut(self, columns: list[list[list[int]]]) -> list[Cut]:
        """Sample and windows of each row under the plan's truncation."""
        counts = zip(*(map(len, column) for column in columns), strict=True)
        return [(sample, cut) for sample, lengths in enumerate(counts) for cut in options.windows(lengths, self._plan)]

    def _read(self, columns: list[list[list[int]]]) -> list[list[int]]:
        """The ids of every row, special tokens included, before padding."""
        ids = self._frame.ids
        if self._cuts is None:
            return [ids(row) for row in zip(*columns, strict=True)]
        return [
            ids([column[sample][start:stop] for column, (start, stop) in zip(columns, cut, strict=True)])
            for sample, cut in self._cuts
        ]

    @property
    def cuts(self) -> list[Cut]:
        """Sample and windows of each row."""
        if self._cuts is None:
            self._cuts = [
                (sample, tuple((0, length) for length in lengths))
                for sample, lengths in enumerate(zip(*self._lengths, strict=True))
            ]
        return self._cuts

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
        if self.width is None:
            return rows
        return pad.fill_lists(rows, self.width, value=value, side=self._plan.padding_side)

    def types(self, kind: pad.Framework | None) -> Any:
        """The token type ids as a column; a batch of type 0 throughout is one array of zeros."""
        if kind is not None and self.width is not None and self._frame.plain and not self.fill.type_id:
            import numpy as np

            return pad.wrap(np.zeros((len(self.ids), self.width), dtype=np.int64), kind)
        return self.column(self.type_ids(), self.fill.type_id, kind)

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

    def encodings(self) -> list[Encoding]:
        """The rows with all their details; the texts are encoded again when the first time was the quick way."""
        if self._raws is None:
            unchanged(self._engine, self._version)
            self._raws = self._guarded(self._engine.encode)
        left = self._plan.padding_side == "left"
        made = []
        for sample, cut in self.cuts:
            size = self._frame.special_count + sum(stop - start for start, stop in cut)
            spare = max((self.width or 0) - size, 0)
            fill = self.fill.of(left=spare) if left else self.fill.of(right=spare)
            made.append(Encoding(self._frame, [column[sample] for column in self._raws], cut, fill))
        return made

    def forget(self) -> None:
        """Let go of the ids, once the columns are made; `encodings` does without them."""
        self.ids = []


def alone(
    engine: Engine, text: str, names: Sequence[str], *, special: bool
) -> tuple[dict[str, Any], Callable[[], list[Encoding]]]:
    """One text and no wishes: the columns `names` and their details, as `Rows` gives them, in half the time.

    Most calls in a loop are of this kind, and the work of the engine is as short as that of everything around it.
    """
    frame, version = engine.frame(1, special=special), engine.version
    ids = engine.ids((text,), words=False, split_special=False)
    length, row = len(ids[0]), frame.ids(ids)
    batch = {"input_ids": row}
    if "token_type_ids" in names:
        batch["token_type_ids"] = frame.type_ids((length,))
    if "attention_mask" in names:
        batch["attention_mask"] = [1] * len(row)

    def details() -> list[Encoding]:
        unchanged(engine, version)
        raws = engine.encode((text,), words=False, split_special=False)
        return [Encoding(frame, raws, ((0, length),), NO_FILL)]

    return batch, details


def unchanged(engine: Engine, version: int) -> None:
    """Raise when the vocabulary grew since `version`: encoding the texts again would give other tokens."""
    if version != engine.version:
        raise TokenizerError("Tokens were added since this batch was encoded; encode it again for its details.")
