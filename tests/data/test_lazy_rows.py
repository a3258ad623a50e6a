"""Rows and batches that are decoded when they are looked at: what is written in C must see all of them too."""

from __future__ import annotations

import json
from typing import Any

from plait.data import Dataset

DATA = Dataset.from_dict({"a": [1, 2, 3], "b": ["x", "y", "z"], "long": ["w" * 300] * 3, "l": [[1], [], [2]]})


def test_json_sees_whole_rows_and_batches() -> None:
    # Python's encoder asks C how many items a dict holds before it asks the dict itself
    rows = [json.dumps(row) for row in DATA]
    assert DATA.map(lambda row: {"t": json.dumps(row)})["t"][:] == rows
    batches = [json.dumps(batch) for batch in DATA.iter(2)]
    found = DATA.map(lambda batch: {"t": [json.dumps(batch)] * len(batch["a"])}, batched=True, batch_size=2)["t"][:]
    assert found == [batches[0], batches[0], batches[1]]


def test_filters_see_whole_batches() -> None:
    seen: list[str] = []

    def note(batch: Any) -> list[bool]:
        seen.append(json.dumps(batch))
        return [True] * len(batch["b"])

    DATA.filter(note, batched=True, batch_size=2)
    assert seen == [json.dumps(batch) for batch in DATA.iter(2)]
