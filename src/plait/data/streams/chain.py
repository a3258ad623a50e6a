"""What a link of a stream is, complete: blocks of rows from any position on, divided by shards.

A position is a small value that JSON can hold. From equal positions equal rows follow, whatever the blocks are; so a
stream stops anywhere, and goes on without a lost or a repeated row.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

from plait.data.features import Features
from plait.data.streams.block import Block, joined
from plait.data.table import BLOCK_ROWS

# a position: `None` is the start
Position: TypeAlias = Any


class Stream:
    """One link of a chain. Immutable: every method that changes something gives another link."""

    @property
    def shards(self) -> int:
        """Into how many parts the stream can be divided without reading anything twice."""
        raise NotImplementedError

    @property
    def ordered(self) -> bool:
        """Whether the rows are those of the single shards, one shard after another."""
        return True

    @property
    def features(self) -> Features | None:
        """The types of the columns; `None` when they are not known without running a function."""
        return None

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        """The rows from a position on, block by block, each with the position behind it."""
        raise NotImplementedError

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        """Part `index` of `count` parts: neighbouring shards, or every `count`-th."""
        raise NotImplementedError

    def shuffled(self, seeds: list[int]) -> Stream:
        """The stream with its shards in another order, where that order is free."""
        raise NotImplementedError

    def resharded(self) -> Stream:
        """The stream with as many shards as its source can be divided into."""
        raise NotImplementedError

    def at_epoch(self, epoch: int) -> Stream:
        """The stream with the random choices of an epoch."""
        raise NotImplementedError

    def described(self) -> str:
        """The links of the chain, to tell a position in one chain from a position in another."""
        raise NotImplementedError


@dataclass(frozen=True)
class Link(Stream):
    """A link over one other; whatever divides or reorders it does so to the other."""

    input: Stream

    @property
    def shards(self) -> int:
        return self.input.shards

    @property
    def ordered(self) -> bool:
        return self.input.ordered

    @property
    def features(self) -> Features | None:
        return self.input.features

    def over(self, input: Stream) -> Self:
        """This link over another."""
        return replace(self, input=input)

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        return self.over(self.input.shard(count, index, contiguous=contiguous))

    def shuffled(self, seeds: list[int]) -> Stream:
        return self.over(self.input.shuffled(seeds))

    def resharded(self) -> Stream:
        return self.over(self.input.resharded())

    def at_epoch(self, epoch: int) -> Stream:
        return self.over(self.input.at_epoch(epoch))

    def described(self) -> str:
        return f"{self.input.described()} > {type(self).__name__}"


class Cursor:
    """A place in a stream: rows are taken from it in any number, and its position is known at every row.

    A position is a list: that of the stream before the current block, and how many rows of what follows are taken.
    """

    def __init__(self, stream: Stream, position: Position = None) -> None:
        self._before: Position = None
        self._offset: int = 0
        if position is not None:
            self._before, self._offset = position
        self._after = self._before
        self._blocks = stream.blocks(self._before)
        self._block: Block | None = None
        self._piece = BLOCK_ROWS

    def more(self) -> bool:
        """Whether a row follows."""
        while self._block is None or self._offset >= len(self._block):
            if self._block is not None:
                self._offset -= len(self._block)
                self._before, self._block = self._after, None
            item = next(self._blocks, None)
            if item is None:
                return False
            self._block, self._after = item
            self._piece = self._block.piece_rows()
        return True

    def take(self, limit: int | None = None) -> Block | None:
        """The next rows, at most `limit`, and no more than are to be decoded at once; `None` at the end."""
        if not self.more():
            return None
        assert self._block is not None
        return self._cut(min(self._piece, BLOCK_ROWS if limit is None else limit))

    def exactly(self, count: int) -> Block | None:
        """The next `count` rows as one block, fewer at the end; `None` at the end."""
        parts: list[Block] = []
        while count > 0 and self.more():
            parts.append(self._cut(count))
            count -= len(parts[-1])
        return joined(parts) if parts else None

    def next_place(self) -> tuple[Block, int]:
        """The next row as a block and its number in it; `more` has said that there is one."""
        assert self._block is not None
        self._offset += 1
        return self._block, self._offset - 1

    def available(self) -> int:
        """How many rows can be cut from the current block."""
        return 0 if self._block is None else len(self._block) - self._offset

    def _cut(self, limit: int) -> Block:
        assert self._block is not None
        start = self._offset
        self._offset = min(start + limit, len(self._block))
        if start == 0 and self._offset == len(self._block):
            return self._block
        return self._block.slice(start, self._offset)

    def position(self, *, back: int = 0) -> list[Any]:
        """The position of the next row, or that of `back` rows before, which the last `take` gave."""
        if back == 0 and self._block is not None and self._offset >= len(self._block):
            return [self._after, self._offset - len(self._block)]
        return [self._before, self._offset - back]


class Pace:
    """How many rows to work on at once: one at first, more as long as that is quick, so that nobody waits for many."""

    _QUICK, _SLOW = 0.02, 0.05  # seconds

    def __init__(self) -> None:
        self.rows = 1
        self._since = time.perf_counter()

    def start(self) -> None:
        """Work on `rows` rows begins."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        """It is done."""
        taken = time.perf_counter() - self._since
        if taken < self._QUICK:
            self.rows = min(self.rows * 2, BLOCK_ROWS)
        elif taken > self._SLOW:
            self.rows = max(self.rows // 2, 1)


def part_of(total: int, count: int, index: int, *, contiguous: bool) -> list[int]:
    """The numbers of the shards that part `index` of `count` gets; none when there are too few."""
    if not contiguous:
        return list(range(index, total, count))
    size, larger = divmod(total, count)
    start = size * index + min(index, larger)
    return list(range(start, start + size + (index < larger)))
