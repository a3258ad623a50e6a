"""Tables of every kind become the same numbers, and what is wrong with one is named."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from plait.errors import ColumnError, DataError
from plait.tabular import columns

TABLE = {"辐照度": [1.0, 2.0, 3.0], "温度": [10, 20, 30]}
EXPECTED = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
NAMES = ["辐照度", "温度"]


@pytest.mark.parametrize(
    "table",
    [TABLE, dict(reversed(TABLE.items())), pd.DataFrame(TABLE), pd.DataFrame(TABLE)[["温度", "辐照度"]], EXPECTED],
    ids=["mapping", "mapping shuffled", "frame", "frame shuffled", "array"],
)
def test_every_kind_of_table_reads_alike(table: object) -> None:
    assert np.array_equal(columns.matrix(table, NAMES), EXPECTED)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [True, 2],
        [Decimal("1"), Decimal("2")],
        np.array([1, 2], dtype=np.int8),
        np.array(["1", "2"]),
        pd.array([1, 2], dtype="Int64"),
    ],
)
def test_every_kind_of_number_is_a_number(values: object) -> None:
    result = columns.column({"x": values}, "x")
    assert result.dtype == np.float64
    assert result.tolist() == [1.0, 2.0]


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(ColumnError) as caught:
        columns.matrix({"irradiation": [1.0], "temperature": [2.0]}, ["irradiance", "temperature"])
    assert str(caught.value) == (
        "the table's columns are not the model's: missing 'irradiance'. Did you mean 'irradiation'? "
        "unknown 'irradiation'. The model's features are 'irradiance', 'temperature'."
    )


def test_an_extra_column_is_named_and_one_set_aside_is_not() -> None:
    table = {"a": [1.0], "b": [2.0], "when": ["2020"]}
    with pytest.raises(ColumnError, match=r"unknown 'when'\. The model's features are 'a', 'b'\."):
        columns.matrix(table, ["a", "b"])
    assert columns.matrix(table, ["a", "b"], others=["when"]).tolist() == [[1.0, 2.0]]


def test_a_column_named_twice_is_refused() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ColumnError, match="more than one column named 'a'; rename or drop the others"):
        columns.matrix(frame, ["a"])


def test_an_array_must_have_the_right_number_of_columns() -> None:
    with pytest.raises(ColumnError, match=r"the array has 3 columns, but the model has 2 features: 'a', 'b'"):
        columns.matrix(np.zeros((4, 3)), ["a", "b"])
    with pytest.raises(DataError, match=r"not an array of shape \(3,\); one column is array.reshape\(-1, 1\)"):
        columns.matrix(np.zeros(3), ["a"])


@pytest.mark.parametrize("hole", [np.nan, None, np.inf])
def test_a_hole_is_named_with_its_row(hole: float | None) -> None:
    with pytest.raises(DataError) as caught:
        columns.matrix({"a": [1.0, 2.0, hole, hole]}, ["a"])
    assert str(caught.value) == (
        "column 'a' has 2 missing or infinite values, the first in row 2; fill or drop such rows first"
    )


def test_text_is_named_with_its_row_and_value() -> None:
    with pytest.raises(
        DataError, match="column 'a' holds 'n/a' in row 1, which is no number; convert the column or drop"
    ):
        columns.matrix({"a": ["1.5", "n/a"]}, ["a"])


def test_times_are_pointed_at_the_time_argument() -> None:
    table = {"when": np.array(["2020-01-01"], dtype="datetime64[s]")}
    with pytest.raises(
        DataError, match="column 'when' holds times, not numbers; name it in the regressor's `time` or drop"
    ):
        columns.matrix(table, ["when"])


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="the columns differ in length: 'a' 2, 'b' 1 rows"):
        columns.matrix({"a": [1.0, 2.0], "b": [1.0]}, ["a", "b"])


@pytest.mark.parametrize("table", [TABLE, pd.DataFrame(TABLE), EXPECTED], ids=["mapping", "frame", "array"])
def test_rows_are_taken_as_a_table_of_the_same_kind(table: object) -> None:
    part = columns.take(table, np.array([2, 0]))
    assert isinstance(part, type(table))
    assert np.array_equal(columns.matrix(part, NAMES), EXPECTED[[2, 0]])


def test_a_raw_column_keeps_its_type_and_a_wrong_name_gets_the_nearest() -> None:
    table = {"when": ["2020", "2021"], "a": [1, 2]}
    assert columns.raw(table, "when").tolist() == ["2020", "2021"]
    with pytest.raises(ColumnError, match="the table has no column 'wen'; it has 'when', 'a'. Did you mean 'when'?"):
        columns.raw(table, "wen")
