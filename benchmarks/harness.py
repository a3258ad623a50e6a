"""How plait is timed against its peers: both sides in one run, alternating, medians, the ratio, the machine named.

A benchmark module has a function `rows()` that yields a `Row` per figure; `python -m benchmarks.NAME` prints its
table and `python -m benchmarks` runs all of them and writes RESULTS.md.
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PEERS = ["torch", "numpy", "pyarrow", "tokenizers", "safetensors", "transformers", "datasets", "gguf"]


@dataclass(frozen=True)
class Row:
    """One figure: medians of both sides in `unit`, and what plait promises of the ratio between them.

    `ratio` is theirs / ours for times (how many times faster), unless `smaller` says that it is ours / theirs.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    goal: str
    smaller: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.smaller else self.theirs / self.ours


class Process(NamedTuple):
    """What one process cost: wall time in seconds and peak resident memory in MiB."""

    seconds: float
    peak_mib: float


def alternate(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    runs: int = 7,
    warmup: int = 1,
    before: Callable[[], object] | None = None,
) -> tuple[float, float]:
    """Median seconds of both functions, called in turn: ours, theirs, ours, … after `warmup` uncounted pairs.

    `before` is called before each, and not timed. Garbage is collected before each as well, so that neither side pays
    for what the other left.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(warmup + runs):
        for side, function in enumerate((ours, theirs)):
            if before is not None:
                before()
            gc.collect()
            start = time.perf_counter()
            function()
            if run >= warmup:
                times[side].append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


# What a measured process says at its end. On Linux the kernel's own mark of this address space: `ru_maxrss` would
# also count the parent's memory, which a child shares until it becomes another program.
_REPORT = """
import resource, pathlib
_status = pathlib.Path("/proc/self/status")
if _status.exists():
    _peak = next(int(line.split()[1]) for line in _status.read_text().splitlines() if line.startswith("VmHWM"))
else:
    _peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print("peak", _peak)
"""


def process(code: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
    """Run `code` in a fresh Python and say what it cost; it must succeed."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{_REPORT}", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if result.returncode:
        raise RuntimeError(f"the benchmarked process failed:\n{result.stderr}")
    return Process(seconds, int(result.stdout.split()[-1]) / 1024)


def alternate_processes(codes: Sequence[str], *arguments: str, runs: int = 7, warmup: int = 1) -> list[Process]:
    """Medians of whole processes run in turn: first, second, …, first, second, …"""
    costs: list[list[Process]] = [[] for _ in codes]
    for run in range(warmup + runs):
        for side, code in enumerate(codes):
            cost = process(code, *arguments)
            if run >= warmup:
                costs[side].append(cost)
    return [
        Process(statistics.median(c.seconds for c in side), statistics.median(c.peak_mib for c in side))
        for side in costs
    ]


def machine() -> str:
    """One line that names the machine and the versions compared."""
    cpu = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [
            line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        cpu = models[0] if models else cpu
    versions = []
    for name in PEERS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, {platform.system()}, Python {platform.python_version()}; {', '.join(versions)}"


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | plait | peer | unit | ratio | goal |", "|---|---:|---:|---|---:|---|"]
    for row in rows:
        side = "plait / peer" if row.smaller else "peer / plait"
        lines.append(
            f"| {row.name} | {figure(row.ours)} | {figure(row.theirs)} | {row.unit} "
            f"| {figure(row.ratio)} ({side}) | {row.goal} |"
        )
    return "\n".join(lines)


def section(name: str, title: str, rows: Iterable[Row]) -> str:
    """A section of RESULTS.md: what, when, where, how to reproduce, and the table."""
    today = datetime.date.today().isoformat()
    return f"## {title}\n\n`python -m benchmarks.{name}`, {today}. {machine()}\n\n{table(list(rows))}\n"


def main(name: str, title: str, rows: Callable[[], Iterable[Row]]) -> None:
    """The command line of one benchmark: run it, print its section, and put it into RESULTS.md in place of the last."""
    text = section(name, title, rows())
    print(text)
    path = Path(__file__).with_name("RESULTS.md")
    head, *sections = path.read_text(encoding="utf-8").split("\n## ") if path.exists() else ["# Results\n"]
    kept = {part.split("\n", 1)[0]: part.strip("\n") for part in sections}
    kept[title] = text.removeprefix("## ").strip("\n")
    body = "".join(f"\n## {part}\n" for _, part in sorted(kept.items()))
    path.write_text(head.rstrip("\n") + "\n" + body, encoding="utf-8")
