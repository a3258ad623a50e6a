"""The methods of streams: results of the reference library where it is right, and errors that say what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import datasets as reference
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from stream_rows import ROWS, double, stream

import plait.data as ours
from plait.data import (
    ClassLabel,
    Dataset,
    Features,
    IterableDataset,
    List,
    Value,
)
from plait.errors import ColumnError, DataError, OptionError


def pop_text(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("t")
    return row


async def later(row: dict[str, Any]) -> dict[str, Any]:
    return {"d": row["n"] * 3}


async def later_even(row: dict[str, Any]) -> bool:
    return row["n"] % 2 == 0


def explode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"n": [number for number in batch["n"] for _ in range(number % 3)]}


def added(table: pa.Table) -> pa.Table:
    return table.append_column("d", pc.multiply(table["n"], 5))


# every chain is built with both libraries, and gives the same rows
CHAINS: dict[str, Callable[[Any], Any]] = {
    "rows": lambda ds: ds,
    "map": lambda ds: ds.map(double),
    "map with index": lambda ds: ds.map(lambda row, index: {"i": index}, with_indices=True),
    "map of columns": lambda ds: ds.map(lambda n, x: {"s": n + x}, input_columns=["n", "x"]),
    "map with arguments": lambda ds: ds.map(lambda row, by: {"s": row["n"] * by}, fn_kwargs={"by": 7}),
    "map removes": lambda ds: ds.map(double, remove_columns=["n", "x"]),
    "map removes what it makes anew": lambda ds: ds.map(lambda row: {"n": -row["n"]}, remove_columns="n"),
    "map in batches": lambda ds: ds.map(lambda b: {"d": [2 * n for n in b["n"]]}, batched=True, batch_size=5),
    "map in batches with indices": lambda ds: ds.map(
        lambda b, indices: {"i": indices}, with_indices=True, batched=True, batch_size=5
    ),
    "map changes the number": lambda ds: ds.map(explode, batched=True, batch_size=6, remove_columns=["t", "x"]),
    "map drops the last batch": lambda ds: ds.map(
        lambda b: {"s": [sum(b["n"])] * len(b["n"])}, batched=True, batch_size=5, drop_last_batch=True
    ),
    "map of everything": lambda ds: ds.map(
        lambda b: {"s": [sum(b["n"])]}, batched=True, batch_size=None, remove_columns=["n", "t", "x"]
    ),
    "map later": lambda ds: ds.map(later),
    "map twice": lambda ds: ds.map(double).map(lambda row: {"e": row["d"] + row["n"]}),
    "map of arrays": lambda ds: ds.map(lambda row: {"a": [row["n"], 1]}),
    "map of tables": lambda ds: ds.with_format("arrow").map(added, batched=True, batch_size=6).with_format(None),
    "filter": lambda ds: ds.filter(lambda row: row["n"] % 3 == 0),
    "filter with index": lambda ds: ds.filter(lambda row, index: index % 2 == 0, with_indices=True),
    "filter in batches": lambda ds: ds.filter(lambda b: [n > 9 for n in b["n"]], batched=True, batch_size=4),
    "filter of a column": lambda ds: ds.filter(lambda n: n < 5, input_columns="n"),
    "filter later": lambda ds: ds.filter(later_even),
    "take": lambda ds: ds.take(9),
    "take more": lambda ds: ds.take(99),
    "skip": lambda ds: ds.skip(9),
    "skip and take": lambda ds: ds.skip(5).take(11),
    "repeat": lambda ds: ds.take(3).repeat(3),
    "repeat nothing": lambda ds: ds.repeat(0),
    "batch": lambda ds: ds.batch(4),
    "batch and drop": lambda ds: ds.batch(batch_size=4, drop_last_batch=True),
    "batch by value": lambda ds: ds.map(lambda row: {"g": row["n"] // 6}).batch(by_column="g"),
    "rename": lambda ds: ds.rename_column("n", "m"),
    "rename several": lambda ds: ds.rename_columns({"n": "m", "t": "u"}),
    "remove": lambda ds: ds.remove_columns(["n", "x"]),
    "select": lambda ds: ds.select_columns(["x", "n"]),
    "add a column": lambda ds: ds.add_column("c", list(range(100, 123))),
    "shard": lambda ds: ds.shard(num_shards=2, index=1),
    "shard in turn": lambda ds: ds.shard(num_shards=3, index=1, contiguous=False),
    "map after rename": lambda ds: ds.rename_column("n", "m").map(lambda row: {"d": row["m"]}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_gives_the_rows_of_the_reference(name: str) -> None:
    found, expected = list(CHAINS[name](stream())), list(CHAINS[name](stream(reference)))
    assert found == expected
    assert [list(row) for row in found] == [list(row) for row in expected]  # the order of columns too


@pytest.mark.parametrize("name", ["rows", "map", "filter", "rename", "select", "batch", "take", "add a column"])
def test_what_is_known_of_the_columns(name: str) -> None:
    found, expected = CHAINS[name](stream()), CHAINS[name](stream(reference))
    if name != "add a column":  # the reference forgets all types there
        assert found.column_names == expected.column_names
        assert repr(found) == repr(expected)
    assert found.num_columns == (None if found.features is None else len(list(found)[0]))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["rows", "map", "map of arrays", "filter", "map changes the number"])
def test_formats_of_tensors(name: str, kind: str) -> None:
    """Rows and batches hold the same values in the same types as the reference's."""
    found, expected = (CHAINS[name](stream(library)).with_format(kind) for library in (ours, reference))
    for row, other in zip(found, expected, strict=True):
        assert row.keys() == other.keys()
        for value, wanted in zip(row.values(), other.values(), strict=True):
            assert getattr(value, "dtype", type(value)) == getattr(wanted, "dtype", type(wanted)) or value == wanted
            assert np.array_equal(np.asarray(value), np.asarray(wanted))
    for batch, other in zip(found.iter(5), expected.iter(5), strict=True):
        assert np.array_equal(np.asarray(batch["n"]), np.asarray(other["n"]))


