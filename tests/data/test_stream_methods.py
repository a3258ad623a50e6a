"""The methods of streams: results of the reference library where it is right, and errors that say what to do."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

import plait.data as ours
from plait.data import (
    ClassLabel,
    Dataset,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
    concatenate_datasets,
)
from plait.data.streams.block import joined
from plait.errors import ColumnError, DataError, OptionError

ROWS = {"n": list(range(23)), "t": [f"row {number}" for number in range(23)], "x": [number / 4 for number in range(23)]}


def stream(library: Any = ours, shards: int = 4) -> Any:
    return library.Dataset.from_dict(ROWS).to_iterable_dataset(num_shards=shards)


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {"d": row["n"] * 2}


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


def test_decode_switches_pictures_between_objects_and_bytes(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (2, 3), (9, 8, 7)).save(tmp_path / "a.png")
    rows = Dataset.from_dict({"p": [str(tmp_path / "a.png")]}, Features({"p": ours.Image()})).to_iterable_dataset()
    assert next(iter(rows))["p"].getpixel((0, 0)) == (9, 8, 7)
    stored = rows.decode(False)
    assert stored.features == {"p": ours.Image(decode=False)}
    assert next(iter(stored))["p"]["path"] == str(tmp_path / "a.png")
    assert next(iter(stored.decode()))["p"].size == (2, 3)
    with pytest.raises(DataError, match="decode needs the types of the columns, which are not known behind a function"):
        rows.map(lambda row: row).decode()


def test_ways_to_make_one(tmp_path: Path) -> None:
    rows = [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3, "t": "c"}]
    columns = {"n": [1, 2, 3], "t": ["a", "b", "c"]}
    assert list(IterableDataset.from_dict(columns, num_shards=3)) == rows
    assert IterableDataset.from_list(rows, num_shards=2).num_shards == 2
    assert list(IterableDataset.from_pandas(pd.DataFrame(columns))) == rows
    assert list(IterableDataset.from_polars(pl.DataFrame(columns))) == rows
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    assert list(IterableDataset.from_file(next((tmp_path / "saved").glob("*.arrow")))) == rows
    with pytest.raises(DataError, match=r"There is no file missing\.arrow"):
        IterableDataset.from_file("missing.arrow")
    with pytest.raises(OptionError, match="num_shards must be from 1 to 3, the number of rows, but is 4"):
        IterableDataset.from_dict(columns, num_shards=4)
    shown = Dataset.from_list(rows).with_format("torch", columns=["n"])
    with pytest.raises(OptionError, match=r"The format shows only \['n'\].*select_columns\(\['n'\]\) first"):
        shown.to_iterable_dataset()
    assert Dataset.from_list(rows).with_format("torch").to_iterable_dataset().format["type"] == "torch"


def numbered(files: list[str], times: int) -> Iterator[dict[str, Any]]:
    for file in files:
        for number in range(times):
            yield {"file": file, "number": number}


def test_a_generator_has_a_shard_for_every_item_of_its_lists() -> None:
    made = IterableDataset.from_generator(numbered, gen_kwargs={"files": ["a", "b", "c"], "times": 2})
    theirs = reference.IterableDataset.from_generator(numbered, gen_kwargs={"files": ["a", "b", "c"], "times": 2})
    assert made.num_shards == made.n_shards == theirs.num_shards == 3
    assert list(made) == list(theirs)
    assert [row["file"] for row in made.shard(3, 1)] == ["b", "b"]
    with pytest.raises(DataError, match=r"they must have one length.*\{'files': 2, 'times': 1\}.*as a tuple"):
        IterableDataset.from_generator(numbered, gen_kwargs={"files": ["a", "b"], "times": [2]})


def test_a_generator_that_yields_one_dict_again_and_again() -> None:
    def reusing() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {}
        for number in range(5):
            row["n"] = number
            yield row

    assert [row["n"] for row in IterableDataset.from_generator(reusing)] == [0, 1, 2, 3, 4]


def test_ways_to_write_one(tmp_path: Path) -> None:
    mapped = stream().map(double)
    columns = {**ROWS, "d": [2 * number for number in range(23)]}
    assert mapped.to_dict() == columns
    assert mapped.to_list() == list(mapped)
    assert [len(batch["n"]) for batch in mapped.to_dict(batch_size=20, batched=True)] == [20, 3]
    assert mapped.to_pandas()["d"].tolist() == columns["d"]
    assert [len(frame) for frame in mapped.to_pandas(batch_size=20, batched=True)] == [20, 3]
    assert mapped.to_polars()["d"].to_list() == columns["d"]
    mapped.to_csv(tmp_path / "a.csv")
    mapped.to_json(tmp_path / "a.jsonl")
    mapped.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert Dataset.from_dict(columns).to_dict() == ours.load_dataset(str(tmp_path / name), split="train").to_dict()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert mapped.to_sql("rows", connection) == 23
    assert list(stream().with_format("torch").to_list())[3] == {"n": 3, "t": "row 3", "x": 0.75}
    # the types are those of all rows, not of the first
    late = stream().map(lambda row: {"d": 1 if row["n"] < 20 else 0.5})
    assert late.to_dict()["d"][-1] == 0.5


def test_concatenate() -> None:
    left, right = stream(), Dataset.from_dict({"n": [0.5], "z": [True]}).to_iterable_dataset()
    below = concatenate_datasets([left, right])
    assert below.num_shards == 5
    assert below.features["n"] == Value("float64")
    assert list(below)[-1] == {"n": 0.5, "t": None, "x": None, "z": True}
    # behind a function nothing is known of the columns: rows stay what they are
    mapped = concatenate_datasets([left.map(double), right])
    assert (mapped.features, list(mapped)[-1]) == (None, {"n": 0.5, "z": True})
    beside = concatenate_datasets([left, stream(shards=3).rename_columns({"n": "a", "t": "b", "x": "c"})], axis=1)
    assert beside.num_shards == 1
    assert [(row["n"], row["a"]) for row in beside] == [(number, number) for number in range(23)]
    assert list(concatenate_datasets([left.map(double).remove_columns("t"), left.select_columns("t")], axis=1))[4] == {
        "n": 4,
        "x": 1.0,
        "d": 8,
        "t": "row 4",
    }
    with pytest.raises(DataError, match="Two of the streams have a column 'n'"):
        concatenate_datasets([left, left], axis=1)
    with pytest.raises(DataError, match=r"one length, but number 1 ends after 3 rows.*take\(3\)"):
        list(concatenate_datasets([left, left.take(3).rename_columns({"n": "a", "t": "b", "x": "c"})], axis=1))


def test_shuffle_is_a_permutation_that_mixes_across_shards() -> None:
    numbers = Dataset.from_dict({"n": list(range(10_000))}).to_iterable_dataset(20)
    order = [row["n"] for row in numbers.shuffle(seed=3, buffer_size=500)]
    assert sorted(order) == list(range(10_000))
    assert order == [row["n"] for row in numbers.shuffle(seed=3, buffer_size=500)]
    assert order != [row["n"] for row in numbers.shuffle(seed=4, buffer_size=500)]
    # the first 500 rows come from ten shards in turn
    assert len({number // 500 for number in order[:500]}) == 10
    # one shard after another without reading several in turn: half of the buffer stays each time
    plain = [row["n"] for row in numbers.shuffle(seed=3, buffer_size=500, max_buffer_input_shards=1)]
    assert sorted(plain) == list(range(10_000))
    everything = [row["n"] for row in numbers.shuffle(seed=3, buffer_size=20_000)]
    # a random permutation of N numbers keeps about N / 3 of the distance on average: sd of the mean is about 1 %
    assert abs(np.mean(np.abs(np.diff(everything))) - 10_000 / 3) < 200


def test_an_epoch_has_an_order_of_its_own_and_leaves_what_is_not_shuffled() -> None:
    shuffled, plain = stream().shuffle(seed=1, buffer_size=5), stream()
    orders = []
    for epoch in range(3):
        shuffled.set_epoch(epoch)
        plain.set_epoch(epoch)
        orders.append([row["n"] for row in shuffled])
        assert [row["n"] for row in plain] == list(range(23))
    assert shuffled.epoch == 2
    assert len({tuple(order) for order in orders}) == 3
    assert shuffled.map(double).epoch == 2


def test_take_keeps_the_first_rows_whatever_is_shuffled_after_it() -> None:
    for seed in range(5):
        assert sorted(row["n"] for row in stream().take(9).shuffle(seed=seed)) == list(range(9))
        assert sorted(row["n"] for row in stream().skip(9).shuffle(seed=seed)) == list(range(9, 23))


def test_shuffle_by_a_generator_and_without_a_seed() -> None:
    generator = np.random.default_rng(5)
    order = [row["n"] for row in stream().shuffle(generator=generator)]
    assert order == [row["n"] for row in stream().shuffle(generator=np.random.default_rng(5))]
    np.random.seed(8)
    unseeded = [row["n"] for row in stream().shuffle()]
    np.random.seed(8)
    assert unseeded == [row["n"] for row in stream().shuffle()]
    with pytest.raises(OptionError, match="Give seed or generator, not both"):
        stream().shuffle(1, generator=generator)
    with pytest.raises(OptionError, match="buffer_size must be at least 1, but is 0"):
        stream().shuffle(1, buffer_size=0)


def test_reshard_gives_a_shard_for_every_stored_block() -> None:
    table = pa.concat_tables([pa.table({"n": list(range(10))}), pa.table({"n": list(range(10, 17))})])
    rows = Dataset(table).to_iterable_dataset()
    assert (rows.num_shards, rows.reshard().num_shards) == (1, 2)
    assert [row["n"] for row in rows.reshard()] == list(range(17))
    assert [row["n"] for row in rows.reshard().shard(2, 1)] == list(range(10, 17))


def test_splits_by_name() -> None:
    both = IterableDatasetDict({"train": stream(), "test": stream().take(3)})
    theirs = reference.IterableDatasetDict({"train": stream(reference), "test": stream(reference).take(3)})
    assert repr(both) == repr(theirs)
    assert both.column_names == theirs.column_names
    assert both.num_columns == {"train": 3, "test": 3}
    mapped = both.map(double, remove_columns=["t"]).filter(lambda row: row["n"] < 2).rename_column("d", "e")
    assert {name: list(rows) for name, rows in mapped.items()} == dict.fromkeys(
        ["train", "test"], [{"n": 0, "x": 0.0, "e": 0}, {"n": 1, "x": 0.25, "e": 2}]
    )
    named = both.map(lambda row, split: {"s": split}, with_split=True)
    assert next(iter(named["test"]))["s"] == "test"
    assert list(both.select_columns("n").shuffle(seed=1)["test"]) != []
    assert torch.equal(next(iter(both.with_format("torch")["train"]))["n"], torch.tensor(0))
    with pytest.raises(ColumnError, match=r"There is no split 'tran'\. Did you mean 'train'"):
        both["tran"]


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


def test_large_blocks_are_not_copied_for_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files come in blocks of tens of thousands of rows; taking turns copies each row once or twice, not each block."""
    for name in ("a", "b"):
        Dataset.from_dict({"n": list(range(20_000))}).to_csv(tmp_path / f"{name}.csv")
    copied: list[int] = []

    def counted(blocks: Any) -> Any:
        found = joined(blocks)
        copied.append(len(found))
        return found

    monkeypatch.setattr("plait.data.streams.mix.joined", counted)
    files = ours.load_dataset("csv", data_files=str(tmp_path / "*.csv"), split="train", streaming=True)
    order = [row["n"] for row in files.shuffle(seed=0, buffer_size=50)]
    assert Counter(order) == Counter([*range(20_000), *range(20_000)])
    assert sum(copied) == 40_000


