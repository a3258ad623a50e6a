"""What a data set is and how it is read: the article's examples, and the same answers as the reference library."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pyarrow as pa
import pytest
import torch

from plait.data import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from plait.errors import ColumnError, DataError, OptionError, RowError


@pytest.fixture
def mixed() -> dict[str, list[Any]]:
    return {
        "text": ["a", "bb", None],
        "label": [1, 2, 3],
        "score": [1.0, 2.5, 3.0],
        "ids": [[1, 2], [3], []],
        "pair": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "who": [{"name": "x", "age": 1}, {"name": "y", "age": 2}, None],
        "maybe": [1, None, 3],
        "flag": [True, False, True],
    }


def test_the_article_prints_what_it_says() -> None:
    dataset = Dataset.from_dict({"text": ["hello", "world"], "label": [0, 1]})
    assert repr(dataset) == "Dataset({\n    features: ['text', 'label'],\n    num_rows: 2\n})"
    assert repr(dataset.features) == "{'text': Value('string'), 'label': Value('int64')}"
    assert dataset.num_rows == 2
    assert dataset.column_names == ["text", "label"]
    assert dataset.shape == (2, 2)
    assert repr(dataset["text"]) == "Column(['hello', 'world'])"


def test_the_article_maps_filters_and_prints_splits() -> None:
    dataset = Dataset.from_dict({"text": ["hello", "bye"], "label": [0, 1]})

    def add_length(example: dict[str, Any]) -> dict[str, Any]:
        example["length"] = len(example["text"])
        return example

    longer = dataset.map(add_length)
    assert longer[0] == {"text": "hello", "label": 0, "length": 5}
    assert longer.filter(lambda example: example["label"] == 1).to_list() == [{"text": "bye", "label": 1, "length": 3}]
    parts = dataset.train_test_split(test_size=0.5, seed=0)
    assert repr(parts).startswith("DatasetDict({\n    train: Dataset({\n        features: ['text', 'label'],")


def test_pictures_are_declared_or_refused_with_the_remedy() -> None:
    from PIL import Image as Pictures

    dataset = Dataset.from_dict({"n": [1, 2]})
    remedy = (
        "is no value that a column can hold. A column of pictures is declared: features=Features({…, name: Image()})."
    )

    def draw(row: dict[str, Any]) -> dict[str, Any]:
        return {"picture": Pictures.new("RGB", (row["n"], 3))}

    for make in (lambda: dataset.map(draw), lambda: Dataset.from_list([draw({"n": 1})])):
        with pytest.raises(DataError, match=re.escape(remedy)):
            make()
    drawn = dataset.map(draw, features=Features({**dataset.features, "picture": Image()}))
    assert [picture.size for picture in drawn["picture"]] == [(1, 3), (2, 3)]
    with pytest.raises(DataError, match=r"\(object\) is no value that a column can hold. Make text, numbers, lists or"):
        dataset.map(lambda row: {"thing": object()})


def test_what_a_function_returns_has_its_own_type_where_the_old_one_does_not_hold_it() -> None:
    ours, theirs = (kind.from_dict({"a": [1, 0]}) for kind in (Dataset, reference.Dataset))
    for function, kept in (
        (lambda row: {"a": row["a"] + 1}, True),
        (lambda row: {"a": str(row["a"])}, False),
        (lambda row: {"a": row["a"] > 0}, False),
    ):
        assert theirs.map(function).features == {"a": reference.Value("int64")}, "turned back into numbers"
        mapped = ours.map(function)
        assert (mapped.features == {"a": Value("int64")}) == kept
        assert mapped[0] == function({"a": 1})


def test_a_split_that_is_no_data_set_is_named() -> None:
    with pytest.raises(DataError) as caught:
        DatasetDict(train=Dataset.from_dict({"a": [1]}), test=[{"a": 1}])
    assert str(caught.value) == (
        "Split 'test' is a list, not a Dataset. Make one with Dataset.from_dict, from_list or from_pandas."
    )


@pytest.mark.parametrize(
    "key",
    [0, -1, slice(0, 2), slice(None, None, -1), slice(2, 0), [0, 2], [2, 0, 2], range(2), (1,), np.array([0, 2]), []],
    ids=repr,
)
def test_rows_equal_the_reference(mixed: dict[str, Any], key: Any) -> None:
    assert Dataset.from_dict(mixed)[key] == reference.Dataset.from_dict(mixed)[key]


def test_iteration_and_columns_equal_the_reference(mixed: dict[str, Any]) -> None:
    ours, theirs = Dataset.from_dict(mixed), reference.Dataset.from_dict(mixed)
    assert list(ours) == list(theirs)
    assert list(ours.iter(2)) == list(theirs.iter(2))
    assert list(ours.iter(2, drop_last_batch=True)) == list(theirs.iter(2, drop_last_batch=True))
    for name in mixed:
        assert list(ours[name]) == list(theirs[name])
        assert ours[name][1] == theirs[name][1]
        assert ours[name][-2:] == theirs[name][-2:]
    assert ours["who"]["name"] == ["x", "y", None]
    assert repr(ours.features) == repr(theirs.features)


def test_a_mask_selects_rows() -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    assert dataset[np.array([True, False, True])]["a"] == [1, 3]
    with pytest.raises(DataError, match="A mask needs one value per row: it has 2, the data set 3 rows"):
        dataset[[True, False]]


@pytest.mark.parametrize("key", [3, -4, [0, 3], [-4]])
def test_a_row_that_is_not_there(key: Any) -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    with pytest.raises(RowError, match=r"There is no row (3|-4): the data set has 3 rows"):
        dataset[key]
    with pytest.raises(IndexError):
        dataset[key]


def test_a_wrong_column_names_the_nearest() -> None:
    dataset = Dataset.from_dict({"辐照度": [1.0], "温度": [2.0], "湿度": [3.0]})
    for attempt in (
        lambda: dataset["温渡"],
        lambda: dataset.sort("温渡"),
        lambda: dataset.rename_column("温渡", "t"),
        lambda: dataset.remove_columns("温渡"),
        lambda: dataset.select_columns(["温渡"]),
        lambda: dataset.map(lambda t: {}, input_columns="温渡"),
        lambda: dataset.filter(lambda t: True, input_columns=["温渡"]),
        lambda: dataset.map(lambda row: {"x": row["温渡"]}),
        lambda: dataset.with_format("numpy", columns=["温渡"]),
        lambda: dataset.unique("温渡"),
        lambda: dataset.cast_column("温渡", "int64"),
        lambda: dataset.class_encode_column("温渡"),
        lambda: dataset.filter(pa.compute.field("温渡") > 1),
    ):
        with pytest.raises(ColumnError) as caught:
            attempt()
        assert str(caught.value) == (
            "There is no column '温渡'. Did you mean '温度'? Columns are ['辐照度', '温度', '湿度']."
        )


def test_columns_of_different_lengths() -> None:
    with pytest.raises(DataError, match=r"Columns must have the same number of values, but they have {'a': 2, 'b': 1}"):
        Dataset.from_dict({"a": [1, 2], "b": [1]})


def test_rows_are_chosen_by_what_makes_sense() -> None:
    with pytest.raises(OptionError, match="Rows are chosen by an integer, a slice, a list of integers or a mask"):
        Dataset.from_dict({"a": [1]})[1.5]


def test_a_column_is_an_array_of_its_own() -> None:
    column = Dataset.from_dict({"a": [1, 2]})["a"]
    array = np.array(column, dtype=np.float32)
    array[0] = 7
    assert (array.tolist(), column[:]) == ([7.0, 2.0], [1, 2])
    with pytest.raises(DataError, match="Column 'a' is read into an array of its own: leave out copy=False"):
        column.__array__(copy=False)


# --- formats ---


def same(ours: Any, theirs: Any) -> None:
    """Equal values of equal types and dtypes, at any depth."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for name in theirs:
            same(ours[name], theirs[name])
    elif isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object or isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for left, right in zip(ours, theirs, strict=True):
            same(left, right)
    elif isinstance(theirs, np.ndarray | np.generic):
        assert np.asarray(ours).dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("key", [slice(0, 2), 1, [2, 0]], ids=repr)