def test_formats_of_tables() -> None:
    mapped = stream().map(double)
    assert next(iter(mapped.with_format("arrow"))).to_pylist() == [{"n": 0, "t": "row 0", "x": 0.0, "d": 0}]
    frames = list(mapped.with_format("pandas").iter(10))
    assert [len(frame) for frame in frames] == [10, 10, 3]
    assert frames[2]["d"].tolist() == [40, 42, 44]
    polars = next(mapped.with_format("polars").iter(4))
    assert isinstance(polars, pl.DataFrame)
    assert polars["d"].to_list() == [0, 2, 4, 6]


def test_a_function_gets_the_format_that_was_chosen_before_it() -> None:
    seen: list[Any] = []
    list(stream().with_format("torch").map(lambda row: seen.append(row["n"])).take(2))
    assert [type(value) for value in seen[:2]] == [torch.Tensor, torch.Tensor]
    batches: list[Any] = []
    list(stream().with_format("numpy").map(lambda batch: batches.append(batch["n"]), batched=True, batch_size=9))
    assert [batch.tolist() for batch in batches] == [list(range(9)), list(range(9, 18)), list(range(18, 23))]


def test_a_transform_of_the_data_set_goes_along() -> None:
    shown = Dataset.from_dict(ROWS).with_transform(lambda batch: {"s": [n + 1 for n in batch["n"]]})
    assert [row["s"] for row in shown.to_iterable_dataset().take(3)] == [1, 2, 3]
    assert next(shown.to_iterable_dataset().iter(4)) == {"s": [1, 2, 3, 4]}
    behind = shown.to_iterable_dataset().map(lambda row: {"n": row["s"] * 10})
    assert [row["s"] for row in behind.take(3)] == [11, 21, 31]
    assert next(behind.iter(2)) == {"s": [11, 21]}


def test_formats_take_their_options_and_no_others() -> None:
    assert next(iter(stream().with_format("torch", dtype=torch.float64)))["n"].dtype == torch.float64
    with pytest.raises(OptionError, match="has no columns: call select_columns.. before it"):
        stream().with_format("torch", columns=["n"])
    with pytest.raises(OptionError, match=r"has no argument 'dtyp'\. Did you mean 'dtype'"):
        stream().with_format("torch", dtyp=1)


def test_iter_in_batches() -> None:
    assert [len(batch["n"]) for batch in stream().iter(batch_size=10)] == [10, 10, 3]
    assert [len(batch["n"]) for batch in stream().iter(10, drop_last_batch=True)] == [10, 10]
    with pytest.raises(OptionError, match="batch_size must be at least 1, but is 0"):
        next(stream().iter(0))


