"""A cache of one's own, and a stored data set, for the tests of what the cache keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.data import Dataset, load_from_disk


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PLAIT_HOME for one test, with caching on whatever the environment says."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLAIT_CACHE", "1")
    return tmp_path / "home"


@pytest.fixture
def stored(tmp_path: Path) -> Dataset:
    """500 rows of a number and a text, mapped from a folder."""
    Dataset.from_dict({"a": list(range(500)), "t": [f"text {i}" for i in range(500)]}).save_to_disk(tmp_path / "d")
    found = load_from_disk(tmp_path / "d")
    assert isinstance(found, Dataset)
    return found
