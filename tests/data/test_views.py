"""Views of rows: the same rows in the same order as the reference library, without copying."""

from __future__ import annotations

from typing import Any

import datasets as reference
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from plait.data import ClassLabel, Dataset, Features, Value
from plait.data.table import Table, concatenate
from plait.errors import DataError, OptionError, RowError


def both(columns: dict[str, Any]) -> tuple[Dataset, Any]:
    return Dataset.from_dict(columns), reference.Dataset.from_dict(columns)


@pytest.mark.parametrize("seed", [0, 1, 42])
@pytest.mark.parametrize("rows", [1, 2, 7, 1000])
def test_shuffle_gives_the_reference_order(seed: int, rows: int) -> None:
    ours, theirs = both({"a": list(range(rows))})
    assert ours.shuffle(seed=seed)["a"][:] == theirs.shuffle(seed=seed)["a"][:]
    generator = np.random.default_rng(seed)
    assert ours.shuffle(generator=generator)["a"][:] == theirs.shuffle(seed=seed)["a"][:]


def test_shuffle_without_a_seed_follows_the_global_one() -> None:
    dataset = Dataset.from_dict({"a": list(range(100))})
    np.random.seed(5)
    first = dataset.shuffle()["a"][:]
    assert first != dataset.shuffle()["a"][:]
    np.random.seed(5)
    assert first == dataset.shuffle()["a"][:]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"test_size": 0.3},
        {"test_size": 3},
        {"train_size": 0.5},
        {"train_size": 4, "test_size": 2},
        {"train_size": 0.1, "test_size": 0.85},
        {"test_size": 0.3, "shuffle": False},
    ],
    ids=repr,
)
def test_splits_equal_the_reference(sizes: dict[str, Any]) -> None:
    ours, theirs = both({"a": list(range(11))})
    mine, other = ours.train_test_split(seed=3, **sizes), theirs.train_test_split(seed=3, **sizes)
    assert {name: part["a"][:] for name, part in mine.items()} == {name: part["a"][:] for name, part in other.items()}


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (
            {"test_size": 1.0},
            "test_size must be a fraction between 0 and 1, or a number of rows from 1 to 10, but is 1.0",
        ),
        ({"test_size": 11}, "test_size must be a fraction .* but is 11"),
        ({"train_size": 0}, "train_size must be"),
        ({"train_size": 8, "test_size": 5}, "ask for 8 \\+ 5 rows, but there are only 11"),
        ({"train_size": 0.01}, "leave one part of 11 rows empty"),
    ],
)
def test_sizes_that_cannot_be_met(sizes: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        Dataset.from_dict({"a": list(range(11))}).train_test_split(**sizes)


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(2, 60), min_size=2, max_size=5), share=st.floats(0.2, 0.8), seed=st.integers(0, 99))
def test_stratified_parts_keep_the_shares(counts: list[int], share: float, seed: int) -> None:
    labels = [index for index, count in enumerate(counts) for _ in range(count)]
    features = Features({"y": ClassLabel(num_classes=len(counts)), "i": Value("int64")})
    dataset = Dataset.from_dict({"y": labels, "i": list(range(len(labels)))}, features=features)
    test = int(np.ceil(share * len(labels)))
    if min(test, len(labels) - test) < len(counts):
        return
    parts = dataset.train_test_split(test_size=share, stratify_by_column="y", seed=seed)
    assert sorted(parts["train"]["i"][:] + parts["test"]["i"][:]) == list(range(len(labels)))
    assert len(parts["test"]) == test
    for index, count in enumerate(counts):
        # the largest-remainder rule is never a whole row away from the exact share
        assert abs(parts["test"]["y"][:].count(index) - count * test / len(labels)) < 1


def test_stratifying_needs_class_labels() -> None:
    dataset = Dataset.from_dict({"y": ["a", "b", "b"]})
    with pytest.raises(
        DataError, match=r"Stratifying needs a ClassLabel column, but 'y' is Value\('string'\). Call class"
    ):
        dataset.train_test_split(stratify_by_column="y")
    with pytest.raises(DataError, match="Class 0 of column 'y' has one row only"):
        dataset.class_encode_column("y").train_test_split(stratify_by_column="y")
    encoded = Dataset.from_dict({"y": ["a", "a", "b", "b"]}).class_encode_column("y")
    with pytest.raises(DataError, match="^1 rows cannot hold all 2 classes of column 'y'.$"):
        encoded.train_test_split(test_size=1, stratify_by_column="y")
    with pytest.raises(OptionError, match="^stratify_by_column needs shuffle=True.$"):
        encoded.train_test_split(shuffle=False, stratify_by_column="y")


