"""Streams divided among processes and workers: together they read every row exactly once."""

from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import plait.data as ours
from plait.data import Dataset, IterableDataset, concatenate_datasets, interleave_datasets
from plait.data.distributed import split_dataset_by_node
from plait.errors import DataError, OptionError


def numbers(count: int, shards: int) -> IterableDataset:
    return Dataset.from_dict({"n": list(range(count))}).to_iterable_dataset(min(shards, max(count, 1)))


def add(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": row["n"] + 1}


def keep(row: dict[str, Any]) -> bool:
    return row["n"] % 3 != 0


def yielded(files: list[int]) -> Iterator[dict[str, Any]]:
    for file in files:
        for number in range(5):
            yield {"n": 10 * file + number}


# chains whose rows are those of their shards, however many there are
WHOLE = {
    "rows": lambda ds: ds,
    "map": lambda ds: ds.map(add),
    "filter": lambda ds: ds.filter(keep),
    "shuffle": lambda ds: ds.shuffle(seed=1, buffer_size=7),
    "take": lambda ds: ds.take(11),
    "skip": lambda ds: ds.skip(11),
    "skip, map, take": lambda ds: ds.skip(5).map(add).take(20),
    "filter, skip, shuffle": lambda ds: ds.filter(keep).skip(4).shuffle(seed=2, buffer_size=5),
    "shuffle, take": lambda ds: ds.shuffle(seed=1, buffer_size=7).take(11),
    "repeat": lambda ds: ds.repeat(2),
    "concatenate": lambda ds: concatenate_datasets([ds, numbers(9, 2)]).shuffle(seed=3),
    "interleave": lambda ds: interleave_datasets(
        [ds, numbers(9, 3)], stopping_strategy="all_exhausted_without_replacement"
    ),
    "add a column": lambda ds: ds.add_column("m", list(range(40))).select_columns("n"),
    "batch, explode": lambda ds: ds.batch(4).map(lambda b: {"n": sum(b["n"], [])}, batched=True),
}


def read(stream: Any) -> Counter[int]:
    return Counter(int(row["n"]) for row in stream)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(list(WHOLE)), st.integers(1, 7), st.integers(1, 9), st.booleans(), st.integers(0, 2))
def test_any_number_of_parts_has_every_row_once(
    name: str, shards: int, parts: int, contiguous: bool, epoch: int
) -> None:
    def build() -> IterableDataset:
        stream: IterableDataset = WHOLE[name](numbers(40, shards))
        stream.set_epoch(epoch)
        return stream

    found: Counter[int] = Counter()
    for index in range(parts):
        found += read(build().derive(build().stream.at_epoch(epoch).shard(parts, index, contiguous=contiguous)))
    assert found == read(build())


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(list(WHOLE)), st.integers(1, 7), st.integers(1, 5), st.sampled_from(["auto", "examples"]))
def test_any_number_of_processes_has_every_row_once(name: str, shards: int, processes: int, strategy: str) -> None:
    found: Counter[int] = Counter()
    for rank in range(processes):
        found += read(split_dataset_by_node(WHOLE[name](numbers(40, shards)), rank, processes, strategy=strategy))
    assert found == read(WHOLE[name](numbers(40, shards)))


def test_take_and_skip_are_the_same_rows_for_any_number_of_workers() -> None:
    """Training and validation rows never mix because one was read by two workers and the other by one."""
    for workers in (1, 2, 3, 5, 9):
        first = [row["n"] for index in range(workers) for row in numbers(40, 5).take(11).shard(workers, index)]
        rest = [row["n"] for index in range(workers) for row in numbers(40, 5).skip(11).shard(workers, index)]
        assert sorted(first) == list(range(11))
        assert sorted(rest) == list(range(11, 40))


def test_added_values_stay_with_their_rows_for_any_number_of_workers() -> None:
    added = numbers(12, 3).add_column("m", [10 * number for number in range(12)])
    for workers in (1, 2, 4):
        rows = [row for index in range(workers) for row in added.shard(workers, index)]
        assert sorted((row["n"], row["m"]) for row in rows) == [(number, 10 * number) for number in range(12)]
    by_rank = [row for rank in range(2) for row in split_dataset_by_node(added, rank, 2)]
    assert sorted((row["n"], row["m"]) for row in by_rank) == [(number, 10 * number) for number in range(12)]


def test_processes_get_whole_shards_or_every_other_row() -> None:
    by_shards = [[row["n"] for row in split_dataset_by_node(numbers(8, 4), rank, 2)] for rank in range(2)]
    assert by_shards == [[0, 1, 4, 5], [2, 3, 6, 7]]
    by_rows = [[row["n"] for row in split_dataset_by_node(numbers(9, 3), rank, 2)] for rank in range(2)]
    assert by_rows == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]
    assert split_dataset_by_node(numbers(8, 4), 0, 2).num_shards == 2
    assert split_dataset_by_node(numbers(9, 3), 0, 2).num_shards == 3
    uneven = [read(split_dataset_by_node(numbers(9, 3), rank, 2, strategy="shards")) for rank in range(2)]
    assert [sorted(part) for part in uneven] == [[0, 1, 2, 6, 7, 8], [3, 4, 5]]
    nested = [
        read(split_dataset_by_node(split_dataset_by_node(numbers(16, 4), node, 2), rank, 2))
        for node in range(2)
        for rank in range(2)
    ]
    assert sum(nested, Counter()) == Counter(range(16))
    table = Dataset.from_dict({"n": list(range(5))})
    assert [split_dataset_by_node(table, rank, 2)["n"][:] for rank in range(2)] == [[0, 1, 2], [3, 4]]


