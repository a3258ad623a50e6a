"""Where streams begin, complete: the rows of a data set, the files of a split, or a function that yields rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from plait.data.features import Features, FeatureType, arrow_of
from plait.data.kinds import Json
from plait.data.make import own_row
from plait.data.schema import feature_of
from plait.data.streams.block import Block, Columns, Rows, typed
from plait.data.streams.chain import Pace, Position, Stream, part_of
from plait.data.widen import cast
from plait.data.writer import as_json
from plait.errors import DataError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset


@dataclass(frozen=True)
class Source(Stream):
    """A beginning with shards: each can be read alone, from any of its rows on."""

    parts: tuple[Any, ...]

    @property
    def shards(self) -> int:
        return len(self.parts)

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        chosen = part_of(self.shards, count, index, contiguous=contiguous)
        return replace(self, parts=tuple(self.parts[number] for number in chosen))

    def shuffled(self, seeds: list[int]) -> Stream:
        order = np.random.default_rng(seeds).permutation(self.shards)
        return replace(self, parts=tuple(self.parts[number] for number in order))

    def resharded(self) -> Stream:
        return self

    def at_epoch(self, epoch: int) -> Stream:
        return self

    def described(self) -> str:
        return f"{type(self).__name__}({self.shards})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        first, row = position if position is not None else (0, 0)
        for number in range(first, self.shards):
            for block in self.read(self.parts[number], row):
                row += len(block)
                yield block, [number, row]
            row = 0

    def read(self, part: Any, start: int) -> Iterator[Block]:
        """The rows of one shard from row `start` on."""
        raise NotImplementedError


@dataclass(frozen=True)
class TableSource(Source):
    """The rows of a data set; a shard is a range of them."""

    dataset: Dataset

    @property
    def features(self) -> Features | None:
        return self.dataset.features

    def read(self, part: Any, start: int) -> Iterator[Block]:
        first, last = part
        table, features = self.dataset.table, self.dataset.features
        size = table.block_rows()
        for at in range(first + start, last, size):
            stop = min(at + size, last)
            yield Columns(table.read(at, stop), features, stop - at)

    def resharded(self) -> Stream:
        """A shard for every block that a column is stored in."""
        bounds: set[int] = set()
        for store, rows in self.dataset.table.columns.values():
            if isinstance(rows, range):
                bounds = {at - rows.start for at in store.starts}
                break
        parts: list[tuple[int, int]] = []
        for low, high in self.parts:
            edges = sorted({low, high} | {at for at in bounds if low < at < high})
            parts += list(zip(edges, edges[1:], strict=False))
        return replace(self, parts=tuple(parts))


class Part(NamedTuple):
    """A shard of files: all rows of some, or rows `first` … `last - 1` of one."""

    files: tuple[Path, ...]
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class FileSource(Source):
    """The files of a split, each a shard (`parts` are `Part`s), read by the reader of their format.

    `known` are the types of the columns, if they are declared or found out already. Otherwise they are those of the
    first block of the first of `files`, because a stream cannot wait for all of them; a later value that they do not
    hold raises `DataError` with its place and the remedy. `mapped` files are not read but mapped.
    """

    reader: Callable[[list[Path], Features | None], Any]
    files: tuple[Path, ...]
    known: Features | None = None
    declared: bool = False
    mapped: bool = False

    @property
    def features(self) -> Features | None:
        return self.types

    @cached_property
    def types(self) -> Features:
        """The types of the columns; reading the first block finds them out."""
        if self.known is not None:
            return self.known
        reader = self.reader(list(self.files), None)
        if reader.features is not None:
            return Features(reader.features)
        if (direct := reader.direct()) is not None:
            return Features(direct[1])
        found: dict[str, FeatureType] = {}
        for block in reader.blocks():
            for name, array in block.items():
                known = reader.kinds.get(name)
                found[name] = known or (Json() if isinstance(array, list) else feature_of(array.type))
            if any(len(array) for array in block.values()):
                break  # a reader may begin with a block without rows
        return Features(found)

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        # all parts share the types that the first file has, whoever reads it
        found = super().shard(count, index, contiguous=contiguous)
        return replace(found, known=self.types)  # type: ignore[type-var]

    def resharded(self) -> Stream:
        """A shard for every place at which reading may begin: the row groups of Parquet files."""
        parts: list[Part] = []
        for part in self.parts:
            edges = self.reader(list(part.files), self.types).starts() if len(part.files) == 1 else []
            inner = [row for row in edges if row > part.first and (part.last is None or row < part.last)]
            bounds = [part.first, *inner, part.last]
            parts += [Part(part.files, low or 0, high) for low, high in zip(bounds, bounds[1:], strict=False)]
        return replace(self, parts=tuple(parts), known=self.types)

    def described(self) -> str:
        names = [
            Path(file).name + (f"[{part.first}:{part.last}]" if part.first or part.last is not None else "")
            for part in self.parts
            for file in part.files
        ]
        return f"files({', '.join(names)})"

    def read(self, part: Any, start: int) -> Iterator[Block]:
        row = part.first + start
        try:
            for columns in self._mapped(part, row) if self.mapped else self._read(part, row):
                left = len(columns) if part.last is None else min(len(columns), part.last - row)
                if left:
                    yield columns if left == len(columns) else columns.slice(0, left)
                row += len(columns)
                if part.last is not None and row >= part.last:
                    return
        except DataError as error:
            if self.declared:
                raise
            first = Path(self.files[0]).name if self.files else "its source"
            raise DataError(
                f"{error} A stream takes the types of its columns from the first rows of {first}; declare them for "
                f"all rows with features=, here {self.types}."
            ) from error

    def _read(self, part: Part, row: int) -> Iterator[Columns]:
        reader = self.reader(list(part.files), self.types)
        for block in reader.blocks_from(row) if row else reader.blocks():
            yield _columns(block, self.types)

    def _mapped(self, part: Part, row: int) -> Iterator[Columns]:
        table, features = self.reader(list(part.files), None).direct()
        for at, arrays in table.blocks(start=row):
            count = min(table.block_rows(), table.num_rows - at)
            yield typed(Columns(arrays, features, count), self.types, first_row=at)


def _columns(block: Mapping[str, Any], types: Features) -> Columns:
    """A block of a reader in the types of the stream, which the reader knows."""
    import pyarrow as pa

    count = len(next(iter(block.values()))) if block else 0
    arrays = {}
    for name, feature in types.items():
        array, kind = block.get(name), arrow_of(feature)
        if array is None:
            array = pa.nulls(count, kind)
        elif isinstance(feature, Json) and not array.type.equals(kind):
            array = as_json(array)
        arrays[name] = cast(array, kind)
    return Columns(arrays, types, count)


@dataclass(frozen=True)
class GeneratorSource(Source):
    """A function that yields rows. `parts` are the arguments of one call for each shard."""

    generator: Callable[..., Iterable[Mapping[str, Any]]]

    def read(self, part: Any, start: int) -> Iterator[Block]:
        rows = iter(self.generator(**part))
        next(islice(rows, start, start), None)
        pace = Pace()
        while True:
            pace.start()
            block = [*map(own_row, islice(rows, pace.rows))]
            pace.stop()
            if not block:
                return
            yield Rows(block)

    def resharded(self) -> Stream:
        return self


def argument_shards(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arguments of a generator for each shard: lists among them are divided, item by item.

    Raises `DataError` when there are lists of different lengths.
    """
    lengths = {name: len(value) for name, value in arguments.items() if isinstance(value, list)}
    if not lengths:
        return [dict(arguments)]
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"Lists in gen_kwargs say how to divide the work into shards, so they must have one length, but they have "
            f"{lengths}. Pass what is not to be divided as a tuple."
        )
    (count,) = set(lengths.values())
    return [
        {name: [value[number]] if name in lengths else value for name, value in arguments.items()}
        for number in range(count)
    ]
