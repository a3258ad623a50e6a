"""Files of batches come to the disk while they are written, and what the disk refuses is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from plait.data import files
from plait.data.files import ArrowStream, read_arrow

SCHEMA = pa.schema([pa.field("a", pa.int64())])


def test_a_large_file_is_synced_on_the_way_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(files, "SYNC_BYTES", 8000)
    monkeypatch.setattr(files, "sync", lambda path: synced.append(path.stat().st_size))
    with ArrowStream(tmp_path / "a.arrow", SCHEMA) as stream:
        for start in range(0, 10_000, 1000):
            stream.write([pa.array(range(start, start + 1000))])
    assert len(synced) >= 2
    assert synced[0] >= 8000
    assert synced[-1] == (tmp_path / "a.arrow").stat().st_size, "the last time covers the whole file"
    assert read_arrow(tmp_path / "a.arrow")["a"].to_pylist() == list(range(10_000))


def test_a_refusal_of_the_disk_on_the_way_is_raised_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "SYNC_BYTES", 100)
    monkeypatch.setattr(files, "sync", refuse)
    stream = ArrowStream(tmp_path / "a.arrow", SCHEMA)
    stream.write([pa.array(range(1000))])
    assert stream._syncing is not None
    stream._syncing.join()
    monkeypatch.setattr(files, "sync", lambda path: None)  # the disk tells of a failure once
    with pytest.raises(OSError, match="Input/output error"):
        stream.close()
    stream.abandon()