def test_a_column_is_an_iterable_of_its_own() -> None:
    nested = Dataset.from_dict({"a": [{"b": 1}, {"b": 2}]}).to_iterable_dataset()
    assert list(nested["a"]["b"]) == [1, 2]
    assert list(nested["a"]["b"]) == [1, 2]
    with pytest.raises(ColumnError, match="There is no column 'c'"):
        nested["c"]
    with pytest.raises(OptionError, match=r"no rows by number \(3\).*take\(n\)"):
        nested[3]


def test_what_a_function_does_to_its_row_counts_as_in_a_data_set() -> None:
    def set_another(row: dict[str, Any]) -> dict[str, Any]:
        row["t"] = "Z"
        return {"q": 1}

    for function in (pop_text, set_another):
        assert list(stream().map(function)) == list(Dataset.from_dict(ROWS).map(function))
    assert list(next(iter(stream().map(pop_text)))) == ["n", "x"]


def test_nothing_is_read_before_it_is_needed() -> None:
    """A function is called for the rows that were asked for and few more: no block of a thousand is computed ahead."""
    calls: list[int] = []

    def endless() -> Iterator[dict[str, Any]]:
        number = 0
        while True:
            yield {"n": number}
            number += 1

    rows = iter(IterableDataset.from_generator(endless).map(lambda row: calls.append(row["n"])))
    next(rows)
    assert calls == [0]


def test_repeat_without_end() -> None:
    rows = iter(stream().take(2).repeat(None))
    assert [next(rows)["n"] for _ in range(7)] == [0, 1, 0, 1, 0, 1, 0]
    assert list(stream().take(0).repeat(None)) == []


def test_types_that_are_declared_are_kept() -> None:
    kinds = Features({"d": ClassLabel(names=["no", "yes"]), "n": Value("int32")})
    mapped = stream().map(
        lambda row: {"d": "yes" if row["n"] == 1 else "no"}, remove_columns=["t", "x"], features=kinds
    )
    assert mapped.features == kinds
    assert list(mapped.take(3)) == [{"d": 0, "n": 0}, {"d": 1, "n": 1}, {"d": 0, "n": 2}]
    texts = mapped.cast_column("d", Value("string"))
    assert list(texts.take(2)) == [{"d": "no", "n": 0}, {"d": "yes", "n": 1}]
    assert list(mapped.cast(Features({"d": Value("int8"), "n": Value("float32")})).take(2))[1] == {"d": 1, "n": 1.0}
    missing = stream().map(lambda row: None, features=Features({**stream().features, "new": Value("string")}))
    assert next(iter(missing))["new"] is None


def test_a_value_that_does_not_fit_is_named_by_its_row() -> None:
    kinds = Features({"n": Value("int8")})
    big = IterableDataset.from_generator(lambda: ({"n": number * 50} for number in range(9)), features=kinds)
    with pytest.raises(DataError, match="column 'n', row 3: 150 .* does not fit the declared type int8"):
        list(big)
    with pytest.raises(DataError, match="From row 0 on there is a column 't' that the types do not name"):
        list(stream().map(double, features=kinds))
    mixed = stream().map(lambda row: {"d": row["n"] if row["n"] < 20 else "text"}).with_format("arrow")
    with pytest.raises(DataError, match="common type"):
        list(mixed)


def test_types_learned_from_the_first_rows_name_the_remedy() -> None:
    long = (
        Dataset.from_dict({"n": list(range(3000))})
        .to_iterable_dataset()
        .map(lambda row: {"d": 1 if row["n"] < 2000 else 0.5})
    )
    with pytest.raises(DataError, match=r"column 'd', row 2000: 0.5 .*its first rows; declare them .*features=.*here"):
        list(long.with_format("arrow").iter(500))


