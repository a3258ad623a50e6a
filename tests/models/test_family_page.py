"""The page on adding a family shows the real diff of one: every line of it is in the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
DIFFS = re.findall(r"```diff\n--- (\S+)\n\+\+\+ b/(\S+)\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_has_a_new_file_its_name_and_its_cases() -> None:
    assert [(old == "/dev/null", new) for old, new, _ in DIFFS] == [
        (True, "src/plait/models/qwen3.py"),
        (False, "src/plait/models/registry.py"),
        (False, "tests/parity/decoder_cases.py"),
        (False, "tests/parity/decoder_cases.py"),
    ]
    assert PAGE.count("```diff") == len(DIFFS)


@pytest.mark.parametrize(("old", "new", "body"), DIFFS)
def test_what_the_diff_adds_is_in_the_file(old: str, new: str, body: str) -> None:
    source = (ROOT / new).read_text(encoding="utf-8")
    assert all(line[:1] in "+ " for line in body.splitlines())
    after = "".join(f"{line[1:]}\n" for line in body.splitlines())
    if old == "/dev/null":
        assert after == source
    else:
        assert source.count(after) == 1


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|tests)/[\w/.]+)`", PAGE))))
def test_files_that_are_named_exist(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("room", ["decoders", "encoders", "coders", "mixture", "positions", "initial"])
def test_rooms_that_are_named_exist(room: str) -> None:
    assert f"`{room}`" in PAGE
    assert (ROOT / "src" / "plait" / "models" / f"{room}.py").is_file()
