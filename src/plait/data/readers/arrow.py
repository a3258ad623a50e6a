"""Arrow files, complete: they are mapped as they are, nothing is read or copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plait.data.combine import concatenate_datasets
from plait.data.dataset import Dataset
from plait.data.features import Features
from plait.data.files import open_arrow, read_arrow
from plait.data.readers.base import Reader
from plait.data.schema import features_of
from plait.data.table import Table


@dataclass
class ArrowReader(Reader):
    """Streams and files with a footer; `features` casts the columns whose types differ from it."""

    def direct(self) -> tuple[Table, Features]:
        parts = [Dataset(open_arrow(path), features=features_of(read_arrow(path).schema)) for path in self.files]
        whole = concatenate_datasets(parts)
        if self.features is not None:
            whole = whole.cast(self.features)
        return whole.table, whole.features

    def blocks(self) -> Iterator[dict[str, Any]]:
        table, _ = self.direct()
        for _, arrays in table.blocks():
            yield arrays
