"""Files that come to disk whole: their bytes, what an error leaves, and who may read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plait.disk import replaced, write_json


def test_json_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.json"
    write_json(file, {"b": 1, "a": "é"})
    write_json(file, {"b": 2, "a": "é"})
    assert file.read_text(encoding="utf-8") == '{\n "a": "é",\n "b": 2\n}'
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]


def stop_halfway(file: Path) -> None:
    with replaced(file) as aside:
        aside.write_text("half", encoding="utf-8")
        raise RuntimeError("halfway")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(file, {"a": object()})
    with pytest.raises(RuntimeError, match="halfway"):
        stop_halfway(file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_umask_says_who_may_read(tmp_path: Path, mask: int) -> None:
    """A cache that several people share is of no use when its small files are for one of them alone."""
    before = os.umask(mask)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o666 & ~mask
