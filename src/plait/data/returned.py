"""What a function returned, complete: rows, batches or tables become columns, and those that came back as they were are
told apart from those that were made or changed.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain, repeat
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.data.encode import cut, natural
from plait.data.lazy import Block, LazyDict
from plait.data.outcome import Taker
from plait.errors import DataError
from plait.flat import Flat

if TYPE_CHECKING:
    from plait.data.apply import Source

_ABSENT = object()


def take_rows(
    source: Source, block: Block, inputs: list[Any], results: list[Any], outcome: Taker, removed: list[str]
) -> None:
    """What the function returned for the rows of a block, and what it set in those that it was given."""
    kinds = set(builtins.map(type, results))
    wrong = [kind for kind in kinds if kind is not type(None) and not issubclass(kind, Mapping)]
    if wrong and all(is_table_type(kind) for kind in kinds):
        table = pa.concat_tables([as_table(result) for result in results], promote_options="permissive")
        _take_table(block, table, outcome)
        return
    if wrong:
        index = next(index for index, result in enumerate(results) if type(result) in wrong)
        raise DataError(
            f"The function returned {results[index]!r:.100} ({wrong[0].__name__}) for row {block.start + index}. A "
            f"function for map returns a dict of columns, or None to change nothing. To choose rows use filter."
        )
    itself = source.plain and all(builtins.map(is_, inputs, results))
    fields, ragged = _columns(results)
    gone: list[str] = []
    if source.plain and not _untouched(source, block, inputs):
        # what the function set in the row that it was given counts as well, below what it returned
        if not itself:
            fields = _in_order(_set_in_place(source, block, inputs) | fields, inputs, results)
        gone, some = _deleted(source, inputs, [name for name in outcome.kept if name not in fields])
        fields |= {name: [_ABSENT] * len(inputs) for name in some}
        ragged = ragged or not itself or bool(some)
    _complete_if_held(inputs, fields)
    given, unchanged = {}, []
    for name, values in fields.items():
        if itself and name in removed:
            continue  # the row came back, and with it a column that is to be removed
        if ragged:
            values = _filled(source, block, inputs, values, name, kept=name in outcome.kept)
        given[name] = values
        if name in outcome.table.columns and source.same(block, name, values, batched=False):
            unchanged.append(name)
    outcome.add(block, given, count=len(block), unchanged=unchanged, gone=gone)


def _complete_if_held(inputs: list[Any], fields: Mapping[str, Any]) -> None:
    """Decode rows or batches altogether when a function put them into what it returned: Arrow reads dicts as they lie.

    One value of each column tells.
    """
    for values in fields.values():
        sample = next((value for value in values if value is not None), None) if isinstance(values, list) else None
        if isinstance(sample, dict | list | tuple) and _holds_row(sample):
            for row in inputs:
                if isinstance(row, LazyDict):
                    row.complete()


def _holds_row(value: Any) -> bool:
    if isinstance(value, LazyDict):
        return True
    inner = value.values() if isinstance(value, dict) else value[:1] if isinstance(value, list | tuple) else ()
    return any(_holds_row(item) for item in inner)


def _columns(results: list[Any]) -> tuple[dict[str, list[Any]], bool]:
    """Rows turned into columns, and whether some rows lack some columns (`_ABSENT` is in their place)."""
    # dict's own methods: what is not decoded yet of a row that came back is no result
    length, names = dict.__len__, dict.__iter__
    rows = results
    if not all(issubclass(kind, dict) for kind in set(builtins.map(type, results))):
        rows = [row if isinstance(row, dict) else {} if row is None else dict(row) for row in results]
    first = next((list(names(row)) for row in rows if length(row)), [])
    if set(builtins.map(length, rows)) == {len(first)}:
        # a row that came back would fetch with row[name] what it lacks, in place of another column that it has
        if not any(issubclass(kind, LazyDict) for kind in set(builtins.map(type, rows))):
            with suppress(KeyError):
                return {name: [row[name] for row in rows] for name in first}, False
        columns = {name: [dict.get(row, name, _ABSENT) for row in rows] for name in first}
        if not any(any(builtins.map(is_, values, repeat(_ABSENT))) for values in columns.values()):
            return columns, False
    every = dict.fromkeys(name for row in rows for name in names(row))
    return {name: [dict.get(row, name, _ABSENT) for row in rows] for name in every}, True


def _filled(source: Source, block: Block, inputs: list[Any], values: list[Any], name: str, *, kept: bool) -> list[Any]:
    """A column with what rows lack: what the row holds, or `None` where it was deleted or there was nothing."""
    if not any(value is _ABSENT for value in values):
        return values
    old = block.values(name) if kept else [None] * len(values)
    if source.plain:  # the function may have set it in the row that it was given
        deleted = source.reader.deleted
        old = [
            None if deleted(row, name) else dict.get(row, name, before) for row, before in zip(inputs, old, strict=True)
        ]
    return [before if value is _ABSENT else value for value, before in zip(values, old, strict=True)]


def _set_in_place(source: Source, block: Block, inputs: list[Any]) -> dict[str, list[Any]]:
    """The columns that a function set in the rows it was given; `_ABSENT` where it did not."""
    found: dict[str, list[Any]] = {}
    names = source.reader.ahead
    for name in dict.fromkeys(chain(names, *builtins.map(dict.__iter__, inputs))):
        values = [dict.get(row, name, _ABSENT) for row in inputs]
        if name in source.reader.names:
            before = block.values(name)
            if all(new is _ABSENT or new is old for old, new in zip(before, values, strict=True)):
                continue
        found[name] = values
    return found


def _in_order(fields: dict[str, list[Any]], inputs: list[Any], results: list[Any]) -> dict[str, list[Any]]:
    """Columns in the order in which rows name them, so that it does not hang on how they are divided into blocks."""
    order: dict[str, None] = {}
    for row, result in zip(inputs, results, strict=True):
        order.update(dict.fromkeys(dict.__iter__(row)))
        order.update(dict.fromkeys(dict.__iter__(result) if isinstance(result, dict) else result or ()))
    return {name: fields[name] for name in order if name in fields}


def _untouched(source: Source, block: Block, inputs: list[Any]) -> bool:
    """Whether rows are as they were handed out: nothing set, nothing deleted, and nothing more decoded."""
    names = source.reader.ahead
    if set(builtins.map(dict.__len__, inputs)) != {len(names)}:
        return False
    if isinstance(inputs[0], LazyDict) and min(builtins.map(attrgetter("at"), inputs)) < 0:
        return False  # decoded altogether, and as long as it was: something was deleted from it
    try:
        return all(all(builtins.map(is_, builtins.map(itemgetter(n), inputs), block.values(n))) for n in names)
    except KeyError:
        return False


def _deleted(source: Source, inputs: list[Any], names: list[str]) -> tuple[list[str], list[str]]:
    """The columns that a function deleted from every row, and those that it deleted from some."""
    every, some = [], []
    for name in names:
        deleted = [source.reader.deleted(row, name) for row in inputs]
        if all(deleted):
            every.append(name)
        elif any(deleted):
            some.append(name)
    return every, some


# --- what is made of the result of a batch ---


def take_batch(source: Source, block: Block, batch: Any, result: Any, outcome: Taker, removed: list[str]) -> None:
    """What the function returned for a block as one batch."""
    if result is None:
        outcome.add(block, {}, count=len(block))
        return
    if is_table_type(type(result)):
        _take_table(block, as_table(result), outcome)
        return
    if not isinstance(result, Mapping):
        raise DataError(
            f"The function returned {result!r:.100} ({type(result).__name__}) for the batch from row {block.start} on. "
            f"A batched function for map returns a dict of lists, or None to change nothing."
        )
    itself = result is batch and isinstance(batch, LazyDict)
    fields = dict(dict.items(batch)) if itself else _fields(result)
    deleted = [name for name in outcome.kept if isinstance(batch, LazyDict) and batch.deleted(name)]
    count = _count(fields, block, kept=[name for name in outcome.kept if name not in fields and name not in deleted])
    if source.plain and not itself and count == len(block):
        changed = {
            name: values for name, values in dict.items(batch) if not source.same(block, name, values, batched=True)
        }
        fields = changed | fields
    _complete_if_held([batch], fields)
    given, unchanged = {}, []
    for name, values in fields.items():
        if itself and name in removed:
            continue
        given[name] = values
        if name in outcome.table.columns and count == len(block) and source.same(block, name, values, batched=True):
            unchanged.append(name)
    gone = [name for name in deleted if name not in given]
    outcome.add(block, given, count=count, unchanged=unchanged, gone=gone)


def _fields(result: Any) -> dict[str, Any]:
    """The columns of a result. What a tokenizer made and nobody looked at comes as arrays, without a list per row."""
    if not hasattr(type(result), "flat_columns"):
        return dict(result)
    columns = result.flat_columns()
    return {name: _array_of(column) if isinstance(column, Flat) else column for name, column in columns.items()}


def _array_of(column: Flat) -> Any:
    """The list array that the lists of a column become."""
    offsets = np.concatenate([[0], np.cumsum(column.lengths, dtype=np.int64)])
    return cut(pa.array(column.numbers().astype(np.int64, copy=False)), offsets)


def _count(fields: Mapping[str, Any], block: Block, *, kept: list[str]) -> int:
    """How many rows a batched function returned; raises `DataError` when its columns disagree."""
    lengths = {}
    for name, values in fields.items():
        if type(values) is not list and (
            isinstance(values, str | bytes | Mapping)
            or not hasattr(values, "__len__")
            or getattr(values, "ndim", 1) == 0
        ):
            raise DataError(
                f"With batched=True column {name!r} needs a list with one value per row, but the function returned "
                f"{values!r:.100} ({type(values).__name__})."
            )
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The function returned columns of different lengths for the batch from row {block.start} on: {lengths}."
        )
    count = next(iter(lengths.values()), len(block))
    if count != len(block) and kept:
        raise DataError(
            f"The function returned {count} rows for a batch of {len(block)}, but did not return {kept}. Return these "
            f"columns too, or remove them with remove_columns={kept}."
        )
    return count


# --- whole tables as results ---


def _take_table(block: Block, table: pa.Table, outcome: Taker) -> None:
    """A table that a function returned: it replaces all columns."""
    given = {name: natural(table.column(name)) for name in table.column_names}
    unchanged = [
        name
        for name, array in given.items()
        if name in outcome.table.columns and len(array) == len(block) and array.equals(block.array(name))
    ]
    outcome.add(block, given, count=table.num_rows, unchanged=unchanged, replaced=True)


def is_table_type(kind: type) -> bool:
    """Whether values of a type are tables of Arrow, or frames of pandas or polars."""
    return kind.__name__ in ("DataFrame", "Table", "RecordBatch") and kind.__module__.split(".")[0] in (
        "pandas",
        "polars",
        "pyarrow",
    )


def as_table(value: Any) -> pa.Table:
    """An Arrow table from one, or from a pandas or polars frame."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if type(value).__module__.startswith("polars"):
        return value.to_arrow()
    return pa.Table.from_pandas(value, preserve_index=False)
