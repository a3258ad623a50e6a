"""Names from outside: what leads out of a folder is refused everywhere, what one system cannot write only there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.hub import names


@pytest.mark.parametrize(
    "path", ["a", "a/b.json", "a b/c", "日本語/模型.gguf", "2020-01-01T00:00:00.json", "aux.json", "a."]
)
def test_accepted_where_they_can_be_written(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "WINDOWS", False)
    assert names.path_problem(path) is None


@pytest.mark.parametrize("part", ["00:00.json", "aux.json", "COM1", "nul", "a.", "a ", "a?b", 'a"b'])
def test_refused_on_windows(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "WINDOWS", True)
    assert names.path_problem(f"x/{part}") == f"{part!r} cannot be written on Windows"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "it is empty"),
        ("a" * 256, "it is too long"),
        ("a/" * 600 + "a", "it is too long"),
        ("/a", "it is absolute"),
        ("C:/a", "it is absolute"),
        ("c:a", "it is absolute"),
        ("a\\b", "it has a backslash or a control character"),
        ("a\nb", "it has a backslash or a control character"),
        ("a/../b", "it has the component '..'"),
        ("./a", "it has the component '.'"),
        ("a//b", "it has the component ''"),
        ("a/", "it has the component ''"),
        ("a/.Git/hooks", "it is inside '.git'"),
    ],
)
def test_refused_everywhere(path: str, problem: str) -> None:
    assert names.path_problem(path) == problem


@given(st.text(alphabet="./\\a:~", max_size=12))
def test_no_accepted_path_leads_out(path: str) -> None:
    if names.path_problem(path) is None:
        import os

        assert os.path.normpath("/root/in/" + path).startswith("/root/in/")


def test_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "CASELESS", False)
    assert names.listing_problem(["README.md", "readme.md", "a/b", "a/c"]) is None
    assert names.listing_problem(["a", "a"]) == "the file 'a' is listed twice"
    assert names.listing_problem(["a/b", "a"]) == "'a' is both a file and a folder"
    monkeypatch.setattr(names, "CASELESS", True)
    assert names.listing_problem(["README.md", "readme.md"]) == (
        "the file 'readme.md' is listed twice (upper and lower case are one here)"
    )
