"""Single rows, whatever their columns are, wherever they lie, and however they are seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from plait.data import Dataset, concatenate_datasets, load_from_disk
from plait.errors import RowError

COLUMNS: dict[str, list[Any]] = {
    "text": ["", "ä", "漢字", "🎲 dice", "e" * 1000],
    "number": [1, -2, 3, 2**62, 0],
    "float": [0.5, -1.0, 1e300, 0.0, 2.5],
    "missing": [None, "x", None, "y", ""],
    "gaps": [1, None, 3, None, 5],
    "flag": [True, False, True, True, False],
    "list": [[1], [], [2, 3], [4], [5, 6, 7]],
    "struct": [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}, {"a": 5}],
}


def expected(columns: dict[str, list[Any]], index: int) -> dict[str, Any]:
    return {name: values[index] for name, values in columns.items()}


@pytest.mark.parametrize("count", range(1, len(COLUMNS) + 1))
def test_one_row_of_any_number_of_columns(count: int) -> None:
    columns = dict(list(COLUMNS.items())[:count])
    dataset = Dataset.from_dict(columns)
    for index in [*range(5), 0, -1, np.int64(2)]:
        assert dataset[index] == expected(columns, index)
        assert list(dataset[index]) == list(columns)


def test_rows_of_several_chunks_and_slices_of_buffers() -> None:
    table = pa.table(COLUMNS)
    dataset = Dataset(pa.concat_tables([table.slice(1), table.slice(0, 2), table.slice(3, 2)]))
    numbers = [1, 2, 3, 4, 0, 1, 3, 4]
    assert [dataset[index] for index in range(8)] == [expected(COLUMNS, number) for number in numbers]
    order = [7, 0, 4, 4, 2]
    view = dataset.select(order)
    assert [view[index] for index in range(5)] == [expected(COLUMNS, numbers[number]) for number in order]
    tail = view.skip(2)
    assert tail[2] == expected(COLUMNS, numbers[2])


def test_columns_of_several_files_and_views_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    Dataset.from_dict(COLUMNS).save_to_disk(tmp_path / "rows")
    stored = load_from_disk(tmp_path / "rows").shuffle(seed=1)
    plain = [dict(row) for row in stored]
    two = stored.map(lambda row: {"size": len(row["text"])})
    three = two.map(lambda row: {"twice": 2 * row["size"], "number": str(row["number"])})
    both = concatenate_datasets([three, three.select([4, 0])])
    for made in (two, three, both):
        assert [made[index] for index in range(len(made))] == list(made)
    assert two[3] == {**plain[3], "size": len(plain[3]["text"])}
    assert three[3] == {
        **plain[3],
        "number": str(plain[3]["number"]),
        "size": two[3]["size"],
        "twice": 2 * two[3]["size"],
    }
    assert list(three[0]) == three.column_names == [*COLUMNS, "size", "twice"]


def test_a_format_set_later_counts_for_single_rows_too() -> None:
    dataset = Dataset.from_dict({"a": [1, 2], "b": ["x", "y"]})
    assert dataset[1] == {"a": 2, "b": "y"}
    dataset.set_format("numpy", columns=["a"])
    assert list(dataset[1]) == ["a"]
    assert isinstance(dataset[1]["a"], np.integer)
    with dataset.formatted_as("torch"):
        assert dataset[0]["a"].tolist() == 1
    dataset.reset_format()
    assert dataset[1] == {"a": 2, "b": "y"}
    with pytest.raises(RowError, match="There is no row 2: the data set has 2 rows"):
        dataset[2]
    with pytest.raises(RowError, match="There is no row -3: the data set has 2 rows"):
        dataset[-3]


def test_no_rows_and_no_columns() -> None:
    with pytest.raises(RowError, match="There is no row 0: the data set has 0 rows"):
        Dataset.from_dict({"a": []})[0]
    assert Dataset.from_dict({"a": [1]}).remove_columns("a")[0] == {}