def test_processes_read_other_shards_in_every_epoch() -> None:
    def of(rank: int, epoch: int) -> list[int]:
        stream = split_dataset_by_node(numbers(80, 8).shuffle(seed=1, buffer_size=1), rank, 2)
        stream.set_epoch(epoch)
        return sorted(row["n"] for row in stream)

    assert sorted(of(0, 1) + of(1, 1)) == list(range(80))
    assert len({tuple(of(0, epoch)) for epoch in range(4)}) > 1


def test_wrong_divisions_are_refused() -> None:
    with pytest.raises(OptionError, match="rank must be from 0 to world_size - 1 = 1, but is 2"):
        split_dataset_by_node(numbers(8, 4), 2, 2)
    with pytest.raises(OptionError, match="there are 3 shards for world_size=4. Use 'examples'"):
        split_dataset_by_node(numbers(9, 3), 0, 4, strategy="shards")
    with pytest.raises(OptionError, match="strategy must be 'auto', 'shards' or 'examples', but is 'rows'"):
        split_dataset_by_node(numbers(9, 3), 0, 4, strategy="rows")
    with pytest.raises(OptionError, match="strategy='shards' is for streams"):
        split_dataset_by_node(Dataset.from_dict({"n": [1]}), 0, 1, strategy="shards")
    with pytest.raises(OptionError, match="takes a data set or a stream, not a list"):
        split_dataset_by_node([1], 0, 1)


def test_a_data_loader_iterates_over_it() -> None:
    stream = numbers(10, 2).with_format("torch")
    assert isinstance(stream, torch.utils.data.IterableDataset)
    batches = [batch["n"] for batch in DataLoader(stream, batch_size=4)]
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0].dtype == torch.int64


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_of_a_data_loader_share_the_rows(workers: int) -> None:
    """Also more workers than shards: those beyond get nothing, none gets anything twice."""
    stream = numbers(41, 2).skip(3).map(add).shuffle(seed=1, buffer_size=8).with_format("torch")
    loader = DataLoader(stream, batch_size=5, num_workers=workers)
    found = sorted(number for batch in loader for number in batch["n"].tolist())
    assert found == list(range(4, 42))


def test_persistent_workers_follow_the_epoch() -> None:
    stream = numbers(40, 4).shuffle(seed=1, buffer_size=10).with_format("torch")
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append([int(row["n"]) for row in loader])
    assert sorted(orders[1]) == list(range(40))
    assert orders[0] == orders[2] != orders[1]


def test_many_streams_hold_no_open_files() -> None:
    before = len(os.listdir("/dev/fd"))
    kept = [numbers(3, 1).map(add) for _ in range(50)]
    assert len(os.listdir("/dev/fd")) < before + 10
    assert all(stream.epoch == 0 for stream in kept)


def test_spawned_workers_get_it_by_pickle(tmp_path: Path) -> None:
    """A stream travels with its place, its epoch and its format; files are opened again where it arrives."""
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    (tmp_path / "b.csv").write_text("n\n3\n4\n")
    files = ours.load_dataset("csv", data_files=str(tmp_path / "*.csv"), split="train", streaming=True)
    generator = IterableDataset.from_generator(yielded, gen_kwargs={"files": [0, 1, 2]})
    for stream in (files.map(add).shuffle(seed=1).with_format("torch"), generator.filter(keep), numbers(9, 3)):
        stream.set_epoch(2)
        next(iter(stream))
        other = pickle.loads(pickle.dumps(stream))
        assert other.epoch == 2
        assert read(other) == read(stream)


def test_spawned_workers_read_every_row_once() -> None:
    stream = IterableDataset.from_generator(yielded, gen_kwargs={"files": [0, 1, 2]}).map(add).with_format("torch")
    loader = DataLoader(
        stream.shuffle(seed=1, buffer_size=4),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    wanted = [10 * file + number + 1 for file in range(3) for number in range(5)]
    orders = []
    for epoch in range(2):
        loader.dataset.set_epoch(epoch)
        orders.append([int(row["n"]) for row in loader])
        assert sorted(orders[-1]) == wanted
    assert orders[0] != orders[1]


class _Worker:
    """What torch tells a worker process about itself."""

    def __init__(self, count: int, index: int) -> None:
        self.num_workers, self.id = count, index


def test_a_worker_goes_on_at_its_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker has a place of its own, which another worker refuses."""

    def build() -> IterableDataset:
        return numbers(60, 5).filter(keep).shuffle(seed=3, buffer_size=9)

    rest: list[int] = []
    begun: list[int] = []
    states = []
    for index in range(2):
        monkeypatch.setattr("torch.utils.data.get_worker_info", lambda index=index: _Worker(2, index))
        stream = build()
        rows = iter(stream)
        begun += [next(rows)["n"] for _ in range(5 + index)]
        states.append(json.loads(json.dumps(stream.state_dict())))
        other = build()
        other.load_state_dict(states[-1])
        rest += [row["n"] for row in other]
    assert Counter(begun + rest) == Counter(number for number in range(60) if number % 3)
    other.load_state_dict(states[0])
    with pytest.raises(DataError, match=r"It is of reader \[2, 0\] .* this is reader \[2, 1\]"):
        next(iter(other))