SORTED = {
    "a": [3, None, 1, 2, 3, 1],
    "b": ["x", "y", "z", None, "a", "b"],
    "f": [0.5, float("nan"), 1.0, -1.0, 0.0, 2.0],
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nulls", ["at_end", "at_start"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_sorting_equals_the_reference(name: str, reverse: bool, nulls: str) -> None:
    ours, theirs = both(SORTED)
    mine = ours.sort(name, reverse=reverse, null_placement=nulls)
    assert mine["b"][:] == theirs.sort(name, reverse=reverse, null_placement=nulls)["b"][:]


def test_sorting_by_several_columns() -> None:
    ours, theirs = both({"a": [2, 1, 2, 1], "b": ["x", "y", "z", "w"]})
    for reverse in ([False, True], [True, False], True, False):
        assert ours.sort(["a", "b"], reverse=reverse)["b"][:] == theirs.sort(["a", "b"], reverse=reverse)["b"][:]
    with pytest.raises(OptionError, match="reverse has 1 values for 2 columns"):
        ours.sort(["a", "b"], reverse=[True])
    with pytest.raises(OptionError, match="null_placement must be 'at_start' or 'at_end', but is 'end'"):
        ours.sort("a", null_placement="end")
    with pytest.raises(DataError, match="cannot be sorted by a column of type list"):
        Dataset.from_dict({"l": [[1]]}).sort("l")


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.one_of(st.none(), st.sampled_from("abc"))), min_size=1
    ),
    reverse=st.tuples(st.booleans(), st.booleans()),
    first=st.booleans(),
)
def test_sorting_is_stable_like_python(rows: list[tuple[Any, Any]], reverse: tuple[bool, bool], first: bool) -> None:
    dataset = Dataset.from_dict(
        {"a": [row[0] for row in rows], "b": [row[1] for row in rows], "i": list(range(len(rows)))}
    )
    expected = list(range(len(rows)))
    for key in (1, 0):  # Python's own stable sort, the least important key first
        known = [i for i in expected if rows[i][key] is not None]
        known.sort(key=lambda i, key=key: rows[i][key], reverse=False)
        if reverse[key]:
            values = sorted({rows[i][key] for i in known}, reverse=True)
            known = [i for value in values for i in known if rows[i][key] == value]
        missing = [i for i in expected if rows[i][key] is None]
        expected = missing + known if first else known + missing
    places = "at_start" if first else "at_end"
    assert dataset.sort(["a", "b"], reverse=list(reverse), null_placement=places)["i"][:] == expected


def test_shards_and_parts_equal_the_reference() -> None:
    ours, theirs = both({"a": list(range(11))})
    for contiguous in (True, False):
        for index in range(4):
            mine = ours.shard(4, index, contiguous=contiguous)["a"][:]
            assert mine == theirs.shard(4, index, contiguous=contiguous)["a"][:]
    assert ours.take(3)["a"] == [0, 1, 2]
    assert ours.take(99)["a"][:] == list(range(11))
    assert ours.skip(9)["a"] == [9, 10]
    assert ours.skip(99)["a"][:] == []
    assert ours.take(2).repeat(3)["a"] == [0, 1] * 3
    with pytest.raises(OptionError, match="index must be between 0 and num_shards - 1, but is 4 with num_shards=4"):
        ours.shard(4, 4)
    with pytest.raises(OptionError, match="must not be negative, but is -1"):
        ours.take(-1)
    with pytest.raises(
        OptionError, match=r"A data set has an end: repeat\(None\) is for streams. Call to_iterable_data"
    ):
        ours.repeat(None)


