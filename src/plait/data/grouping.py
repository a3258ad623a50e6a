"""Rows put together, complete: `batch` makes one row of several neighbours, each column a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from plait.data.accepted import no_effect
from plait.data.features import Features, List
from plait.data.table import Table
from plait.data.writer import ColumnWriter
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_ROWS = 1 << 14  # read at once


def batch(
    self: Dataset,
    batch_size: int | None = None,
    by_column: str | list[str] | None = None,
    *,
    drop_last_batch: bool = False,
    **ignored: Any,
) -> Dataset:
    """The data set whose rows are batches of this one's: `batch_size` neighbours, or neighbours equal in `by_column`.

    Every column becomes a `List` of what it was. `drop_last_batch` leaves out a last batch of fewer than `batch_size`
    rows. Nothing is computed by other processes and nothing cached: it takes as long as copying the columns.
    """
    no_effect("batch", ignored)
    if by_column is not None:
        edges = _runs(self, [by_column] if isinstance(by_column, str) else list(by_column))
    elif batch_size is None:
        raise OptionError("batch needs batch_size, or by_column.")
    elif batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, but is {batch_size}.")
    else:
        whole = len(self) - len(self) % batch_size
        edges = np.arange(0, whole + 1, batch_size)
        if whole < len(self) and not drop_last_batch:
            edges = np.append(edges, len(self))
    features = Features({name: List(feature) for name, feature in self.features.items()})
    columns = {}
    for name in self.column_names:
        writer = ColumnWriter(name, declared=features[name])
        for first, last in _portions(edges):
            bounds = edges[first : last + 1]
            values = self.table.read(int(bounds[0]), int(bounds[-1]), [name])[name]
            offsets = pa.array(bounds - bounds[0], type=pa.int32())
            writer.append(pa.ListArray.from_arrays(offsets, values))
        columns[name], _ = writer.finish()
    return self.derive(Table(columns, len(edges) - 1), features)


def _portions(edges: Any) -> list[tuple[int, int]]:
    """Batches to make at once, as numbers of edges: about `_ROWS` rows, one batch at least."""
    found, first = [], 0
    while first < len(edges) - 1:
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + _ROWS, side="right")) - 1)
        found.append((first, last))
        first = last
    return found


def _runs(dataset: Dataset, names: list[str]) -> Any:
    """The rows at which one of the columns has another value than before, with 0 and the end."""
    if not names:
        raise OptionError("by_column needs the name of at least one column.")
    new = np.zeros(len(dataset), dtype=bool)
    for name in names:
        kind = dataset.table.column(name).store.type
        if pa.types.is_nested(kind):
            raise DataError(
                f"Rows cannot be put together by column {name!r} of type {kind}: its values are no scalars."
            )
        column = dataset.table.to_arrow([name])[name].combine_chunks()
        # a number per distinct value, nulls included: equal values have equal numbers
        codes = column.dictionary_encode(null_encoding="encode")
        codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
        numbers = codes.indices.to_numpy()
        new[1:] |= numbers[1:] != numbers[:-1]
    return np.unique(np.concatenate([[0], np.flatnonzero(new), [len(dataset)]]))
