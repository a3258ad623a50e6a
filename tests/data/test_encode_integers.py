"""Lists that begin with an integer become the array that Arrow makes of them, whatever else is in them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plait.data import encode
from plait.data.encode import natural, to_arrow
from plait.errors import DataError


class Grade(IntEnum):
    GOOD = 1


SMALL = st.integers(-(2**63), 2**63 - 1)
OTHERS = st.sampled_from([None, True, False, 1.5, 2.0, float("nan"), 2**63, 2**64 - 1, Grade.GOOD, np.int16(3), "1"])


@given(st.lists(SMALL | OTHERS, max_size=20))
@example([])
@example([-(2**63), 2**63 - 1])
@example([1, True])
@example([1, 2**63])
@example([1, Grade.GOOD])
@example([1, np.int16(2)])
def test_the_quick_way_gives_what_arrow_gives(values: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_of_integers", lambda values: None)
        try:
            expected = natural(values)
        except Exception as error:  # the same kind of error, then
            expected = type(error)
    if isinstance(expected, type):
        with pytest.raises(expected):
            natural(values)
        return
    found = natural(values)
    found.validate(full=True)
    assert found.type.equals(expected.type)
    assert str(found.to_pylist()) == str(expected.to_pylist())


def test_only_integers_take_the_quick_way() -> None:
    assert encode._of_integers([1, 2, -3]).equals(pa.array([1, 2, -3]))
    for values in ([1, True], [1, None], [1, 2.0], [1, 2**63], [Grade.GOOD], [np.int64(1)]):
        assert encode._of_integers(values) is None, values


def test_integers_beyond_64_bits_are_still_named() -> None:
    with pytest.raises(DataError, match=r"1 \(int\) in row 5 and 18446744073709551616 \(int\) in row 6"):
        to_arrow([1, 2**64], column="n", first_row=5)
