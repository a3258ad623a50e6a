"""The cache of results: reused exactly when nothing that matters changed, whole or absent after any kill."""

from __future__ import annotations

import importlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from plait.data import Dataset, load_dataset, load_from_disk
from plait.errors import DataError

pytestmark = pytest.mark.usefixtures("home")

CALLS: list[int] = []


def double(row: dict[str, Any]) -> dict[str, Any]:
    # CALLS is not named here: a global that changes would make every call a new one
    sys.modules[__name__].__dict__["CALLS"].append(1)
    return {"b": row["a"] * 2}


def calls(dataset: Dataset, **options: Any) -> int:
    CALLS.clear()
    made = dataset.map(double, **options)
    assert made["b"][:3] == [2 * a for a in made["a"][:3]]
    return len(CALLS)


def test_a_result_is_reused_and_its_files_are_mapped(stored: Dataset, tmp_path: Path) -> None:
    assert calls(stored) == 500
    assert calls(stored) == 0
    again = load_from_disk(tmp_path / "d")
    assert isinstance(again, Dataset)
    assert calls(again) == 0
    made = again.map(double)
    (source,) = made.table.columns["b"].store.sources or ()
    assert str(source.path).startswith(str(tmp_path / "home" / "data" / "results"))
    assert made.table.columns["t"].store is again.table.columns["t"].store


def test_chains_of_results_are_reused(stored: Dataset) -> None:
    def chain() -> Dataset:
        found = stored.map(double).filter(lambda row: row["b"] % 3 == 0).shuffle(seed=1)
        return found.map(lambda row: {"c": row["b"] + 1}).sort("c")

    first = chain()
    CALLS.clear()
    second = chain()
    assert not CALLS
    assert first.to_dict() == second.to_dict()
    assert first.fingerprint == second.fingerprint


def test_other_data_or_options_are_computed(stored: Dataset) -> None:
    assert calls(stored) == 500
    assert calls(stored.select(range(100))) == 100
    assert calls(stored.shuffle(seed=1)) == 500
    assert calls(stored.rename_column("t", "s")) == 500
    assert calls(stored, remove_columns=["t"]) == 500
    assert calls(stored, load_from_cache_file=False) == 500
    assert calls(stored, keep_in_memory=True) == 500
    assert calls(stored, new_fingerprint="mine") == 500
    assert calls(stored, new_fingerprint="mine") == 0


def test_data_in_memory_stay_in_memory_unless_told(home: Path) -> None:
    dataset = Dataset.from_dict({"a": list(range(10))})
    assert calls(dataset) == 10
    assert calls(dataset) == 10
    assert not home.exists()
    assert calls(dataset, load_from_cache_file=True) == 10
    assert calls(Dataset.from_dict({"a": list(range(10))}), load_from_cache_file=True) == 0


