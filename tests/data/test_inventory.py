"""What the cache holds: listed, pruned without what is in use, told by its key; caching switched off."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import plait
from plait.cli import app
from plait.data import Dataset, DatasetDict, cache, load_dataset
from plait.data.inventory import age_of, prune, results, seconds_in, why
from plait.errors import NotFoundError, OptionError

pytestmark = pytest.mark.usefixtures("home")

runner = CliRunner()


def made_elsewhere(tmp_path: Path, count: int, *, wait: bool = False) -> Any:
    """Results of another process: `count` maps of the stored data; it ends at once, or when its input does."""
    script = tmp_path / "other.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from plait.data import load_from_disk
            dataset = load_from_disk({str(tmp_path / "d")!r})
            for k in range({count}):
                dataset.map(lambda row, k: {{"b": row["a"] + k}}, fn_kwargs={{"k": k}}, desc=f"number {{k}}")
            print("done", flush=True)
            if {wait}:
                sys.stdin.read()
            """
        )
    )
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    if not wait:
        process.communicate()
    for result in results():  # ages that differ by days: number 0 is the oldest
        age = (count - int(result.entry["title"].split()[1])) * 24 * 3600
        os.utime(result.folder / "entry.json", (time.time() - age, time.time() - age))
    return process


def titles(found: list[Any]) -> list[str]:
    return [result.entry["title"] for result in found]


