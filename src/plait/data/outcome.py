"""What a mapped function did to the columns, complete: which stay shared, which are made or changed, which are gone.

A column that the function returns as it got it is not written: it stays shared with the parent. From the first block in
which a column differs, the column is written; what lies before that block is copied from the parent (or is null, for a
column that is new). If the function changes the number of rows, no column can be shared from there on. A column that
the function deleted from every row is gone; one that it deleted from some is null there. None of this hangs on how the
rows are divided into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from plait.data.encode import own_copy, simple, to_arrow
from plait.data.features import ClassLabel, Features, FeatureType, List, Value, arrow_of, is_decoded
from plait.data.kinds import Json
from plait.data.lazy import Block
from plait.data.table import Table, View, missing_column
from plait.data.writer import ColumnWriter, finish_all
from plait.errors import DataError

# Columns that tokenizers make, whose numbers are small: they take a half and an eighth of the disk. As everywhere, a
# column with a number that does not fit takes the type that it needs.
_SMALL: dict[str, FeatureType] = {
    "input_ids": List(Value("int32")),
    "attention_mask": List(Value("int8")),
    "special_tokens_mask": List(Value("int8")),
    "token_type_ids": List(Value("int8")),
}


class Ready(NamedTuple):
    """A column of one block as it is stored: an array, or with `mixed` the JSON text of values without one type."""

    array: Any
    mixed: bool = False


class Taker(Protocol):
    """Who takes what a function returned, block by block: an `Outcome`, or a worker's record for it."""

    table: Table
    kept: list[str]

    def add(
        self,
        block: Block,
        given: Mapping[str, Any],
        *,
        count: int,
        unchanged: Iterable[str] = (),
        gone: Iterable[str] = (),
        replaced: bool = False,
    ) -> None:
        """Take the outcome of one block; see `Outcome.add`."""


