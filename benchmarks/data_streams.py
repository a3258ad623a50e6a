"""Streams against datasets: 100,000 rows of 20 words in 8 shards, read, mapped, shuffled, interleaved and resumed.

Both sides read the same rows, and the last figures of both are compared before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from benchmarks.harness import Row, alternate, main

TITLE = "Streams"
ROWS = 100_000
RESUMED = 5_000  # rows read after a place far into the stream was loaded


def plus_one(row: dict[str, Any]) -> dict[str, Any]:
    return {"next": row["number"] + 1}


def plus_one_each(batch: dict[str, Any]) -> dict[str, Any]:
    return {"next": [number + 1 for number in batch["number"]]}


def even(row: dict[str, Any]) -> bool:
    return bool(row["number"] % 2 == 0)


def numbers(rows: Any) -> list[int]:
    return [int(row["number"]) for row in rows]


def rows() -> Iterator[Row]:
    import datasets

    import plait.data

    columns = {"text": ["word " * 20] * ROWS, "number": list(range(ROWS))}
    both = [module.Dataset.from_dict(columns).to_iterable_dataset(8) for module in (plait.data, datasets)]
    modules = dict(zip(map(id, both), (plait.data, datasets), strict=True))

    def interleaved(stream: Any) -> Any:
        mixed = modules[id(stream)].interleave_datasets([stream, stream], probabilities=[0.3, 0.7], seed=0)
        return mixed.take(ROWS // 5)

    chains: dict[str, tuple[Callable[[Any], Any], Callable[[list[int]], Any], str]] = {
        "reading rows": (lambda stream: stream, list, "≥ 10"),
        "`map` of single rows": (lambda stream: stream.map(plus_one), list, "≥ 10"),
        "`map` of batches": (lambda stream: stream.map(plus_one_each, batched=True), list, "≥ 2"),
        "`map` and `filter` of single rows": (lambda stream: stream.map(plus_one).filter(even), list, "≥ 10"),
        # another order for the same seed, but the same rows
        "`shuffle` with a buffer of 1,000": (lambda stream: stream.shuffle(seed=0, buffer_size=1000), sorted, "≥ 5"),
        "torch rows": (lambda stream: stream.select_columns("number").with_format("torch"), list, "≥ 10"),
        f"`interleave_datasets`, {ROWS // 5:,} rows": (interleaved, list, "≥ 10"),
    }
    for title, (chain, compare, goal) in chains.items():
        ours, theirs = (chain(stream) for stream in both)
        if compare(numbers(ours)) != compare(numbers(theirs)):
            raise AssertionError(f"the two sides differ in {title}")
        seconds = alternate(lambda ours=ours: numbers(ours), lambda theirs=theirs: numbers(theirs), runs=3, warmup=0)
        yield Row(title, *seconds, "s", goal)
    yield Row(f"{RESUMED:,} rows after a place in the middle", *_resumed(both), "s", "≥ 5")


def _resumed(both: list[Any]) -> tuple[float, float]:
    """Seconds to load a place behind nine tenths of the rows and to read on."""
    chained = [stream.map(plus_one) for stream in both]
    states = []
    for stream in chained:
        for _ in islice(stream, ROWS * 9 // 10):
            pass
        states.append(stream.state_dict())

    def go_on(side: int) -> list[int]:
        chained[side].load_state_dict(states[side])
        return numbers(islice(chained[side], RESUMED))

    if go_on(0) != go_on(1):
        raise AssertionError("the two sides differ after a place was loaded")
    return alternate(lambda: go_on(0), lambda: go_on(1), runs=3, warmup=0)


if __name__ == "__main__":
    main("data_streams", TITLE, rows)
