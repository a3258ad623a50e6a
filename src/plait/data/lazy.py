"""Rows and batches as functions see them, complete: dicts whose columns are decoded when they are first looked at.

A function that reads one column of ten pays for one. A reader learns which columns a function looks at, and decodes
those ahead, block by block; the others still come when they are asked for. Where the others are few and cheap, rows
are plain dicts of everything: decoding a number costs less than watching for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from plait.data.decode import column_to_python, rows
from plait.data.features import Features, is_decoded
from plait.data.table import Table

_CHEAP_COLUMNS = 3  # so many cells of numbers or short text cost about as much as one row that watches its columns
_CHEAP_BYTES = 256  # of one cell of text


class Block:
    """Some neighbouring rows of a table, from which columns are decoded on demand, each once."""

    def __init__(self, table: Table, features: Features, start: int, stop: int) -> None:
        self.table = table
        self.features = features
        self.start = start
        self.stop = stop
        self._arrays: dict[str, Any] = {}
        self._values: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return self.stop - self.start

    def array(self, name: str) -> Any:
        """One column as it is stored."""
        if name not in self._arrays:
            self._arrays |= self.table.read(self.start, self.stop, [name])
        return self._arrays[name]

    def load(self, names: list[str]) -> None:
        """Read several columns together: rows that lie apart are looked up once for all."""
        self._arrays |= self.table.read(self.start, self.stop, [name for name in names if name not in self._arrays])

    def values(self, name: str) -> list[Any]:
        """One column as the user sees it."""
        if name not in self._values:
            self._values[name] = column_to_python(self.array(name), self.features[name])
        return self._values[name]


class LazyDict(dict[str, Any]):
    """A dict with columns that are not decoded yet. `dict`'s own methods see what is decoded, all others everything.

    `at` says which row of the source it is, or holds -1 when everything is decoded.
    """

    __slots__ = ("at",)
    at: int
    names: list[str]

    def fetch(self, name: str) -> Any:
        """The value of a column that is not decoded yet."""
        raise NotImplementedError

    def deleted(self, name: str) -> bool:
        """Whether the function deleted a column; deleting decodes everything first."""
        return self.at < 0 and name in self.names and not dict.__contains__(self, name)

    def complete(self) -> None:
        """Decode everything, and put the columns in their order."""
        if self.at < 0:
            return
        present = dict(dict.items(self))
        dict.clear(self)
        for name in self.names:
            dict.__setitem__(self, name, present.pop(name) if name in present else self.fetch(name))
        dict.update(self, present)
        self.at = -1

    def __missing__(self, name: str) -> Any:
        if self.at < 0 or name not in self.names:
            from plait.data.table import missing_column

            raise missing_column(name, self.names)
        value = self.fetch(name)
        dict.__setitem__(self, name, value)
        return value

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or (self.at >= 0 and name in self.names)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        self.complete()
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[str]:
        self.complete()
        return dict.__reversed__(self)

    def __len__(self) -> int:
        self.complete()
        return dict.__len__(self)

    def __eq__(self, other: object) -> bool:
        self.complete()
        if isinstance(other, LazyDict):
            other.complete()
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        self.complete()
        return dict.__repr__(self)

    def __or__(self, other: Any) -> Any:
        self.complete()
        return dict(self) | dict(other)

    def __ror__(self, other: Any) -> Any:
        self.complete()
        return dict(other) | dict(self)

    def __delitem__(self, name: str) -> None:
        self.complete()
        dict.__delitem__(self, name)

    def pop(self, name: str, *default: Any) -> Any:
        self.complete()
        return dict.pop(self, name, *default)

    def popitem(self) -> tuple[str, Any]:
        self.complete()
        return dict.popitem(self)

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name in self:
            return self[name]
        dict.__setitem__(self, name, default)
        return default

    def clear(self) -> None:
        self.complete()
        dict.clear(self)

    def copy(self) -> dict[str, Any]:
        self.complete()
        return dict(self)

    def keys(self) -> Any:
        self.complete()
        return dict.keys(self)

    def values(self) -> Any:
        self.complete()
        return dict.values(self)

    def items(self) -> Any:
        self.complete()
        return dict.items(self)

    def __reduce__(self) -> Any:
        self.complete()
        return (dict, (list(dict.items(self)),))


class Batch(LazyDict):
    """A batch of a data set: a dict of lists, decoded when they are first looked at."""

    __slots__ = ("block", "names")
    block: Block
    names: list[str]

    def fetch(self, name: str) -> Any:
        return list(self.block.values(name))  # a list of its own: the function may change it


class Reader:
    """The rows or batches of a table, for functions. `names` are the columns that a function may see."""

    def __init__(self, table: Table, features: Features, names: list[str]) -> None:
        self.table = table
        self.features = features
        self.names = names
        self.ahead: list[str] = []  # columns that are decoded for every row: those that the function looks at
        self.first: list[str] = []  # those of them that nobody has looked at yet
        self.whole = False  # whether these are all, so that rows are plain dicts
        self._block: Block | None = None
        self._row = self._row_type()

    def begin(self) -> None:
        """Decode one column ahead, a cheap one, before it is known which are looked at.

        Of a dict that holds nothing yet, what is written in C, such as `json`, takes it that there is nothing in it.
        """
        kinds = [name for name in self.names if not is_decoded(self.features[name])]
        cheap = [name for name in kinds if self._is_cheap(name)]
        self.first = (cheap or kinds)[:1]
        self.ahead = list(self.first)

    def block(self, start: int, stop: int) -> Block:
        """Some neighbouring rows, with the columns that the function looks at read ahead."""
        block = Block(self.table, self.features, start, stop)
        block.load(self.ahead)
        self._block = block
        return block

    def block_rows(self, limit: int) -> int:
        """How many rows to decode at once."""
        return self.table.block_rows(self.ahead, limit=limit)

    def learn(self, found: list[LazyDict]) -> None:
        """Note which columns were looked at in these batches."""
        if set(map(dict.__len__, found)) == {len(self.ahead)}:
            return
        seen = {name for row in found for name in dict.__iter__(row)}
        if self.first and seen - {*self.first}:  # it comes back when it is looked at in a row to come
            seen, self.ahead, self.first = seen - {*self.first}, [], []
        self.ahead = [name for name in self.names if name in self.ahead or name in seen]

    def learn_rows(self, found: list[LazyDict]) -> None:
        """Note which columns were looked at in these rows, and whether the rows to come are plain dicts."""
        if self.whole:
            return
        self.learn(found)
        rest = [name for name in self.names if name not in self.ahead]
        if len(rest) <= _CHEAP_COLUMNS and all(map(self._is_cheap, rest)):
            self.ahead, self.whole = self.names, True

    def _is_cheap(self, name: str) -> bool:
        """Whether decoding a column costs next to nothing."""
        store = self.table.column(name).store
        if is_decoded(self.features[name]):
            return False
        if pa.types.is_string(store.type) or pa.types.is_large_string(store.type):
            return store.bytes_per_row() <= _CHEAP_BYTES
        return any(kind(store.type) for kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))

    def deleted(self, row: dict[str, Any], name: str) -> bool:
        """Whether a function deleted a column from a row that it was given."""
        return row.deleted(name) if isinstance(row, LazyDict) else name in self.names and name not in row

    def cell(self, row: int, name: str) -> Any:
        """One value of one row, through the block that holds it."""
        block = self._block
        if block is None or not block.start <= row < block.stop:
            block = Block(self.table, self.features, row, row + 1)
        return block.values(name)[row - block.start]

    def _row_type(self) -> type[LazyDict]:
        """The class of the rows of this reader: it knows where missing columns come from."""
        reader = self

        class Row(LazyDict):
            """A row of a data set: a dict whose columns are decoded when they are first looked at."""

            __slots__ = ()
            names: list[str] = reader.names

            def fetch(self, name: str) -> Any:
                return reader.cell(self.at, name)

        return Row

    def rows(self, block: Block) -> list[Any]:
        """The rows of a block, with the columns that were looked at before in place."""
        if self.whole:
            return list(rows(self.names, [block.values(name) for name in self.names], len(block)))
        make = self._row
        found: list[LazyDict] = []
        append = found.append
        ahead = self.ahead
        at = block.start
        if len(ahead) == 1:
            # copying a small dict is faster than setting an item of a class that watches its items
            (name,) = ahead
            given: dict[str, Any] = {}
            for value in block.values(name):
                given[name] = value
                row = make(given)
                row.at = at
                at += 1
                append(row)
            return found
        for given in rows(ahead, [block.values(name) for name in ahead], len(block)):
            row = make(given)
            row.at = at
            at += 1
            append(row)
        return found

    def batch(self, block: Block) -> LazyDict:
        """A block as one dict of lists."""
        batch = Batch()
        batch.names, batch.block, batch.at = self.names, block, 0
        for name in self.ahead[:1]:  # any one; see `begin`
            dict.__setitem__(batch, name, batch.fetch(name))
        return batch