class Outcome:
    """The columns that result from a function, gathered block by block.

    `removed` are columns of the parent that do not stay. `declared` are the features of the result, if the user gave
    them. `path` makes the file of a new column from its number; `None` keeps columns in memory. With `keep_types` a
    changed column keeps its type as long as all values fit it.
    """

    def __init__(
        self,
        table: Table,
        features: Features,
        *,
        removed: Iterable[str] = (),
        declared: Features | None = None,
        path: Callable[[int], Path] | None = None,
        mixed: bool = False,
        keep_types: bool = True,
    ) -> None:
        self.table = table
        self.features = features
        self.declared = declared
        self.kept = [name for name in table.columns if name not in set(removed)]
        self.num_rows = 0
        self._path = path
        self._mixed = mixed
        self._keep_types = keep_types
        self._read = 0  # rows of the parent that are done
        self._shared: dict[str, None] = dict.fromkeys(self.kept)
        self._gone: dict[str, None] = {}  # deleted from every row so far
        self._writers: dict[str, ColumnWriter] = {}
        self._order = list(self.kept)
        self._resized = False
        for name in self.kept:
            if self._converted(name):
                self._begin(name, shared=False)

    def add(
        self,
        block: Block,
        given: Mapping[str, Any],
        *,
        count: int,
        unchanged: Iterable[str] = (),
        gone: Iterable[str] = (),
        replaced: bool = False,
    ) -> None:
        """Take the outcome of one block.

        `given` are the columns that the function returned, `count` values each; those named in `unchanged` equal the
        parent's. `gone` are columns that the function deleted. `replaced`: the function returned whole rows, so columns
        that it did not return are gone.
        """
        unchanged = set(unchanged)
        if count != len(block):
            self._resize()
        deleted = {*gone, *(name for name in self.kept if replaced and name not in given)} & {*self.kept}
        self._delete(deleted, given)
        for name, values in given.items():
            if name not in self._shared and name not in self._writers:
                self._begin(name, shared=name in unchanged and self._read == 0 and not self._resized)
            if name in self._shared and name not in unchanged:
                self._begin(name, shared=False)
            if name in self._writers and name in unchanged:
                self._writers[name].append(self._parents(name, block))
            elif name in self._writers:
                self._write(name, values)
        self._fill(block, given, deleted, count)
        self.num_rows += count
        self._read += len(block)

    def _converted(self, name: str) -> bool:
        """Whether a column of the parent has another type in the result, by declaration."""
        if self.declared is None or name not in self.declared:
            return False
        return not arrow_of(self.declared[name]).equals(arrow_of(self.features[name]))

    def _parents(self, name: str, block: Block) -> Any:
        """The parent's values of a block, in the type of the result."""
        array = block.array(name)
        if self.declared is None or name not in self.declared or not self._converted(name):
            return array
        return to_arrow(array, feature=self.declared[name], column=name, first_row=self.num_rows)

    def _fill(self, block: Block, given: Mapping[str, Any], deleted: set[str], count: int) -> None:
        """Columns that the function did not return keep their values; deleted ones, and new ones, are null here."""
        for name, writer in self._writers.items():
            if name in given or name in self._gone:
                continue
            if name not in self.kept or name in deleted:
                writer.append(pa.nulls(count))
            elif count == len(block):
                writer.append(self._parents(name, block))
            else:
                raise DataError(
                    f"The function returned {count} rows for the {len(block)} rows from {block.start} on, but did not "
                    f"return column {name!r}. Return it too, or remove it with remove_columns=[{name!r}]."
                )

    def _resize(self) -> None:
        """The number of rows changes: from here on every column is written."""
        self._resized = True
        for name in list(self._shared):
            self._begin(name, shared=False)

    def _begin(self, name: str, *, shared: bool) -> None:
        """Start to write a column, with what lies before this block; or note that it is shared so far."""
        if name not in self._order:
            self._order.insert(self._position(name), name)
        if shared:
            self._shared[name] = None
            return
        was_shared = name in self._shared
        self._shared.pop(name, None)
        declared = self.declared.get(name) if self.declared is not None else None
        writer = ColumnWriter(
            name,
            path=None if self._path is None else self._path(len(self._writers)),
            declared=declared,
            wanted=self.features.get(name, _SMALL.get(name)) if self._keep_types else None,
            mixed=self._mixed,
        )
        self._writers[name] = writer
        if was_shared:
            part = Table({name: self.table.columns[name]}).view(range(self._read))
            for _, arrays in part.blocks([name], size=1 << 14):
                array = arrays[name]
                writer.append(array if declared is None else to_arrow(array, feature=declared, column=name))
        elif self.num_rows:
            writer.append(pa.nulls(self.num_rows))

    def _position(self, name: str) -> int:
        """Where a column goes: a new one to the end, one of the parent's that was removed back to its place."""
        names = list(self.table.columns)
        if name not in names:
            return len(self._order)
        before = set(names[: names.index(name)])
        return max((place + 1 for place, other in enumerate(self._order) if other in before), default=0)

    def _delete(self, deleted: set[str], given: Mapping[str, Any]) -> None:
        """Columns that a block does not have, and those that it has after all."""
        for name in self.kept:
            if name in deleted and self._read == 0:
                self._shared.pop(name, None)
                self._gone[name] = None
            elif name in deleted and name in self._shared:
                self._begin(name, shared=False)
            elif name not in deleted and name in self._gone:
                self._gone.pop(name)
                if name in self._writers:
                    self._writers[name].append(pa.nulls(self.num_rows))
                else:
                    self._begin(name, shared=False)
        for name in [name for name in self._shared if name not in self.kept and name not in given]:
            self._begin(name, shared=False)  # one that was to be removed, and came back before this block only

    def _write(self, name: str, values: Any) -> None:
        """Write what the function returned for one column."""
        writer = self._writers[name]
        ready = values
        if not isinstance(values, Ready):
            ready = stored(name, values, self.features, self.declared, mixed=self._mixed, first_row=self.num_rows)
        if ready.mixed:
            writer.append_json(ready.array)
        else:
            writer.append(ready.array)

    def finish(self) -> tuple[Table, Features, dict[str, str]]:
        """The resulting table and features, and the names of the columns that were written, with their files."""
        features: dict[str, FeatureType] = {}
        columns: dict[str, View] = {}
        files: dict[str, str] = {}
        parent = self.table
        if self._shared and self.num_rows < parent.num_rows:  # rows dropped at the end (drop_last_batch)
            parent = parent.view(range(self.num_rows))
        written = finish_all({name: writer for name, writer in self._writers.items() if name not in self._gone})
        for name in self._order:
            if name in self._gone:
                continue
            if name in self._shared:
                columns[name] = parent.columns[name]
                features[name] = (self.declared or self.features).get(name, self.features[name])
            elif name in self._writers:
                writer = self._writers[name]
                columns[name], features[name] = written[name]
                files[name] = writer.path.name if writer.path is not None else ""
        if self.declared is not None:
            found = {name: features[name] for name in self.declared if name in features}
            if set(found) != set(self.declared) or set(found) != set(features):
                raise DataError(
                    f"features= names the columns {list(self.declared)}, but the function and the data give "
                    f"{list(features)}."
                )
            features = found
            columns = {name: columns[name] for name in found}
        return Table(columns, self.num_rows), Features(features), files

    def abandon(self) -> None:
        """Remove what was written."""
        for writer in self._writers.values():
            writer.abandon()


def stored(
    name: str, values: Any, features: Features, declared: Features | None, *, mixed: bool, first_row: int
) -> Ready:
    """What a function returned for one column, as it is stored; `features` are those of the parent.

    `mixed`: values without a common type become JSON text; otherwise they raise `DataError`.
    """
    values = own_copy(values)  # the function may use one array for all its batches
    if declared is not None:
        if name not in declared:
            raise missing_column(name, declared)
        return Ready(to_arrow(values, feature=declared[name], column=name, first_row=first_row))
    feature = features.get(name)
    if feature is not None and (is_decoded(feature) or isinstance(feature, ClassLabel)):
        # pictures are stored as the column stores them, class names as their numbers
        try:
            return Ready(to_arrow(values, feature=feature, column=name, first_row=first_row))
        except DataError:
            pass
    try:
        return Ready(to_arrow(values, column=name, first_row=first_row))
    except DataError:
        if not mixed:
            raise
        plain = [simple(value) for value in values]
        return Ready(to_arrow(plain, feature=Json(), column=name, first_row=first_row), mixed=True)
