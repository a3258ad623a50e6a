"""CSV files of numbers: what is parsed as floats at once is what comes by way of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.data import Dataset, Value, load_dataset
from plait.data.readers import blocks

ROW = 40  # rows before the odd ones, so that columns are known to be floats


def parsed(path: Path, monkeypatch: pytest.MonkeyPatch, size: int, **options: Any) -> tuple[Dataset, list[set[str]]]:
    """A file read in blocks of some bytes, and the types of text and floats that Arrow was told each time."""
    told = []
    parser = blocks._parser

    def spy(stream: Any, types: dict[str, Any], *rest: Any) -> Any:
        told.append({str(kind) for kind in types.values()})
        return parser(stream, types, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", size)
        patch.setattr(blocks, "_parser", spy)
        found = load_dataset("csv", data_files=str(path), split="train", keep_in_memory=True, **options)
    return found, told


def written(folder: Path, odd: list[tuple[str, str, str]]) -> Path:
    path = folder / "a.csv"
    rows = [("0.5", "1", "-1.25e3")] * ROW + odd + [("1.5", "2", "3")] * ROW
    path.write_text("a,b,c\n" + "".join(",".join(row) + "\n" for row in rows))
    return path


def test_known_floats_are_parsed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [("NA", "", "2.5"), ("", "NaN", "nan"), (" 7", "-3", "+.5")]
    found, told = parsed(written(tmp_path, odd), monkeypatch, 200)
    assert told == [{"string"}, {"double", "string"}]
    assert found.features == {"a": Value("float64"), "b": Value("int64"), "c": Value("float64")}
    middle = found.select(range(ROW - 1, ROW + 4)).to_dict()
    assert middle == {
        "a": [0.5, None, None, 7.0, 1.5],
        "b": [1, None, None, -3, 2],
        "c": [-1250.0, 2.5, None, 0.5, 3.0],
    }


@pytest.mark.parametrize("word", ["x", str(2**70), '""', " NaN", "0x1f", '"NA"'])
def test_what_is_no_float_is_read_as_text_again(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, [(word, "1", "2")])
    found, told = parsed(path, monkeypatch, 200)
    whole, plainly = parsed(path, monkeypatch, 1 << 20)
    assert told[:3] == [{"string"}, {"double", "string"}, {"string"}]
    assert {"string"} in plainly
    assert {"double", "string"} not in plainly
    assert found.features == whole.features
    assert found.to_list() == whole.to_list()


@pytest.mark.parametrize(
    "options", [{"dtype": {"b": "int32"}}, {"na_values": {"a": ["9"]}}, {"thousands": "_"}, {"skipinitialspace": True}]
)
def test_fields_written_in_another_way_stay_text(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = parsed(written(tmp_path, []), monkeypatch, 200, **options)
    assert told == [{"string"}]
    assert found["a"][:2] == [0.5, 0.5]


field = st.sampled_from(["1.5", "2", "", "NA", "nan", "-NaN", "inf", "1e400", " 3.5 ", '"4.5"', "true", "-12"])


@settings(max_examples=40, deadline=None)
@given(odd=st.lists(st.tuples(field, field, field), max_size=4), default=st.booleans())
def test_the_size_of_blocks_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, odd: list[tuple[str, str, str]], default: bool
) -> None:
    path = written(tmp_path_factory.mktemp("csv"), odd)
    with pytest.MonkeyPatch.context() as patch:
        small, _ = parsed(path, patch, 120, keep_default_na=default)
        whole, _ = parsed(path, patch, 1 << 20, keep_default_na=default)
    assert small.features == whole.features
    assert repr(small.to_list()) == repr(whole.to_list())  # as text, because nan differs from itself
