"""Learning-rate schedules, complete: each is a function from the step to a factor of the base rate.

All but "constant" rise linearly from 0 over `num_warmup_steps`. T is `num_training_steps`, W the warm-up, and
p = (step − W) / (T − W) the progress after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from plait.errors import OptionError, nearest

Factor = Callable[[float], float]


def linear(warmup: float, total: float) -> Factor:
    """1 − p."""
    return lambda step: max(0.0, (total - step) / max(1, total - warmup))


def cosine(warmup: float, total: float, *, num_cycles: float = 0.5) -> Factor:
    """(1 + cos 2πcp) / 2: with c = ½, one descent from 1 to 0."""
    return lambda step: max(0.0, 0.5 * (1 + math.cos(math.pi * num_cycles * 2 * _progress(step, warmup, total))))


def cosine_with_restarts(warmup: float, total: float, *, num_cycles: int = 1) -> Factor:
    """`num_cycles` descents of a cosine from 1 to 0 (arXiv:1608.03983)."""

    def factor(step: float) -> float:
        progress = _progress(step, warmup, total)
        return 0.0 if progress >= 1 else max(0.0, 0.5 * (1 + math.cos(math.pi * (num_cycles * progress % 1.0))))

    return factor


def polynomial(warmup: float, total: float, *, end: float, power: float = 1.0) -> Factor:
    """(1 − end)(1 − p)^power + end, where `end` is a fraction of the base rate."""
    return lambda step: (1 - end) * (1 - min(1.0, _progress(step, warmup, total))) ** power + end


def inverse_sqrt(warmup: float, *, timescale: float | None = None) -> Factor:
    """sqrt(timescale / (timescale + step − W)); `timescale` is W, or 10000 without a warm-up."""
    scale = timescale or warmup or 10_000
    return lambda step: 1.0 / math.sqrt((step + scale - warmup) / scale)


def _progress(step: float, warmup: float, total: float) -> float:
    return (step - warmup) / max(1, total - warmup)


# name -> the options it takes beyond the two counts of steps
SCHEDULES: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
}


def get_scheduler(
    name: str,
    optimizer: Optimizer,
    num_warmup_steps: float | None = None,
    num_training_steps: float | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LambdaLR:
    """A scheduler that sets `optimizer`'s rates to base rate × factor(step); call its `step()` after each update.

    `name` is one of `SCHEDULES`, and `scheduler_specific_kwargs` are the options named there: `num_cycles`, `lr_end`
    (a rate, by default 1e-7), `power`, `timescale` (updates). Both numbers of steps count updates. Raises `OptionError`
    for an unknown name or option, or a number of steps that the schedule needs and lacks.
    """
    name = str(getattr(name, "value", name))
    if name not in SCHEDULES:
        raise OptionError(f"there is no schedule {name!r}; there are {', '.join(SCHEDULES)}.{nearest(name, SCHEDULES)}")
    options = dict(scheduler_specific_kwargs or {})
    for option in options:
        if option not in SCHEDULES[name]:
            raise OptionError(
                f"schedule {name!r} has no option {option!r}; it has {', '.join(SCHEDULES[name]) or 'none'}."
                + nearest(option, SCHEDULES[name])
            )
    if name == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    warmup = _steps(num_warmup_steps, "num_warmup_steps", name)
    if name == "constant_with_warmup":
        return LambdaLR(optimizer, _warmed(warmup, lambda step: 1.0))
    if name == "inverse_sqrt":
        return LambdaLR(optimizer, _warmed(warmup, inverse_sqrt(warmup, **options)))
    total = _steps(num_training_steps, "num_training_steps", name)
    if name == "polynomial":
        base, last = optimizer.defaults["lr"], options.pop("lr_end", 1e-7)
        if last >= base:
            raise OptionError(f"lr_end ({last}) must be smaller than the learning rate ({base}).")
        return LambdaLR(optimizer, _warmed(warmup, polynomial(warmup, total, end=last / base, **options)))
    curves: dict[str, Callable[..., Factor]] = {
        "linear": linear,
        "cosine": cosine,
        "cosine_with_restarts": cosine_with_restarts,
    }
    return LambdaLR(optimizer, _warmed(warmup, curves[name](warmup, total, **options)))


def get_constant_schedule(optimizer: Optimizer) -> LambdaLR:
    """`get_scheduler("constant", …)`."""
    return get_scheduler("constant", optimizer)


def get_constant_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: float) -> LambdaLR:
    """`get_scheduler("constant_with_warmup", …)`."""
    return get_scheduler("constant_with_warmup", optimizer, num_warmup_steps)


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: float, num_training_steps: float
) -> LambdaLR:
    """`get_scheduler("linear", …)`."""
    return get_scheduler("linear", optimizer, num_warmup_steps, num_training_steps)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: float, num_training_steps: float, num_cycles: float = 0.5
) -> LambdaLR:
    """`get_scheduler("cosine", …)`."""
    return get_scheduler("cosine", optimizer, num_warmup_steps, num_training_steps, {"num_cycles": num_cycles})


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: float, num_training_steps: float, num_cycles: int = 1
) -> LambdaLR:
    """`get_scheduler("cosine_with_restarts", …)`."""
    options = {"num_cycles": num_cycles}
    return get_scheduler("cosine_with_restarts", optimizer, num_warmup_steps, num_training_steps, options)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: float, num_training_steps: float, lr_end: float = 1e-7, power: float = 1.0
) -> LambdaLR:
    """`get_scheduler("polynomial", …)`."""
    options = {"lr_end": lr_end, "power": power}
    return get_scheduler("polynomial", optimizer, num_warmup_steps, num_training_steps, options)


def _warmed(warmup: float, factor: Factor) -> Factor:
    return lambda step: step / max(1, warmup) if step < warmup else factor(step)


def _steps(value: float | None, argument: str, schedule: str) -> float:
    if value is None or value < 0:
        raise OptionError(f"schedule {schedule!r} needs {argument} as a count of steps, but it is {value!r}.")
    return value
