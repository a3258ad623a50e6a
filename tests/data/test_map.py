"""map and filter: the same results as the reference library, and only made or changed columns written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from plait.data import ClassLabel, Dataset, Features, List, Value, load_from_disk
from plait.errors import ColumnError, DataError, OptionError

COLUMNS = {"t": ["a", "bb", "ccc", "d"], "i": [1, 2, 3, 4], "n": [[1], [2, 3], [], [4]]}


def pop(name: str) -> Any:
    def function(row: dict[str, Any]) -> dict[str, Any]:
        row.pop(name)
        return row

    return function


def delete(row: dict[str, Any]) -> dict[str, Any]:
    del row["t"]
    return row


def set_and_return_another(row: dict[str, Any]) -> dict[str, Any]:
    row["t"] = "Z"
    return {"q": 1}


def change_a_list(row: dict[str, Any]) -> dict[str, Any]:
    row["n"].append(9)
    return row


ROWWISE = {
    "new column": lambda row: {"z": len(row["t"])},
    "changed": lambda row: {"i": row["i"] * 2},
    "in place": lambda row: row.update(z=row["i"]) or row,
    "a copy": lambda row: {**row, "z": 1},
    "dict of it": lambda row: dict(row),
    "popped": pop("t"),
    "deleted": delete,
    "deleted, and another returned": lambda row: (row.pop("t"), {"z": 1})[1],
    "set in place": set_and_return_another,
    "a list changed in place": change_a_list,
    "nothing": lambda row: None,
    "another type": lambda row: {"i": row["t"] * row["i"]},
    "floats for integers": lambda row: {"i": row["i"] + 0.5},
    "a tuple": lambda row: {"z": (1, row["i"])},
    "numpy scalar": lambda row: {"z": np.float32(row["i"])},
    "numpy array": lambda row: {"z": np.ones((2, 2), np.float32) * row["i"]},
    "late float": lambda row: {"z": row["i"] if row["i"] < 3 else 1.5},
    "late text": lambda row: {"z": None if row["i"] < 3 else "x"},
    "a dict": lambda row: {"z": {"x": row["i"], "y": [row["t"]]}},
    "get and in": lambda row: {"z": row.get("i", 0) + row.get("absent", 5), "y": "t" in row},
    "keys": lambda row: {"z": list(row), "y": len(row)},
}


@pytest.mark.parametrize("name", ROWWISE)
def test_rows_equal_the_reference(name: str) -> None:
    ours = Dataset.from_dict(COLUMNS).map(ROWWISE[name])
    theirs = reference.Dataset.from_dict(COLUMNS).map(ROWWISE[name])
    assert ours.to_dict() == theirs.to_dict()
    assert repr(ours.features) == repr(theirs.features)


@pytest.mark.parametrize("cheap", [True, False])
@pytest.mark.parametrize("name", ROWWISE)
def test_rows_after_those_that_are_watched_equal_the_reference(name: str, cheap: bool) -> None:
    # what a function looks at is learned from the first 100 rows; then rows are plain dicts, or, with lists, lazy ones
    function = ROWWISE[name]
    if cheap and "list changed" in name:
        return
    columns = {key: values * 60 for key, values in COLUMNS.items() if not cheap or key != "n"}
    ours = Dataset.from_dict(columns).map(function)
    theirs = reference.Dataset.from_dict(columns).map(function)
    assert ours.to_dict() == theirs.to_dict()
    assert repr(ours.features) == repr(theirs.features)


def change_late(row: dict[str, Any], index: int) -> dict[str, Any] | None:
    """Something else at every hundred rows."""
    if index < 100:
        return None
    if index < 200:
        row["i"] = -1
        return {"z": 1}
    if index < 300:
        del row["t"]
        return row
    if index < 400:
        row["y"] = "new"
        return None
    return {} if index % 2 else {"i": 7}


def test_plain_rows_and_lazy_rows_come_to_the_same() -> None:
    columns = {"t": [str(i) for i in range(500)], "i": list(range(500))}
    plain = Dataset.from_dict(columns).map(change_late, with_indices=True)
    lazy = Dataset.from_dict({**columns, "n": [[1]] * 500}).map(change_late, with_indices=True)
    assert plain.to_dict() == lazy.remove_columns("n").to_dict()
    assert plain["i"][:] == [-1 if 100 <= i < 200 else 7 if i >= 400 and i % 2 == 0 else i for i in range(500)]
    assert plain["z"][:] == [1 if 100 <= i < 200 else None for i in range(500)]


ARGUMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "input_columns": (lambda t, i: {"z": t * i}, {"input_columns": ["t", "i"]}),
    "one input column": (lambda t: {"z": t + t}, {"input_columns": "t"}),
    "indices": (lambda row, index, k: {"z": index + k}, {"with_indices": True, "fn_kwargs": {"k": 5}}),
    "remove": (lambda row: {"z": row["t"]}, {"remove_columns": ["t", "n"]}),
    "remove what is returned": (lambda row: row, {"remove_columns": "t"}),
    "remove and make again": (lambda row: {"t": row["t"] + "!"}, {"remove_columns": ["t"]}),
    "batched": (lambda batch: {"z": [len(t) for t in batch["t"]]}, {"batched": True, "batch_size": 3}),
    "batch of all": (lambda batch: {"z": [len(batch["t"])] * 4}, {"batched": True, "batch_size": None}),
    "batch indices": (lambda batch, rows: {"z": rows}, {"batched": True, "batch_size": 3, "with_indices": True}),
    "drop last": (lambda batch: {"z": batch["i"]}, {"batched": True, "batch_size": 3, "drop_last_batch": True}),
    "fewer rows": (
        lambda batch: {"z": [sum(batch["i"])]},
        {"batched": True, "batch_size": 3, "remove_columns": ["t", "i", "n"]},
    ),
    "more rows": (
        lambda batch: {"t": [c for t in batch["t"] for c in t], "z": [c for t in batch["t"] for c in t.upper()]},
        {"batched": True, "batch_size": 2, "remove_columns": ["i", "n"]},
    ),
    "numpy batch": (lambda batch: {"z": np.arange(len(batch["t"]) * 2).reshape(-1, 2)}, {"batched": True}),
    "declared": (lambda row: {"z": row["i"]}, {}),
    "deleted, and another batch returned": (lambda batch: (batch.pop("t"), {"z": batch["i"]})[1], {"batched": True}),
    "a batch that comes back": (lambda batch: batch, {"batched": True}),
    "a batch changed in place": (lambda batch: batch.update(i=[0] * len(batch["i"])) or batch, {"batched": True}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_equal_the_reference(name: str) -> None:
    function, options = ARGUMENTS[name]
    ours = Dataset.from_dict(COLUMNS).map(function, **options)
    theirs = reference.Dataset.from_dict(COLUMNS).map(function, **options)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.column_names == theirs.column_names
    assert repr(ours.features) == repr(theirs.features)


def test_declared_features_convert_what_is_made_and_what_stays() -> None:
    features = {"t": Value("string"), "i": Value("int32"), "n": List(Value("int64")), "z": ClassLabel(names=["x", "y"])}
    theirs_of = {
        "t": reference.Value("string"),
        "i": reference.Value("int32"),
        "n": reference.List(reference.Value("int64")),
        "z": reference.ClassLabel(names=["x", "y"]),
    }

    def function(row: dict[str, Any]) -> dict[str, Any]:
        return {"z": "y" if row["i"] > 2 else "x"}

    ours = Dataset.from_dict(COLUMNS).map(function, features=Features(features))
    theirs = reference.Dataset.from_dict(COLUMNS).map(function, features=reference.Features(theirs_of))
    assert ours.to_dict() == theirs.to_dict()
    assert repr(ours.features) == repr(theirs.features)


@pytest.mark.parametrize("rows", [2, 99, 100, 101, 1000, 2500])
@pytest.mark.parametrize("kind", ["plain", "view"])
def test_any_number_of_rows(rows: int, kind: str) -> None:
    # around the block of 100 rows in which columns are learned, and the blocks of 1,000 after it
    dataset = Dataset.from_dict({"a": list(range(rows)), "b": [str(i) for i in range(rows)]})
    if kind == "view":
        dataset = dataset.shuffle(seed=3)
    numbers = dataset["a"][:]
    made = dataset.map(lambda row: {"c": row["a"] + 1, "d": row["b"]} if row["a"] % 7 else {"c": -1})
    assert made["c"] == [a + 1 if a % 7 else -1 for a in numbers]
    assert made["d"] == [str(a) if a % 7 else None for a in numbers]
    late = dataset.map(lambda row: {"a": 0.5} if row["a"] == numbers[-1] else {})
    assert late["a"][:] == [*map(float, numbers[:-1]), 0.5]


def test_text_stays_text_even_where_it_looks_like_the_numbers_it_replaces() -> None:
    # the reference library turns "1" back into 1 here, but "x" into text: the type then hangs on the values
    made = Dataset.from_dict({"i": [1, 2]}).map(lambda row: {"i": str(row["i"])})
    assert made["i"] == ["1", "2"]


# --- sharing: these fail if map rewrites all columns ---


def written(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in (home / "data" / "results").rglob("*.arrow")}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    rows = 20_000
    Dataset.from_dict({"text": ["some words " * 20] * rows, "label": list(range(rows))}).save_to_disk(tmp_path / "d")
    found = load_from_disk(tmp_path / "d")
    assert isinstance(found, Dataset)
    return found


def test_a_new_column_is_all_that_is_written(stored: Dataset, tmp_path: Path) -> None:
    made = stored.map(lambda row: {"length": len(row["text"])})
    assert made.table.columns["text"].store is stored.table.columns["text"].store
    files = written(tmp_path / "home")
    assert len(files) == 1
    # 8 bytes per row, and at most a tenth more for the file around them
    assert sum(files.values()) <= 1.1 * 8 * len(stored)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda row: row.update(length=len(row["text"])) or row, {}),
        (lambda row: {**row, "length": len(row["text"])}, {}),
        (lambda batch: {**batch, "length": [len(t) for t in batch["text"]]}, {"batched": True}),
        (lambda batch: batch.update(length=[len(t) for t in batch["text"]]) or batch, {"batched": True}),
    ],
    ids=["row itself", "row copied", "batch copied", "batch itself"],
)
def test_columns_returned_unchanged_stay_shared(stored: Dataset, tmp_path: Path, function: Any, options: Any) -> None:
    made = stored.map(function, **options)
    assert made.column_names == ["text", "label", "length"]
    assert made.table.columns["text"].store is stored.table.columns["text"].store
    assert made.table.columns["label"].store is stored.table.columns["label"].store
    assert sum(written(tmp_path / "home").values()) <= 1.1 * 8 * len(stored)


def test_nested_columns_stay_shared_unless_changed_in_place() -> None:
    dataset = Dataset.from_dict({"n": [[index, index] for index in range(300)], "i": list(range(300))})
    same = dataset.map(lambda row: {**row, "s": sum(row["n"])})
    assert same.table.columns["n"].store is dataset.table.columns["n"].store

    def change_one(row: dict[str, Any]) -> dict[str, Any]:
        if row["i"] == 250:
            row["n"][0] = -1
        return row

    changed = dataset.map(change_one)
    assert changed["n"][249:252] == [[249, 249], [-1, 250], [251, 251]]
    assert dataset["n"][250] == [250, 250]


def test_views_and_their_maps_share_too() -> None:
    dataset = Dataset.from_dict({"a": list(range(1000)), "b": [str(i) for i in range(1000)]})
    made = dataset.shuffle(seed=0).map(lambda row: {"c": row["a"] * 2})
    assert made.table.columns["b"].store is dataset.table.columns["b"].store
    assert made.table.columns["b"].rows is made.table.columns["a"].rows
    assert all(row["c"] == 2 * row["a"] == 2 * int(row["b"]) for row in made)
    again = made.filter(lambda row: row["c"] % 3 == 0).sort("a")
    assert [row["c"] for row in again] == [2 * a for a in range(0, 1000, 3)]


def test_a_function_reads_only_the_columns_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from plait.data import lazy

    decoded: list[str] = []
    original = lazy.Block.values

    def counting(self: lazy.Block, name: str) -> list[Any]:
        decoded.append(name)
        return original(self, name)

    monkeypatch.setattr(lazy.Block, "values", counting)
    # lists: numbers and short text are decoded all the same, because that costs less than watching for them
    dataset = Dataset.from_dict({"a": list(range(3000)), "b": [["x"]] * 3000})
    dataset.map(lambda row: {"c": row["a"]})
    dataset.filter(lambda row: row["a"] > 5)
    dataset.map(lambda batch: {"c": batch["a"]}, batched=True)
    assert set(decoded) == {"a"}


def test_a_row_kept_beyond_its_block_still_reads() -> None:
    kept: list[Any] = []
    Dataset.from_dict({"a": list(range(2000)), "b": [str(i) for i in range(2000)]}).map(kept.append)
    assert kept[5]["b"] == "5"
    assert kept[1500] == {"a": 1500, "b": "1500"}
    assert dict(kept[700]) == {"a": 700, "b": "700"}


# --- formats ---


def test_functions_get_rows_of_the_format() -> None:
    dataset = Dataset.from_dict({"x": [[1.0, 2.0], [3.0, 4.0]], "i": [1, 2]})
    made = dataset.with_format("numpy").map(lambda row: {"s": row["x"].sum(), "i": row["i"]})
    assert made.with_format(None).to_dict() == {"x": [[1.0, 2.0], [3.0, 4.0]], "i": [1, 2], "s": [3.0, 7.0]}
    assert made.format["type"] == "numpy"
    assert made.table.columns["i"].store is dataset.table.columns["i"].store

    def halve(batch: dict[str, Any]) -> dict[str, Any]:
        batch["x"] /= 2
        return batch

    changed = dataset.with_format("torch").map(halve, batched=True)
    assert changed.with_format(None)["x"] == [[0.5, 1.0], [1.5, 2.0]]
    assert dataset["x"] == [[1.0, 2.0], [3.0, 4.0]]


def test_functions_may_return_tables() -> None:
    dataset = Dataset.from_dict({"x": [1, 2, 3], "t": ["a", "b", "c"]})
    made = dataset.with_format("pandas").map(lambda frame: frame.assign(y=frame["x"] * 2), batched=True)
    assert made.with_format(None).to_dict() == {"x": [1, 2, 3], "t": ["a", "b", "c"], "y": [2, 4, 6]}
    assert made.table.columns["x"].store is dataset.table.columns["x"].store
    arrow = dataset.with_format("arrow").map(lambda table: table.filter(pc.field("x") > 1).drop(["t"]), batched=True)
    assert arrow.with_format(None).to_dict() == {"x": [2, 3]}


# --- filter ---


FILTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rows": (lambda row: row["i"] > 2, {}),
    "batch": (lambda batch: [i > 2 for i in batch["i"]], {"batched": True, "batch_size": 3}),
    "numpy": (lambda row: np.bool_(row["i"] > 1), {}),
    "none": (lambda row: None, {}),
    "numbers": (lambda row: row["i"] - 1, {}),
    "indices": (lambda row, index: index % 2 == 0, {"with_indices": True}),
    "input columns": (lambda i, t: i > len(t), {"input_columns": ["i", "t"]}),
    "nothing given": (None, {}),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_equal_the_reference(name: str) -> None:
    function, options = FILTERS[name]
    ours = Dataset.from_dict(COLUMNS).filter(function, **options)
    theirs = reference.Dataset.from_dict(COLUMNS).filter(function, **options)
    assert ours.to_dict() == theirs.to_dict()


def test_filter_by_expression() -> None:
    dataset = Dataset.from_dict({"a": list(range(10)), "b": ["x", None] * 5})
    assert dataset.filter((pc.field("a") > 3) & pc.field("b").is_valid())["a"] == [4, 6, 8]
    assert dataset.filter(pc.field("b") == "x")["a"] == [0, 2, 4, 6, 8]  # null is not equal to anything
    shuffled = dataset.shuffle(seed=1)
    assert shuffled.filter(pc.field("a") < 3)["a"] == [a for a in shuffled["a"] if a < 3]
    with pytest.raises(DataError, match="to choose rows it must give true or false"):
        dataset.filter(pc.field("a") + 1)
    with pytest.raises(DataError, match="does not fit the columns"):
        dataset.filter(pc.field("a") == "x")
    with pytest.raises(DataError, match="^The expression true names no column.$"):
        dataset.filter(pc.scalar(True))
    with pytest.raises(DataError, match=r"^The expression .* cannot be evaluated: divide by zero"):
        dataset.filter(pc.divide(pc.field("a"), pc.scalar(0)) > 1)


# --- errors ---


def test_a_function_that_returns_no_dict() -> None:
    with pytest.raises(DataError) as caught:
        Dataset.from_dict(COLUMNS).map(lambda row: row["i"] if row["i"] == 3 else {})
    assert str(caught.value) == (
        "The function returned 3 (int) for row 2. A function for map returns a dict of columns, or None to change "
        "nothing. To choose rows use filter."
    )


def test_a_batch_that_is_no_list() -> None:
    with pytest.raises(DataError, match="With batched=True column 'z' needs a list with one value per row"):
        Dataset.from_dict(COLUMNS).map(lambda batch: {"z": "abc"}, batched=True)
    with pytest.raises(DataError, match=r"columns of different lengths for the batch from row 0 on: {'y': 1, 'z': 2}"):
        Dataset.from_dict(COLUMNS).map(lambda batch: {"y": [1], "z": [1, 2]}, batched=True)


def test_a_batch_of_another_length_must_not_leave_columns_behind() -> None:
    with pytest.raises(DataError) as caught:
        Dataset.from_dict(COLUMNS).map(lambda batch: {"z": [1]}, batched=True)
    assert str(caught.value) == (
        "The function returned 1 rows for a batch of 4, but did not return ['t', 'i', 'n']. Return these columns too, "
        "or remove them with remove_columns=['t', 'i', 'n']."
    )


def test_filter_functions_that_return_rows() -> None:
    with pytest.raises(DataError, match="returned a dict. To change rows use map"):
        Dataset.from_dict(COLUMNS).filter(lambda row: {"z": 1})
    with pytest.raises(DataError, match="returned 1 values for a batch of 4 rows"):
        Dataset.from_dict(COLUMNS).filter(lambda batch: [True], batched=True)


def test_mixed_values_are_stored_as_json_or_refused() -> None:
    dataset = Dataset.from_dict({"i": list(range(2000))})
    for limit in (3, 1500):  # inside the first block, and many blocks later
        made = dataset.map(lambda row, limit=limit: {"z": row["i"] if row["i"] < limit else "x"})
        assert made["z"][:] == [i if i < limit else "x" for i in range(2000)]
        assert repr(made.features["z"]) == "Json(decode=True)"
        with pytest.raises(DataError, match="Column 'z' has values without a common type|column 'z' has values"):
            dataset.map(lambda row, limit=limit: {"z": row["i"] if row["i"] < limit else "x"}, on_mixed_types=None)


def test_features_that_do_not_match() -> None:
    dataset = Dataset.from_dict({"i": [1]})
    with pytest.raises(ColumnError, match="There is no column 'z'. Columns are"):
        dataset.map(lambda row: {"z": 1}, features=Features({"i": Value("int64")}))
    with pytest.raises(
        DataError, match=r"features= names the columns \['i', 'z'\], but the function and the data give"
    ):
        dataset.map(lambda row: {}, features=Features({"i": Value("int64"), "z": Value("int64")}))


def test_an_argument_that_does_not_exist() -> None:
    with pytest.raises(OptionError, match=r"map\(\) has no argument 'batch_sise'"):
        Dataset.from_dict(COLUMNS).map(lambda row: {}, batch_sise=3)
    with pytest.raises(OptionError, match=r"filter\(\) has no argument 'x'"):
        Dataset.from_dict(COLUMNS).filter(lambda row: True, x=3)


def test_an_error_of_the_function_comes_through_and_leaves_nothing(stored: Dataset, tmp_path: Path) -> None:
    def fails(row: dict[str, Any]) -> dict[str, Any]:
        if row["label"] == 15_000:
            raise ZeroDivisionError("of the user's")
        return {"z": row["text"]}

    with pytest.raises(ZeroDivisionError, match="of the user's"):
        stored.map(fails)
    assert not written(tmp_path / "home")
    assert not list((tmp_path / "home" / "data" / "making").iterdir())


def test_large_columns_in_memory_spill_to_unnamed_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from plait.data import writer

    monkeypatch.setattr(writer, "MEMORY_BYTES", 10_000)
    monkeypatch.setattr(writer, "BATCH_BYTES", 5_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = Dataset.from_dict({"i": list(range(5000))})
    made = dataset.map(lambda row: {"z": row["i"] if row["i"] < 4000 else row["i"] + 0.5, "s": str(row["i"])})
    assert made["z"][:] == [i if i < 4000 else i + 0.5 for i in range(5000)]
    assert made["s"][:] == [str(i) for i in range(5000)]
    assert len(made.table.columns["s"].store.chunks) > 1
    assert not list(tmp_path.iterdir())
    mixed = dataset.map(lambda row: {"z": row["i"] if row["i"] < 4000 else {"x": [row["i"]]}})
    assert mixed["z"][:] == [i if i < 4000 else {"x": [i]} for i in range(5000)]


def test_arrow_arrays_as_results() -> None:
    made = Dataset.from_dict({"i": [1, 2]}).map(lambda batch: {"z": pa.array([1.5, None])}, batched=True)
    assert made["z"] == [1.5, None]


def test_arrays_and_tensors_of_a_batch_reach_arrow_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from plait.data import encode
    from plait.text import BatchEncoding

    seen: list[type] = []
    original = encode.natural
    monkeypatch.setattr(encode, "natural", lambda values: seen.append(type(values)) or original(values))
    ids = np.arange(12, dtype=np.int32).reshape(4, 3)

    def function(batch: Any) -> BatchEncoding:
        columns = {"ids": ids, "mask": torch.from_numpy(ids % 2 == 0), "weights": torch.from_numpy(ids / 4).half()}
        return BatchEncoding(columns)

    made = Dataset.from_dict(COLUMNS).map(function, batched=True)
    assert not any(issubclass(kind, list) for kind in seen[-3:])
    kinds = {"ids": "int32", "mask": "bool", "weights": "float16"}
    assert {name: repr(made.features[name]) for name in kinds} == {n: f"List(Value('{k}'))" for n, k in kinds.items()}
    assert made["ids"][:] == ids.tolist()
    assert made["mask"][1] == [False, True, False]
    assert made["weights"][2] == [1.5, 1.75, 2.0]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_function_may_use_one_array_for_all_its_batches(kind: str) -> None:
    import torch

    buffer: Any = np.zeros((2, 2), dtype=np.int64) if kind == "numpy" else torch.zeros((2, 2), dtype=torch.int64)

    def function(batch: Any) -> dict[str, Any]:
        buffer[:, 0] = batch["i"][0]
        return {"z": buffer, "first": buffer[:, 0]}

    made = Dataset.from_dict(COLUMNS).map(function, batched=True, batch_size=2)
    assert made["z"][:] == [[1, 0], [1, 0], [3, 0], [3, 0]]
    assert made["first"][:] == [1, 1, 3, 3]


def test_ids_and_masks_take_little_room() -> None:
    """As in the reference library; numbers that do not fit take the type that they need."""
    ids = {"input_ids": [[1, 70_000], [3]], "attention_mask": [[1, 1], [1]], "token_type_ids": [[0, 1], [0]]}
    made = Dataset.from_dict({"n": [1, 2]}).map(lambda batch: ids, batched=True)
    kinds = {"input_ids": "int32", "attention_mask": "int8", "token_type_ids": "int8"}
    assert made.features == {"n": Value("int64"), **{name: List(Value(kind)) for name, kind in kinds.items()}}
    assert made[:] == {"n": [1, 2], **ids}
    large = made.remove_columns("input_ids").map(lambda row: {"input_ids": [row["n"] * 2**40]})
    assert (large.features["input_ids"], large["input_ids"][:]) == (List(Value("int64")), [[2**40], [2**41]])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_function_may_fill_one_dict_or_array_for_all_rows(streaming: bool) -> None:
    dataset: Any = Dataset.from_dict({"a": list(range(1000))})
    if streaming:
        dataset = dataset.to_iterable_dataset()
    row: dict[str, Any] = {}
    array, tensor = np.zeros(2), torch.zeros(1)

    def one_dict(given: dict[str, Any]) -> dict[str, Any]:
        row["b"] = given["a"]
        return row

    def one_array(given: dict[str, Any]) -> dict[str, Any]:
        array[:] = tensor[:] = given["a"]
        return {"b": given["a"], "c": array, "d": tensor}

    assert [made["b"] for made in dataset.map(one_dict)] == list(range(1000))
    assert [made["c"][1] for made in dataset.map(one_array)] == list(range(1000))
    assert [made["d"][0] for made in dataset.map(one_array)] == list(range(1000))


def test_what_is_written_in_c_sees_whole_rows() -> None:
    """`json` takes a dict without an item for empty, and Arrow reads dicts as they lie, whatever their methods say."""
    import json

    names = list("abcdefg")
    dataset = Dataset.from_dict({name: [f"{name}{index} " * 99 for index in range(300)] for name in names})
    rows = list(dataset)
    assert [json.loads(row["z"]) for row in dataset.map(lambda row: {"z": json.dumps(row)})] == rows
    for function, unwrap in (
        (lambda row: {"z": row}, lambda value: value),
        (lambda row: {"z": [row]}, lambda value: value[0]),
        (lambda row: {"z": {"q": row}, "y": row["c"]}, lambda value: value["q"]),
    ):
        made = dataset.map(function)
        assert [unwrap(row["z"]) for row in made] == rows
        assert made.table.columns["a"].store is dataset.table.columns["a"].store
    batched = dataset.map(lambda batch: {"z": [batch] * len(batch["b"])}, batched=True, batch_size=2)
    assert batched[3]["z"] == dataset[2:4]
    assert dataset.filter(lambda row: json.loads(json.dumps(row))["g"] != rows[1]["g"]).num_rows == 299
