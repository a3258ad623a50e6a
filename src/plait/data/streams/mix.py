"""Several streams as one, complete: one after another, side by side, or in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from plait.data.features import Features
from plait.data.streams.block import Block, Columns, Rows, joined
from plait.data.streams.chain import Cursor, Pace, Position, Stream, part_of
from plait.errors import DataError

_DRAWS = 1000  # random choices made at once, as datasets makes them: a seed gives the same order


@dataclass(frozen=True)
class Several(Stream):
    """A link over several others."""

    inputs: tuple[Stream, ...]

    @property
    def features(self) -> Features | None:
        return self.inputs[0].features if self.inputs else None

    def over(self, inputs: list[Stream]) -> Self:
        """This link over others."""
        return replace(self, inputs=tuple(inputs))

    def shuffled(self, seeds: list[int]) -> Stream:
        return self.over([stream.shuffled([*seeds, number]) for number, stream in enumerate(self.inputs)])

    def resharded(self) -> Stream:
        return self.over([stream.resharded() for stream in self.inputs])

    def at_epoch(self, epoch: int) -> Stream:
        return self.over([stream.at_epoch(epoch) for stream in self.inputs])

    def described(self) -> str:
        return f"{type(self).__name__}({'; '.join(stream.described() for stream in self.inputs)})"


@dataclass(frozen=True)
class Concatenate(Several):
    """The rows of one stream after those of another."""

    @property
    def shards(self) -> int:
        return sum(stream.shards for stream in self.inputs)

    @property
    def ordered(self) -> bool:
        return all(stream.ordered for stream in self.inputs)

    def _single(self) -> list[Stream]:
        """The shards of all, each as a stream."""
        return [
            stream.shard(stream.shards, number, contiguous=True)
            for stream in self.inputs
            for number in range(stream.shards)
        ]

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        single = self._single()
        return self.over([single[number] for number in part_of(len(single), count, index, contiguous=contiguous)])

    def shuffled(self, seeds: list[int]) -> Stream:
        if not self.ordered:
            return super().shuffled(seeds)
        single = self._single()
        return self.over([single[number] for number in np.random.default_rng(seeds).permutation(len(single))])

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        first, at = position if position is not None else (0, None)
        for number in range(first, len(self.inputs)):
            for block, after in self.inputs[number].blocks(at):
                yield block, [number, after]
            at = None


@dataclass(frozen=True)
class Beside(Several):
    """The columns of several streams side by side; they must have one length. Not divided: rows would not match."""

    @property
    def shards(self) -> int:
        return 1

    @property
    def features(self) -> Features | None:
        known = [stream.features for stream in self.inputs]
        if any(features is None for features in known):
            return None
        return Features({name: kind for features in known for name, kind in (features or {}).items()})

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        return self if index == 0 else Concatenate(())

    def shuffled(self, seeds: list[int]) -> Stream:
        return self

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        row, places = position if position is not None else (0, [None] * len(self.inputs))
        cursors = [Cursor(stream, at) for stream, at in zip(self.inputs, places, strict=True)]
        while True:
            ended = [number for number, cursor in enumerate(cursors) if not cursor.more()]
            if ended and len(ended) < len(cursors):
                raise DataError(
                    f"Streams side by side need one length, but number {ended[0]} ends after {row} rows and others "
                    f"go on. Cut them with take({row})."
                )
            if ended or not cursors:
                return
            count = min(cursor.available() for cursor in cursors)
            parts = [cursor.exactly(count) for cursor in cursors]
            row += count
            yield _beside([part for part in parts if part is not None]), [row, [c.position() for c in cursors]]


def _beside(parts: list[Block]) -> Block:
    names = [name for part in parts for name in (part.arrays if isinstance(part, Columns) else part.items[0])]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"Two of the streams have a column {repeated[0]!r}. Rename or remove one of them first.")
    if all(isinstance(part, Columns) for part in parts):
        arrays: dict[str, Any] = {}
        features: dict[str, Any] = {}
        for part in parts:
            assert isinstance(part, Columns)
            arrays |= part.arrays
            features |= part.features
        return Columns(arrays, Features(features), len(parts[0]))
    rows = zip(*(part.rows() for part in parts), strict=True)
    return Rows([{name: value for row in together for name, value in row.items()} for together in rows])


@dataclass(frozen=True)
class Interleave(Several):
    """A row of one stream after a row of another: in turn, or drawn with `probabilities` from `seeds`.

    `first_exhausted` ends when one stream has ended; `all_exhausted` begins ended streams anew until all have ended
    once; `all_exhausted_without_replacement` leaves ended streams out.
    """

    probabilities: tuple[float, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    stopping_strategy: str = "first_exhausted"
    epoch: int = 0

    @property
    def shards(self) -> int:
        return min((stream.shards for stream in self.inputs), default=0)

    @property
    def ordered(self) -> bool:
        return False

    def at_epoch(self, epoch: int) -> Stream:
        return replace(self, inputs=tuple(stream.at_epoch(epoch) for stream in self.inputs), epoch=epoch)

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        count = min(count, self.shards)
        if index >= count:
            return Concatenate(())
        parts = tuple(stream.shard(count, index, contiguous=contiguous) for stream in self.inputs)
        return replace(self, inputs=parts, seeds=self.seeds if count == 1 else (*self.seeds, count, index))

    def described(self) -> str:
        return f"{super().described()}({self.probabilities}, {self.stopping_strategy})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        state = position if position is not None else {"places": None, "ended": None, "turns": None}
        places = state["places"] or [None] * len(self.inputs)
        cursors = [Cursor(stream, at) for stream, at in zip(self.inputs, places, strict=True)]
        ended = list(state["ended"] or [False] * len(cursors))
        turns = _Turns(self, state["turns"])
        over = any if self.stopping_strategy == "first_exhausted" else all
        anew = self.stopping_strategy != "all_exhausted_without_replacement"
        pace = Pace()
        while cursors and not over(ended):
            pace.start()
            picked: list[tuple[Block, int]] = []
            while len(picked) < pace.rows and not over(ended):
                number = turns.next()
                if ended[number] and not anew:
                    continue
                cursor = cursors[number]
                if cursor.more():
                    picked.append(cursor.next_place())
                if not cursor.more():
                    ended[number] = True
                    if anew:
                        cursors[number] = Cursor(self.inputs[number])
            pace.stop()
            if picked:
                after = {
                    "places": [cursor.position() for cursor in cursors],
                    "ended": list(ended),
                    "turns": turns.position(),
                }
                yield _gathered(picked), after


class _Turns:
    """The numbers of the streams whose turn it is, without end."""

    def __init__(self, link: Interleave, position: Any) -> None:
        self._count = len(link.inputs)
        self._probabilities = link.probabilities
        self._place = 0
        if self._probabilities is None:
            self._place = position or 0
            return
        # one seed alone, undivided and in the first epoch, gives the order that datasets gives
        seeds: Any = [*link.seeds, link.epoch] if link.epoch or len(link.seeds) > 1 else link.seeds[0]
        self._generator = np.random.default_rng(seeds)
        if position is not None:
            self._generator.bit_generator.state, self._place = position
        self._draw()

    def _draw(self) -> None:
        self._before = self._generator.bit_generator.state
        drawn = self._generator.choice(self._count, size=_DRAWS, p=self._probabilities)
        self._drawn: list[int] = drawn.tolist()

    def next(self) -> int:
        """The next number."""
        if self._probabilities is None:
            self._place += 1
            return (self._place - 1) % self._count
        if self._place == _DRAWS:
            self._place = 0
            self._draw()
        self._place += 1
        return self._drawn[self._place - 1]

    def position(self) -> Any:
        """Where the numbers go on."""
        return self._place % self._count if self._probabilities is None else [self._before, self._place]


def _gathered(picked: list[tuple[Block, int]]) -> Block:
    """Rows of several blocks as one block, in the order given; of large blocks only the span in question is copied."""
    spans: dict[int, tuple[Block, int, int]] = {}
    for block, row in picked:
        _, low, high = spans.get(id(block), (block, row, row))
        spans[id(block)] = (block, min(low, row), max(high, row))
    parts: list[Block] = []
    shifts: dict[int, int] = {}  # from the number of a row in its block to its number in the whole
    total = 0
    for number, (block, low, high) in spans.items():
        parts.append(block.slice(low, high + 1))
        shifts[number] = total - low
        total += high + 1 - low
    return joined(parts).take([shifts[id(block)] + row for block, row in picked])
