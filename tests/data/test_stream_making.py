"""Streams made, written, put together, shuffled and divided by name."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from stream_rows import ROWS, double, stream

import plait.data as ours
from plait.data import (
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


def test_what_is_said_about_it() -> None:
    info = ours.DatasetInfo(description="numbers", citation="none", license="CC0")
    rows = Dataset.from_dict(ROWS, info=info, split="train").to_iterable_dataset()
    chosen = rows.filter(lambda row: True).select_columns(["n"])
    assert (chosen.description, chosen.citation, chosen.license, chosen.split) == ("numbers", "none", "CC0", "train")
    assert chosen.info.features == {"n": Value("int64")}
    assert rows.info.features == rows.features
    assert rows.map(double).info.features is None
    assert chosen.dataset_size is None
