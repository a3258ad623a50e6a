"""Worker processes: functions of all kinds travel, errors name who failed and where, no kill leaves anything behind."""

from __future__ import annotations

import atexit
import json
import logging
import operator
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest

from plait.data import Dataset
from plait.errors import DataError, OptionError, WorkerError

pytestmark = pytest.mark.usefixtures("home")


def children() -> list[psutil.Process]:
    """Processes below this one, but for the tracker that Python keeps to its end once anything was spawned."""
    return [process for process in psutil.Process().children() if "resource_tracker" not in " ".join(process.cmdline())]


def double(row: dict[str, Any], rank: int) -> dict[str, Any]:
    return {"b": row["a"] * 2, "rank": rank, "process": os.getpid()}


def test_a_map_in_workers_is_in_order_and_each_has_neighbouring_rows(stored: Dataset) -> None:
    made = stored.map(double, num_proc=2, with_rank=True)
    assert made["b"][:] == [2 * a for a in range(500)]
    ranks = made["rank"][:]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1}
    assert abs(ranks.count(0) - 250) <= 32  # half, up to a piece: a sixteenth
    assert len(set(made["process"][:])) == 2
    assert os.getpid() not in made["process"][:]
    assert not children()


def test_the_key_does_not_hold_the_number_of_workers(stored: Dataset, home: Path) -> None:
    factor = 3

    def times(row: dict[str, Any]) -> dict[str, Any]:
        return {"b": row["a"] * factor, "process": os.getpid()}

    first = stored.map(times, num_proc=2)
    second = stored.map(times)
    assert first["process"][:] == second["process"][:]  # it was not computed again
    odd = stored.filter(lambda row: row["a"] % 2 == 1, num_proc=2)
    assert odd["a"][:] == list(range(1, 500, 2))
    assert len(list((home / "data" / "results").glob("*/*"))) == 2
    assert not list((home / "data" / "making").iterdir())


def test_three_rows_and_two_workers_never_hang() -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    for _ in range(2):
        assert dataset.map(operator.methodcaller("copy"), num_proc=2)["a"][:] == [1, 2, 3]
        assert not children()


def test_no_more_workers_than_work(caplog: pytest.LogCaptureFixture) -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    with caplog.at_level(logging.INFO, logger="plait.data"):
        made = dataset.map(lambda batch: {"p": [os.getpid()] * 3}, batched=True, num_proc=8, desc="once")
    assert made["p"][:] == [os.getpid()] * 3
    assert caplog.messages == ["once: 1 workers instead of 8, because there is no more work to share out"]


