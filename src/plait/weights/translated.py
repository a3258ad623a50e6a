"""A checkpoint under other names, complete: what a table of rules makes of a file, tensor by tensor, when asked for.

Nothing is read until a tensor is asked for, but for tensors that a file holds under an old and a new name: those are
compared, since a file that contradicts itself must not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from plait.errors import WeightsError, nearest
from plait.weights.checkpoint import Checkpoint, Entry, Format
from plait.weights.rules import Rules, Step


def identical(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors agree in type, shape and every number."""
    return tensor.dtype == other.dtype and torch.equal(tensor, other)


class Translated:
    """A `Checkpoint` whose names are those of our side of `rules`.

    Beside its entries it tells what does not fit, for the caller to judge: `unexpected` names that no rule knows,
    `incomplete` and `unfit` (name of ours: why) and `contradictions`. `ignored` gives names with their reasons.
    """

    def __init__(self, checkpoint: Checkpoint, rules: Rules) -> None:
        self.label: str = checkpoint.label
        self.format: Format = checkpoint.format
        self.metadata: Mapping[str, Any] = checkpoint.metadata
        self._checkpoint = checkpoint
        self._sources: dict[str, tuple[Step, int]] = {}
        self._entries: dict[str, Entry] = {}
        self.incomplete: dict[str, str] = {}
        self.unfit: dict[str, str] = {}
        self.contradictions: list[str] = []
        plan = rules.plan(checkpoint.entries())
        self.ignored, self.unexpected = plan.ignored, plan.unexpected
        for step in plan.steps:
            self._add(step)

    def _add(self, step: Step) -> None:
        if step.absent:
            listed = ", ".join(step.absent[:3]) + (f" and {len(step.absent) - 3} more" if len(step.absent) > 3 else "")
            self.incomplete |= dict.fromkeys(step.ours, f"absent of its {len(step.theirs)} tensors: {listed}")
            return
        for names in step.found:
            self._compare(names)
        first = self._checkpoint.entries()[step.found[0][0]]
        shapes = [first.shape]
        if step.rule.operations:
            try:
                shapes = [tuple(tensor.shape) for tensor in step.rule.to_ours(self._without_data(step))]
            except WeightsError as error:
                self.unfit |= dict.fromkeys(step.ours, str(error))
                return
        for index, (name, shape) in enumerate(zip(step.ours, shapes, strict=True)):
            if name in self._sources:
                other = self._sources[name][0].found[0][0]
                self.contradictions.append(f"{other} and {step.found[0][0]} both hold {name}")
            self._entries[name] = Entry(name=name, shape=shape, dtype=first.dtype, stored=first.stored)
            self._sources[name] = (step, index)

    def _compare(self, names: tuple[str, ...]) -> None:
        for name in names[1:]:
            if not identical(self._checkpoint.borrow(names[0]), self._checkpoint.borrow(name)):
                self.contradictions.append(f"{names[0]} and {name} are one tensor of the model, but differ")

    def _without_data(self, step: Step) -> list[torch.Tensor]:
        entries = [self._checkpoint.entries()[names[0]] for names in step.found]
        return [torch.empty(entry.shape, dtype=entry.dtype, device="meta") for entry in entries]

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents, by our names."""
        return self._entries

    def origin(self, name: str) -> tuple[str, ...]:
        """The names in the file of the tensors that `name` is made of."""
        step, _ = self._source(name)
        return tuple(names[0] for names in step.found)

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor that may be kept and written to; a view of the file when it is only renamed, or cut into rows."""
        step, index = self._source(name)
        names = [names[0] for names in step.found]
        if not step.rule.operations:
            return self._checkpoint.tensor(names[0])
        borrowed = [self._checkpoint.borrow(each) for each in names]
        made = step.rule.to_ours(borrowed)[index]
        memory = made.untyped_storage().data_ptr()
        if made.is_contiguous() and any(memory == each.untyped_storage().data_ptr() for each in borrowed):
            # A part of the file as it is. A borrowed tensor has a map of its own, and with it an open file for as long
            # as it is kept: of a model with a thousand parts, too many.
            return step.rule.to_ours([self._checkpoint.tensor(each) for each in names])[index]
        return made.contiguous()

    def borrow(self, name: str) -> torch.Tensor:
        """The same values for a conversion or a copy, perhaps not contiguous; see `Checkpoint.borrow`."""
        step, index = self._source(name)
        return step.rule.to_ours([self._checkpoint.borrow(names[0]) for names in step.found])[index]

    def direct(self, name: str, dtype: torch.dtype) -> bool:
        """Whether `borrow` gives the bytes of the file as they are, in the type `dtype`."""
        step, _ = self._source(name)
        return self.format == "safetensors" and not step.rule.operations and self._entries[name].dtype == dtype

    def _source(self, name: str) -> tuple[Step, int]:
        if name not in self._sources:
            raise WeightsError(f"{self.label} has nothing for {name!r}.{nearest(name, self._sources)}")
        return self._sources[name]