def test_an_edited_helper_in_another_module_recomputes(
    stored: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "pipeline_x.py").write_text("import helper_x\ndef f(row):\n    return {'n': helper_x.size(row['t'])}\n")
    found = []
    for body in ("len(t)", "len(t)", "len(t) + 1"):
        (tmp_path / "helper_x.py").write_text(f"def size(t):\n    return {body}\n")
        for name in ("helper_x", "pipeline_x"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        with caplog.at_level(logging.INFO, logger="plait.data"):
            caplog.clear()
            found.append(stored.map(importlib.import_module("pipeline_x").f)["n"][0])
        said = [record.message for record in caplog.records if "is computed" in record.message]
        if len(found) == 1:
            assert said == ["map f is computed: there is no earlier result"]
        elif len(found) == 2:
            assert said == []
        else:
            assert said == [
                "map f is computed: changed since the last time: function → global helper_x.size → code → constant 1"
            ] or said == ["map f is computed: changed since the last time: function → global helper_x.size → code"]
    assert found == [6, 6, 7]


def test_a_miss_says_what_changed(stored: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    def make(config: dict[str, Any]) -> Any:
        return lambda row: {"n": config["size"]}

    with caplog.at_level(logging.INFO, logger="plait.data"):
        stored.map(make({"size": 1, "other": 2}))
        stored.map(make({"size": 3, "other": 2}))
        stored.filter(lambda row: row["a"] > 3, batch_size=7)
        stored.select(range(9)).map(make({"size": 3, "other": 2}))
    said = [record.message.split(": ", 1)[1] for record in caplog.records if "is computed" in record.message]
    assert said == [
        "there is no earlier result",
        "changed since the last time: function → closure config → .size",
        "there is no earlier result",
        "changed since the last time: data",
    ]


def test_what_cannot_be_hashed_is_not_cached_and_the_log_says_why(
    stored: Dataset, caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    import threading

    lock = threading.Lock()

    def locked(row: dict[str, Any]) -> dict[str, Any]:
        with lock:
            return {"n": 1}

    with caplog.at_level(logging.WARNING, logger="plait.data"):
        assert stored.map(locked)["n"][:2] == [1, 1]
    assert [record.message for record in caplog.records] == [
        "map locked is not cached, because function → closure lock is a _thread.lock, whose state is not known. "
        "Give its class a method __fingerprint__() -> str, or pass new_fingerprint= to name the function yourself."
    ]
    assert not (home / "data" / "results").exists()


def test_filter_keeps_row_numbers_only(stored: Dataset, home: Path) -> None:
    first = stored.filter(lambda row: row["a"] % 2 == 0)
    (files,) = [path for path in (home / "data" / "results").glob("*/*") if path.is_dir()]
    assert sorted(path.name for path in files.iterdir()) == ["entry.json", "rows.npy"]
    second = stored.filter(lambda row: row["a"] % 2 == 0)
    assert first["a"][:] == second["a"][:] == list(range(0, 500, 2))
    assert second.table.columns["t"].store is stored.table.columns["t"].store


def test_a_damaged_result_is_made_anew(stored: Dataset, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert calls(stored) == 500
    (file,) = (home / "data" / "results").rglob("*.arrow")
    file.write_bytes(file.read_bytes()[:-100])
    assert calls(stored) == 500
    assert "is damaged (0.arrow), so it is made anew" in caplog.text
    (entry,) = (home / "data" / "results").rglob("entry.json")
    entry.write_text("{")
    assert calls(stored) == 500
    assert "cannot be read" in caplog.text
    assert calls(stored) == 0


def test_files_that_changed_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    assert load_dataset("csv", data_files=str(path), split="train")["a"] == [1]
    path.write_text("a\n2\n")
    os.utime(path, ns=(1, 1))
    assert load_dataset("csv", data_files=str(path), split="train")["a"] == [2]
    path.write_text("a\n3\n")
    os.utime(path, ns=(1, 1))  # the same size and time: told to look again
    again = load_dataset("csv", data_files=str(path), split="train", download_mode="force_redownload")
    assert again["a"] == [3]


SLOW = textwrap.dedent(
    """
    import sys, time
    from plait.data import load_from_disk
    dataset = load_from_disk(sys.argv[1])
    def slow(row):
        if row["a"] == 400:
            print("here", flush=True)
            time.sleep(float(sys.argv[2]))
        return {"b": row["a"] * 2, "c": row["t"] * 50}
    made = dataset.map(slow)
    print(sum(made["b"]), flush=True)
    """
)


def visible(home: Path) -> list[Path]:
    return list((home / "data" / "results").glob("*/*")) if home.exists() else []


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01, 0.02, 0.03, None])
def test_a_killed_map_leaves_nothing_half_made(
    stored: Dataset, tmp_path: Path, home: Path, delay: float | None
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    # killed while the function sleeps (None), or so long after it went on, while files are written
    pause = "60" if delay is None else "0"
    process = subprocess.Popen([sys.executable, script, tmp_path / "d", pause], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(delay or 0.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for entry in visible(home):  # what is there is complete
        description = json.loads((entry / "entry.json").read_text())
        assert {name: (entry / name).stat().st_size for name in description["files"]} == description["files"]
    done = subprocess.run([sys.executable, script, tmp_path / "d", "0"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(2 * sum(range(500)))
    assert len(visible(home)) == 1
    assert not list((home / "data" / "making").iterdir())  # what the killed process left is gone


def test_two_processes_at_once_provide_one_result(stored: Dataset, tmp_path: Path, home: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    command = [sys.executable, script, tmp_path / "d", "0.3"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out.split()[-1] == str(2 * sum(range(500)))
    assert len(visible(home)) == 1
    assert not list((home / "data" / "making").iterdir())


def test_a_cache_that_cannot_be_written_serves_what_it_has_and_keeps_nothing(
    stored: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"  # a folder cannot be made below a file, not even by root
    monkeypatch.setenv("PLAIT_HOME", str(home))
    with caplog.at_level(logging.WARNING):
        assert calls(stored) == 500
        assert stored.filter(lambda row: row["a"] < 3)["a"][:] == [0, 1, 2]
        assert load_dataset("csv", data_files=str(tmp_path / "a.csv"), split="train")["a"][:] == [1, 2]
    (message,) = {record.message for record in caplog.records}
    assert message == (
        f"the cache {home}/data/making cannot be written ([Errno 20] Not a directory: '{home}/data/making'), so "
        f"nothing is kept; PLAIT_HOME names another"
    )
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    assert calls(stored) == 500
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as on a read-only disk
    assert calls(stored) == 0


def test_a_data_set_whose_file_was_removed_is_still_mapped_but_not_cached(
    stored: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    (source,) = stored.table.columns["a"].store.sources or ()
    source.path.unlink()
    with caplog.at_level(logging.WARNING):
        assert calls(stored) == 500
        assert calls(stored) == 500
    assert f"map double is not cached, because a file of the data was removed: {source.path}" in caplog.text
    with pytest.raises(DataError, match=rf"^{source.path}, from which a data set is mapped, was removed meanwhile\. "):
        pickle.loads(pickle.dumps(stored))


@pytest.mark.parametrize("content", ["[]", "{}", "{bad", '{"files": 3}'])
def test_a_description_that_is_none_is_passed_over(stored: Dataset, home: Path, content: str) -> None:
    assert calls(stored) == 500
    (entry,) = (home / "data" / "results").rglob("entry.json")
    entry.write_text(content)
    assert calls(stored) == 500
    assert calls(stored) == 0