class Refused(Exception):
    """An error with an argument that is not its message."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with code {code}")
        self.code = code

    def __reduce__(self) -> Any:
        return (Refused, (self.code,))


def refuse(row: dict[str, Any]) -> dict[str, Any]:
    if row["a"] == 433:
        raise Refused(7)
    return {"b": 1}


def test_an_error_comes_back_as_itself_with_the_row_and_the_traceback(stored: Dataset, home: Path) -> None:
    with pytest.raises(Refused, match="^refused with code 7") as found:
        stored.map(refuse, num_proc=2)
    assert found.value.code == 7
    assert found.value.__notes__ == ["The function was called for row 433."]
    cause = str(found.value.__cause__)
    assert isinstance(found.value.__cause__, WorkerError)
    assert cause.startswith("map refuse: worker ")
    assert " failed at rows 407 to 437:\nTraceback (most recent call last):\n" in cause
    assert "raise Refused(7)\n" in cause
    assert not (home / "data" / "results").exists()
    assert not children()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (
            lambda row: os.kill(os.getpid(), signal.SIGKILL),
            r"^map: worker 0 \(process \d+\) was killed by SIGKILL at row \d\. The system kills processes when memory "
            r"runs out; fewer workers or smaller batches need less\.$",
        ),
        (lambda row: os._exit(3), r"^map: worker 0 \(process \d+\) ended with status 3 at row \d\.$"),
        (
            lambda row: sys.exit("enough"),
            r"^map: worker 0 \(process \d+\) failed at row \d:\nTraceback(.|\n)*enough\n$",
        ),
    ],
    ids=["killed", "ended", "sys.exit"],
)
def test_a_worker_that_is_gone_is_named(end: Any, text: str) -> None:
    def only_the_first(row: dict[str, Any], rank: int) -> None:
        time.sleep(0.02)
        if rank == 0:
            end(row)

    with pytest.raises(WorkerError, match=text):
        Dataset.from_dict({"a": list(range(5))}).map(only_the_first, num_proc=2, with_rank=True, desc="map")
    assert not children()


def test_a_worker_that_cannot_start_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3]})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        WorkerError,
        match=r"^map: worker \d \(process \d+\) could not start: it ended with status 1; what it printed says why\.$",
    ):
        dataset.map(lambda row: row, num_proc=2)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(WorkerError, match=r"^map: worker 0 could not start: .*No such file"):
        dataset.map(lambda row: row, num_proc=2)


def test_what_cannot_travel_is_named() -> None:
    import threading

    lock = threading.Lock()
    with pytest.raises(OptionError) as found:
        Dataset.from_dict({"a": [1, 2, 3]}).map(lambda row: {"l": lock.locked()}, num_proc=2)
    assert str(found.value) == (
        "map cannot be sent to workers: TypeError: cannot pickle '_thread.lock' object. Make what cannot be copied "
        "inside the function, or leave out num_proc."
    )


SCRIPT = textwrap.dedent(
    """
    import os, sys, time
    from plait.data import load_from_disk

    class Scale:
        def __init__(self, factor):
            self.factor = factor
        def __call__(self, value):
            return value * self.factor

    SCALE = Scale(2)

    # no `if __name__ == "__main__"`: workers do not run this file
    def slow(row, pause):
        if row["a"] in (100, 400):
            print("here", os.getpid(), flush=True)
            time.sleep(pause)
        return {"b": SCALE(row["a"])}
    made = load_from_disk(sys.argv[1]).map(slow, num_proc=2, fn_kwargs={"pause": float(sys.argv[2])})
    print("sum", sum(made["b"]), flush=True)
    """
)


@pytest.fixture
def script(tmp_path: Path, stored: Dataset) -> list[str]:
    path = tmp_path / "main_script.py"
    path.write_text(SCRIPT)
    return [sys.executable, str(path), str(tmp_path / "d")]


def gone(processes: list[int]) -> bool:
    """Whether processes end within a few seconds; a worker looks once a second whether its parent lives."""
    for _ in range(100):
        if not any(psutil.pid_exists(process) and _running(process) for process in processes):
            return True
        time.sleep(0.1)
    return False


def _running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_no_worker_outlives_its_parent_and_nothing_half_made_stays(
    script: list[str], home: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen([*script, "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [int(process.stdout.readline().split()[1]) for _ in range(2)]
    assert len(set(workers)) == 2
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode != 0
    assert gone(workers)
    assert ("KeyboardInterrupt" in error) == (number == signal.SIGINT)
    assert not list((home / "data").glob("results/*/*"))
    # the same again, to its end: functions and objects of the script travel by value
    done = subprocess.run([*script, "0"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"sum {2 * sum(range(500))}"
    (entry,) = (home / "data").glob("results/*/*/entry.json")
    assert json.loads(entry.read_text())["rows"] == 500
    assert not list((home / "data" / "making").iterdir())


def test_processes_with_workers_provide_one_result(script: list[str], home: Path) -> None:
    processes = [subprocess.Popen([*script, "0.3"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out.splitlines()[-1] == f"sum {2 * sum(range(500))}"
    assert len(list((home / "data").glob("results/*/*"))) == 1
    assert not list((home / "data" / "making").iterdir())


def test_workers_end_when_their_results_do_not_fit_together(stored: Dataset, home: Path) -> None:
    with pytest.raises(DataError, match="^Column 'b' has values without a common type: rows before 438 are int64"):
        stored.map(lambda row: {"b": "x" if row["a"] >= 438 else 1}, num_proc=2, on_mixed_types=None)
    assert not children()
    assert not list((home / "data" / "making").iterdir())


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, logger="plait.data"):
        made = Dataset.from_dict({"a": [1, 2, 3]}).map(lambda row: {"b": row["a"] + 1}, num_proc=2)
    assert made["b"][:] == [2, 3, 4]
    (said,) = caplog.messages
    assert said.startswith("the cache cannot be written (")
    assert said.endswith("), so the folder for temporary files is used")


def test_a_worker_imports_what_it_needs_only(tmp_path: Path) -> None:
    script = tmp_path / "modules.py"
    script.write_text(
        "import sys\n"
        "from plait.data import Dataset\n"
        "def modules(row):\n"
        "    import sys\n"
        "    return {'modules': [*sys.modules]}\n"
        "print(*Dataset.from_dict({'a': [1, 2]}).map(modules, num_proc=2)['modules'][0])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert {"pyarrow", "cloudpickle", "plait.data.apply"} <= found
    assert not {"torch", "pandas", "rich", "pyarrow.compute", "plait.data.dataset"} & found


def test_functions_see_the_format_in_a_worker_too(stored: Dataset) -> None:
    few = stored.select(range(4)).with_format("numpy", columns=["a"])
    assert few.map(lambda row: {"kind": type(row["a"]).__name__, "b": row["a"] + 1}, num_proc=2).with_format(None)[
        :
    ] == {"a": [0, 1, 2, 3], "t": few.with_format(None)["t"][:], "kind": ["int64"] * 4, "b": [1, 2, 3, 4]}
    shown = stored.select(range(4)).with_transform(lambda batch: {"a": [-a for a in batch["a"]]})
    assert shown.filter(lambda row: row["a"] < -1, num_proc=2).with_format(None)["a"][:] == [2, 3]


def test_workers_end_at_once_when_the_others_were_enough(tmp_path: Path) -> None:
    from plait.data import workers

    starting, working = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    here, there = Pipe()
    nowhere: Any = None
    pool = workers._Pool("map f", [], tmp_path, nowhere, by_rank=None)
    pool.workers = [workers._Worker(0, starting, here), workers._Worker(1, working, here, ready=True)]
    threading.Timer(0.2, working.terminate).start()
    pool.dismiss()
    assert starting.returncode == -signal.SIGKILL, "it was still starting"
    assert working.returncode == -signal.SIGTERM, "it is told, and ends by itself"
    assert there.recv() is None
    assert not there.poll()
    pool.end()


def test_a_worker_without_further_pieces_ends_while_others_work(stored: Dataset, tmp_path: Path) -> None:
    def waits(row: dict[str, Any], rank: int) -> dict[str, Any]:
        ended = tmp_path / "ended"
        if rank == 0:
            atexit.register(ended.write_text, "yes")
        while rank == 1 and not ended.exists():
            time.sleep(0.01)
        return {"rank": rank}

    assert stored.select(range(2)).map(waits, with_rank=True, num_proc=2)["rank"][:] == [0, 1]


def test_a_silent_worker_is_named(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    from plait.data import workers

    process = subprocess.Popen(["sleep", "60"])
    try:
        nowhere: Any = None
        pool = workers._Pool("map f", [range(7), range(7, 9)], tmp_path, nowhere, by_rank=None)
        worker = workers._Worker(1, process, None, since=time.monotonic() - 310)
        with pytest.raises(WorkerError) as found:
            pool._watch(worker)
        assert str(found.value) == f"map f: worker 1 (process {process.pid}) could not start within 120 seconds."
        worker.ready, worker.piece = True, 1
        with caplog.at_level(logging.WARNING, logger="plait.data"):
            pool._watch(worker)
            pool._watch(worker)
        assert caplog.messages == [
            f"map f: worker 1 (process {process.pid}) has finished no block of rows 7 to 8 for 310 s"
        ]
    finally:
        process.kill()
        process.wait()


def test_progress_counts_the_rows_of_all_workers(monkeypatch: pytest.MonkeyPatch, stored: Dataset) -> None:
    import contextlib
    from collections.abc import Iterator

    from plait.data import work

    told: list[float] = []

    class Counter:
        def advance(self, steps: float = 1) -> None:
            told.append(steps)

        def note(self, text: str) -> None:
            raise AssertionError(text)

    @contextlib.contextmanager
    def bar(title: str, total: float, unit: str) -> Iterator[Counter]:
        assert (title, total, unit) == ("counted", 500, "rows")
        yield Counter()

    monkeypatch.setattr(work, "bar", bar)
    stored.map(lambda row: {"b": 1}, num_proc=2, desc="counted")
    assert sum(told) == 500
