"""Memory of work on a table larger than it should fit: 5 GB in a mapped Arrow file, iterated over and mapped.

What counts is anonymous memory (`RssAnon` of Linux): pages of the file that the kernel keeps in memory are not the
process's own, and go when somebody needs the room. It is read every 20,000 rows, and the highest counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Row, main

TITLE = "Memory of data sets"
ROWS = 5_000_000
TEXT_BYTES = 1000  # of each row
LIMIT_MIB = 50.0

MEASURED = """
import json, sys
from pathlib import Path
from plait.data import Dataset

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

peak = 0.0

def note(index):
    global peak
    if index % 20_000 == 0:
        peak = max(peak, anonymous())

def length(row, index):
    note(index)
    return {"length": len(row["text"]) + row["number"]}

dataset = Dataset.from_file(sys.argv[1])
assert dataset.select(range(2000)).map(length, with_indices=True, keep_in_memory=True)[7]["length"] == 1007
before = anonymous()
total = 0
if sys.argv[2] == "iterate":
    for index, row in enumerate(dataset):
        note(index)
        total += row["number"]
else:
    made = dataset.map(length, with_indices=True, new_fingerprint="length")
    for batch in made.select_columns("length").iter(10_000):
        total += sum(batch["length"]) - 1000 * len(batch["length"])
note(0)
assert total == len(dataset) * (len(dataset) - 1) // 2
print(json.dumps(peak - before))
"""


def write_table(path: Path) -> None:
    """Rows of a number and a text of 1,000 bytes, in record batches of 2,000 rows."""
    schema = pa.schema([("text", pa.string()), ("number", pa.int64())])
    texts = pa.array([chr(97 + index % 26) * TEXT_BYTES for index in range(2000)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for start in range(0, ROWS, 2000):
            numbers = pa.array(range(start, start + 2000), pa.int64())
            stream.write_batch(pa.record_batch([texts, numbers], schema=schema))


def growth(path: Path, work: str, home: Path) -> float:
    """MiB by which the anonymous memory of a fresh process grows at most while it does the work."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), work],
        env={**os.environ, "PLAIT_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"the benchmarked process failed:\n{result.stderr}")
    return float(json.loads(result.stdout))


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        path, home = Path(name) / "table.arrow", Path(name) / "home"
        write_table(path)
        size = f"{path.stat().st_size / 1e9:.1f} GB"
        for work, title in (("iterate", "iterating over"), ("map", "`map` of single rows over")):
            grown = growth(path, work, home)
            yield Row(f"anonymous memory grown by {title} {size}", grown, LIMIT_MIB, "MiB", "≤ 1", smaller=True)
        written = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
        column = 8 * ROWS
        yield Row(
            "bytes written by that `map`, against the new column",
            written / 2**20,
            column / 2**20,
            "MiB",
            "≤ 1.1",
            smaller=True,
        )


if __name__ == "__main__":
    main("data_memory", TITLE, rows)