def test_tensors_equal_the_reference(mixed: dict[str, Any], kind: str, key: Any) -> None:
    del mixed["who"]  # structs: below
    if kind == "numpy":
        del mixed["text"]  # a null in a text column: below
    same(Dataset.from_dict(mixed).with_format(kind)[key], reference.Dataset.from_dict(mixed).with_format(kind)[key])


def test_tensors_of_structs_and_nulls(mixed: dict[str, Any]) -> None:
    dataset = Dataset.from_dict(mixed)
    assert dataset.with_format("torch")[0]["who"] == {"name": "x", "age": torch.tensor(1)}
    assert dataset.with_format("numpy")[:]["text"].tolist() == ["a", "bb", None]
    assert np.isnan(dataset.with_format("numpy")[1]["maybe"])
    assert dataset.with_format("torch")[:]["maybe"].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas", "arrow"])
def test_iteration_in_a_format_equals_indexing(mixed: dict[str, Any], kind: str) -> None:
    dataset = Dataset.from_dict({name: mixed[name] for name in ("label", "score", "pair", "flag")}).with_format(kind)
    rows = list(dataset)
    assert len(rows) == 3
    for index, row in enumerate(rows):
        if kind in ("pandas", "arrow"):
            assert row.equals(dataset[index])
        else:
            same(row, dataset[index])


