"""Async functions: run side by side, results in order, on one loop, inside a running loop too."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from plait.data import Dataset


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_dict({"a": list(range(250)), "t": [str(i) for i in range(250)]})


def expected(dataset: Dataset) -> list[int]:
    return [a * 2 for a in dataset["a"][:]]


def test_rows_run_side_by_side_and_come_back_in_order(dataset: Dataset) -> None:
    under_way, most = 0, 0

    async def double(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (row["a"] % 3))  # later rows end earlier
        under_way -= 1
        return {"b": row["a"] * 2}

    assert dataset.map(double)["b"][:] == expected(dataset)
    assert most == 150  # the first block has 100 rows, the second the other 150


def test_batches_run_side_by_side(dataset: Dataset) -> None:
    under_way, most = 0, 0

    async def double(batch: dict[str, Any], indices: list[int]) -> dict[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01 if indices[0] == 0 else 0)
        under_way -= 1
        return {"b": [a * 2 for a in batch["a"]], "i": indices}

    made = dataset.map(double, batched=True, batch_size=20, with_indices=True)
    assert made["b"][:] == expected(dataset)
    assert made["i"][:] == list(range(250))
    assert most == 13  # all batches: up to 1,000 rows are under way


def test_filter_by_async_functions(dataset: Dataset) -> None:
    async def odd(row: dict[str, Any]) -> bool:
        await asyncio.sleep(0)
        return bool(row["a"] % 2)

    async def odds(batch: dict[str, Any]) -> list[bool]:
        await asyncio.sleep(0)
        return [bool(a % 2) for a in batch["a"]]

    assert dataset.filter(odd)["a"][:] == list(range(1, 250, 2))
    assert dataset.filter(odds, batched=True, batch_size=7)["a"][:] == list(range(1, 250, 2))


def test_objects_and_partials_count_as_async(dataset: Dataset) -> None:
    class Adder:
        async def __call__(self, value: int) -> dict[str, int]:
            return {"b": value * 2}

    async def times(row: dict[str, Any], factor: int) -> dict[str, int]:
        return {"b": row["a"] * factor}

    assert dataset.map(Adder(), input_columns="a")["b"][:] == expected(dataset)
    assert dataset.map(functools.partial(times, factor=2))["b"][:] == expected(dataset)
    assert dataset.map(times, fn_kwargs={"factor": 2})["b"][:] == expected(dataset)


def test_one_loop_serves_all_blocks_and_a_running_loop_is_no_obstacle(dataset: Dataset) -> None:
    loops = set()

    async def note(row: dict[str, Any]) -> dict[str, Any]:
        loops.add(asyncio.get_running_loop())
        return {"b": row["a"] * 2}

    async def notebook() -> list[int]:
        found: list[int] = dataset.map(note)["b"][:]
        return found

    assert asyncio.run(notebook()) == expected(dataset)
    assert len(loops) == 1
    assert next(iter(loops)).is_closed()


def test_the_first_error_ends_the_others_and_names_its_row(dataset: Dataset) -> None:
    ended: list[int] = []

    async def fail(row: dict[str, Any]) -> dict[str, Any]:
        if row["a"] == 117:
            raise RuntimeError("no answer")
        try:
            await asyncio.sleep(30 if row["a"] > 117 else 0)
        except asyncio.CancelledError:
            ended.append(row["a"])
            raise
        return {"b": 1}

    with pytest.raises(RuntimeError, match="no answer") as found:
        dataset.map(fail)
    assert found.value.__notes__ == ["The function was called for row 117."]
    assert ended  # a call that waits is ended, not waited for


@pytest.mark.parametrize("batched", [False, True])
def test_an_error_of_any_function_names_its_rows(dataset: Dataset, batched: bool) -> None:
    def fail(row: dict[str, Any]) -> dict[str, Any]:
        values = row["a"] if batched else [row["a"]]
        return {"b": [1 / (value - 120) for value in values]}

    with pytest.raises(ZeroDivisionError) as found:
        dataset.map(fail, batched=batched, batch_size=50)
    place = "rows 100 to 149" if batched else "row 120"
    assert found.value.__notes__ == [f"The function was called for {place}."]
    with pytest.raises(ZeroDivisionError) as again:
        dataset.filter(lambda a: 1 / (a - 120), input_columns="a")
    assert again.value.__notes__ == ["The function was called for row 120."]
