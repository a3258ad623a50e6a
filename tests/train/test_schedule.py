"""Schedules equal transformers' at every step; refusals by their text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

import plait
from plait.errors import OptionError
from plait.train import get_scheduler

CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.25}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.5, "lr_end": 1e-4}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 20}),
]


def rates(make: Any, name: str, warmup: int, total: int, options: dict[str, Any]) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = make(name, optimizer, warmup, total, scheduler_specific_kwargs=options)
    values = []
    for _ in range(total + 10):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize(("warmup", "total"), [(0, 30), (1, 30), (7, 30), (30, 30)])
def test_every_step_equals_transformers(name: str, options: dict[str, Any], warmup: int, total: int) -> None:
    if name == "polynomial" and warmup == total:
        return  # theirs divides by zero; ours is tested below
    ours = rates(get_scheduler, name, warmup, total, options)
    theirs = rates(transformers.get_scheduler, name, warmup, total, options)
    # The same formulas, evaluated in another order: a few units in the last place of a double.
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-15)


NAMED = {
    "get_constant_schedule_with_warmup": {"num_warmup_steps": 3},
    "get_linear_schedule_with_warmup": {"num_warmup_steps": 3, "num_training_steps": 10},
    "get_cosine_schedule_with_warmup": {"num_warmup_steps": 3, "num_training_steps": 10, "num_cycles": 0.75},
    "get_cosine_with_hard_restarts_schedule_with_warmup": {
        "num_warmup_steps": 3,
        "num_training_steps": 10,
        "num_cycles": 3,
    },
    "get_polynomial_decay_schedule_with_warmup": {
        "num_warmup_steps": 3,
        "num_training_steps": 10,
        "lr_end": 0.25,
        "power": 2.0,
    },
    "get_constant_schedule": {},
}


@pytest.mark.parametrize("name", NAMED)
def test_schedules_by_names_of_their_own(name: str) -> None:
    factors = []
    for library in (plait, transformers):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        (factor,) = getattr(library, name)(optimizer, **NAMED[name]).lr_lambdas
        factors.append([factor(step) for step in range(12)])
    assert factors[0] == pytest.approx(factors[1], rel=1e-12, abs=1e-15)


def test_a_warmup_of_the_whole_run_ends_at_the_base_rate() -> None:
    assert rates(get_scheduler, "polynomial", 4, 4, {})[:5] == pytest.approx([0, 0.075, 0.15, 0.225, 0.3])


def test_the_enum_of_transformers_is_a_name_too() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(transformers.SchedulerType.LINEAR, optimizer, 0, 4.0)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.75


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("linaer", {}, "there is no schedule 'linaer'; there are linear, cosine,"),
        ("linaer", {}, "Did you mean 'linear'?"),
        (
            "linear",
            {"num_training_steps": 5},
            "schedule 'linear' needs num_warmup_steps as a count of steps, but it is None.",
        ),
        ("cosine", {"num_warmup_steps": 5}, "schedule 'cosine' needs num_training_steps"),
        (
            "cosine",
            {"scheduler_specific_kwargs": {"cycles": 2}},
            "schedule 'cosine' has no option 'cycles'; it has num_cycles.",
        ),
        (
            "polynomial",
            {"num_warmup_steps": 0, "num_training_steps": 5, "scheduler_specific_kwargs": {"lr_end": 2.0}},
            "lr_end (2.0) must be smaller than the learning rate (1.0).",
        ),
    ],
)
def test_refusals(name: str, arguments: dict[str, Any], text: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(OptionError) as caught:
        get_scheduler(name, optimizer, **arguments)
    assert text in str(caught.value)
