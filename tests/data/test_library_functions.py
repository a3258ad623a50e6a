"""A function that a library makes is told apart by what it holds, though its code counts by version alone."""

from __future__ import annotations

from plait.data.reach import digest_of
from plait.train.schedule import linear


def test_closures_of_library_functions_count() -> None:
    """`linear` is plait's own, so its code is a library's; the functions that it returns differ by their numbers."""
    assert digest_of(linear(2, 10))[0] == digest_of(linear(2, 10))[0]
    assert digest_of(linear(2, 10))[0] != digest_of(linear(3, 10))[0]
    parts = digest_of(linear(2, 10))[1]
    other = digest_of(linear(3, 10))[1]
    assert any(parts[path] != other[path] for path in parts if "closure" in path), "and a miss can say why"
