"""One update: its gradient and loss are those of all rows together, however they are split, for every loss."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from plait.train.loop import Updater
from plait.train.loss import named_loss

ROWS = 12
CPU = torch.device("cpu")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


INPUTS = torch.randn(ROWS, 5, generator=generator(0))


def targets(name: str) -> Tensor:
    if name == "cross_entropy":  # per token: (ROWS, 2, 3) scores against (ROWS, 2) labels of which some count nothing
        labels = torch.randint(0, 3, (ROWS, 2), generator=generator(1))
        return labels.masked_fill(torch.rand(ROWS, 2, generator=generator(2)) < 0.3, -100)
    numbers = torch.randn(ROWS, 6, generator=generator(1))
    return numbers[:, :2] if name == "pinball" else (numbers > 0).float() if name == "binary_cross_entropy" else numbers


class Net(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6))
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(len(x), *self.shape)


def network(name: str) -> Net:
    torch.manual_seed(3)
    return Net((2, 3) if name in ("cross_entropy", "pinball") else (6,))


def step(name: str, edges: list[int], *, max_norm: float | None = None) -> tuple[Net, Any]:
    """The model after one step of plain gradient descent at rate 1, so that the step is the gradient."""
    model, labels = network(name), targets(name)
    updater = Updater(model, torch.optim.SGD(model.parameters(), lr=1.0), None, device=CPU, max_norm=max_norm)
    loss = named_loss(name)
    batches = [{"x": INPUTS[a:b], "y": labels[a:b]} for a, b in zip(edges, edges[1:], strict=False)]
    update = updater.update(batches, lambda batch: loss(model(batch["x"]), batch["y"]))
    return model, update


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (a - b).abs().max() <= tolerance, name


LOSSES = ["mse", "mae", "huber", "pinball", "cross_entropy", "binary_cross_entropy"]


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(1, ROWS - 1), max_size=6, unique=True), clip=st.sampled_from([None, 0.05]))
def test_any_split_gives_the_step_of_all_rows(name: str, cuts: list[int], clip: float | None) -> None:
    whole, expected = step(name, [0, ROWS], max_norm=clip)
    parts, update = step(name, [0, *sorted(cuts), ROWS], max_norm=clip)
    # Sums of at most 72 float32 numbers of size 1 in another order: far below 1e-6 after the division.
    assert_same(whole, parts)
    assert float(update.count) == float(expected.count)
    assert float(update.total) == pytest.approx(float(expected.total), rel=1e-6)
    assert float(update.norm) == pytest.approx(float(expected.norm), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_step_is_the_gradient_of_the_mean(name: str) -> None:
    start, labels = network(name), targets(name)
    model, update = step(name, [0, 5, 6, 11, ROWS])
    mean = named_loss(name)(start(INPUTS), labels).mean()
    mean.backward()
    for before, after in zip(start.parameters(), model.parameters(), strict=True):
        assert before.grad is not None
        assert (before - after - before.grad).abs().max() <= 1e-6
    assert float(update.total / update.count) == pytest.approx(float(mean.detach()), rel=1e-6)


def test_a_mean_of_means_would_fail_this() -> None:
    """The property has teeth: what a trainer does that averages its micro-batches is 1e-2 away, not 1e-6."""
    name = "cross_entropy"
    model, labels, loss = network(name), targets(name), named_loss(name)
    for a, b in [(0, 1), (1, ROWS)]:
        (loss(model(INPUTS[a:b]), labels[a:b]).mean() / 2).backward()
    right = network(name)
    loss(right(INPUTS), labels).mean().backward()
    gaps = [(p.grad - q.grad).abs().max() for p, q in zip(model.parameters(), right.parameters(), strict=True)]  # type: ignore[operator]
    assert max(gaps) > 1e-2


def test_clipping() -> None:
    before = network("mse")
    model, update = step("mse", [0, 7, ROWS], max_norm=0.25)
    moved = torch.cat([(p - q).reshape(-1) for p, q in zip(before.parameters(), model.parameters(), strict=True)])
    assert float(update.norm) > 0.25
    assert float(moved.norm()) == pytest.approx(0.25, rel=1e-4)  # the clip divides by norm + 1e-6


def test_batches_without_rows_or_labels_change_nothing() -> None:
    whole, _ = step("cross_entropy", [0, ROWS])
    model, labels, loss = network("cross_entropy"), targets("cross_entropy"), named_loss("cross_entropy")
    updater = Updater(model, torch.optim.SGD(model.parameters(), lr=1.0), None, device=CPU)
    batches: list[Any] = [None, {"x": INPUTS, "y": labels}, {"x": INPUTS, "y": torch.full_like(labels, -100)}]
    updater.update(batches, lambda batch: loss(model(batch["x"]), batch["y"]))
    assert_same(whole, model, 0.0)
    still = copy.deepcopy(model)
    update = updater.update([None], lambda batch: loss(model(batch["x"]), batch["y"]))
    assert (float(update.total), float(update.count), float(update.norm)) == (0.0, 0.0, 0.0)
    assert_same(still, model, 0.0)


def test_bfloat16_gradients_are_divided_exactly() -> None:
    """A count of 259 is 260 in bfloat16: 388 / 259 rounds to 1.5 there, but 388 / 260 to 1.4921875."""
    weight = nn.Parameter(torch.tensor([0.0], dtype=torch.bfloat16))
    model = nn.Module()
    model.weight = weight
    updater = Updater(model, torch.optim.SGD([weight], lr=1.0), None, device=CPU)
    labels = torch.full((259,), -194 / 259)  # the summed gradient of the squares is 2 * 194
    updater.update([{}], lambda _: named_loss("mse")(weight.float().expand(259), labels))
    assert float(weight) == -1.5


def test_events_around_the_step() -> None:
    seen: list[str] = []
    model = network("mse")
    updater = Updater(model, torch.optim.SGD(model.parameters(), lr=0.1), None, device=CPU)
    batch = {"x": INPUTS, "y": targets("mse")}
    first = model.layers[0].weight.clone()

    def note(event: str) -> None:
        changed = not torch.equal(first, model.layers[0].weight)
        seen.append(f"{event} {'with' if model.layers[0].weight.grad is not None else 'without'} gradient, {changed=}")

    updater.update(
        [batch, batch],
        lambda b: named_loss("mse")(model(b["x"]), b["y"]),
        after_batch=lambda: note("batch"),
        before_step=lambda: note("before"),
        after_step=lambda: note("after"),
    )
    assert seen == [
        "batch with gradient, changed=False",
        "batch with gradient, changed=False",
        "before with gradient, changed=False",
        "after with gradient, changed=True",
    ]
    assert model.layers[0].weight.grad is None


# -- float16, whose gradients are scaled; slow on a CPU, but the same arithmetic


def half(rows: slice = slice(None)) -> tuple[Net, Updater, Any]:
    model, labels, loss = network("mse"), targets("mse"), named_loss("mse")
    updater = Updater(model, torch.optim.SGD(model.parameters(), lr=0.1), None, device=CPU, dtype=torch.float16)
    batch = {"x": INPUTS[rows], "y": labels[rows]}
    return model, updater, lambda: updater.update([batch], lambda b: loss(model(b["x"]), b["y"]))


def test_float16_steps_like_float32() -> None:
    model, updater, step_once = half()
    exact, _ = step("mse", [0, ROWS])
    before = network("mse")
    assert step_once().skipped is False
    assert updater.scaler is not None
    # 72 squares count: a gradient of sums is 2**6 times that of a mean, so the first scale is 2**16 / 2**6.
    assert updater.scaler.get_scale() == 2.0**10
    for start, a, b in zip(before.parameters(), model.parameters(), exact.parameters(), strict=True):
        moved, expected = (start - a) / 0.1, start - b
        # Products in float16 carry 11 bits; a few of them add up.
        assert (moved - expected).abs().max() < 4e-3 * expected.abs().max()


def test_an_overflow_skips_the_step_and_the_schedule() -> None:
    model, updater, step_once = half()
    updater.scheduler = torch.optim.lr_scheduler.LambdaLR(updater.optimizer, lambda step: 1 / (1 + step))
    step_once()
    assert updater.scaler is not None
    updater.scaler.update(2.0**40)
    before = copy.deepcopy(model)
    update = step_once()
    assert update.skipped
    assert update.rate == pytest.approx(0.05)
    assert_same(before, model, 0.0)
    assert updater.scheduler.last_epoch == 1
    assert updater.scaler.get_scale() == 2.0**39


def test_the_scale_is_part_of_the_state() -> None:
    _, updater, step_once = half()
    step_once()
    assert updater.scaler is not None
    updater.scaler.update(2.0**7)
    _, other, other_step = half()
    other.load_state(updater.state())
    assert other.scaler is not None
    assert other.scaler.get_scale() == 2.0**7
    other_step()
