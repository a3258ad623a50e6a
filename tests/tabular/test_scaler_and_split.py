"""The statistics come from the rows given alone; the split keeps time in order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from plait.errors import DataError, OptionError
from plait.tabular import Scaler, split_rows

VALUES = np.random.default_rng(0).normal([1e3, -2.0, 0.5], [300.0, 5.0, 1e-3], (200, 3))


def test_it_is_scikit_learns_standard_scaler() -> None:
    scaler = Scaler.fit(VALUES, "abc")
    reference = StandardScaler().fit(VALUES)
    # Both sum 200 float64 values, in an order of their own: a few units in the last place.
    np.testing.assert_allclose(scaler.means, reference.mean_, rtol=1e-13)
    np.testing.assert_allclose(scaler.scales, reference.scale_, rtol=1e-12)
    np.testing.assert_allclose(scaler.undo(scaler.apply(VALUES)), VALUES, rtol=1e-13)


def test_json_keeps_every_bit() -> None:
    scaler = Scaler.fit(VALUES, ("辐照度", "温度", "湿度"))
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))) == scaler


def test_a_constant_column_becomes_zero_and_comes_back() -> None:
    values = np.full((7, 1), 1013.3)  # the mean of seven of these is not the number itself in float64
    scaler = Scaler.fit(values, ["p"])
    assert scaler.scales == (1.0,)
    np.testing.assert_allclose(scaler.apply(values), 0.0, atol=1e-9)
    np.testing.assert_allclose(scaler.undo(np.zeros((1, 1))), [[1013.3]], rtol=1e-14)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="there are no rows to fit on"):
        Scaler.fit(np.zeros((0, 2)), "ab")


def test_time_decides_whatever_the_order_of_the_rows() -> None:
    hours = np.array([f"1990-01-{day:02d} {hour:02d}:00" for day in range(1, 11) for hour in range(24)])
    shuffled = np.random.default_rng(1).permutation(len(hours))
    split = split_rows(240, test_size=0.2, time=hours[shuffled])
    assert sorted(hours[shuffled][split.test]) == list(hours[192:])
    assert sorted(hours[shuffled][split.train]) == list(hours[:192])
    assert split.description == "by time, the last 20% of the rows held out, from 1990-01-09 00:00 on"


def test_rows_of_one_instant_stay_together() -> None:
    split = split_rows(10, test_size=0.5, time=[0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert split.test.tolist() == [7, 8, 9]


def test_without_time_it_is_random_covers_all_and_says_so() -> None:
    split = split_rows(100, test_size=0.25, seed=3)
    assert len(split.test) == 25
    assert sorted([*split.train, *split.test]) == list(range(100))
    assert np.array_equal(split.test, split_rows(100, test_size=0.25, seed=3).test)
    assert not np.array_equal(split.test, split_rows(100, test_size=0.25, seed=4).test)
    assert split.description.startswith("random, 25% of the rows held out (seed 3)")


def test_splits_that_cannot_be_are_refused() -> None:
    with pytest.raises(OptionError, match="test_size is a share of the rows between 0 and 1, not 20"):
        split_rows(100, test_size=20)
    with pytest.raises(DataError, match="2 rows are too few to keep 20% of them back"):
        split_rows(2)
    with pytest.raises(DataError, match="the time column has 3 values for 4 rows"):
        split_rows(4, test_size=0.5, time=[1, 2, 3])
    with pytest.raises(DataError, match="the time column does not vary at its end, so no later rows can be held out"):
        split_rows(4, test_size=0.5, time=[1, 1, 1, 1])
