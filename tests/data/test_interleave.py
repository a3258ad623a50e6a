"""Interleaving: for a seed the order of the reference library, of data sets and of streams alike."""

from __future__ import annotations

from typing import Any

import datasets as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait.data as ours
from plait.errors import DataError, OptionError

STRATEGIES = ["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]


def parts(library: Any, sizes: list[int], *, stream: bool) -> list[Any]:
    """One data set of each size, with rows that tell where they come from."""
    made = [
        library.Dataset.from_dict({"n": [100 * number + row for row in range(size)]})
        for number, size in enumerate(sizes)
    ]
    return [item.to_iterable_dataset() for item in made] if stream else made


def order(library: Any, sizes: list[int], *, stream: bool, **options: Any) -> list[int]:
    return [row["n"] for row in library.interleave_datasets(parts(library, sizes, stream=stream), **options)]


@pytest.mark.parametrize("stream", [False, True], ids=["table", "stream"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sizes", [[3, 4, 5], [5, 4, 3], [1, 7], [4, 4], [6]])
def test_in_turn(sizes: list[int], strategy: str, stream: bool) -> None:
    options: dict[str, Any] = {"stopping_strategy": strategy}
    assert order(ours, sizes, stream=stream, **options) == order(reference, sizes, stream=stream, **options)


@pytest.mark.parametrize("stream", [False, True], ids=["table", "stream"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", [0, 42, 7])
def test_drawn_at_random(seed: int, strategy: str, stream: bool) -> None:
    options: dict[str, Any] = {"probabilities": [0.5, 0.3, 0.2], "seed": seed, "stopping_strategy": strategy}
    sizes = [30, 40, 25]
    assert order(ours, sizes, stream=stream, **options) == order(reference, sizes, stream=stream, **options)


@pytest.mark.parametrize("stream", [False, True], ids=["table", "stream"])
def test_drawn_at_random_beyond_a_thousand_draws(stream: bool) -> None:
    options: dict[str, Any] = {"probabilities": [0.01, 0.99], "seed": 3, "stopping_strategy": "all_exhausted"}
    sizes = [30, 700]
    found = order(ours, sizes, stream=stream, **options)
    assert len(found) > 2000
    # the reference reads a stream in threads, slowly; both its kinds have this order
    assert found == order(reference, sizes, stream=False, **options)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from(STRATEGIES), st.integers(0, 99))
def test_any_sizes(sizes: list[int], strategy: str, seed: int) -> None:
    """Data sets against the reference; streams end a turn earlier, since they see an end when it comes."""
    probabilities = [1 / len(sizes)] * len(sizes)
    for options in ({}, {"probabilities": probabilities, "seed": seed}):
        found = order(ours, sizes, stream=False, stopping_strategy=strategy, **options)
        assert found == order(reference, sizes, stream=False, stopping_strategy=strategy, **options)
        streamed = order(ours, sizes, stream=True, stopping_strategy=strategy, **options)
        assert streamed == found[: len(streamed)]


def test_nothing_is_copied_and_columns_are_brought_together() -> None:
    left = ours.Dataset.from_dict({"n": [1, 2], "t": ["a", "b"]})
    right = ours.Dataset.from_dict({"n": [0.5, 1.5]})
    for found in (
        ours.interleave_datasets([left, right]),
        ours.interleave_datasets([left.to_iterable_dataset(), right.to_iterable_dataset()]),
    ):
        assert found.features == {"n": ours.Value("float64"), "t": ours.Value("string")}
        rows = list(found)
        assert rows[:3] == [{"n": 1.0, "t": "a"}, {"n": 0.5, "t": None}, {"n": 2.0, "t": "b"}]


def test_split_and_info_can_be_given() -> None:
    pair = parts(ours, [2, 2], stream=False)
    info = ours.DatasetInfo(description="mixed")
    found = ours.interleave_datasets(pair, info=info, split="mix")
    assert (found.split, found.description) == ("mix", "mixed")
    streamed = ours.interleave_datasets([item.to_iterable_dataset() for item in pair], info=info, split="mix")
    assert (streamed.split, streamed.description) == ("mix", "mixed")


@pytest.mark.parametrize("stream", [False, True], ids=["table", "stream"])
def test_a_source_without_rows(stream: bool) -> None:
    with_empty = parts(ours, [3, 0], stream=stream)
    assert list(ours.interleave_datasets(with_empty))[:2] == ([{"n": 0}] if stream else [])
    found = ours.interleave_datasets(with_empty, stopping_strategy="all_exhausted_without_replacement")
    assert [row["n"] for row in found] == [0, 1, 2]
    found = ours.interleave_datasets(with_empty, stopping_strategy="all_exhausted")
    assert [row["n"] for row in found] == [0, 1, 2]


def test_errors_name_what_is_wrong() -> None:
    pair = parts(ours, [2, 2], stream=False)
    with pytest.raises(OptionError, match=r"no stopping_strategy 'all_exhaust'\. Did you mean 'all_exhausted'"):
        ours.interleave_datasets(pair, stopping_strategy="all_exhaust")
    with pytest.raises(OptionError, match="interleave_datasets needs at least one data set"):
        ours.interleave_datasets([])
    with pytest.raises(OptionError, match="There are 1 probabilities for 2 data sets"):
        ours.interleave_datasets(pair, [1.0])
    with pytest.raises(OptionError, match=r"must not be negative and sum to 1, but are \[0.5, 0.6\]"):
        ours.interleave_datasets(pair, [0.5, 0.6])
    with pytest.raises(OptionError, match="number 1 has probability 0, so it never ends"):
        ours.interleave_datasets(pair, [1.0, 0.0], stopping_strategy="all_exhausted")
    with pytest.raises(OptionError, match=r"number 1 is a IterableDataset and number 0 a Dataset.*to_iterable_dataset"):
        ours.interleave_datasets([pair[0], pair[1].to_iterable_dataset()])
    with pytest.raises(OptionError, match=r"number 0 has splits: choose one of \['train'\]"):
        ours.interleave_datasets([ours.DatasetDict({"train": pair[0]})])
    with pytest.raises(OptionError, match="number 0 is a list"):
        ours.interleave_datasets([[1]])
    with pytest.raises(OptionError, match="axis must be 0"):
        ours.concatenate_datasets(pair, axis=2)
    with pytest.raises(DataError, match="Data set number 1 is empty, but is to be drawn from"):
        ours.interleave_datasets(parts(ours, [2, 0], stream=False), [0.5, 0.5], seed=0)
