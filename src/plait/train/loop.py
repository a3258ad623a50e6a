"""One update of the parameters, complete: any number of batches, any number of processes, one exact gradient.

The gradients of *sums* are accumulated over the batches of an update and over the processes, and divided once by the
count of everything, before clipping. So the update is that of the whole set of rows, however it was split: a mean of
means is not, as soon as the parts are unequal.

    backward(total₁) … backward(totalₙ)   Σ over processes   ÷ Σ count   clip   step   schedule
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from plait.errors import TrainingError
from plait.nn.loss import LossTerms
from plait.train.distributed import Processes

Batch = dict[str, Any]


@dataclass(frozen=True)
class Update:
    """What one update did: summed loss and count over all processes, float64 (); the gradient's norm before clipping.

    `rate` is the learning rate that was used; `skipped` is True when float16 gradients overflowed and nothing changed.
    """

    total: Tensor
    count: Tensor
    norm: Tensor
    rate: float
    skipped: bool


class Updater:
    """Model, optimizer and schedule, moved on one update at a time.

    `dtype` is that of autocast, None for none; float16 scales its gradients. `max_norm` clips, None or 0 does not.
    `before_step` and `after_step` are called around the optimizer's step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Any,
        *,
        device: torch.device,
        dtype: torch.dtype | None = None,
        max_norm: float | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype
        self.max_norm = max_norm
        self.processes = processes or Processes()
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scaler: GradScaler | None = None

    def autocast(self) -> torch.autocast:
        """The context in which forward passes run."""
        return autocast(self.device, self.dtype)

    def update(
        self,
        batches: Iterable[Batch | None],
        loss: Callable[[Batch], LossTerms],
        *,
        after_batch: Callable[[], object] = lambda: None,
        before_step: Callable[[], object] = lambda: None,
        after_step: Callable[[], object] = lambda: None,
    ) -> Update:
        """One step on the rows of all `batches`; `loss(batch)` runs the model. None stands for a batch without rows."""
        sums = torch.zeros(2, dtype=torch.float32 if self.device.type == "mps" else torch.float64, device=self.device)
        for batch in batches:
            if batch is not None:
                with self.autocast():
                    terms = loss(batch)
                if self.scaler is None and self.dtype is torch.float16:
                    self.scaler = self._new_scaler(terms.count)
                if terms.total.requires_grad:
                    torch.autograd.backward(self._scaled(terms.total))
                sums += torch.stack([terms.total.detach().to(sums), terms.count.detach().to(sums)])
            after_batch()
        total, count = self._reduce(sums)
        norm = self._divide_and_clip(count)
        before_step()
        rate = float(self.optimizer.param_groups[0]["lr"])
        skipped = self._step()
        after_step()
        if not skipped and self.scheduler is not None:
            self.scheduler.step()
        self.model.zero_grad(set_to_none=True)
        return Update(total, count, norm, rate, skipped)

    def _scaled(self, total: Tensor) -> Tensor:
        return total if self.scaler is None else self.scaler.scale(total)

    def _new_scaler(self, count: Tensor) -> GradScaler:
        """Gradients of sums are `count` times those of means, so the usual first scale is smaller by that factor.

        A power of two: scaling is then exact. Every process must agree on it, hence the sum.
        """
        typical = float(self.processes.sum(count.detach().double().clone())) / self.processes.count
        scale = 2.0 ** (16 - round(math.log2(max(typical, 1.0))))
        return GradScaler(self.device.type, init_scale=scale)

    def _reduce(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Totals, counts and gradients summed over the processes."""
        if self.processes.count > 1:
            flags = torch.tensor([p.grad is not None for p in self.parameters], device=self.device).to(sums)
            everything = self.processes.sum(torch.cat([sums, flags]))
            sums, used = everything[:2], everything[2:].tolist()
            self.processes.sum_gradients(self.parameters, [flag > 0 for flag in used])
        return sums[0], sums[1]

    def _divide_and_clip(self, count: Tensor) -> Tensor:
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        divisor = count.clamp(min=1)  # nothing counted: the gradients are zero, and stay so
        for gradient in gradients:
            if gradient.dtype is torch.float32:
                gradient.div_(divisor.to(torch.float32))
            else:  # a count of 1237 is 1240 in bfloat16
                gradient.copy_(gradient.float().div_(divisor.to(torch.float32)))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.max_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_norm, norm)
        return norm

    def _step(self) -> bool:
        if self.scaler is None:
            self.optimizer.step()
            return False
        before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.scaler.get_scale() < before

    def state(self) -> dict[str, Any]:
        """What decides the next updates beside the model, by the name of its file in a checkpoint."""
        optimizer = {"parameters": self._names(), "state": self.optimizer.state_dict()}
        state: dict[str, Any] = {"optimizer": optimizer}
        if self.scheduler is not None:
            state["scheduler"] = self.scheduler.state_dict()
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave; raises `TrainingError` when it belongs to other parameters."""
        saved, mine = state["optimizer"]["parameters"], self._names()
        if saved != mine:
            changed = sorted({*saved} ^ {*mine}) or ["the same names in another order"]
            raise TrainingError(
                f"the checkpoint's optimizer holds {len(saved)} parameters, this run's {len(mine)}; they differ in "
                f"{', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}. Freeze and group parameters as before."
            )
        self.optimizer.load_state_dict(state["optimizer"]["state"])
        if self.scheduler is not None and "scheduler" in state:
            self.scheduler.load_state_dict(state["scheduler"])
        if "scaler" in state and self.dtype is torch.float16:
            self.scaler = GradScaler(self.device.type)
            self.scaler.load_state_dict(state["scaler"])

    def _names(self) -> list[str]:
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [names[id(p)] for p in self.parameters]


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Matrix products in `dtype`, None for the model's own."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