def test_the_oldest_go_first_until_the_rest_fits(stored: Dataset, tmp_path: Path) -> None:
    made_elsewhere(tmp_path, 4)
    assert titles(results()) == ["number 3", "number 2", "number 1", "number 0"]
    each = results()[0].bytes
    assert each == sum(path.stat().st_size for path in results()[0].folder.iterdir())
    removed, kept = prune(max_bytes=2 * each + each // 2, dry_run=True)
    assert titles(removed) == ["number 0", "number 1"]
    assert len(results()) == 4
    removed, kept = prune(max_bytes=2 * each + each // 2)
    assert titles(removed) == ["number 0", "number 1"]
    assert titles(kept) == titles(results()) == ["number 3", "number 2"]
    removed, kept = prune(older_than=1.5 * 24 * 3600)
    assert titles(removed) == ["number 2"]
    assert titles(results()) == ["number 3"]
    assert not list((cache.folder() / "making").iterdir())


def test_what_a_live_process_uses_stays(stored: Dataset, tmp_path: Path) -> None:
    process = made_elsewhere(tmp_path, 2, wait=True)
    try:
        assert prune(max_bytes=0)[0] == []
        assert len(results()) == 2
        process.kill()  # no farewell: the system gives its lock back
        process.wait()
        assert titles(prune(max_bytes=0)[0]) == ["number 0", "number 1"]
    finally:
        process.kill()
        process.communicate()
    assert results() == []
    assert not [p for p in (cache.folder() / "users").iterdir() if p.name.startswith(f"{process.pid}-")]


def test_what_this_process_reads_stays_and_is_mapped_on(stored: Dataset, tmp_path: Path) -> None:
    made_elsewhere(tmp_path, 2)
    again = stored.map(lambda row, k: {"b": row["a"] + k}, fn_kwargs={"k": 1})
    assert titles(results())[0] == "number 1"  # it was found, and so it is the one used last
    assert titles(prune(max_bytes=0)[0]) == ["number 0"]
    assert again["b"][:3] == [1, 2, 3]


def test_cleanup_removes_what_was_made_of_the_same_data_but_not_its_own(stored: Dataset, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    table = load_dataset("csv", data_files=str(tmp_path / "x.csv"), split="train")
    others = stored.map(lambda row: {"z": 1})
    first = table.map(lambda row: {"b": row["a"] + 1})
    second = first.map(lambda row: {"c": row["b"] + 1})
    second.filter(lambda row: row["c"] > 3)
    assert len(results()) == 5  # the file as it was read, two maps, a filter, and a map of other data
    assert first.cleanup_cache_files() == 2  # the second map and the filter
    assert sorted(result.entry["operation"] for result in results()) == ["load csv", "map", "map"]
    assert table.cleanup_cache_files() == 1
    assert DatasetDict({"train": table, "other": stored}).cleanup_cache_files() == {"train": 0, "other": 1}
    assert [result.entry["operation"] for result in results()] == ["load csv"]
    assert (table["a"][:], others["z"][:2]) == ([1, 2], [1, 1])  # what is mapped stays readable


def test_a_result_that_is_removed_as_it_is_found_is_made_anew(stored: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    find = cache.find

    def find_and_lose(key: str, **options: Any) -> Any:
        entry = find(key, **options)
        if entry is not None and lose.pop("next", False):
            shutil.rmtree(cache.path_of(key))
        return entry

    lose: dict[str, bool] = {}
    monkeypatch.setattr(cache, "find", find_and_lose)
    for again in (False, True):
        lose |= {"next": True} if again else {}
        assert stored.map(lambda row: {"b": row["a"] + 1})["b"][:2] == [1, 2]
        lose |= {"next": True} if again else {}
        assert stored.filter(lambda row: row["a"] < 2)["a"][:] == [0, 1]
    assert not lose
    assert len(results()) == 2


def test_caching_can_be_switched_off(stored: Dataset) -> None:
    calls: list[int] = []

    def double(a: int) -> dict[str, int]:
        calls.append(1)
        return {"b": 2 * a}

    assert plait.is_caching_enabled()
    plait.disable_caching()
    try:
        assert not plait.is_caching_enabled()
        for _ in range(2):
            assert stored.map(double, input_columns="a", new_fingerprint="x")["b"][:2] == [0, 2]
        assert len(calls) == 1000
        assert results() == []
        stored.map(double, input_columns="a", new_fingerprint="x", load_from_cache_file=True)
        assert len(results()) == 1
        stored.map(double, input_columns="a", new_fingerprint="x", load_from_cache_file=True)
        assert len(calls) == 1500
    finally:
        plait.enable_caching()
    stored.map(double, input_columns="a", new_fingerprint="x")
    assert len(calls) == 1500


def test_computed_again_replaces_what_was_kept_and_what_follows_from_it(stored: Dataset) -> None:
    state = {"n": 1}

    def read(a: int) -> dict[str, int]:
        return {"n": state["n"]}

    first = stored.map(read, input_columns="a", new_fingerprint="x")
    follow = first.map(lambda row: {"m": row["n"] * 10})
    state["n"] = 2
    assert stored.map(read, input_columns="a", new_fingerprint="x")["n"][0] == 1
    again = stored.map(read, input_columns="a", new_fingerprint="x", load_from_cache_file=False)
    assert again["n"][0] == 2
    assert again.map(lambda row: {"m": row["n"] * 10})["m"][0] == 20
    assert stored.map(read, input_columns="a", new_fingerprint="x")["n"][0] == 2
    assert follow["m"][0] == 10
    assert stored.filter(lambda a: a < state["n"], input_columns="a", new_fingerprint="y").num_rows == 2
    state["n"] = 5
    options: dict[str, Any] = {"input_columns": "a", "new_fingerprint": "y"}
    assert stored.filter(lambda a: a < state["n"], load_from_cache_file=False, **options).num_rows == 5
    assert stored.filter(lambda a: a < state["n"], **options).num_rows == 5


def test_a_file_named_by_the_user_holds_all_columns(
    stored: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "named.arrow"

    def double(a: int, factor: int) -> dict[str, int]:
        return {"b": factor * a}

    first = stored.map(double, input_columns="a", fn_kwargs={"factor": 2}, cache_file_name=str(path))
    assert first["b"][:3] == [0, 2, 4]
    assert results() == []
    opened = Dataset.from_file(str(path))
    assert opened.to_dict() == first.to_dict()
    assert opened.features == first.features
    written = path.stat().st_mtime_ns
    again = stored.map(double, input_columns="a", fn_kwargs={"factor": 2}, cache_file_name=str(path))
    assert again.to_dict() == first.to_dict()
    assert path.stat().st_mtime_ns == written
    with caplog.at_level(logging.INFO, logger="plait.data"):
        other = stored.map(double, input_columns="a", fn_kwargs={"factor": 3}, cache_file_name=str(path))
    assert other["b"][:3] == [0, 3, 6]
    assert f"{path} holds another result, so it is written anew" in caplog.messages


def test_what_has_no_effect_is_said(stored: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="plait.data"):
        stored.map(lambda row: {"b": 1}, writer_batch_size=10, disable_nullable=True, suffix_template="_{rank}")
        stored.filter(lambda row: True, cache_file_name="x", writer_batch_size=3)
    said = [message for message in caplog.messages if "no effect" in message]
    assert said == [
        "map(writer_batch_size=…) has no effect: blocks are as large as their bytes suggest",
        "map(disable_nullable=…) has no effect: every column may hold nulls",
        "map(suffix_template=…) has no effect: a result has no file per process",
        "filter(cache_file_name=…) has no effect: the rows that stay are kept as numbers, in the cache",
        "filter(writer_batch_size=…) has no effect: blocks are as large as their bytes suggest",
    ]
    with pytest.raises(OptionError) as found:
        stored.map(lambda row: row, writer_batchsize=1)
    assert str(found.value) == "map() has no argument 'writer_batchsize'. Did you mean 'writer_batch_size'?"


@pytest.mark.parametrize(
    ("method", "wrong", "near"),
    [("map", "batch", "batched"), ("map", "num_procs", "num_proc"), ("filter", "fn_kwarg", "fn_kwargs"),
     ("map", "remove_column", "remove_columns"), ("train_test_split", "testsize", "test_size")],
)  # fmt: skip
def test_a_misspelt_argument_is_told_with_the_nearest(method: str, wrong: str, near: str) -> None:
    data = Dataset.from_dict({"a": [1, 2]})
    positional = () if method == "train_test_split" else (lambda row: row,)
    with pytest.raises(OptionError) as found:
        getattr(data, method)(*positional, **{wrong: 1})
    assert str(found.value) == f"{method}() has no argument {wrong!r}. Did you mean {near!r}?"


def test_a_key_is_told(stored: Dataset) -> None:
    with pytest.raises(NotFoundError, match=r"^No map or filter was computed yet into .*data\.$"):
        why("last")

    def make(size: int) -> Any:
        return lambda row: {"n": size}

    stored.map(make(1), desc="first")
    stored.map(make(2), desc="second")
    last = why("last")
    assert last["why"] == "changed since the last time: function → closure size"
    assert last["place"].startswith("map test_inventory.test_a_key_is_told")
    assert {"data", "format", "batch size", "function → closure size"} <= set(last["parts"])
    second, first = results()
    assert second.key == last["key"]
    assert why(second.key[:8]) == last
    assert why(first.key)["why"] == "there is no earlier result"
    with pytest.raises(NotFoundError) as found:
        why("zzz")
    assert str(found.value) == (
        f"0 results in {cache.folder()} have a key that begins with 'zzz'. `plait cache ls` lists them; `last` is the "
        f"one that was computed last."
    )
    with pytest.raises(NotFoundError, match="^2 results in"):
        why("")


def test_ages() -> None:
    assert [seconds_in(text) for text in ("30d", "1.5 h", "2w", "90s", "5m")] == [2592000, 5400, 1209600, 90, 300]
    assert [age_of(seconds) for seconds in (59, 3599, 3600, 47.9 * 3600, 48 * 3600)] == [
        "0 m",
        "59 m",
        "1 h",
        "47 h",
        "2 d",
    ]
    with pytest.raises(OptionError) as found:
        seconds_in("30 days")
    assert str(found.value) == "'30 days' is not an age. Write for example '30d', '12h' or '2w'."


def test_on_the_command_line(stored: Dataset, tmp_path: Path) -> None:
    made_elsewhere(tmp_path, 3)
    listed = runner.invoke(app, ["cache", "ls"]).stdout
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in listed.splitlines() if "number" in line]
    keys = [result.key[:12] for result in results()]
    assert [row[:3] for row in rows] == [[key, "map", "500"] for key in keys]
    assert [row[4:] for row in rows] == [["24 h", "number 2"], ["2 d", "number 1"], ["3 d", "number 0"]]
    told = runner.invoke(app, ["cache", "why", keys[0]])
    assert "computed because: changed since the last time: fn_kwargs → .k" in told.stdout
    dry = runner.invoke(app, ["cache", "prune", "--older-than", "36h", "--dry-run"])
    assert dry.stdout.splitlines()[-1].startswith("2 results (0.0 MB) would be removed, 1 (")
    done = runner.invoke(app, ["cache", "prune", "--max", "0"])
    assert done.stdout.splitlines()[-1] == "3 results (0.0 MB) removed, 0 (0.0 MB) kept"
    assert results() == []
    without = runner.invoke(app, ["cache", "prune"])
    assert without.exit_code == 1
    assert "Say what may stay: a size at most (--max 20GB), or an age (--older-than 30d), or both." in without.stderr
    wrong = runner.invoke(app, ["cache", "prune", "--max", "much"])
    assert "'much' is not a size. Write for example '500MB' or '1GiB'." in wrong.stderr
