"""The columns of a stream, complete: chosen, renamed, added, and brought to declared types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plait.data.features import Features, FeatureType, List
from plait.data.streams.block import Block, Columns, Rows, by_column, inferred, only, typed
from plait.data.streams.chain import Cursor, Link, Position, Stream
from plait.data.streams.mix import Concatenate
from plait.data.table import BLOCK_ROWS, missing_column
from plait.errors import DataError


@dataclass(frozen=True)
class Each(Link):
    """A link that changes every block by itself, and keeps its rows in number and order."""

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        for block, after in self.input.blocks(position):
            yield self.changed(block), after

    def changed(self, block: Block) -> Block:
        """The block after the change."""
        raise NotImplementedError


@dataclass(frozen=True)
class Select(Each):
    """Some columns, in the order given."""

    names: tuple[str, ...]

    @property
    def features(self) -> Features | None:
        known = self.input.features
        return None if known is None else Features({name: known[name] for name in self.names})

    def changed(self, block: Block) -> Block:
        if isinstance(block, Columns):
            return only(block, self.names)
        return Rows([{name: _present(row, name) for name in self.names} for row in block.items])


@dataclass(frozen=True)
class Remove(Each):
    """All columns but some."""

    names: frozenset[str]

    @property
    def features(self) -> Features | None:
        known = self.input.features
        return None if known is None else _without(known, self.names)

    def changed(self, block: Block) -> Block:
        if isinstance(block, Columns):
            arrays = {name: array for name, array in block.arrays.items() if name not in self.names}
            return Columns(arrays, _without(block.features, self.names), len(block))
        return Rows([{name: value for name, value in row.items() if name not in self.names} for row in block.items])


@dataclass(frozen=True)
class Rename(Each):
    """Columns under other names."""

    names: dict[str, str]

    @property
    def features(self) -> Features | None:
        known = self.input.features
        return None if known is None else Features({self.names.get(name, name): kind for name, kind in known.items()})

    def changed(self, block: Block) -> Block:
        if isinstance(block, Columns):
            arrays = {self.names.get(name, name): array for name, array in block.arrays.items()}
            features = Features({self.names.get(name, name): kind for name, kind in block.features.items()})
            return Columns(arrays, features, len(block))
        for name in self.names:
            for row in block.items[:1]:
                _present(row, name)
        return Rows([{self.names.get(name, name): value for name, value in row.items()} for row in block.items])


@dataclass(frozen=True)
class Typed(Link):
    """Every row in declared types; what it lacks is null. Positions count rows, for errors."""

    types: Features

    @property
    def features(self) -> Features | None:
        return self.types

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        row, at = position if position is not None else (0, None)
        for block, after in self.input.blocks(at):
            made = typed(block, self.types, first_row=row)
            row += len(block)
            yield made, [row, after]


@dataclass(frozen=True)
class Learned(Link):
    """Every row in the types that the first rows have. Positions hold the types, so that going on keeps them."""

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        row, at, described = position if position is not None else (0, None, None)
        cursor = Cursor(self.input, at)
        types = None if described is None else Features.from_dict(described)
        while True:
            block = cursor.exactly(BLOCK_ROWS) if types is None else cursor.take()
            if block is None:
                return
            if types is None:
                types = inferred(block)
                described = types.to_dict()
            try:
                made = typed(block, types, first_row=row)
            except DataError as error:
                raise DataError(
                    f"{error} A stream takes the types of its columns from its first rows; declare them for all rows "
                    f"with map(…, features=…) or cast(…), here {types}."
                ) from error
            row += len(block)
            yield made, [row, cursor.position(), described]


@dataclass(frozen=True)
class Added(Link):
    """One more column, with a value for every row. Not divided: values would not find their rows."""

    name: str
    values: Any  # an Arrow array
    kind: FeatureType

    @property
    def shards(self) -> int:
        return 1

    @property
    def ordered(self) -> bool:
        return True

    @property
    def features(self) -> Features | None:
        known = self.input.features
        return None if known is None else Features({**known, self.name: self.kind})

    def shard(self, count: int, index: int, *, contiguous: bool) -> Stream:
        return self if index == 0 else Concatenate(())

    def shuffled(self, seeds: list[int]) -> Stream:
        return self

    def described(self) -> str:
        return f"{self.input.described()} > Added({self.name})"

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        row, at = position if position is not None else (0, None)
        for block, after in self.input.blocks(at):
            if row + len(block) > len(self.values):
                raise DataError(f"Column {self.name!r} has {len(self.values)} values, but the stream has more rows.")
            part = self.values.slice(row, len(block))
            row += len(block)
            if isinstance(block, Columns):
                features = Features({**block.features, self.name: self.kind})
                yield Columns({**block.arrays, self.name: part}, features, len(block)), [row, after]
            else:
                values = Columns({self.name: part}, Features({self.name: self.kind}), len(part)).rows()
                yield Rows([{**old, **new} for old, new in zip(block.items, values, strict=True)]), [row, after]
        if row < len(self.values):
            raise DataError(f"Column {self.name!r} has {len(self.values)} values, but the stream only {row} rows.")


@dataclass(frozen=True)
class Groups(Link):
    """Neighbouring rows with equal values in some columns as one row of lists."""

    names: tuple[str, ...]

    @property
    def features(self) -> Features | None:
        return lists_of(self.input.features)

    @property
    def ordered(self) -> bool:
        return False  # a group may reach over the end of a shard

    def blocks(self, position: Position) -> Iterator[tuple[Block, Position]]:
        cursor = Cursor(self.input, position)
        group: list[dict[str, Any]] = []
        while (block := cursor.take()) is not None:
            for index, row in enumerate(block.rows()):
                if group and any(_present(row, name) != group[0][name] for name in self.names):
                    yield Rows([by_column(group)]), cursor.position(back=len(block) - index)
                    group = []
                group.append(row)
        if group:
            yield Rows([by_column(group)]), cursor.position()


def lists_of(features: Features | None) -> Features | None:
    """The types of rows that hold a list of every column."""
    return None if features is None else Features({name: List(kind) for name, kind in features.items()})


def _without(features: Features, names: frozenset[str]) -> Features:
    return Features({name: kind for name, kind in features.items() if name not in names})


def _present(row: dict[str, Any], name: str) -> Any:
    if name not in row:
        raise missing_column(name, row)
    return row[name]
