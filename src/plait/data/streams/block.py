"""Rows on their way through a stream, complete: Arrow columns while nobody has made Python objects of them, then dicts.

Where one block ends and the next begins means nothing: every link of a chain may cut and join blocks as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from plait.data.columns import has_json, stored_alike
from plait.data.decode import to_python
from plait.data.encode import to_arrow
from plait.data.features import ClassLabel, Features, FeatureType, List, Value, arrow_of
from plait.data.formats import PythonFormatter
from plait.data.schema import feature_of
from plait.data.table import BLOCK_BYTES, BLOCK_ROWS, missing_column
from plait.errors import DataError

_PICTURES = 8  # pictures or sounds that are opened at once: how large they become is not known before


def _opened(kind: FeatureType) -> bool:
    """Whether reading a column opens pictures or sounds."""
    if isinstance(kind, dict):
        return any(_opened(inner) for inner in kind.values())
    return _opened(kind.feature) if isinstance(kind, List) else bool(getattr(kind, "decode", False))


class Columns:
    """Some rows as Arrow arrays by column, with their types."""

    __slots__ = ("arrays", "count", "features")

    def __init__(self, arrays: dict[str, Any], features: Features, count: int) -> None:
        self.arrays = arrays
        self.features = features
        self.count = count

    def __len__(self) -> int:
        return self.count

    def piece_rows(self) -> int:
        """How many rows to decode at once: fewer when rows are large, so that memory stays bounded."""
        size = sum(array.nbytes for array in self.arrays.values())
        limit = _PICTURES if any(_opened(kind) for kind in self.features.values()) else BLOCK_ROWS
        return max(1, min(limit, BLOCK_BYTES * self.count // size if size else limit))

    def slice(self, start: int, stop: int) -> Columns:
        """Rows `start` … `stop - 1`, not copied."""
        arrays = {name: array.slice(start, stop - start) for name, array in self.arrays.items()}
        return Columns(arrays, self.features, stop - start)

    def take(self, rows: Sequence[int]) -> Columns:
        """Rows by number, in the order given."""
        places = pa.array(np.asarray(rows, dtype=np.int64))
        return Columns({name: array.take(places) for name, array in self.arrays.items()}, self.features, len(rows))

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts of Python objects."""
        if not self.arrays:
            return [{} for _ in range(self.count)]
        return list(PythonFormatter().rows(self.arrays, self.features))


class Rows:
    """Some rows as dicts of whatever Python objects a function made; they need not have the same columns."""

    __slots__ = ("items",)

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def piece_rows(self) -> int:
        """How many rows to hand out at once."""
        return BLOCK_ROWS

    def slice(self, start: int, stop: int) -> Rows:
        """Rows `start` … `stop - 1`."""
        return Rows(self.items[start:stop])

    def take(self, rows: Sequence[int]) -> Rows:
        """Rows by number, in the order given."""
        return Rows([self.items[row] for row in rows])

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts of Python objects."""
        return self.items


Block: TypeAlias = Columns | Rows


def only(block: Columns, names: Iterable[str]) -> Columns:
    """Some of the columns, in the order given; raises `ColumnError` for one that is not there."""
    arrays, features = {}, {}
    for name in names:
        if name not in block.arrays:
            raise missing_column(name, block.arrays)
        arrays[name], features[name] = block.arrays[name], block.features[name]
    return Columns(arrays, Features(features), len(block))


def joined(blocks: Sequence[Block]) -> Block:
    """Several blocks as one: columns if all have the same types, else rows."""
    if len(blocks) == 1:
        return blocks[0]
    columns = [block for block in blocks if isinstance(block, Columns)]
    if columns and len(columns) == len(blocks) and all(block.features == columns[0].features for block in columns):
        arrays = {name: pa.concat_arrays([block.arrays[name] for block in columns]) for name in columns[0].arrays}
        return Columns(arrays, columns[0].features, sum(map(len, columns)))
    return Rows(list(chain.from_iterable(block.rows() for block in blocks)))


def by_column(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as lists by column; what a row lacks is `None`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def by_row(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sequences of one length by column as rows."""
    names = list(batch)
    columns = [to_python(v) if isinstance(v, pa.Array | pa.ChunkedArray) else v for v in batch.values()]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def typed(block: Block, features: Mapping[str, FeatureType], *, first_row: int = 0) -> Columns:
    """A block in declared types; columns that it lacks are null. Raises `DataError` for a value that does not fit.

    `first_row` is the number of its first row, for the error.
    """
    have: Iterable[str] = block.arrays if isinstance(block, Columns) else dict.fromkeys(chain(*block.items))
    if strangers := [name for name in have if name not in features]:
        raise DataError(
            f"From row {first_row} on there is a column {strangers[0]!r} that the types do not name; "
            f"they name {list(features)}."
        )
    arrays = {}
    for name, feature in features.items():
        if isinstance(block, Rows):
            values = [row.get(name) for row in block.items]
            arrays[name] = to_arrow(values, feature=feature, column=name, first_row=first_row)
        elif name not in block.arrays:
            arrays[name] = pa.nulls(len(block), arrow_of(feature))
        else:
            arrays[name] = converted(block.arrays[name], block.features[name], feature, name, first_row)
    return Columns(arrays, Features(features), len(block))


def converted(array: Any, old: FeatureType, new: FeatureType, name: str, first_row: int) -> Any:
    """One column in another type; class labels become text by their names."""
    if old == new or stored_alike(old, new):
        return array
    if has_json(new) and not has_json(old):  # text is a value; it is no JSON yet
        return to_arrow(to_python(array), feature=new, column=name, first_row=first_row)
    if isinstance(old, ClassLabel) and isinstance(new, Value) and "string" in new.dtype:
        values = [None if value is None or value < 0 else old.names[value] for value in to_python(array)]
        array = pa.array(values, type=pa.string())
    return to_arrow(array, feature=new, column=name, first_row=first_row)


def inferred(block: Block) -> Features:
    """The types that the rows of a block have by themselves."""
    if isinstance(block, Columns):
        return block.features
    return Features(
        {name: feature_of(to_arrow(values, column=name).type) for name, values in by_column(block.items).items()}
    )
