"""Files as streams: every format, splits, types from the first rows, and errors that name file, line and column."""

from __future__ import annotations

import gzip
import itertools
import json
import sqlite3
import tracemalloc
from pathlib import Path
from typing import Any

import datasets as reference
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from plait.data import Dataset, Features, IterableDataset, IterableDatasetDict, Value, load_dataset
from plait.errors import ColumnError, DataError, NotFoundError, OptionError

COLUMNS = {"n": list(range(7)), "t": list("abcdefg"), "x": [number / 2 for number in range(7)]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same rows in files of every format."""
    whole = Dataset.from_dict(COLUMNS)
    whole.to_csv(tmp_path / "a.csv")
    whole.to_json(tmp_path / "a.jsonl")
    whole.to_json(tmp_path / "array.json", lines=False)
    whole.to_parquet(tmp_path / "a.parquet")
    whole.select_columns("t").rename_column("t", "text").to_csv(tmp_path / "a.txt", header=False)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    with sqlite3.connect(tmp_path / "a.db") as connection:
        whole.to_sql("rows", connection)
    return tmp_path


def streamed(format: str, path: Any, **options: Any) -> IterableDataset:
    found: IterableDataset = load_dataset(format, data_files=path, split="train", streaming=True, **options)
    return found


@pytest.mark.parametrize(
    ("format", "name"),
    [("csv", "a.csv"), ("csv", "a.csv.gz"), ("json", "a.jsonl"), ("json", "array.json"), ("parquet", "a.parquet")],
)
def test_a_stream_of_a_file_has_the_rows_of_the_data_set(folder: Path, format: str, name: str) -> None:
    stream = streamed(format, str(folder / name))
    assert isinstance(stream, IterableDataset)
    assert (stream.split, stream.num_shards) == ("train", 1)
    assert stream.to_dict() == COLUMNS
    assert stream.features == {"n": Value("int64"), "t": Value("string"), "x": Value("float64")}
    theirs = reference.load_dataset(format, data_files=str(folder / name), split="train", streaming=True)
    assert list(stream) == list(theirs)
    # any place in the middle of the file
    next_rows = iter(stream)
    for _ in range(4):
        next(next_rows)
    other = streamed(format, str(folder / name))
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert [row["n"] for row in other] == [4, 5, 6]


def test_other_formats(folder: Path) -> None:
    assert [row["text"] for row in streamed("text", str(folder / "a.txt"))] == list("abcdefg")
    query = load_dataset("sql", sql="rows", con=str(folder / "a.db"), split="train", streaming=True)
    assert query.to_dict() == COLUMNS
    Dataset.from_dict(COLUMNS).save_to_disk(folder / "saved", num_shards=2)
    arrow = streamed("arrow", str(folder / "saved" / "*.arrow"))
    assert arrow.num_shards == 2
    assert arrow.to_dict() == COLUMNS


def test_the_makers_of_the_class(folder: Path) -> None:
    assert IterableDataset.from_csv(str(folder / "a.csv")).to_dict() == COLUMNS
    assert IterableDataset.from_json(str(folder / "a.jsonl"), split="test").split == "test"
    assert list(IterableDataset.from_parquet(str(folder / "a.parquet"), columns=["n"])) == [{"n": n} for n in range(7)]
    assert next(iter(IterableDataset.from_text(str(folder / "a.txt")))) == {"text": "a"}
    kinds = Features({"n": Value("int16"), "t": Value("string"), "x": Value("float32")})
    assert IterableDataset.from_csv(str(folder / "a.csv"), features=kinds).features == kinds


def test_every_file_is_a_shard_and_every_split_a_stream(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"train-{number}.csv").write_text(f"n\n{number}\n{number + 10}\n")
    (tmp_path / "test.csv").write_text("n\n99\n")
    both = load_dataset(str(tmp_path), streaming=True)
    assert isinstance(both, IterableDatasetDict)
    assert {name: stream.num_shards for name, stream in both.items()} == {"train": 3, "test": 1}
    assert [row["n"] for row in both["train"]] == [0, 10, 1, 11, 2, 12]
    assert [row["n"] for row in both["train"].shard(3, 1)] == [1, 11]
    several = load_dataset(str(tmp_path), split=["test", "train[1:4]"], streaming=True)
    assert [[row["n"] for row in stream] for stream in several] == [[99], [10, 1, 11]]
    together = load_dataset(str(tmp_path), split="test+train[:1]", streaming=True)
    assert [row["n"] for row in together] == [99, 0]
    with pytest.raises(ColumnError, match=r"There is no split 'tran'\. Did you mean 'train'"):
        load_dataset(str(tmp_path), split="tran", streaming=True)
    for split in ("train[:10%]", "train[-2:]"):
        with pytest.raises(OptionError, match=r"needs the number of rows, which a stream.*train\[:1000\]"):
            load_dataset(str(tmp_path), split=split, streaming=True)


def test_wrong_options_are_refused_at_once(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"has no option 'delimeter'\. Did you mean 'delimiter'"):
        streamed("csv", str(folder / "a.csv"), delimeter=";")
    with pytest.raises(NotFoundError, match="missing.csv"):
        streamed("csv", str(folder / "missing.csv"))
    assert streamed("csv", str(folder / "a.csv"), usecols=["n"]).column_names == ["n"]


REMEDY = r"takes the types of its columns from the first rows of first\.\w+; declare them for all rows with features="


def test_a_later_value_of_another_type_is_named_with_the_remedy(tmp_path: Path) -> None:
    """The first file has integers. In the second a fraction comes in its third row."""
    (tmp_path / "first.csv").write_text("n,t\n1,a\n")
    (tmp_path / "second.csv").write_text("n,t\n2,b\n3,c\n4.5,d\n")
    stream = streamed("csv", [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")])
    with pytest.raises(DataError, match=rf"second\.csv, line 4, column 'n': '4\.5' does not fit .*int64.*{REMEDY}"):
        list(stream)
    kinds = Features({"n": Value("float64"), "t": Value("string")})
    declared = streamed("csv", [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")], features=kinds)
    assert [row["n"] for row in declared] == [1.0, 2.0, 3.0, 4.5]

    (tmp_path / "first.jsonl").write_text('{"n": 1, "s": {"a": 1}}\n')
    (tmp_path / "second.jsonl").write_text('{"n": 2, "s": {"a": 1}}\n{"n": 3, "s": {"a": 1, "b": 2}}\n')
    lines = streamed("json", [str(tmp_path / "first.jsonl"), str(tmp_path / "second.jsonl")])
    with pytest.raises(DataError, match=rf"second\.jsonl, line 2, column 's': .*does not fit.*{REMEDY}"):
        list(lines)


def test_a_column_without_values_at_first(tmp_path: Path) -> None:
    (tmp_path / "first.csv").write_text("n,t\n1,\n")
    (tmp_path / "second.csv").write_text("n,t\n2,\n3,\n")
    (tmp_path / "third.csv").write_text("n,t\n2,\n3,x\n")
    empty = streamed("csv", [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")])
    assert [row["t"] for row in empty] == [None, None, None]
    filled = streamed("csv", [str(tmp_path / "first.csv"), str(tmp_path / "third.csv")])
    with pytest.raises(DataError, match=rf"third\.csv, line 3, column 't': 'x' does not fit .*null.*{REMEDY}"):
        list(filled)


def test_text_stays_as_it_is_written_in_every_file(tmp_path: Path) -> None:
    """The first file says that the column is text; the numbers of the second are not read as numbers."""
    (tmp_path / "first.csv").write_text("code\nA1\n")
    (tmp_path / "second.csv").write_text("code\n007\nNA\n")
    stream = streamed("csv", [str(tmp_path / "first.csv"), str(tmp_path / "second.csv")])
    assert [row["code"] for row in stream] == ["A1", "007", "NA"]
    # whoever reads only the second file of the stream reads the same
    assert [row["code"] for row in stream.shard(2, 1)] == ["007", "NA"]


def test_values_without_a_common_type_are_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"v": 1}\n{"v": "x"}\n{"v": [1, 2]}\n')
    assert [row["v"] for row in streamed("json", str(tmp_path / "a.jsonl"))] == [1, "x", [1, 2]]


def test_the_place_holds_no_rows_and_memory_no_file(tmp_path: Path) -> None:
    """Of a file of 60 MB a stream holds a few blocks of 2 MB, whatever it has read before."""
    line = json.dumps({"t": "x" * 1000}) + "\n"
    with open(tmp_path / "a.jsonl", "w") as file:
        for _ in range(60):
            file.write(line * 1000)
    stream = streamed("json", str(tmp_path / "a.jsonl")).map(lambda row: {"n": len(row["t"])}, remove_columns="t")
    tracemalloc.start()
    count = sum(row["n"] == 1000 for row in stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    # bytes of a block of the file, and Python's objects of a thousand rows; Arrow's own memory is not traced
    assert peak < 30 << 20
    rows = iter(stream)
    list(itertools.islice(rows, 50_000))
    assert len(json.dumps(stream.state_dict())) < 300


def grouped(path: Path) -> None:
    """30 rows in three row groups of ten."""
    table = pa.table({"n": list(range(30)), "t": [f"{number:03d}" * 50 for number in range(30)]})
    parquet.write_table(table, path, row_group_size=10, compression="none", use_dictionary=False)


def test_row_groups_become_shards(tmp_path: Path) -> None:
    grouped(tmp_path / "a.parquet")
    stream = streamed("parquet", str(tmp_path / "a.parquet"))
    theirs = reference.load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), split="train", streaming=True
    ).reshard()
    assert (stream.num_shards, stream.reshard().num_shards, theirs.num_shards) == (1, 3, 3)
    assert [row["n"] for row in stream.reshard()] == list(range(30))
    assert [row["n"] for row in stream.reshard().shard(3, 1)] == list(range(10, 20))
    assert sorted(row["n"] for row in stream.reshard().shuffle(seed=1, buffer_size=4)) == list(range(30))
    # a file that has no such places stays one shard
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    assert streamed("csv", str(tmp_path / "a.csv")).reshard().num_shards == 1


def test_a_place_in_a_parquet_file_is_found_without_reading_what_is_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    grouped(path)
    stream = streamed("parquet", str(path), batch_size=4)
    rows = iter(stream)
    for _ in range(23):
        next(rows)
    state = json.loads(json.dumps(stream.state_dict()))
    first = parquet.read_metadata(path).row_group(1).column(0).data_page_offset
    path.write_bytes(b"PAR1" + bytes(first - 4) + path.read_bytes()[first:])  # the first row group is gone
    other = streamed("parquet", str(path), batch_size=4)
    with pytest.raises(DataError, match="cannot be read"):
        list(streamed("parquet", str(path)))
    other.load_state_dict(state)
    assert [row["n"] for row in other] == list(range(23, 30))


def test_arrow_files_with_other_types_and_columns(tmp_path: Path) -> None:
    for name, table in {
        "a.arrow": pa.table({"n": pa.array([1, 2], pa.int64()), "t": ["a", "b"]}),
        "b.arrow": pa.table({"n": pa.array([3, 4, 5], pa.int32())}),
    }.items():
        with pa.ipc.new_file(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    stream = streamed("arrow", [str(tmp_path / "a.arrow"), str(tmp_path / "b.arrow")])
    assert [tuple(row.values()) for row in stream] == [(1, "a"), (2, "b"), (3, None), (4, None), (5, None)]
    rows = iter(stream)
    for _ in range(4):
        next(rows)
    other = streamed("arrow", [str(tmp_path / "a.arrow"), str(tmp_path / "b.arrow")])
    other.load_state_dict(stream.state_dict())
    assert list(other) == [{"n": 5, "t": None}]


def test_a_parquet_file_is_read_by_bytes_not_by_rows(tmp_path: Path) -> None:
    """One row group of 64 MB: Arrow never holds more than a few blocks of 16 MB of it."""
    path = tmp_path / "a.parquet"
    table = pa.table({"t": [f"{number:06d}" * 2730 for number in range(4000)]})
    parquet.write_table(table, path, row_group_size=4000, compression="none", use_dictionary=False)
    del table
    before = pa.total_allocated_bytes()
    peak = 0
    for index, _ in enumerate(streamed("parquet", str(path))):
        if index % 100 == 0:
            peak = max(peak, pa.total_allocated_bytes() - before)
    # a block being read, the one being handed out, and the pages of the file that are decoded for them
    assert peak < 56 << 20
