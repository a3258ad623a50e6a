"""Formats: times of NumPy keep unit and value both ways, missing values, and columns outside a format."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest

from plait.data import Dataset, List, Value
from plait.errors import DataError

_NANOSECOND = np.datetime64("2020-01-01T00:00:00.000000001")


def test_a_function_may_return_times_of_numpy() -> None:
    dataset = Dataset.from_dict({"a": [1, 2]})
    made = dataset.map(lambda row: {"t": _NANOSECOND, "d": np.timedelta64(5, "ns")})
    assert {name: kind.dtype for name, kind in made.features.items() if name != "a"} == {
        "t": "timestamp[ns]",
        "d": "duration[ns]",
    }
    assert made.with_format("numpy")["t"][:].tolist() == [1577836800000000001] * 2


@pytest.mark.parametrize(
    ("given", "kind", "stored"),
    [
        ("M8[Y]", "date32", "2020-01-01"),
        ("M8[D]", "date32", "2020-01-01"),
        ("M8[h]", "timestamp[s]", "2020-01-01T00"),
        ("M8[ms]", "timestamp[ms]", "2020-01-01T00"),
    ],
)
@pytest.mark.parametrize("as_list", [True, False])
def test_units_that_arrow_lacks_become_the_next_that_it_has(given: str, kind: str, stored: str, as_list: bool) -> None:
    values: Any = np.array(["2020-01-01"], dtype="M8[D]").astype(given)
    dataset = Dataset.from_dict({"t": list(values) if as_list else values})
    assert dataset.features["t"].dtype == kind
    assert dataset.with_format("numpy")[0]["t"] == np.datetime64(stored)


def test_units_of_one_column_may_differ() -> None:
    dataset = Dataset.from_dict({"t": [np.datetime64("2020-01-01T00:00:00", "s"), None, _NANOSECOND]})
    assert dataset.features["t"].dtype == "timestamp[ns]"
    assert dataset.with_format("numpy")["t"][:].astype("int64").tolist() == [
        1577836800000000000,
        np.iinfo(np.int64).min,  # NaT
        1577836800000000001,
    ]
    with pytest.raises(DataError, match=r"^column 't' has values "):
        Dataset.from_dict({"t": [np.datetime64("9999-01-01", "s"), _NANOSECOND]})


def test_times_are_read_as_numpys() -> None:
    now = datetime.datetime(2020, 1, 2, 3, 4, 5, 6)
    zoned = now.replace(tzinfo=datetime.UTC)
    columns = {"t": [now, None], "d": [now.date()] * 2, "s": [datetime.timedelta(1)] * 2, "z": [zoned] * 2}
    dataset = Dataset.from_dict({**columns, "l": [[now], [now]]}).with_format("numpy")
    for rows in (dataset[:1], next(dataset.iter(1))):
        assert {name: values.dtype.str[1:] for name, values in rows.items()} == {
            "t": "M8[us]",
            "d": "M8[D]",
            "s": "m8[us]",
            "z": "O",  # NumPy knows no zones
            "l": "M8[us]",
        }
    row = dataset[0]
    assert row["t"] == np.datetime64(now)
    assert row["d"] == np.datetime64(now.date())
    assert row["z"] == zoned
    assert np.isnat(dataset[1]["t"])
    stream = next(iter(dataset.to_iterable_dataset()))
    assert {name: (type(value), str(value)) for name, value in stream.items()} == {
        name: (type(value), str(value)) for name, value in row.items()
    }


def test_a_batch_in_which_every_number_is_missing_has_the_kind_of_the_others() -> None:
    dataset = Dataset.from_dict({"f": [1.0, None, None, 2.0]})
    assert [batch["f"].dtype.str for batch in dataset.with_format("numpy").iter(1)] == ["<f4"] * 4
    assert [str(batch["f"].dtype) for batch in dataset.with_format("torch").iter(1)] == ["torch.float32"] * 4
    assert np.isnan(dataset.with_format("numpy")[1:3]["f"]).all()


def test_a_column_outside_the_format_is_there_in_no_format() -> None:
    dataset = Dataset.from_dict({"a": [1, 2], "b": [3, 4]}).with_format("numpy", columns=["a"])
    assert dataset["b"][:] == [3, 4]
    assert type(dataset["b"][0]) is int
    assert isinstance(dataset["a"][:], np.ndarray)


@pytest.mark.parametrize("batched", [False, True])
def test_functions_get_columns_outside_the_format_and_their_columns_are_shown(batched: bool) -> None:
    dataset = Dataset.from_dict({"a": [1, 2], "b": [3, 4], "c": ["x", "y"]}).with_format("numpy", columns=["a"])
    assert dataset.filter(lambda row: row["b"] > 3, batched=batched)["a"][:].tolist() == [2]
    made = dataset.map(lambda row: {"d": row["b"] + row["a"], "b": row["b"]}, batched=batched)
    assert made.format["columns"] == ["a", "d"]
    assert {name: values.tolist() for name, values in made[:].items()} == {"a": [1, 2], "d": [4, 6]}
    assert dataset.add_column("e", [5, 6]).format["columns"] == ["a", "e"]
    assert dataset.rename_column("b", "z").format["columns"] == ["a"]
    assert dataset.map(lambda row: {"d": 1}, remove_columns=["a"])[0] == {"d": 1}


def test_a_missing_truth_value_is_no_number() -> None:
    dataset = Dataset.from_dict({"b": [True, None]})
    assert [row["b"] for row in dataset.with_format("numpy")] == [np.True_, None]
    assert dataset.with_format("torch")[1]["b"] is None


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars"])
def test_a_row_of_a_table_format_may_give_its_columns_back(kind: str) -> None:
    dataset = Dataset.from_dict({"a": [1, None], "t": ["x", "y"]}).with_format(kind)
    made = dataset.map(lambda row: {"b": row["a"], "u": row["t"]}).with_format(None)
    assert made.features["b"] == List(Value("int64"))  # a row is a table, and a column of it holds one value
    assert made["b"] == [[1], [None]]
    assert made["u"] == [["x"], ["y"]]
