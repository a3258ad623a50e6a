"""Columns renamed, removed, added, cast, encoded; data sets put together: equal to the reference library."""

from __future__ import annotations

from typing import Any

import datasets as reference
import numpy as np
import pytest
import torch

from plait.data import ClassLabel, Dataset, Features, Json, LargeList, List, Value, concatenate_datasets
from plait.errors import ColumnError, DataError, OptionError

COLUMNS: dict[str, Any] = {"a": [1, 2, 3], "b": ["x", "y", None], "c": [[1], [], [2, 3]]}


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_dict(COLUMNS)


def test_renaming_removing_and_choosing_share_the_columns(dataset: Dataset) -> None:
    renamed = dataset.rename_columns({"a": "b", "b": "a"})
    assert renamed[0] == {"b": 1, "a": "x", "c": [1]}
    assert renamed.table.columns["b"].store is dataset.table.columns["a"].store
    assert dataset.rename_column("a", "z").column_names == ["z", "b", "c"]
    assert dataset.remove_columns(["a", "c"]).to_dict() == {"b": ["x", "y", None]}
    assert dataset.select_columns(["c", "a"]).column_names == ["c", "a"]
    assert dataset.select_columns("b").column_names == ["b"]
    with pytest.raises(DataError, match="There would be 2 columns called 'b' after renaming {'a': 'b'}"):
        dataset.rename_column("a", "b")


def test_the_format_follows_renamed_columns(dataset: Dataset) -> None:
    shown = dataset.with_format("numpy", columns=["a"]).rename_column("a", "z")
    assert shown.format["columns"] == ["z"]
    assert shown[0] == {"z": 1}
    assert dataset.with_format("numpy", columns=["a", "b"]).remove_columns("b").format["columns"] == ["a"]


def test_adding_a_column_and_a_row(dataset: Dataset) -> None:
    more = dataset.add_column("d", np.array([0.5, 1.5, 2.5], np.float32))
    assert more[1] == {"a": 2, "b": "y", "c": [], "d": 1.5}
    assert more.features["d"] == Value("float32")
    assert more.add_column("e", ["p", "q", "p"], feature=ClassLabel(names=["p", "q"]))["e"] == [0, 1, 0]
    assert dataset.add_item({"a": 4, "c": [9]})[3] == {"a": 4, "b": None, "c": [9]}
    with pytest.raises(DataError, match="Column 'd' has 2 values, but the data set has 3 rows"):
        dataset.add_column("d", [1, 2])
    with pytest.raises(DataError, match="There is a column 'a' already"):
        dataset.add_column("a", [1, 2, 3])
    with pytest.raises(ColumnError, match="There is no column 'aa'. Did you mean 'a'?"):
        dataset.add_item({"aa": 1})


def test_casting(dataset: Dataset) -> None:
    cast = dataset.cast_column("a", Value("float32"))
    assert cast["a"] == [1.0, 2.0, 3.0]
    assert cast.features["a"] == Value("float32")
    assert cast.table.columns["b"].store is dataset.table.columns["b"].store
    whole = dataset.cast(Features({"a": Value("string"), "b": Value("large_string"), "c": LargeList(Value("int8"))}))
    assert whole.to_dict() == {"a": ["1", "2", "3"], "b": ["x", "y", None], "c": [[1], [], [2, 3]]}
    assert Dataset.from_dict({"a": ["1", "2"]}).cast_column("a", Value("int32"))["a"] == [1, 2]
    with pytest.raises(DataError, match=r"column 'a', row 1: 'x' \(str\) does not fit the declared type int32"):
        Dataset.from_dict({"a": ["1", "x"]}).cast_column("a", Value("int32"))
    with pytest.raises(DataError, match=r"column 'a', row 1: 1.5 \(float\) does not fit the declared type int64"):
        Dataset.from_dict({"a": [1.0, 1.5]}).cast_column("a", Value("int64"))
    with pytest.raises(DataError, match="cast needs a type for each of the columns"):
        dataset.cast(Features({"a": Value("string")}))


