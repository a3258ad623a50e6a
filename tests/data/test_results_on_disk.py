"""When the files of a result come to the disk: all of them before it is seen, side by side, and nothing beside them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from plait import disk
from plait.data import Dataset, writer
from plait.data.files import read_arrow
from plait.data.writer import ColumnWriter

Synced = dict[str, int]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Names of files and folders that were brought to the disk, with the size that they had then."""
    found: Synced = {}
    original = disk.sync

    def sync(path: Path) -> None:
        found[path.name] = path.stat().st_size
        original(path)

    for module in ("plait.disk", "plait.data.cache", "plait.data.files"):
        monkeypatch.setattr(f"{module}.sync", sync)
    return found


def results(home: Path) -> list[Path]:
    return sorted((home / "data" / "results").glob("*/*"))


def join_removals() -> None:
    for thread in threading.enumerate():
        if thread.name == "plait-remove":
            thread.join()


def test_every_file_is_on_the_disk_before_a_result_is_seen(
    stored: Dataset, home: Path, synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[tuple[Synced, set[str]]] = []
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        renamed.append(({item.name: item.stat().st_size for item in path.iterdir()}, set(synced) - {path.name}))
        assert path.name in synced, "the folder itself"
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    stored.map(lambda row: {"b": row["a"] * 2, "c": row["t"] * 2})
    ((files, on_disk),) = renamed
    assert set(files) == {"0.arrow", "1.arrow", "entry.json"} == on_disk
    assert files == {name: synced[name] for name in files}, "each as long as it is now"
    synced.clear()
    stored.filter(lambda row: row["a"] > 3)
    assert {"rows.npy", "entry.json"} <= set(synced)


def test_a_file_that_the_disk_refuses_is_no_result(
    stored: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        if path.name == "1.arrow":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "sync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        stored.map(lambda row: {"b": row["a"] * 2, "c": row["t"] * 2})
    assert results(home) == []
    assert list((home / "data" / "making").iterdir()) == []


def test_what_a_result_replaces_is_removed(stored: Dataset, home: Path) -> None:
    def double(row: dict[str, Any]) -> dict[str, Any]:
        return {"b": row["a"] * 2}

    first = stored.map(double)
    (before,) = [path.name for path in results(home)[0].glob("*.arrow")]
    again = stored.map(double, load_from_cache_file=False)
    join_removals()
    assert [path.name for path in results(home)[0].glob("*.arrow")] != [before]
    assert list((home / "data" / "making").iterdir()) == []
    assert first["b"][:] == again["b"][:] == list(range(0, 1000, 2)), "what was mapped stays readable"


@pytest.mark.parametrize("kept", [True, False])
def test_a_column_that_changed_its_type_leaves_one_file_or_none(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: Synced
) -> None:
    monkeypatch.setattr(writer, "BATCH_BYTES", 100)
    monkeypatch.setattr(writer, "MEMORY_BYTES", 100)
    monkeypatch.setattr("plait.data.files.SYNC_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unnamed"))
    (tmp_path / "unnamed").mkdir()
    (tmp_path / "made").mkdir()
    column = ColumnWriter("a", path=tmp_path / "made" / "0.arrow" if kept else None, mixed=True)
    column.append(pa.array(range(50)))
    column.append(pa.array([0.5] * 50))
    column.append(pa.array(["text"] * 50))
    view, feature = column.finish()
    values = [*map(str, range(50)), *["0.5"] * 50, *['"text"'] * 50]
    assert view.store.slice(0, 150).to_pylist() == values
    assert repr(feature) == "Json(decode=True)"
    assert list((tmp_path / "unnamed").iterdir()) == []
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["0.arrow"] * kept
    assert bool(synced) == kept, "nobody opens an unnamed file after this process"
    if kept:
        assert read_arrow(tmp_path / "made" / "0.arrow")["a"].to_pylist() == values


def test_an_abandoned_column_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_BYTES", 100)
    column = ColumnWriter("a", path=tmp_path / "0.arrow")
    column.append(pa.array(range(50)))
    column.append(pa.array([0.5] * 50))
    assert len(list(tmp_path.iterdir())) == 2
    column.abandon()
    assert list(tmp_path.iterdir()) == []


def test_several_files_are_brought_to_the_disk(tmp_path: Path, synced: Synced) -> None:
    paths = [tmp_path / str(number) for number in range(20)]
    for path in paths:
        path.write_text(path.name)
    disk.sync_all(paths)
    assert synced == {path.name: len(path.name) for path in paths}
    disk.sync_all([])
    with pytest.raises(FileNotFoundError):
        disk.sync_all([paths[0], tmp_path / "none"])
