"""How the rows of a stream are shown, complete: blocks as rows or batches of a format.

Columns go through the formats of data sets. Python objects that a function made are shown as they are, or, in a format
of tensors, converted one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from plait.data.formats import Format, Formatter, formatter_of
from plait.data.streams.block import Block, Columns, Rows, by_column, inferred, typed


@dataclass(frozen=True)
class Show:
    """A format of rows."""

    format: Format = field(default_factory=Format)

    def __getstate__(self) -> dict[str, Any]:
        return {"format": self.format}  # a formatter holds a module, which does not travel

    @property
    def table(self) -> bool:
        """Whether rows are shown as tables or frames."""
        return self.format.kind in ("arrow", "pandas", "polars")

    @cached_property
    def formatter(self) -> Formatter:
        """What turns Arrow arrays into rows."""
        return formatter_of(self.format)

    def rows(self, block: Block) -> list[Any]:
        """A block as rows."""
        if self.format.kind is None:
            return block.rows()
        if isinstance(block, Rows) and self.format.kind == "custom":
            batches = [self.format.options["transform"](by_column([row])) for row in block.items]
            return [{name: values[0] for name, values in batch.items()} for batch in batches]
        if isinstance(block, Rows) and not self.table:
            return [self.formatter.row(row) for row in block.items]  # type: ignore[attr-defined]
        columns = self._columns(block)
        return list(self.formatter.rows(columns.arrays, columns.features))

    def batch(self, block: Block) -> Any:
        """A block as one batch."""
        if isinstance(block, Rows) and not self.table:
            if self.format.kind in (None, "custom"):
                batch = by_column(block.items)
                return batch if self.format.kind is None else self.format.options["transform"](batch)
            return self.formatter.stacked(by_column(self.rows(block)))  # type: ignore[attr-defined]
        columns = self._columns(block)
        return self.formatter.batch(columns.arrays, columns.features)

    def _columns(self, block: Block) -> Columns:
        return block if isinstance(block, Columns) else typed(block, inferred(block))
