"""Worker processes: a function that keeps a CPU busy on one and on two of them, and 200 runs on three rows.

Two workers are compared with one process of plait and with two workers of datasets. Of the runs on three rows none may
hang: a run has a minute.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, alternate, main

TITLE = "Worker processes"
ROWS = 4000
RUNS = 200
SECONDS = 60  # after which a run hangs

_THREE_ROWS = """
import sys, time
from {library} import Dataset
dataset = Dataset.from_dict({{"a": [1, 2, 3]}})
for run in range(int(sys.argv[1])):
    start = time.perf_counter()
    made = dataset.map(lambda row: {{"b": row["a"] + 1}}, num_proc=2)
    assert made["b"][:] == [2, 3, 4]
    print(time.perf_counter() - start, flush=True)
"""


def busy(row: dict[str, Any]) -> dict[str, Any]:
    """About a millisecond of Python."""
    value = row["a"]
    for _ in range(10_000):
        value = (value * 1103515245 + 12345) % 2147483648
    return {"b": value}


def rows() -> Iterator[Row]:
    """The figures, each with its peer."""
    import datasets

    import plait.data

    datasets.disable_progress_bars()
    columns = {"a": list(range(ROWS))}
    with tempfile.TemporaryDirectory() as folder:
        opened = []
        for library in (plait.data, datasets):
            path = str(Path(folder) / library.__name__)
            library.Dataset.from_dict(columns).save_to_disk(path)
            opened.append(library.load_from_disk(path))
        ours, theirs = opened
        fresh = {"load_from_cache_file": False}
        if ours.map(busy, num_proc=2, **fresh)["b"][:] != theirs.map(busy, num_proc=2, **fresh)["b"][:]:
            raise AssertionError("the two sides differ")

        def two() -> None:
            ours.map(busy, num_proc=2, **fresh)

        seconds = alternate(two, lambda: ours.map(busy, **fresh), runs=3, warmup=0)
        yield Row(f"`map` of {ROWS:,} rows with two workers, against one process", *seconds, "s", "≥ 1.6")
        seconds = alternate(two, lambda: theirs.map(busy, num_proc=2, **fresh), runs=3, warmup=0)
        yield Row(f"`map` of {ROWS:,} rows with two workers, against datasets", *seconds, "s", "≥ 0.8")
    yield Row("a `map` of three rows with two workers", three_rows("plait"), three_rows("datasets", 20), "s", "≥ 0.3")


def three_rows(library: str, runs: int = RUNS) -> float:
    """Median seconds of a map of three rows with two workers; an error when one of the runs hangs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _THREE_ROWS.format(library=library), str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    times: list[float] = []
    reader = threading.Thread(target=lambda: times.extend(float(line) for line in process.stdout or ()), daemon=True)
    reader.start()
    heard, last = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if len(times) > heard:
            heard, last = len(times), time.monotonic()
        if time.monotonic() - last > SECONDS:
            process.kill()
            raise RuntimeError(f"run {len(times) + 1} of {runs} of {library} hangs")
    reader.join()
    if len(times) != runs:
        raise RuntimeError(f"{library} ended after {len(times)} of {runs} runs with status {process.returncode}")
    return sorted(times)[runs // 2]


if __name__ == "__main__":
    main("data_workers", TITLE, rows)