def test_a_function_over_one_column_opens_no_pictures(tmp_path: Path) -> None:
    missing = Features({"p": ours.Image(), "n": Value("int64")})
    rows = Dataset.from_dict({"p": [{"path": "/nowhere.png", "bytes": None}] * 3, "n": [1, 2, 3]}, missing)
    chosen = rows.to_iterable_dataset().filter(lambda n: n > 1, input_columns="n")
    in_batches = rows.to_iterable_dataset().filter(lambda n: [i > 1 for i in n], input_columns="n", batched=True)
    assert [row["n"] for row in chosen.select_columns("n")] == [2, 3]
    assert [row["n"] for row in in_batches.remove_columns("p")] == [2, 3]


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


def test_pictures_are_opened_a_few_at_a_time(tmp_path: Path) -> None:
    """Paths are small, the pictures behind them large. The eleventh is missing; the first are read all the same."""
    from PIL import Image

    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for number, path in enumerate(paths[:10]):
        Image.new("L", (2, 2), number).save(path)
    for feature, column in ((ours.Image(), paths), (List(ours.Image()), [[path] for path in paths])):
        rows = iter(Dataset.from_dict({"p": column}, Features({"p": feature})).to_iterable_dataset())
        first = [next(rows)["p"] for _ in range(8)]
        found = [value[0] if isinstance(value, list) else value for value in first]
        assert [picture.getpixel((0, 0)) for picture in found] == list(range(8))


def test_filter_by_an_expression() -> None:
    found = stream().filter((pc.field("n") > 3) & (pc.field("x") < 2))
    assert [row["n"] for row in found] == [4, 5, 6, 7]
    assert [row["n"] for row in stream().map(double).filter(pc.field("d") == 8)] == [4]


def test_what_is_said_about_it() -> None:
    info = ours.DatasetInfo(description="numbers", citation="none", license="CC0")
    rows = Dataset.from_dict(ROWS, info=info, split="train").to_iterable_dataset()
    chosen = rows.filter(lambda row: True).select_columns(["n"])
    assert (chosen.description, chosen.citation, chosen.license, chosen.split) == ("numbers", "none", "CC0", "train")
    assert chosen.info.features == {"n": Value("int64")}
    assert rows.info.features == rows.features
    assert rows.map(double).info.features is None
    assert chosen.dataset_size is None


def test_batches_of_lists_have_types() -> None:
    assert stream().batch(4).features == {
        "n": List(Value("int64")),
        "t": List(Value("string")),
        "x": List(Value("float64")),
    }
    assert stream().batch(by_column="n").features == stream().batch(4).features
