"""Data sets against datasets: 500,000 rows of 20 words and a label, mapped, filtered, read, saved and loaded.

Each side reads the files that it wrote itself, computes every result anew (`load_from_cache_file=False`,
`force_redownload`), and must give the same values as the other before it is timed.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Row, alternate, main

TITLE = "Data sets"
ROWS = 500_000
READS = 100_000  # single rows read in random order
FRESH = {"load_from_cache_file": False}


class Sides(NamedTuple):
    """The same rows as a data set of plait and as one of datasets."""

    ours: Any
    theirs: Any

    def each(self, function: Callable[[Any], Any]) -> Sides:
        """The function applied to both."""
        return Sides(function(self.ours), function(self.theirs))

    def times(self, work: Callable[[Any], Any], check: Callable[[Any], Any], *, runs: int) -> tuple[float, float]:
        """Median seconds of the work for each side, after what it gives was found equal."""
        first, second = (check(work(side)) for side in self)
        if first != second:
            raise AssertionError(f"the two sides differ: {str(first):.200} and {str(second):.200}")
        return alternate(lambda: work(self.ours), lambda: work(self.theirs), runs=runs, warmup=0)


def columns() -> dict[str, list[Any]]:
    """500,000 texts of 20 words out of 5,000, and a label of 0 or 1."""
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(5000)]
    texts = [" ".join(source.choices(words, k=20)) for _ in range(ROWS)]
    return {"text": texts, "label": [source.randrange(2) for _ in range(ROWS)]}


# --- the functions that both sides are given ---


def length(row: dict[str, Any]) -> dict[str, Any]:
    return {"length": len(row["text"])}


def lengths(batch: dict[str, Any]) -> dict[str, Any]:
    return {"length": [len(text) for text in batch["text"]]}


def positive(row: dict[str, Any]) -> bool:
    return bool(row["label"] == 1)


def count(rows: Any) -> int:
    return sum(1 for _ in rows)


def at_random(dataset: Any) -> list[Any]:
    order = random.Random(1).sample(range(ROWS), READS)
    return [dataset[index] for index in order]


def in_turn(dataset: Any) -> list[Any]:
    return [dataset[index] for index in range(READS)]


def tensors(dataset: Any) -> list[Any]:
    return [batch["label"] for batch in dataset.iter(1000)]


def whole(dataset: Any) -> Any:
    """All values of a data set, to compare."""
    return dataset.with_format("arrow")[:].to_pydict()


# --- the figures ---


def rows() -> Iterator[Row]:
    import datasets

    import plait.data

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        # datasets keeps what it computes beside its files; plait below PLAIT_HOME
        os.environ["PLAIT_HOME"] = str(folder / "home")
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        values = columns()
        plait.data.Dataset.from_dict(values).save_to_disk(folder / "ours")
        datasets.Dataset.from_dict(values).save_to_disk(folder / "theirs")
        both = Sides(plait.data.load_from_disk(folder / "ours"), datasets.load_from_disk(str(folder / "theirs")))
        yield from _work(both, folder)
        yield from _reading(both)
        yield from _files(Sides(plait.data, datasets), both, folder)


def _work(both: Sides, folder: Path) -> Iterator[Row]:
    import pyarrow.compute as pc

    seconds = both.times(lambda side: side.map(length, **FRESH), whole, runs=3)
    yield Row("`map` of single rows, adding a column of integers", *seconds, "s", "≥ 20")
    written = [_written(lambda side=side: side.map(length, **FRESH), folder) / 2**20 for side in both]
    column = 8 * ROWS / 2**20
    yield Row("bytes written by it, against the new column", written[0], column, "MiB", "≤ 1.1", smaller=True)
    yield Row("bytes written by it, against datasets", *written, "MiB", "≤ 0.05", smaller=True)
    seconds = both.times(lambda side: side.map(lengths, batched=True, **FRESH), whole, runs=7)
    yield Row("`map` of batches, adding a column of integers", *seconds, "s", "≥ 3")
    seconds = both.times(lambda side: side.filter(positive, **FRESH), whole, runs=7)
    yield Row("`filter` by a function of a row", *seconds, "s", "≥ 2")
    is_one = pc.field("label") == 1
    mixed = Sides(lambda: both.ours.filter(is_one), lambda: both.theirs.filter(positive, **FRESH))
    seconds = mixed.times(lambda work: work(), whole, runs=7)
    yield Row("`filter` by an expression, against the function", *seconds, "s", "≥ 20")


def _reading(both: Sides) -> Iterator[Row]:
    seconds = both.times(count, int, runs=3)
    yield Row("iterating over rows", *seconds, "s", "≥ 15")
    seconds = both.each(lambda side: side.filter(positive)).times(count, int, runs=3)
    yield Row("iterating over a filtered view", *seconds, "s", "≥ 12")
    seconds = both.times(at_random, list, runs=3)
    yield Row(f"{READS:,} single rows in random order", *seconds, "s", "≥ 8")
    seconds = both.each(lambda side: side.shuffle(seed=0)).times(in_turn, list, runs=3)
    yield Row(f"the first {READS:,} single rows of a shuffled view", *seconds, "s", "≥ 8")
    numbers = both.each(lambda side: side.with_format("torch", columns=["label"]))
    seconds = numbers.times(tensors, lambda found: [batch.tolist() for batch in found], runs=7)
    yield Row("torch batches of 1,000 numbers", *seconds, "s", "≥ 5")


def _files(modules: Sides, both: Sides, folder: Path) -> Iterator[Row]:
    shuffled = both.each(lambda side: side.shuffle(seed=0))
    saved = Sides((modules.ours, shuffled.ours), (modules.theirs, shuffled.theirs))

    def save(side: Any) -> Any:
        module, dataset = side
        dataset.save_to_disk(str(folder / module.__name__))
        return module.load_from_disk(str(folder / module.__name__))

    yield Row("saving a shuffled data set", *saved.times(save, whole, runs=3), "s", "≥ 1.5")
    both.ours.to_csv(folder / "rows.csv")
    named = {"data_files": str(folder / "rows.csv"), "split": "train"}

    def load(module: Any, **options: Any) -> Any:
        return module.load_dataset("csv", **named, **options)

    seconds = modules.times(lambda side: load(side, download_mode="force_redownload"), whole, runs=5)
    yield Row("`load_dataset` of a CSV file, cold", *seconds, "s", "≥ 1")
    yield Row("`load_dataset` of a CSV file, warm", *modules.times(load, whole, runs=7), "s", "≥ 1")


def _written(work: Callable[[], Any], folder: Path) -> int:
    """Bytes of the files that a piece of work makes."""
    before = _files_below(folder)
    work()
    return sum(path.stat().st_size for path, mark in _files_below(folder).items() if before.get(path) != mark)


def _files_below(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file, with what tells it apart from another of the same name."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


if __name__ == "__main__":
    main("data", TITLE, rows)
