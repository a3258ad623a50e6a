"""Arrow arrays as Python values: those of Arrow itself, whichever way they are made."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from plait.data import decode

ARRAYS: dict[str, Any] = {
    "int": pa.array([1, None, -3]),
    "uint8": pa.array([1, 255], pa.uint8()),
    "float": pa.array([0.5, None, float("inf")]),
    "bool": pa.array([True, None, False]),
    "text": pa.array(["ä", None, ""]),
    "large text": pa.array(["ä", "漢"], pa.large_string()),
    "bytes": pa.array([b"\x00", None]),
    "null": pa.nulls(3),
    "list": pa.array([[1, None], None, []]),
    "list slice": pa.array([[9], [1, 2], [], [3]]).slice(1, 2),
    "large list": pa.array([["a"], []], pa.large_list(pa.string())),
    "fixed list": pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
    "nested": pa.array([[[1], []], None, [None, [2, 3]]]),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "list of structs": pa.array([[{"a": [1]}], [], [{"a": None}]]),
    "time": pa.array([datetime.datetime(2020, 1, 2, 3), None]),
    "decimal": pa.array([Decimal("1.50"), None]),
    "chunks": pa.chunked_array([["a"], [], ["b", None]]),
    "one chunk": pa.chunked_array([[1, 2]]),
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", ARRAYS)
def test_values_are_those_of_arrow(name: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_ARROW_IS_FAST", fast)
    found, wanted = decode.to_python(ARRAYS[name]), ARRAYS[name].to_pylist()
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]
