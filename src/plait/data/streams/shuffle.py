"""Rows in a random order, complete: through a buffer whose contents come back exactly when a stream goes on.

The buffer is filled with `size` rows and mixed; half of it goes out, the other half stays and is mixed with the rows
that come next. A position does not hold the rows that stayed but their numbers, and a position of the input from which
they are read again: a few times the buffer at most, since of the rows that stay half go out every time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plait.data.streams.block import Block, joined
from plait.data.streams.chain import Cursor, Link, Position, Stream
from plait.data.streams.mix import Interleave
from plait.errors import DataError


@dataclass(frozen=True)
class Shuffle(Link):
    """Shards in a random order, up to `shards_at_once` of them read in turn, then rows mixed in a buffer of `size`.

    `seeds` are the seed, and what tells apart the parts of a divided stream; they and the epoch decide the order.
    """

    seeds: tuple[int, ...]
    size: int
    shards_at_once: int
    epoch: int = 0

    @property
    def ordered(self) -> bool:
        return False

    def at_epoch(self, epoch: int) -> Stream:
        return replace(self, input=self.input.at_epoch(epoch), epoch=epoch)

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        # the shards are dealt out in the order of the epoch, so that a reader sees others in every epoch
        dealt = self.input.shuffled([*self.seeds, self.epoch])
        part = dealt.shard(count, index, contiguous=contiguous)
        return replace(self, input=part, seeds=(*self.seeds, count, index))

    def shuffled(self, seeds: list[int]) -> Stream:
        return replace(self, input=self.input.shuffled(seeds))

    def described(self) -> str:
        return f"{self.input.described()} > shuffle({self.size}, {self.shards_at_once})"

    def _source(self, seeds: list[int]) -> Stream:
        """The input with its shards in a random order, several of them in turn."""
        source = self.input.shuffled(seeds)
        count = min(source.shards, self.shards_at_once)
        if count < 2 or not source.ordered:
            return source
        parts = tuple(source.shard(count, index, contiguous=True) for index in range(count))
        return Interleave(parts, stopping_strategy="all_exhausted_without_replacement")

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        if position is None:
            position = {"seeds": [*self.seeds, self.epoch], "turn": 0, "row": 0, "input": None, "kept": [], "marks": []}
        seeds, turn, row = position["seeds"], position["turn"], position["row"]
        source = self._source(seeds)
        numbers = np.asarray(position["kept"], dtype=np.int64)  # of the rows that stayed
        marks = deque(tuple(mark) for mark in position["marks"])  # row numbers, and the position of the input there
        kept = _read_again(source, marks, numbers)
        cursor = Cursor(source, position["input"])
        while True:
            marks.append((row, cursor.position()))
            fresh = cursor.exactly(max(self.size - len(numbers), 1))
            if fresh is not None:
                numbers = np.concatenate([numbers, np.arange(row, row + len(fresh))])
                row += len(fresh)
            buffer = joined([block for block in (kept, fresh) if block is not None])
            if not len(buffer):
                return
            order = np.random.default_rng([*seeds, turn]).permutation(len(buffer))
            turn += 1
            out = len(order) - (self.size // 2 if len(order) >= self.size else 0)
            kept = buffer.take(order[out:].tolist()) if out < len(order) else None
            numbers = numbers[order[out:]]
            oldest = int(numbers.min()) if len(numbers) else row
            while len(marks) > 1 and marks[1][0] <= oldest:
                marks.popleft()
            after = {
                "seeds": seeds,
                "turn": turn,
                "row": row,
                "input": cursor.position(),
                "kept": numbers.tolist(),
                "marks": [list(marks[0])] if len(numbers) else [],
            }
            yield buffer.take(order[:out].tolist()), after


def _read_again(source: Stream, marks: deque[tuple[Any, ...]], numbers: Any) -> Block | None:
    """The rows with the given numbers, read from the oldest mark on, in the order given."""
    if not len(numbers):
        return None
    row, at = marks[0]
    cursor = Cursor(source, at)
    wanted = np.sort(numbers)
    found: list[Block] = []
    while row <= wanted[-1]:
        block = cursor.take()
        if block is None:
            raise DataError(
                f"The stream ends before row {wanted[-1]}, which was in its shuffle buffer: its data changed."
            )
        low, high = np.searchsorted(wanted, [row, row + len(block)])
        if low < high:
            found.append(block.take((wanted[low:high] - row).tolist()))
        row += len(block)
    return joined(found).take(np.searchsorted(wanted, numbers).tolist())