def test_casting_class_labels_both_ways() -> None:
    dataset = Dataset.from_dict({"y": ["dog", "cat", None]})
    labels = ClassLabel(names=["cat", "dog"])
    encoded = dataset.cast_column("y", labels)
    assert encoded["y"] == [1, 0, None]
    assert encoded.cast_column("y", Value("string"))["y"] == ["dog", "cat", None]
    assert encoded.features["y"].int2str([1, 0]) == ["dog", "cat"]
    with pytest.raises(DataError, match="column 'n', row 1: 2 is not the number of a class: there are 2, from 0"):
        Dataset.from_dict({"n": [1, 2]}).cast_column("n", labels)


@pytest.mark.parametrize(
    "values", [["x", "q", None, "x"], [3, 1, 3], [True, False], [1.5, 2.0, None], ["b", "a", "é", "中"]], ids=repr
)
@pytest.mark.parametrize("nulls", [False, True])
def test_class_encoding_equals_the_reference(values: list[Any], nulls: bool) -> None:
    ours = Dataset.from_dict({"a": values}).class_encode_column("a", include_nulls=nulls)
    theirs = reference.Dataset.from_dict({"a": values}).class_encode_column("a", include_nulls=nulls)
    assert ours["a"][:] == theirs["a"][:]
    assert repr(ours.features) == repr(theirs.features)


