"""The order of rows: a permutation per epoch, the same rows for any number of processes, lengths kept together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import OptionError
from plait.train.sampler import BatchPlan


def rows_of(plan: BatchPlan, epoch: int) -> list[int]:
    return [row for position in range(len(plan)) for row in plan.batch_of(epoch, position)]


@given(
    rows=st.integers(1, 60),
    batch=st.integers(1, 9),
    processes=st.integers(1, 4),
    epoch=st.integers(0, 5),
    strategy=st.sampled_from(["random", "sequential", "group_by_length"]),
)
def test_each_row_once_whoever_trains(rows: int, batch: int, processes: int, epoch: int, strategy: str) -> None:
    lengths = [(7 * row) % 11 for row in range(rows)]
    plans = [
        BatchPlan(rows=rows, batch=batch, seed=3, strategy=strategy, lengths=lengths, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    alone = BatchPlan(rows=rows, batch=batch * processes, seed=3, strategy=strategy, lengths=lengths)
    assert {len(plan) for plan in plans} == {len(alone)}
    for position in range(len(alone)):
        together = [row for plan in plans for row in plan.batch_of(epoch, position)]
        assert together == alone.batch_of(epoch, position)
        shares = [len(plan.batch_of(epoch, position)) for plan in plans]
        assert max(shares) <= batch
        assert max(shares) - min(shares) <= 1
    assert sorted(rows_of(alone, epoch)) == list(range(rows))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    plan = BatchPlan(rows=50, batch=8, seed=42)
    first, second = rows_of(plan, 0), rows_of(plan, 1)
    assert first != second
    assert rows_of(plan, 0) == first
    # Not the sum of seed and epoch: epoch 1 of seed 42 is not epoch 0 of seed 43.
    assert rows_of(BatchPlan(rows=50, batch=8, seed=43), 0) not in (first, second)
    # The order is part of what a checkpoint means, so it must not change by accident.
    assert rows_of(BatchPlan(rows=6, batch=2, seed=0), 0) == [1, 3, 0, 2, 4, 5]


def test_a_ragged_batch_may_be_dropped_but_not_the_only_one() -> None:
    assert [len(BatchPlan(rows=rows, batch=4, drop_last=True)) for rows in (3, 4, 7, 8)] == [1, 1, 1, 2]
    assert [len(BatchPlan(rows=rows, batch=4)) for rows in (3, 4, 7, 8)] == [1, 1, 2, 2]


def test_group_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, size=800).tolist()
    grouped = BatchPlan(rows=800, batch=8, seed=1, strategy="group_by_length", lengths=lengths)
    shuffled = BatchPlan(rows=800, batch=8, seed=1)

    def padding(plan: BatchPlan) -> int:
        batches = [[lengths[row] for row in plan.batch_of(0, position)] for position in range(len(plan))]
        return sum(len(batch) * max(batch) - sum(batch) for batch in batches)

    # Windows of 400 sorted rows in batches of 8 span 1/50 of the lengths each, so hardly any padding is left.
    assert padding(grouped) < 0.06 * padding(shuffled)
    assert max(lengths) in [lengths[row] for row in grouped.batch_of(0, 0)]
    means = [np.mean([lengths[row] for row in grouped.batch_of(0, position)]) for position in range(1, len(grouped))]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3  # batches are in no order of length


def test_refusals() -> None:
    with pytest.raises(
        OptionError, match=r"must be one of random, sequential, group_by_length, but is 'rndom'. Did you"
    ):
        BatchPlan(rows=5, batch=2, strategy="rndom")
    with pytest.raises(OptionError, match="group_by_length needs the length of each of the 5 rows"):
        BatchPlan(rows=5, batch=2, strategy="group_by_length")