def test_select() -> None:
    dataset = Dataset.from_dict({"a": list(range(10))})
    assert dataset.select([3, -1, 3])["a"] == [3, 9, 3]
    assert dataset.select(iter([1, 2]))["a"] == [1, 2]
    assert dataset.select(np.array([5]))["a"] == [5]
    assert dataset.select(range(8, 2, -3))["a"] == [8, 5]
    assert dataset.select([])["a"] == []
    with pytest.raises(RowError, match="There is no row 10: the data set has 10 rows"):
        dataset.select([10])
    with pytest.raises(
        OptionError, match=r"select\(\) has no argument 'keep_im_memory'. Did you mean 'keep_in_memory'?"
    ):
        dataset.select([1], keep_im_memory=True)


def test_views_are_views() -> None:
    dataset = Dataset.from_dict({"a": list(range(1000)), "b": ["x"] * 1000})
    part = dataset.shuffle(seed=0).select(range(10, 500)).sort("a").shard(3, 1).take(50)
    assert part.table.columns["b"].store is dataset.table.columns["b"].store
    assert part.table.columns["a"].rows.dtype == np.int32
    neighbours = dataset.select(range(100, 200)).skip(10)
    assert neighbours.table.columns["a"].rows == range(110, 200)
    assert part.flatten_indices()["a"] == part["a"][:]
    assert isinstance(part.flatten_indices().table.columns["a"].rows, range)


# --- the table underneath, against plain Python lists ---


chunked = st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6), min_size=1, max_size=5)


@settings(deadline=None, max_examples=200)
@given(chunks=chunked, data=st.data())
def test_any_chain_of_views_reads_like_a_list(chunks: list[list[Any]], data: st.DataObject) -> None:
    values = [value for chunk in chunks for value in chunk]
    arrays = [pa.array(chunk, type=pa.string()) for chunk in chunks]
    numbers = [pa.array(range(len(chunk)), type=pa.int64()) for chunk in chunks]
    table = Table.from_arrow(pa.table([pa.chunked_array(arrays), pa.chunked_array(numbers)], names=["v", "n"]))
    for _ in range(data.draw(st.integers(0, 4))):
        if data.draw(st.booleans()):
            start = data.draw(st.integers(0, len(values)))
            stop = data.draw(st.integers(start, len(values)))
            table, values = table.view(range(start, stop)), values[start:stop]
        elif values:
            rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12))
            table, values = table.view(np.array(rows, dtype=np.int64)), [values[row] for row in rows]
        else:
            break
    if data.draw(st.booleans()):
        table, values = concatenate([table, table]), values * 2
    dataset = Dataset(table)
    assert dataset["v"][:] == values
    assert [row["v"] for row in dataset] == values
    assert [dataset[index]["v"] for index in range(len(values))] == values
    assert table.to_arrow(["v"])["v"].to_pylist() == values
    start = data.draw(st.integers(0, len(values)))
    assert dataset[start : start + 3]["v"] == values[start : start + 3]
    if values:
        rows = data.draw(st.lists(st.integers(-len(values), len(values) - 1), max_size=5))
        assert dataset[rows]["v"] == [values[row] for row in rows]


def test_rows_that_lie_far_apart_in_many_chunks() -> None:
    chunks = [pa.array([f"{chunk}-{row}" for row in range(10)]) for chunk in range(300)]
    dataset = Dataset(pa.table({"s": pa.chunked_array(chunks)}))
    order = np.random.default_rng(0).permutation(3000)
    assert dataset.select(order)["s"][:] == [f"{row // 10}-{row % 10}" for row in order]
    # and rows that lie close together, out of order
    close = np.array([5, 3, 12, 4, 11, 9, 10, 2] * 10)
    assert dataset.select(close)["s"][:] == [f"{row // 10}-{row % 10}" for row in close]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("nulls", ["at_start", "at_end"])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_is_no_number_stands_beside_what_is_missing(reverse: bool, nulls: str, kind: str) -> None:
    values = pa.array([float("nan"), 1.0, None, 2.0, float("nan"), None, 0.5], type=kind)
    columns = {"a": values, "i": pa.array(range(7))}
    ours = Dataset(pa.table(columns)).sort("a", reverse, null_placement=nulls)
    theirs = reference.Dataset(reference.table.InMemoryTable(pa.table(columns))).sort(
        "a", reverse, null_placement=nulls
    )
    assert ours["i"][:] == theirs["i"][:]