def test_aligning_labels_with_a_model() -> None:
    features = Features({"y": ClassLabel(names=["entailment", "neutral", "contradiction"])})
    dataset = Dataset.from_dict({"y": [0, 1, 2, -1, None]}, features=features)
    mapping = {"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2}
    aligned = dataset.align_labels_with_mapping(mapping, "y")
    assert aligned["y"] == [2, 1, 0, -1, None]
    assert aligned.features["y"] == ClassLabel(names=["CONTRADICTION", "NEUTRAL", "ENTAILMENT"])
    with pytest.raises(DataError, match="label2id has no number for 'neutral'. Did you mean 'neutrall'?"):
        dataset.align_labels_with_mapping({"entailment": 0, "neutrall": 1, "contradiction": 2}, "y")


def test_flattening_and_unique() -> None:
    columns = {"s": [{"x": 1, "t": {"u": "p"}}, None], "n": [1, 1], "l": [[1], [1]]}
    ours, theirs = Dataset.from_dict(columns), reference.Dataset.from_dict(columns)
    flat = ours.flatten()
    assert flat.to_dict() == theirs.flatten().to_dict()
    assert flat.column_names == ["s.x", "s.t.u", "n", "l"]
    assert ours.select([1, 0]).flatten()["s.x"] == [None, 1]
    assert Dataset.from_dict({"a": [3, 1, 3, None]}).unique("a") == [3, 1, None]
    assert ours.unique("l") == [[1]]


# --- together ---


def test_below_each_other() -> None:
    first = Dataset.from_dict({"a": [1, 2], "b": ["x", "y"]})
    second = Dataset.from_dict({"b": ["z"], "a": [2.5], "c": [True]})
    whole = concatenate_datasets([first, second.shuffle(seed=0), first.select([1])])
    assert whole.to_dict() == {"a": [1.0, 2.0, 2.5, 2.0], "b": ["x", "y", "z", "y"], "c": [None, None, True, None]}
    assert whole.features == Features({"a": Value("float64"), "b": Value("string"), "c": Value("bool")})
    with pytest.raises(
        DataError, match="Column 'a' has types that do not go together: Value.'int64'. and Value.'string'."
    ):
        concatenate_datasets([first, Dataset.from_dict({"a": ["x"]})])
    with pytest.raises(OptionError, match="concatenate_datasets needs at least one data set"):
        concatenate_datasets([])
    with pytest.raises(OptionError, match="number 1 has splits: choose one of"):
        concatenate_datasets([first, {"a": [1]}])  # type: ignore[list-item]


def test_nothing_is_copied_below_each_other() -> None:
    first = Dataset.from_dict({"a": np.arange(1000)})
    whole = concatenate_datasets([first, first.select(range(10, 20))])
    chunks = whole.table.columns["a"].store.chunks
    assert len(chunks) == 2
    assert chunks[0].buffers()[1].address == first.table.columns["a"].store.chunks[0].buffers()[1].address
    assert whole["a"][:] == [*range(1000), *range(10, 20)]


def test_beside_each_other() -> None:
    whole = concatenate_datasets([Dataset.from_dict({"a": [1, 2]}), Dataset.from_dict({"b": ["x", "y"]})], axis=1)
    assert whole.to_list() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(DataError, match=r"Side by side, data sets need one length, but they have \[1, 2\]"):
        concatenate_datasets([Dataset.from_dict({"a": [1]}), Dataset.from_dict({"b": [1, 2]})], axis=1)
    with pytest.raises(DataError, match="Two of the data sets have a column 'a'"):
        concatenate_datasets([Dataset.from_dict({"a": [1]}), Dataset.from_dict({"a": [1]})], axis=1)


def test_empty_data_sets() -> None:
    empty = Dataset.from_dict({})
    assert len(empty) == 0
    assert empty.column_names == []
    assert list(empty) == []
    none = Dataset.from_dict({"a": []})
    assert none.features == Features({"a": Value("null")})
    assert none.map(lambda row: {"b": 1}).column_names == ["a"]
    assert concatenate_datasets([none, Dataset.from_dict({"a": [1]})])["a"] == [1]
    assert Dataset.from_dict({"a": []}, features=Features({"a": List(Value("int8"))})).features["a"] == List(
        Value("int8")
    )


def test_fields_in_another_order_are_the_same_fields() -> None:
    first = Dataset.from_dict({"a": [{"x": 1, "y": 2}], "l": [[{"x": 1, "y": 2}]]})
    second = Dataset.from_dict({"a": [{"y": 20, "x": 10}], "l": [[{"y": 20, "x": 10}]]})
    both = concatenate_datasets([first, second])
    assert both["a"] == [{"x": 1, "y": 2}, {"x": 10, "y": 20}]
    assert both["l"] == [[{"x": 1, "y": 2}], [{"x": 10, "y": 20}]]
    assert list(both.features["a"]) == ["x", "y"]
    cast = first.cast_column("a", second.features["a"])
    assert [list(row["a"]) for row in cast] == [["y", "x"]]
    assert cast["a"] == [{"x": 1, "y": 2}]


def test_classes_of_different_names_do_not_go_together() -> None:
    first = Dataset.from_dict({"a": [0, 1]}).cast_column("a", ClassLabel(names=["no", "yes"]))
    second = first.cast_column("a", ClassLabel(names=["yes", "no"]))
    with pytest.raises(
        DataError,
        match=r"^Column 'a' has the classes \['no', 'yes'\] in one of the data sets and \['yes', 'no'\] in another, so "
        r"their numbers mean different things\. Call align_labels_with_mapping first\.$",
    ):
        concatenate_datasets([first, second])
    aligned = second.align_labels_with_mapping({"no": 0, "yes": 1}, "a")
    assert concatenate_datasets([first, aligned])["a"] == [0, 1, 1, 0]


def test_text_becomes_json_and_json_text() -> None:
    dataset = Dataset.from_dict({"a": ["hello", None, "1"], "n": [{"x": "hi"}] * 3})
    cast = dataset.cast(Features({"a": Json(), "n": {"x": Json()}}))
    assert cast["a"] == ["hello", None, "1"]
    assert cast["n"] == [{"x": "hi"}] * 3
    assert cast.cast_column("a", Value("string"))["a"] == ['"hello"', None, '"1"']


def test_names_of_columns_are_text(dataset: Dataset) -> None:
    message = r"^The name of a column is text, but 5 is int\.$"
    for make in (
        lambda: Dataset.from_dict({5: [1]}),  # type: ignore[dict-item]
        lambda: dataset.add_column(5, [1, 2, 3]),  # type: ignore[arg-type]
        lambda: dataset.rename_column("a", 5),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=message):
            make()


def test_a_tensor_of_one_number_names_a_row(dataset: Dataset) -> None:
    assert dataset[np.array(-1)] == dataset[torch.tensor(2)] == dataset[2]
