"""Rows as JSON text: what Arrow writes is what Python's encoder means, value for value and type for type."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.data import Dataset, Features, Value, load_dataset

FLOATS = [1.0, -0.0, 0.1, 1e-5, 5e-324, 1e16, 1e22, 1.7976931348623157e308, 123456789012.5, 2.0**53, -3.0, None]


def lines(dataset: Dataset, **options: Any) -> list[str]:
    """The lines that a data set is written as."""
    stream = io.BytesIO()
    count = dataset.to_json(stream, **options)
    assert count == len(stream.getvalue())
    return stream.getvalue().decode().split("\n")[:-1]


def read(dataset: Dataset, **options: Any) -> list[Any]:
    return [json.loads(line) for line in lines(dataset, **options)]


def test_numbers_keep_every_digit_and_their_kind() -> None:
    dataset = Dataset.from_dict({"x": FLOATS, "n": [*range(len(FLOATS) - 2), -(2**63), None]})
    found = read(dataset)
    # as text, to tell -0.0 from 0.0 and floats from integers
    assert [repr(row["x"]) for row in found] == [repr(value) for value in FLOATS]
    assert [row["n"] for row in found] == dataset["n"][:]
    assert lines(dataset)[0] == '{"x": 1.0, "n": 0}'


def test_numbers_that_are_none_are_words() -> None:
    dataset = Dataset.from_dict({"x": [math.inf, -math.inf, math.nan, 0.5]})
    assert lines(dataset) == ['{"x": Infinity}', '{"x": -Infinity}', '{"x": NaN}', '{"x": 0.5}']


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_narrow_floats_are_written_as_the_doubles_that_they_are(kind: str) -> None:
    dataset = Dataset.from_dict({"x": [0.1, 3.0, None]}, features=Features({"x": Value(kind)}))
    assert read(dataset) == dataset.to_list()


def test_text_is_escaped_as_python_does() -> None:
    texts = ['a "b"', "c\\d", "e\nf\t\x00\x7f", "é𝄞", "", "\u2028", None]
    dataset = Dataset.from_dict({"a % name": texts, 'an "é"': [[text] for text in texts]})
    assert lines(dataset) == [json.dumps(row) for row in dataset.to_list()]
    assert lines(dataset, force_ascii=False) == [json.dumps(row, ensure_ascii=False) for row in dataset.to_list()]


def test_values_that_json_has_no_form_for() -> None:
    dataset = Dataset.from_dict(
        {
            "day": [datetime.date(2024, 2, 29), None],
            "time": [datetime.datetime(2024, 2, 29, 1, 2, 3, 4), None],
            "exact": [decimal.Decimal("1.10"), None],
            "bytes": [b"a\xff", None],
        }
    )
    first = {"day": "2024-02-29", "time": "2024-02-29T01:02:03.000004", "exact": "1.10", "bytes": "a\ufffd"}
    assert read(dataset) == [first, dict.fromkeys(first)]


leaf = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
columns = {
    "whole": leaf,
    "flag": st.one_of(st.none(), st.booleans()),
    "number": st.one_of(st.none(), st.floats(allow_nan=False)),
    "text": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
    "list": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.lists(leaf)))),
    "object": st.one_of(st.none(), st.fixed_dictionaries({"a": leaf, "b": st.lists(st.text('a"\\\n'))})),
}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8), cut=st.integers(0, 7))
def test_every_value_comes_back(rows: list[dict[str, Any]], cut: int) -> None:
    kinds = pa.schema(
        {
            "whole": pa.int64(),
            "flag": pa.bool_(),
            "number": pa.float64(),
            "text": pa.string(),
            "list": pa.list_(pa.large_list(pa.int64())),
            "object": pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}),
        }
    )
    dataset = Dataset(pa.Table.from_pylist(rows, schema=kinds))
    # a part that begins within the arrays, and another order
    for each in (dataset, dataset.select(range(min(cut, len(rows)), len(rows))), dataset.shuffle(seed=cut)):
        assert read(each, batch_size=3) == each.to_list()
        array = io.BytesIO()
        each.to_json(array, lines=False)
        assert json.loads(array.getvalue()) == each.to_list()


def test_what_is_written_is_read_again_with_its_types(tmp_path: Path) -> None:
    made = Dataset.from_dict({"x": [1.0, 2.0], "ids": [[1, 2], []], "o": [{"a": None}, {"a": True}]})
    made.to_json(tmp_path / "a.jsonl")
    found = load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train")
    assert found.features == made.features
    assert found.to_list() == made.to_list()


def test_arrays_of_objects_with_and_without_indent() -> None:
    dataset = Dataset.from_dict({"a": [1, 2]})
    found = []
    for rows, indent in ((dataset, None), (dataset, 1), (dataset.select([]), None), (dataset.select([]), 1)):
        stream = io.BytesIO()
        assert rows.to_json(stream, lines=False, indent=indent) == len(stream.getvalue())
        found.append(stream.getvalue().decode())
    assert found == ['[{"a": 1},\n{"a": 2}]\n', '[{\n "a": 1\n},\n{\n "a": 2\n}]\n', "[]\n", "[]\n"]


def test_rows_too_large_for_one_array_are_written_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.from_dict({"a": [1, None, 3], "b": ["x", "é", None]})
    expected = lines(dataset)
    monkeypatch.setattr("plait.data.export_json._BYTES", 0)
    assert lines(dataset) == expected == ['{"a": 1, "b": "x"}', '{"a": null, "b": "\\u00e9"}', '{"a": 3, "b": null}']
