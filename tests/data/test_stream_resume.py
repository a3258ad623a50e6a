"""A stream stopped anywhere goes on with exactly the next row: any chain, any place, through JSON."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.data import Dataset, IterableDataset, concatenate_datasets, interleave_datasets
from plait.data.distributed import split_dataset_by_node
from plait.errors import DataError

Build = Callable[[], IterableDataset]
LIMIT = 300  # rows looked at, of chains that multiply them


def numbers(start: int, count: int, shards: int) -> IterableDataset:
    """Rows `{"n": …}` over `shards` shards."""
    return Dataset.from_dict({"n": list(range(start, start + count))}).to_iterable_dataset(min(shards, max(count, 1)))


def counted(firsts: list[int], count: int) -> Any:
    for first in firsts:
        for number in range(first, first + count):
            yield {"n": number}


def add_one(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": row["n"] + 1}


def with_index(row: dict[str, Any], index: int) -> dict[str, Any]:
    return {"n": row["n"] * 1000 + index}


def twice_and_drop(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"n": [number for number in batch["n"] for _ in range(number % 3)]}


async def later(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": row["n"] + 7}


def even(row: dict[str, Any]) -> bool:
    return row["n"] % 2 == 0


def batch_of_odd(batch: dict[str, list[Any]]) -> list[bool]:
    return [number % 2 == 1 for number in batch["n"]]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": sum(row["n"])}


# every operation gives rows with one column n of integers, so that any of them can follow any other
OPERATIONS: list[Callable[[IterableDataset, int], IterableDataset]] = [
    lambda ds, k: ds.map(add_one),
    lambda ds, k: ds.map(add_one, features=_features()),
    lambda ds, k: ds.map(with_index, with_indices=True),
    lambda ds, k: ds.map(later),
    lambda ds, k: ds.map(twice_and_drop, batched=True, batch_size=k),
    lambda ds, k: ds.map(add_one).map(twice_and_drop, batched=True, batch_size=k, drop_last_batch=True),
    lambda ds, k: ds.filter(even),
    lambda ds, k: ds.filter(batch_of_odd, batched=True, batch_size=k),
    lambda ds, k: ds.filter(pc.field("n") > 3),
    lambda ds, k: ds.shuffle(seed=k, buffer_size=k),
    lambda ds, k: ds.shuffle(seed=k, buffer_size=3 * k, max_buffer_input_shards=2),
    lambda ds, k: ds.take(k),
    lambda ds, k: ds.skip(k),
    lambda ds, k: ds.repeat(k % 3),
    lambda ds, k: ds.batch(k).map(flat),
    lambda ds, k: ds.map(lambda row: {"m": row["n"] // 3}).batch(by_column="m").map(flat, remove_columns="m"),
    lambda ds, k: ds.rename_column("n", "m").rename_columns({"m": "n"}),
    lambda ds, k: ds.map(lambda row: {"m": 1}).remove_columns("m").select_columns(["n"]),
    lambda ds, k: ds.cast(_features()),
    lambda ds, k: concatenate_datasets([ds, numbers(500, k, 2)]),
    lambda ds, k: concatenate_datasets([numbers(500, k, 2).shuffle(seed=1, buffer_size=3), ds]),
    lambda ds, k: interleave_datasets([ds, numbers(500, k, 2)]),
    lambda ds, k: interleave_datasets([numbers(500, k, 3), ds], stopping_strategy="all_exhausted"),
    lambda ds, k: interleave_datasets([numbers(500, k, 3), ds], [0.3, 0.7], seed=k),
    lambda ds, k: interleave_datasets(
        [numbers(500, k, 3), ds.take(40)], [0.6, 0.4], seed=k, stopping_strategy="all_exhausted_without_replacement"
    ),
    lambda ds, k: split_dataset_by_node(ds, 1, 2),
    lambda ds, k: ds.shard(2, 0),
]


def _features() -> Any:
    from plait.data import Features, Value

    return Features({"n": Value("int64")})


@st.composite
def chains(draw: st.DrawFn) -> Build:
    """How to build a stream: drawn once, built any number of times."""
    start = draw(st.sampled_from(["table", "generator", "empty"]))
    rows, shards = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    steps = draw(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(1, 12)), max_size=5))
    epoch = draw(st.integers(0, 2))

    def build() -> IterableDataset:
        if start == "table":
            stream = numbers(0, rows, shards)
        elif start == "generator":
            firsts = [100 * shard for shard in range(shards)]
            stream = IterableDataset.from_generator(counted, gen_kwargs={"firsts": firsts, "count": rows // shards})
        else:
            stream = numbers(0, 0, 1)
        for operation, size in steps:
            stream = operation(stream, size)
        stream.set_epoch(epoch)
        return stream

    return build


def first_rows(stream: Any) -> list[Any]:
    return list(itertools.islice(stream, LIMIT))


@settings(max_examples=150, deadline=None)
@given(chains(), st.data())
def test_any_chain_stopped_anywhere_goes_on_with_exactly_the_rest(build: Build, data: st.DataObject) -> None:
    whole = first_rows(build())
    stop = data.draw(st.integers(0, len(whole)))
    stream = build()
    rows = iter(stream)
    given_rows = [next(rows) for _ in range(stop)]
    state = json.loads(json.dumps(stream.state_dict()))
    assert given_rows == whole[:stop]

    other = build()
    other.set_epoch(0)
    other.load_state_dict(state)
    rest = first_rows(other)[: LIMIT - stop]
    assert rest == whole[stop:]
    # the place is used up: the iteration after it begins anew, in the same epoch
    assert first_rows(other) == whole


@settings(max_examples=40, deadline=None)
@given(chains(), st.integers(1, 9), st.data())
def test_batches_go_on_after_the_last_batch(build: Build, size: int, data: st.DataObject) -> None:
    whole = list(itertools.islice(build().iter(size), LIMIT // size))
    stop = data.draw(st.integers(0, len(whole)))
    stream = build()
    batches = stream.iter(size)
    for _ in range(stop):
        next(batches)
    other = build()
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert list(itertools.islice(other.iter(size), LIMIT // size - stop)) == whole[stop:]


def long_chain() -> IterableDataset:
    stream = numbers(0, 5000, 7).filter(even).map(add_one).shuffle(seed=5, buffer_size=100)
    return stream.map(twice_and_drop, batched=True, batch_size=33).skip(10).shuffle(seed=6, buffer_size=37)


def test_a_hundred_random_stops_lose_and_repeat_nothing() -> None:
    """One stream stopped and rebuilt a hundred times on its way gives what an undisturbed one gives."""
    whole = [row["n"] for row in long_chain()]
    generator = random.Random(0)
    stops = sorted(generator.sample(range(1, len(whole)), 100))
    found: list[int] = []
    stream = long_chain()
    for stop in [*stops, len(whole)]:
        rows = iter(stream)
        found += [next(rows)["n"] for _ in range(stop - len(found))]
        state = json.dumps(stream.state_dict())
        stream = long_chain()
        stream.load_state_dict(json.loads(state))
    assert found == whole
    assert list(stream) == []


def test_a_place_in_a_buffer_is_small_whatever_the_rows_are() -> None:
    """A state holds numbers of rows, never rows: with rows of 10 kB it stays below 5 bytes per row of the buffer."""

    def texts() -> IterableDataset:
        rows = Dataset.from_dict({"t": [f"{number:05d}" * 2000 for number in range(3000)]}).to_iterable_dataset()
        return rows.shuffle(seed=0, buffer_size=1000)

    stream = texts()
    for _ in itertools.islice(stream, 1700):
        pass
    state = json.dumps(stream.state_dict())
    assert len(state) < 500 * 6 + 500  # half of the buffer stays: 500 numbers of up to 4 digits, each with ", "
    other = texts()
    other.load_state_dict(json.loads(state))
    rest = [row["t"][:5] for row in other]
    whole = [row["t"][:5] for row in texts()]
    assert rest == whole[1700:]


def test_a_shuffle_without_a_seed_goes_on_in_its_own_order() -> None:
    stream = numbers(0, 200, 4).shuffle(buffer_size=20)
    rows = iter(stream)
    begun = [next(rows)["n"] for _ in range(77)]
    state = json.loads(json.dumps(stream.state_dict()))
    rest = [row["n"] for row in rows]
    other = numbers(0, 200, 4).shuffle(buffer_size=20)
    other.load_state_dict(state)
    assert [row["n"] for row in other] == rest
    assert sorted(begun + rest) == list(range(200))


def test_a_random_interleaving_goes_on_beyond_a_thousand_draws() -> None:
    def build() -> IterableDataset:
        parts = [numbers(0, 3000, 3), numbers(5000, 3000, 2)]
        return interleave_datasets(parts, [0.4, 0.6], seed=3, stopping_strategy="all_exhausted")

    whole = [row["n"] for row in build()]
    for stop in (1, 999, 1000, 1001, 2500):
        stream = build()
        rows = iter(stream)
        for _ in range(stop):
            next(rows)
        other = build()
        other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        assert [row["n"] for row in other] == whole[stop:]


def test_a_state_brings_its_epoch_and_another_epoch_drops_it() -> None:
    stream = numbers(0, 50, 5).shuffle(seed=1, buffer_size=10)
    stream.set_epoch(3)
    whole = [row["n"] for row in stream]
    rows = iter(stream)
    for _ in range(20):
        next(rows)
    state = stream.state_dict()
    other = numbers(0, 50, 5).shuffle(seed=1, buffer_size=10)
    other.load_state_dict(state)
    assert other.epoch == 3
    assert other.state_dict() == state
    other.set_epoch(3)
    assert [row["n"] for row in other] == whole[20:]
    other.load_state_dict(state)
    other.set_epoch(4)
    again = [row["n"] for row in other]
    assert sorted(again) == list(range(50))
    assert again != whole


def test_a_state_of_another_stream_is_refused() -> None:
    stream = numbers(0, 50, 5).shuffle(seed=1, buffer_size=10)
    next(iter(stream))
    other = numbers(0, 50, 5).map(add_one)
    other.load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match=r"belongs to another stream.*shuffle\(10, 10\).*> Map.*Build the stream as it"):
        next(iter(other))
    with pytest.raises(DataError, match=r"no state of a stream: it lacks \['chain', 'epoch', 'place', 'reader'\]"):
        other.load_state_dict({})


def test_a_buffer_whose_rows_are_gone_is_an_error() -> None:
    def rows(count: int) -> IterableDataset:
        source = IterableDataset.from_generator(counted, gen_kwargs={"firsts": [0], "count": count})
        return source.shuffle(seed=0, buffer_size=20)

    stream = rows(100)
    for _ in itertools.islice(stream, 61):
        pass
    other = rows(5)
    other.load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match=r"ends before row \d+, which was in its shuffle buffer: its data changed"):
        next(iter(other))


def test_the_state_before_the_first_row_is_the_beginning() -> None:
    stream = numbers(0, 5, 1)
    state = json.loads(json.dumps(stream.state_dict()))
    other = numbers(0, 5, 1)
    other.load_state_dict(state)
    assert [row["n"] for row in other] == [0, 1, 2, 3, 4]


def test_a_state_goes_along_with_a_format_and_is_said_to_be_left_behind_by_other_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = numbers(0, 5, 1)
    for _ in itertools.islice(stream, 3):
        pass
    other = numbers(0, 5, 1)
    other.load_state_dict(stream.state_dict())
    with caplog.at_level("WARNING"):
        assert [int(row["n"]) for row in other.with_format("numpy")] == [3, 4]
        assert not caplog.records
        rank = split_dataset_by_node(other, rank=0, world_size=1)
    assert [row["n"] for row in rank] == [0, 1, 2, 3, 4]
    assert "the state does not go along, so the new stream begins at its first row. Call load_state_dict()" in (
        caplog.text
    )
