"""Some of the rows of a stream, complete: the first, all but the first, every n-th, those of a rank, all over again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from plait.data.streams.block import Block
from plait.data.streams.chain import Cursor, Link, Position, Stream, part_of
from plait.errors import OptionError


@dataclass(frozen=True)
class Window(Link):
    """Rows `start` … `stop - 1` of a stream (`stop=None`: to its end), in the order that it has.

    Divided among several readers they are still the same rows: a reader counts those of the shards before its own, as
    far as the window makes it necessary. `mine` are the numbers of its shards; `None` means all.
    """

    start: int
    stop: int | None
    mine: tuple[int, ...] | None = None

    @property
    def shards(self) -> int:
        if self.mine is not None:
            return len(self.mine)
        return self.input.shards if self.input.ordered else 1

    @property
    def ordered(self) -> bool:
        return True

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        chosen = part_of(self.shards, count, index, contiguous=contiguous)
        if not self.input.ordered:
            return self if chosen else replace(self, start=0, stop=0)
        numbers = self.mine if self.mine is not None else tuple(range(self.input.shards))
        return replace(self, mine=tuple(numbers[number] for number in chosen))

    def shuffled(self, seeds: list[int]) -> Stream:
        return self  # which rows come first depends on the order of the shards

    def resharded(self) -> Stream:
        return self if self.mine is not None else super().resharded()

    def described(self) -> str:
        mine = "" if self.mine is None else f", shards {list(self.mine)}"
        return f"{self.input.described()} > rows({self.start}, {self.stop}{mine})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        first, row, at = position if position is not None else (0, 0, None)
        parts = self._parts()
        for number in range(first, len(parts)):
            part, mine = parts[number]
            if not mine and self.stop is None and row >= self.start:
                continue  # nothing left to count
            cursor = Cursor(part, at)
            while self.stop is None or row < self.stop:
                block = cursor.take()
                if block is None:
                    break
                low = max(self.start - row, 0)
                high = len(block) if self.stop is None else min(len(block), self.stop - row)
                row += len(block)
                if mine and low < high:
                    yield block.slice(low, high), [number, row, cursor.position()]
            at = None

    def _parts(self) -> list[tuple[Stream, bool]]:
        """The shards up to the last of its own, and whether each is its own."""
        if self.mine is None:
            return [(self.input, True)]
        total, mine = self.input.shards, set(self.mine)
        return [
            (self.input.shard(total, number, contiguous=True), number in mine)
            for number in range(max(self.mine, default=-1) + 1)
        ]


@dataclass(frozen=True)
class Step(Link):
    """Every `step`-th row, from row `offset` on."""

    step: int
    offset: int

    @property
    def ordered(self) -> bool:
        return False

    def described(self) -> str:
        return f"{self.input.described()} > every({self.step}, {self.offset})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        row, at = position if position is not None else (0, None)
        cursor = Cursor(self.input, at)
        while (block := cursor.take()) is not None:
            chosen = range((self.offset - row) % self.step, len(block), self.step)
            row = (row + len(block)) % self.step
            if len(chosen):
                yield block.take(list(chosen)), [row, cursor.position()]


@dataclass(frozen=True)
class Repeat(Link):
    """The rows `times` over; without end for `None`, unless there are none."""

    times: int | None

    @property
    def ordered(self) -> bool:
        return False

    def described(self) -> str:
        return f"{self.input.described()} > repeat({self.times})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        turn, at = position if position is not None else (0, None)
        while self.times is None or turn < self.times:
            empty = at is None
            for block, after in self.input.blocks(at):
                empty = empty and not len(block)
                yield block, [turn, after]
            if empty and self.times is None:
                return
            turn, at = turn + 1, None


@dataclass(frozen=True)
class Ranked(Link):
    """The part of one of several processes that read the same stream: whole shards, or every n-th row."""

    rank: int
    world_size: int
    strategy: str = "auto"

    def __post_init__(self) -> None:
        if self.strategy not in ("auto", "shards", "examples"):
            raise OptionError(f"strategy must be 'auto', 'shards' or 'examples', but is {self.strategy!r}.")
        if not 0 <= self.rank < self.world_size:
            raise OptionError(f"rank must be from 0 to world_size - 1 = {self.world_size - 1}, but is {self.rank}.")
        if self.strategy == "shards" and self.input.shards < self.world_size:
            raise OptionError(
                f"strategy='shards' leaves a process without rows: there are {self.input.shards} shards for "
                f"world_size={self.world_size}. Use 'examples', or more shards."
            )

    @property
    def part(self) -> Stream:
        """What this process reads. Shards are chosen late, so that a shuffled order is that of the epoch."""
        if self.strategy == "shards" or (self.strategy == "auto" and self.input.shards % self.world_size == 0):
            return self.input.shard(self.world_size, self.rank, contiguous=False)
        return Step(self.input, self.world_size, self.rank)

    @property
    def shards(self) -> int:
        return self.part.shards

    @property
    def ordered(self) -> bool:
        return self.part.ordered

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        return self.part.shard(count, index, contiguous=contiguous)

    def described(self) -> str:
        return f"{self.input.described()} > rank({self.rank}, {self.world_size}, {self.strategy})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Any]]:
        return self.part.blocks(position)
