"""Batches are functions of (data, seed, epoch, position): whoever asks, in whatever order, gets the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from train_models import Counted, numbers

from plait.train import default_data_collator
from plait.train.loader import Batches, Loader
from plait.train.sampler import BatchPlan


class Augmented(Counted):
    def __getitem__(self, index: int) -> dict[str, Any]:
        row = super().__getitem__(index)
        return {**row, "noise": [random.random(), float(np.random.rand()), float(torch.rand(()))]}


def loader(workers: int = 0, rows: Any = None, **options: Any) -> Loader:
    rows = Augmented(numbers(10)) if rows is None else rows
    plan = BatchPlan(rows=len(rows), batch=4, seed=1, **options)
    return Loader(Batches(rows, plan=plan, collate=default_data_collator), workers=workers)


def everything(found: Loader) -> list[dict[str, list[Any]]]:
    return [{name: value.tolist() for name, value in batch.items()} for batch in found if batch is not None]


def test_seek_reads_nothing_before_and_changes_nothing_after() -> None:
    whole, part = loader(), loader()
    whole.seek(3)
    expected = everything(whole)
    part.seek(3, 2)
    assert everything(part) == expected[2:]
    assert len(part.batches.rows.read) == 2  # 10 rows, of which two batches of 4 are passed over
    assert (len(part), part.num_batches, part.num_examples) == (3, 3, 10)
    part.seek(4)
    assert everything(part) != expected


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    alone, together = loader(), loader(workers)
    for epoch in (0, 1):
        alone.seek(epoch)
        together.seek(epoch)
        assert everything(together) == everything(alone)


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    random.seed(0)
    expected = [torch.rand(()).item(), random.random()]
    torch.manual_seed(0)
    random.seed(0)
    everything(loader())
    assert [torch.rand(()).item(), random.random()] == expected


def test_rows_are_fetched_together_where_a_data_set_can() -> None:
    class Table:
        calls: list[list[int]] = []

        def __len__(self) -> int:
            return 5

        def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
            self.calls.append(indices)
            return [{"x": float(index)} for index in indices]

    found = everything(loader(rows=Table(), strategy="sequential"))
    assert Table.calls == [[0, 1, 2, 3], [4]]
    assert found[1] == {"x": [4.0]}


def test_a_process_without_rows_gets_none() -> None:
    plan = BatchPlan(rows=3, batch=2, strategy="sequential", rank=0, processes=2)
    assert [plan.batch_of(0, 0), len(plan)] == [[0], 1]
    collate: Callable[..., Any] = default_data_collator
    empty = Batches(numbers(1), plan=BatchPlan(rows=1, batch=2, rank=0, processes=2), collate=collate)
    assert empty[0] is None
