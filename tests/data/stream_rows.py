"""The rows that the tests of streams share, and a function over them."""

from __future__ import annotations

from typing import Any

import plait.data as ours

ROWS = {"n": list(range(23)), "t": [f"row {number}" for number in range(23)], "x": [number / 4 for number in range(23)]}


def stream(library: Any = ours, shards: int = 4) -> Any:
    return library.Dataset.from_dict(ROWS).to_iterable_dataset(num_shards=shards)


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {"d": row["n"] * 2}