def test_a_column_of_a_table_is_one_of_its_library() -> None:
    dataset = Dataset.from_dict({"label": [3, 1, 3], "text": ["a", "b", "c"]}).select([2, 1, 0])
    assert dataset.with_format("pandas")["label"].value_counts().to_dict() == {3: 2, 1: 1}
    assert dataset.with_format("polars")["text"].to_list() == ["c", "b", "a"]
    assert dataset.with_format("arrow")["text"].to_pylist() == ["c", "b", "a"]
    assert dataset.with_format("pandas").unique("label") == [3, 1]


def test_numbers_reach_numpy_without_a_copy() -> None:
    dataset = Dataset.from_dict({"a": np.arange(10), "b": np.ones((10, 3), np.float32)}).with_format("numpy")
    values = dataset.table.columns["a"].store.chunks[0].to_numpy()
    assert np.shares_memory(dataset[2:5]["a"], values)
    stored = dataset.table.columns["b"].store.chunks[0].values.to_numpy()
    assert np.shares_memory(dataset[2:5]["b"], stored)
    with pytest.raises(ValueError, match="read-only"):
        dataset[2:5]["a"][0] = 7


def test_a_tensor_owns_its_memory_unless_told() -> None:
    dataset = Dataset.from_dict({"a": np.arange(10)})
    batch = dataset.with_format("torch")[:]
    batch["a"][0] = 7  # must not reach the data set
    assert dataset[0] == {"a": 0}
    shared = dataset.with_format("torch", copy=False)[:]["a"]
    assert shared.data_ptr() == dataset.table.columns["a"].store.chunks[0].buffers()[1].address


def test_format_options_columns_and_context() -> None:
    dataset = Dataset.from_dict({"a": [1, 2], "b": [1.5, 2.5], "c": ["x", "y"]})
    shown = dataset.with_format("torch", columns=["b"], output_all_columns=True, dtype=torch.float64)
    assert shown[0] == {"b": torch.tensor(1.5, dtype=torch.float64), "a": 1, "c": "x"}
    assert shown[:]["b"].dtype == torch.float64
    assert shown[:]["c"] == ["x", "y"]
    assert [row["c"] for row in shown] == ["x", "y"]
    assert shown.format == {
        "type": "torch",
        "format_kwargs": {"dtype": torch.float64},
        "columns": ["b"],
        "output_all_columns": True,
    }
    with dataset.formatted_as("numpy", columns=["a"]):
        assert list(dataset[0]) == ["a"]
    assert dataset[0] == {"a": 1, "b": 1.5, "c": "x"}
    with pytest.raises(OptionError, match="There is no format 'nunpy'. Did you mean 'numpy'?"):
        dataset.set_format("nunpy")


def test_a_transform_is_applied_when_rows_are_read() -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    doubled = dataset.with_transform(lambda batch: {"a": [2 * value for value in batch["a"]], "n": batch["a"]})
    assert doubled[1] == {"a": 4, "n": 2}
    assert doubled[:2] == {"a": [2, 4], "n": [1, 2]}
    assert list(doubled) == [{"a": 2, "n": 1}, {"a": 4, "n": 2}, {"a": 6, "n": 3}]


# --- torch ---


