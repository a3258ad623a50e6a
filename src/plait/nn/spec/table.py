"""What a head for tables is, as data, complete; a member of `HeadSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pick = Literal["column", "column_or_none", "cells", "tokens"]


@dataclass(frozen=True, kw_only=True)
class CellHeadSpec:
    """Scores of the cells of a table, whose columns and rows the segments tell (arXiv:2004.02349 §2).

    Those beyond `rows` and `columns` count as the last. `pick` is what is chosen from: the cells of the best "column",
    of which there need be none with "column_or_none"; "cells" of any column; "tokens", each by itself. `temperature`
    divides their scores. There are `operations` to choose from for what was picked, 0 for none, scored from the pooled
    vector.
    """

    rows: int
    columns: int
    operations: int = 0
    temperature: float = 1.0
    pick: Pick = "column"
    dropout: float = 0.0
