"""What plait does otherwise than datasets, on purpose: each test shows both, and is named in docs/differences.md."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image as Pictures

from plait import data as plait
from plait.errors import ColumnError, DataError, OptionError


def refused(call: Callable[[], Any]) -> bool:
    """Whether datasets raises an error."""
    try:
        call()
    except Exception:
        return True
    return False


def test_columns_are_those_of_all_rows() -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": "x"}]
    assert reference.Dataset.from_list(rows).column_names == ["a"]
    assert plait.Dataset.from_list(rows).to_list() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert plait.Dataset.from_generator(lambda: iter(rows)).column_names == ["a", "b"]


def test_features_name_every_column(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1, "b": 2}

    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    kinds = plait.Features({"a": plait.Value("int8")})
    theirs = reference.IterableDataset.from_generator(rows, features=reference.Features({"a": reference.Value("int8")}))
    assert list(theirs) == [{"a": 1}]
    with pytest.raises(DataError, match="features= has no column 'b', but row 0 has"):
        plait.Dataset.from_generator(rows, features=kinds)
    with pytest.raises(DataError, match="From row 0 on there is a column 'b' that the types do not name"):
        list(plait.IterableDataset.from_generator(rows, features=kinds))
    with pytest.raises(DataError, match=r"a.csv has columns that features= does not name: \['b'\]"):
        plait.Dataset.from_csv(str(tmp_path / "a.csv"), features=kinds)
    assert plait.Dataset.from_csv(str(tmp_path / "a.csv"), features=kinds, usecols=["a"])[0] == {"a": 1}


def test_text_is_string_whatever_the_version_of_pandas() -> None:
    assert plait.Dataset.from_pandas(pandas.DataFrame({"a": ["x", None]})).features["a"] == plait.Value("string")


def test_what_is_no_number_stays_what_it_is() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=8))
    rows = {
        "day": [datetime.date(2020, 1, 1)],
        "zoned": [datetime.datetime(2020, 1, 1, tzinfo=zone)],
        "long": [datetime.timedelta(seconds=3)],
        "bytes": [b"a\x00"],
    }
    ours, theirs = plait.Dataset.from_dict(rows), reference.Dataset.from_dict(rows)
    found = ours.with_format("torch")[0]
    assert found == {name: values[0] for name, values in rows.items()}
    assert refused(lambda: theirs.with_format("torch")[0])
    arrays = ours.with_format("numpy")[:]
    assert arrays["bytes"][0] == b"a\x00"
    assert theirs.with_format("numpy")["bytes"][:][0] == b"a"
    assert arrays["zoned"][0] == rows["zoned"][0]
    assert arrays["long"].dtype == np.dtype("timedelta64[us]")
    assert theirs.with_format("numpy")["long"][:].dtype == np.int64


def test_a_missing_array_is_none() -> None:
    for library, expected in ((plait, None), (reference, "nan")):
        kinds = library.Features({"x": library.Array2D((1, 2), "float32")})
        row = library.Dataset.from_dict({"x": [[[1.0, 2.0]], None]}, features=kinds).with_format("numpy")[1]["x"]
        assert (row is None) if expected is None else np.isnan(row).all()


def test_class_labels_are_numbers_of_a_class() -> None:
    assert not refused(
        lambda: reference.Dataset.from_dict({"y": [3]}).cast_column("y", reference.ClassLabel(num_classes=2))
    )
    with pytest.raises(DataError, match="column 'y', row 0: 3 is not the number of a"):
        plait.Dataset.from_dict({"y": [3]}).cast_column("y", plait.ClassLabel(num_classes=2))


def test_filters_return_truth_values() -> None:
    rows = {"a": [1, 2]}
    assert reference.Dataset.from_dict(rows).filter(lambda row: "no").num_rows == 2
    with pytest.raises(DataError, match="A function for filter returns true or false for each row, but this one retu"):
        plait.Dataset.from_dict(rows).filter(lambda row: "no")
    assert reference.Dataset.from_dict(rows).filter(lambda batch: [True], batched=True).num_rows == 1
    with pytest.raises(DataError, match="The function returned 1 values for a batch of 2 rows"):
        plait.Dataset.from_dict(rows).filter(lambda batch: [True], batched=True)


def test_rows_without_columns_are_still_rows() -> None:
    assert len(reference.Dataset.from_dict({"a": [1, 2]}).remove_columns("a")) == 0
    assert list(plait.Dataset.from_dict({"a": [1, 2]}).remove_columns("a")) == [{}, {}]


def test_one_process_has_rank_0() -> None:
    ranks = [
        library.Dataset.from_dict({"a": [1]}).map(lambda row, rank: {"r": rank}, with_rank=True)[0]["r"]
        for library in (plait, reference)
    ]
    assert ranks == [0, None]


def test_distinct_values_come_in_the_order_of_the_rows() -> None:
    found = [
        library.Dataset.from_dict({"a": [3, 1, 2]}).select([2, 0, 1]).unique("a") for library in (plait, reference)
    ]
    assert found == [[2, 3, 1], [3, 1, 2]]


def test_json_keeps_what_is_no_number_and_writes_times_in_words(tmp_path: Path) -> None:
    for library, value, time in ((plait, math.nan, "2020-01-01T00:00:00"), (reference, None, 1577836800000)):
        dataset = library.Dataset.from_dict({"f": [math.nan], "t": [datetime.datetime(2020, 1, 1)]})
        dataset.to_json(tmp_path / "a.jsonl")
        found = json.loads((tmp_path / "a.jsonl").read_text())
        assert found["f"] is value if value is None else math.isnan(found["f"])
        assert found["t"] == time


def test_objects_have_the_fields_of_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"o": {"x": 1}}\n{"o": {"y": 2}}\n')
    ours, theirs = (
        library.load_dataset(
            "json", data_files=str(tmp_path / "a.jsonl"), split="train", cache_dir=str(tmp_path / name)
        )
        for name, library in (("ours", plait), ("theirs", reference))
    )
    assert theirs[0] == {"o": {"x": 1}}
    assert isinstance(theirs.features["o"], reference.Json)
    assert ours[0] == {"o": {"x": 1, "y": None}}
    assert ours.features["o"] == {"x": plait.Value("int64"), "y": plait.Value("int64")}


def test_integers_beyond_64_bits_are_text_in_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n9223372036854775808\n1\n")
    assert plait.Dataset.from_csv(str(tmp_path / "a.csv"))["a"][:] == ["9223372036854775808", "1"]


@pytest.mark.parametrize("content", ["a,b\n", ""])
def test_nothing_to_read_is_a_data_set_without_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    cache = str(tmp_path / "cache")
    assert refused(lambda: reference.Dataset.from_csv(str(tmp_path / "a.csv"), cache_dir=cache))
    found = plait.Dataset.from_csv(str(tmp_path / "a.csv"))
    assert (found.num_rows, found.column_names) == (0, ["a", "b"] if content else [])
    nothing = plait.Dataset.from_generator(lambda: iter([]), features=plait.Features({"a": plait.Value("int8")}))
    assert (nothing.num_rows, nothing.column_names, list(nothing.to_iterable_dataset())) == (0, ["a"], [])


def test_files_with_other_columns_and_types_are_joined(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"b": ["y"], "a": [1.5]}), tmp_path / "b.parquet")
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    assert plait.Dataset.from_parquet(files).to_list() == [{"a": 1.0, "b": "x"}, {"a": 1.5, "b": "y"}]
    assert refused(lambda: reference.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache")))
    assert plait.Dataset.from_parquet(files[0], columns=["b", "a"]).column_names == ["b", "a"]


def test_joined_data_sets_take_the_type_that_holds_both() -> None:
    def joined(library: Any, kind: Any) -> Any:
        first = library.Dataset.from_dict({"x": [1]})
        return library.concatenate_datasets([first, first.cast_column("x", kind)])

    assert refused(lambda: joined(reference, reference.Value("int8")))
    assert joined(plait, plait.Value("int8")).features["x"] == plait.Value("int64")
    assert refused(lambda: joined(reference, reference.ClassLabel(num_classes=3)))
    assert joined(plait, plait.ClassLabel(num_classes=3)).features["x"] == plait.Value("int64")


def test_pictures_are_pictures_in_dicts_and_lists() -> None:
    picture = Pictures.new("L", (2, 3), 7)
    ours, theirs = (
        library.Dataset.from_dict({"i": [picture]}, features=library.Features({"i": library.Image()}))
        for library in (plait, reference)
    )
    assert set(theirs.to_dict()["i"][0]) == {"bytes", "path"}
    assert ours.to_dict()["i"][0].size == ours.to_list()[0]["i"].size == (2, 3)


def test_numbers_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    dataset = plait.Dataset.from_dict({"a": [1, 2], "s": [{"k": 1}, {"k": 2}]})
    with pytest.raises(OptionError, match="The number of rows must not be negative, but is -1"):
        dataset.take(-1)
    with pytest.raises(OptionError, match="num_shards must be at least 1, but is 0"):
        dataset.save_to_disk(tmp_path / "d", num_shards=0)
    with pytest.raises(DataError, match=r"Rows cannot be sorted by a column of type struct<k: int64>"):
        dataset.sort("s")


def test_an_encoding_is_that_of_the_file(tmp_path: Path) -> None:
    for library, encoding in ((plait, "gb18030"), (reference, "utf-8")):
        library.Dataset.from_dict({"a": ["日"]}).to_csv(tmp_path / "a.csv", encoding="gb18030")
        assert (tmp_path / "a.csv").read_text(encoding=encoding) == "a\n日\n"


def test_columns_of_streams_that_are_not_there_are_named() -> None:
    ours, theirs = (library.Dataset.from_dict({"a": [1]}).to_iterable_dataset() for library in (plait, reference))
    assert list(theirs.remove_columns(["zz"])) == [{"a": 1}]
    with pytest.raises(ColumnError, match=r"There is no column 'zz'. Columns are \['a'\]"):
        ours.remove_columns(["zz"])
    with pytest.raises(ColumnError, match=r"There is no column 'zz'. Columns are \['a'\]"):
        ours.cast_column("zz", plait.Value("int8"))


def test_text_cast_to_json_stays_text() -> None:
    def cast(library: Any, stream: bool, texts: list[Any]) -> list[Any]:
        dataset = library.Dataset.from_dict({"j": texts})
        dataset = dataset.to_iterable_dataset() if stream else dataset
        return [row["j"] for row in dataset.cast_column("j", library.Json())]

    assert [cast(reference, False, texts) for texts in (["5", None], ["5", "text"])] == [[5, None], ["5", "text"]]
    for texts in (["5", None], ["5", "text"]):
        assert cast(plait, False, texts) == cast(plait, True, texts) == texts
    kinds = plait.Features({"j": plait.Json()})
    parsed = plait.Dataset.from_dict({"j": ['{"a": 5}']}).map(lambda row: {"j": json.loads(row["j"])}, features=kinds)
    assert parsed["j"] == [{"a": 5}]