def test_a_torch_loader_reads_it() -> None:
    dataset = Dataset.from_dict({"a": list(range(10)), "b": np.arange(20.0).reshape(10, 2)}).with_format("torch")
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    batches = list(loader)
    assert [batch["a"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[1]["b"].tolist() == [[8.0, 9.0], [10.0, 11.0], [12.0, 13.0], [14.0, 15.0]]


def test_worker_processes_map_the_files_again(tmp_path: Path) -> None:
    Dataset.from_dict({"a": list(range(100))}).save_to_disk(tmp_path / "d")
    dataset = Dataset.load_from_disk(tmp_path / "d").shuffle(seed=1)
    data = pickle.dumps(dataset.select(range(10)))
    assert len(data) < 2000  # names of files and ten row numbers, not the column
    assert pickle.loads(data)["a"] == dataset[:10]["a"]
    loader = torch.utils.data.DataLoader(
        dataset.with_format("torch"), batch_size=50, num_workers=1, multiprocessing_context="spawn"
    )
    assert torch.cat([batch["a"] for batch in loader]).tolist() == dataset["a"]


# --- making ---


def test_types_follow_from_all_values() -> None:
    dataset = Dataset.from_list([{"a": 1}, {"a": 2.5, "b": "x"}, {"b": None, "c": [{"d": 1}]}])
    assert repr(dataset.features) == "{'a': Value('float64'), 'b': Value('string'), 'c': List({'d': Value('int64')})}"
    assert dataset.to_list() == [
        {"a": 1.0, "b": None, "c": None},
        {"a": 2.5, "b": "x", "c": None},
        {"a": None, "b": None, "c": [{"d": 1}]},
    ]


def test_values_without_a_common_type_name_both_rows() -> None:
    with pytest.raises(DataError) as caught:
        Dataset.from_dict({"a": [None, 1, "x"]})
    assert str(caught.value) == (
        "column 'a' has values without a common type: 1 (int) in row 1 and 'x' (str) in row 2. "
        "Make them one type, or declare one with features=."
    )
    stored = Dataset.from_dict({"a": [None, 1, "x"]}, on_mixed_types="use_json")
    assert stored.to_dict() == {"a": [None, 1, "x"]}


def test_a_value_that_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match=r"column 'a', row 1: 300 \(int\) does not fit the declared type int8"):
        Dataset.from_dict({"a": [1, 300]}, features=Features({"a": Value("int8")}))
    with pytest.raises(DataError, match="column 'a', row 1: 'q' is not a class. Classes are 'x', 'y'"):
        Dataset.from_dict({"a": ["x", "q"]}, features=Features({"a": ClassLabel(names=["x", "y"])}))


def test_from_generator_pandas_and_arrow() -> None:
    import pandas as pd

    def rows(count: int) -> Any:
        for index in range(count):
            yield {"i": index if index < 1500 else index + 0.5, "s": str(index)}

    made = Dataset.from_generator(rows, gen_kwargs={"count": 2500})
    assert made.features == Features({"i": Value("float64"), "s": Value("string")})
    assert made[1999] == {"i": 1999.5, "s": "1999"}
    frame = pd.DataFrame({"x": [1, 2], "y": ["a", None], "z": [0.5, float("nan")]})
    assert Dataset.from_pandas(frame).to_dict() == {"x": [1, 2], "y": ["a", None], "z": [0.5, None]}
    table = pa.table({"a": pa.array([1, 2], pa.int16()), "b": [[1], [2, 3]]})
    assert Dataset(table).to_dict() == {"a": [1, 2], "b": [[1], [2, 3]]}
    assert Dataset(table).features == Features({"a": Value("int16"), "b": List(Value("int64"))})


def test_numpy_and_torch_columns_keep_their_dtype() -> None:
    dataset = Dataset.from_dict(
        {
            "a": np.ones(2, np.float32),
            "b": torch.ones(2, 3, dtype=torch.int16),
            "c": [np.ones(2, np.int8), np.ones(1, np.int8)],
            "d": torch.ones(2, dtype=torch.bfloat16),
        }
    )
    assert repr(dataset.features) == (
        "{'a': Value('float32'), 'b': List(Value('int16')), 'c': List(Value('int8')), 'd': Value('float32')}"
    )


def test_load_dataset_reads_the_solar_columns(tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_bytes(
        "辐照度,温度,湿度,压强,实发功率\n800,25.5,40,101,3.2\n0,10,80,100,0\n".encode("gb18030")
    )
    dataset = load_dataset("csv", data_files=str(tmp_path / "power.csv"), encoding="gb18030", keep_in_memory=True)
    assert dataset["train"].column_names == ["辐照度", "温度", "湿度", "压强", "实发功率"]
    assert dataset["train"][1] == {"辐照度": 0, "温度": 10.0, "湿度": 80, "压强": 100, "实发功率": 0.0}


def test_what_a_data_set_was_made_of_may_change_afterwards() -> None:
    import pandas as pd

    array, tensor, frame = np.arange(3), torch.arange(3), pd.DataFrame({"a": np.arange(3)})
    made = [
        Dataset.from_dict({"a": array}),
        Dataset.from_dict({"a": tensor}),
        Dataset.from_dict({"a": frame["a"]}),
        Dataset.from_dict({"b": [0, 0, 0]}).add_column("a", array),
        Dataset.from_pandas(frame),
    ]
    array[:], tensor[:] = 9, 9
    frame.loc[0, "a"] = 9
    assert [dataset["a"][:] for dataset in made] == [[0, 1, 2]] * 5
