"""Rows chosen by a `pyarrow.compute` expression, complete: evaluated vectorised, on the columns that it names only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from plait.data.table import Table, compact, missing_column
from plait.errors import ColumnError, DataError


def rows_where(table: Table, expression: pc.Expression) -> Any:
    """The numbers of the rows for which an expression is true; null counts as false."""
    names = columns_of(table, expression)
    if not names:
        raise DataError(f"The expression {expression} names no column.")
    found = []
    size = table.block_rows(names, limit=1 << 17)
    for start, arrays in table.blocks(names, size=size):
        batch = pa.record_batch(list(arrays.values()), names=list(arrays))
        scanner = pyarrow.dataset.Scanner.from_batches([batch], schema=batch.schema, columns={"chosen": expression})
        try:
            mask = scanner.to_table().column(0)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"The expression {expression} cannot be evaluated: {error}") from error
        if not pa.types.is_boolean(mask.type):
            raise DataError(
                f"The expression {expression} gives {mask.type}; to choose rows it must give true or false."
            )
        chosen = pc.fill_null(mask, False).to_numpy()
        found.append(np.flatnonzero(chosen) + start)
    return compact(np.concatenate(found) if found else np.zeros(0, dtype=np.int64), table.num_rows)


def columns_of(table: Table, expression: pc.Expression) -> list[str]:
    """The columns that an expression names: those without which it cannot be bound."""
    fields = [pa.field(name, column.store.type) for name, column in table.columns.items()]
    if (error := _binding_error(pa.schema(fields), expression)) is not None:
        raise _explained(table, expression, error)
    return [
        field.name
        for index, field in enumerate(fields)
        if _binding_error(pa.schema(fields[:index] + fields[index + 1 :]), expression) is not None
    ]


def _binding_error(schema: pa.Schema, expression: pc.Expression) -> Exception | None:
    try:
        pyarrow.dataset.Scanner.from_batches([], schema=schema, columns={"chosen": expression})
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        found: Exception = error
        return found
    return None


def _explained(table: Table, expression: pc.Expression, error: Exception) -> DataError | ColumnError:
    text = str(error)
    if "No match for FieldRef.Name(" in text:
        return missing_column(text.split("FieldRef.Name(", 1)[1].split(")", 1)[0], table.columns)
    return DataError(f"The expression {expression} does not fit the columns: {error}")
