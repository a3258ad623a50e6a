"""Seeds and the generators' states: captured, restored, forked."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from plait.errors import TrainingError
from plait.train import set_seed
from plait.train.randomness import capture, derive, forked, restore


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
    ]


def test_a_seed_repeats() -> None:
    set_seed(5)
    first = draw()
    set_seed(5)
    assert draw() == first
    set_seed(2**40 + 5)  # NumPy takes 32 bits; the others take more
    assert draw() != first


def test_states_survive_as_bytes() -> None:
    set_seed(1)
    for odd in (0, 1, 2):  # gauss and randn keep a second value for later: both states, with and without it
        for _ in range(odd):
            random.gauss(0, 1)
            np.random.randn()
        states = capture()
        assert {tensor.dtype for tensor in states.values()} == {torch.uint8}
        expected = [draw() for _ in range(3)]
        set_seed(99)
        restore(states)
        assert [draw() for _ in range(3)] == expected


def test_forked_leaves_no_trace() -> None:
    set_seed(3)
    expected = draw()
    set_seed(3)
    with forked(7):
        inside = draw()
    assert draw() == expected
    with forked(7):
        assert draw() == inside


def test_derived_seeds() -> None:
    seeds = {derive(name, a, b) for name in ("order", "batch") for a in range(20) for b in range(20)}
    assert len(seeds) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive("order", 42, 1) == 3841183655044362585  # the same on every machine and in every version


def test_an_unknown_generator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = np.random.get_state(legacy=True)
    monkeypatch.setattr(np.random, "get_state", lambda legacy=True: ("PCG64", *state[1:]))
    with pytest.raises(TrainingError, match=r"Python's has version 3 and NumPy's global generator is 'PCG64'"):
        capture()
