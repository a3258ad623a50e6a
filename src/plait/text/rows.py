"""One encoding call from texts to columns, complete: `Rows`, the texts of a batch cut into rows and made into columns.

    texts ──engine──▶ packed rows ──windows──▶ packed rows ──▶ per column one (B, T) array, `Flat`, or lists

The quick way asks the engine for nothing but ids. Details (offsets, word ids) take a second, slower encoding, made only
when they are part of the result or asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from plait.errors import TokenizerError
from plait.flat import Flat
from plait.text import options, packed, pad
from plait.text.engine import Engine
from plait.text.frame import NO_FILL, Encoding, Fill, Frame, Window
from plait.text.inputs import Inputs, surrogate
from plait.text.options import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
Form = pad.Framework | Literal["flat"] | None  # of a column: a tensor, a `Flat`, or lists
Cut = tuple[int, tuple[Window, ...]]  # which sample, and the window of each of its sequences


class Rows:
    """The rows of one call. `fill` is the padding of a row that lacks nothing, `lengths` are without padding."""

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
            self._guarded(engine.packed)
            if self._raws is None
            else [[packed.pack(raw.ids) for raw in column] for column in self._raws]
        )
        self._sizes = [list(map(packed.length, column)) for column in columns]
        self._cuts = None if plan.truncation is None else self._cut()
        self._rows = self._read(columns)
        self.lengths = list(map(packed.length, self._rows))
        self.width = plan.width(max(self.lengths, default=0)) if plan.padding else None

    def _guarded(self, encode: Callable[..., T]) -> list[T]:
        """What the engine makes of each sequence; text that is not Unicode is named."""
        inputs = self._inputs
        try:
            return [encode(column, words=inputs.words, split_special=self._split_special) for column in inputs.columns]
        except (TypeError, UnicodeEncodeError) as error:
            if wrong := surrogate(inputs.columns):
                raise wrong from error
            raise

    def _cut(self) -> list[Cut]:
        """Sample and windows of each row under the plan's truncation."""
        sizes = zip(*self._sizes, strict=True)
        return [(sample, cut) for sample, lengths in enumerate(sizes) for cut in options.windows(lengths, self._plan)]

    def _read(self, columns: list[list[bytes]]) -> list[bytes]:
        """The ids of every row, special tokens included, before padding."""
        whole, cut = self._frame.packed, packed.cut
        if self._cuts is None:
            return [whole(row) for row in zip(*columns, strict=True)]
        return [
            whole([cut(column[sample], *window) for column, window in zip(columns, windows, strict=True)])
            for sample, windows in self._cuts
        ]

    @property
    def cuts(self) -> list[Cut]:
        """Sample and windows of each row."""
        if self._cuts is None:
            self._cuts = [
                (sample, tuple((0, length) for length in lengths))
                for sample, lengths in enumerate(zip(*self._sizes, strict=True))
            ]
        return self._cuts

    def samples(self) -> list[int]:
        """Which sample each row comes from."""
        return [sample for sample, _ in self.cuts]

    def ids(self, form: Form) -> Any:
        """The token ids as a column."""
        rows = self._rows
        return self._column(form, self.fill.id, lambda: packed.numbers(rows), lambda: list(map(packed.unpack, rows)))

    def types(self, form: Form) -> Any:
        """The token type ids as a column."""
        if self._frame.plain:
            return self._same(form, 0, fill=self.fill.type_id)
        return self._column(form, self.fill.type_id, self._type_numbers, lambda: list(self._types()))

    def attention(self, form: Form) -> Any:
        """1 for tokens, 0 for padding, as a column."""
        return self._same(form, 1, fill=0)

    def _types(self) -> Iterator[list[int]]:
        return (self._frame.type_ids([stop - start for start, stop in cut]) for _, cut in self.cuts)

    def _type_numbers(self) -> NDArray[Any]:
        import numpy as np

        return np.fromiter(chain.from_iterable(self._types()), dtype=np.int64, count=sum(self.lengths))

    def _same(self, form: Form, number: int, *, fill: int) -> Any:
        """A column with one number for all tokens."""
        return self._column(form, fill, lambda: number, lambda: [[number] * length for length in self.lengths])

    def _column(
        self, form: Form, fill: int, numbers: Callable[[], NDArray[Any] | int], rows: Callable[[], list[list[int]]]
    ) -> Any:
        """A column from its numbers one after the other (or the one that all are), or from its rows as lists."""
        lengths, width, side = self.lengths, self.width, self._plan.padding_side
        longest = max(lengths, default=0)

        def lists() -> list[list[int]]:
            return rows() if width is None else pad.fill_lists(rows(), width, value=fill, side=side)

        def poured(width: int) -> NDArray[Any]:
            return pad.pour(numbers(), lengths, width, value=fill, side=side)

        if form == "flat" and width is None:
            return Flat(lengths, lambda: pad.flat(numbers(), sum(lengths)), lists)
        if form == "flat" and width is not None and longest <= width:
            return Flat([width] * len(lengths), lambda: poured(width).reshape(-1), lists)
        # Rows that are longer than the width stay so, and rows without one may differ: neither is a tensor.
        if form is None or form == "flat" or (width is None and len(set(lengths)) > 1):
            return lists()
        return pad.wrap(poured(longest if width is None else width), form)

    def padded(self) -> list[int]:
        """The length of each row, padding included."""
        return [max(length, self.width or 0) for length in self.lengths]

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
        self._rows = []


def alone(
    engine: Engine, text: str, names: Sequence[str], *, special: bool
) -> tuple[dict[str, Any], Callable[[], list[Encoding]]]:
    """One text and no wishes: the columns `names` and their details, as `Rows` gives them, in half the time.

    Most calls in a loop are of this kind, and the work of the engine is as short as that of everything around it.
    """
    frame, version = engine.frame(1, special=special), engine.version
    ids = engine.packed((text,), words=False, split_special=False)
    length, row = packed.length(ids[0]), packed.unpack(frame.packed(ids))
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