def test_errors_of_functions_name_the_row() -> None:
    with pytest.raises(DataError, match="returned 5 .int. for row 0.*To choose rows use filter"):
        list(stream().map(lambda row: 5))
    with pytest.raises(DataError, match="batch from row 0 on.*dict of lists"):
        list(stream().map(lambda batch: [1], batched=True))
    with pytest.raises(DataError, match="column 'd' needs a list with one value per row, but .* returned 'x'"):
        list(stream().map(lambda batch: {"d": "x"}, batched=True))
    with pytest.raises(DataError, match=r"columns of different lengths: \{'n': 4, .*'d': 1\}.*remove_columns"):
        list(stream().map(lambda batch: {"d": [1]}, batched=True, batch_size=4))
    with pytest.raises(DataError, match="A function for filter returns true or false.*returned a dict"):
        list(stream().filter(lambda row: {}))
    with pytest.raises(DataError, match="returned 1 values for a batch of 4 rows"):
        list(stream().filter(lambda batch: [True], batched=True, batch_size=4))


def test_wrong_names_and_numbers_are_refused_at_once() -> None:
    with pytest.raises(ColumnError, match=r"There is no column 'nn'\. Did you mean 'n'"):
        stream().remove_columns("nn")
    with pytest.raises(ColumnError, match="There is no column 'q'"):
        stream().map(double, input_columns=["q"])
    with pytest.raises(DataError, match="2 columns called 't' after renaming"):
        stream().rename_column("n", "t")
    with pytest.raises(DataError, match="There is a column 'n' already"):
        stream().add_column("n", [1])
    with pytest.raises(DataError, match="Column 'c' has 2 values, but the stream has more rows"):
        list(stream().add_column("c", [1, 2]))
    with pytest.raises(DataError, match="Column 'c' has 30 values, but the stream only 23 rows"):
        list(stream().add_column("c", list(range(30))))
    with pytest.raises(OptionError, match="must not be negative, but is -1"):
        stream().take(-1)
    with pytest.raises(OptionError, match=r"index must be between 0 and num_shards - 1, but is 2 with num_shards=2"):
        stream().shard(2, 2)
    with pytest.raises(DataError, match=r"cast needs a type for each of the columns \['n', 't', 'x'\]"):
        stream().cast(Features({"n": Value("int8")}))
    with pytest.raises(OptionError, match="batch_size of at least 1, or by_column, but batch_size is None"):
        stream().batch()
    # behind a function the names are not known before a row is there
    with pytest.raises(ColumnError, match=r"There is no column 'nn'\. Did you mean 'n'"):
        list(stream().map(double).select_columns(["nn"]))
    with pytest.raises(OptionError, match="There is no format 'torhc'. Did you mean 'torch'"):
        stream().with_format("torhc")


def test_options_without_effect_say_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="plait.data"):
        stream().decode(num_threads=4)
        stream().batch(3, by_column="n")
    assert "num_threads has no effect" in caplog.text
    assert "batch_size and drop_last_batch have no effect" in caplog.text


def test_a_function_may_return_tables_whatever_it_gets() -> None:
    def table(batch: dict[str, Any]) -> pa.Table:
        return pa.table({"n": batch["n"], "d": [2 * number for number in batch["n"]]})

    found = stream().map(table, batched=True, batch_size=5)
    assert list(found.take(2)) == [{"n": 0, "d": 0}, {"n": 1, "d": 2}]
    frames = stream().map(lambda row: pd.DataFrame({"n": [row["n"]] * 2}))
    assert [row["n"] for row in frames.take(5)] == [0, 0, 1, 1, 2]
    # and columns, or nothing, when it gets tables
    shown = stream().with_format("pandas")
    assert next(iter(shown.map(lambda frame: {"s": int(frame["n"].iloc[0]) + 1}).with_format(None)))["s"] == 1
    sums = shown.map(lambda frame: {"s": (frame["n"] + 1).tolist()}, batched=True, batch_size=4).with_format(None)
    assert [row["s"] for row in sums.take(6)] == [1, 2, 3, 4, 5, 6]
    assert list(shown.map(lambda frame: None, batched=True).with_format(None)) == list(stream())


def test_filter_by_an_expression() -> None:
    found = stream().filter((pc.field("n") > 3) & (pc.field("x") < 2))
    assert [row["n"] for row in found] == [4, 5, 6, 7]
    assert [row["n"] for row in stream().map(double).filter(pc.field("d") == 8)] == [4]


def test_batches_of_lists_have_types() -> None:
    assert stream().batch(4).features == {
        "n": List(Value("int64")),
        "t": List(Value("string")),
        "x": List(Value("float64")),
    }
    assert stream().batch(by_column="n").features == stream().batch(4).features
