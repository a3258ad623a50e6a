"""What a model is made of, as text, complete: a tree of its parts with shapes and numbers of parameters.

    llama, causal_lm: 9,464 parameters, float32 on cpu
    ├─ stack                                       9,000
    │  ├─ frontend
    │  │  └─ tokens       29 × 16                    464
    │  ├─ layers.0–3      4 alike, each            2,128

Equal neighbours are shown once. A weight that an earlier part has already counts nothing. Lines are at most 80 columns
wide for the families here, large ones included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from plait.weights.quantise import Matrix

if TYPE_CHECKING:
    from plait.models.pretrained import Pretrained

_WIDTH = 30  # of what is told of one part; tensors that take more have a line each


@dataclass(kw_only=True)
class _Line:
    """One part: `name`, what is `told` of it, its own `count` of parameters and its parts."""

    name: str
    told: str
    count: int
    parts: list[_Line] = field(default_factory=list)

    def same(self, other: _Line) -> bool:
        """Whether two parts differ by their names at most."""
        alike = self.told == other.told and self.count == other.count and len(self.parts) == len(other.parts)
        return alike and all(
            one.name == two.name and one.same(two) for one, two in zip(self.parts, other.parts, strict=True)
        )


def describe(model: Pretrained) -> str:
    """The tree of `model`; see `Pretrained.describe`."""
    seen: dict[int, str] = {}
    root = _line("", model.network, seen, path="")
    head = f"{model.config.model_type}, {model.task}: {root.count:,} parameters, {_where(model)}"
    rows = list(_rows(root.parts, indent=""))
    names = max((len(row[0]) for row in rows), default=0)
    told = max((len(row[1]) for row in rows), default=0)
    counts = max((len(row[2]) for row in rows), default=0)
    lines = (f"{name:<{names}}  {what:<{told}}  {count:>{counts}}".rstrip() for name, what, count in rows)
    return "\n".join([head, *lines])


def _where(model: Pretrained) -> str:
    dtypes = sorted({str(part.dtype).removeprefix("torch.") for part in model.parameters()})
    places = getattr(model, "hf_device_map", None)
    devices = sorted({str(place) for place in places.values()}) if places else [str(model.device)]
    return f"{' and '.join(dtypes)} on {' and '.join(devices)}"


def _line(name: str, module: nn.Module, seen: dict[int, str], *, path: str) -> _Line:
    if isinstance(module, Matrix):  # the numbers that it stands for, not those that it is kept in
        return _Line(name=name, told=f"{module.shape[0]} × {module.shape[1]} {module.title}", count=module.size)
    tensors = []
    own = [*module._parameters.items(), *((leaf, part) for leaf, part in module._buffers.items())]
    for leaf, tensor in own:
        if tensor is None or leaf in module._non_persistent_buffers_set:
            continue
        if id(tensor) in seen:
            tensors.append(_Line(name=leaf, told=f"of {seen[id(tensor)]}", count=0))
            continue
        seen[id(tensor)] = path
        tensors.append(_Line(name=leaf, told=" × ".join(map(str, tensor.shape)) or "1", count=tensor.numel()))
    told = " + ".join(_named(each) for each in tensors)
    line = _Line(name=name, told=told, count=sum(each.count for each in tensors))
    if len(tensors) > 1 and len(told) > _WIDTH:
        line.told, line.parts = "", tensors
    for child, part in module.named_children():
        below = _line(child, part, seen, path=f"{path}.{child}".removeprefix("."))
        if below.parts or below.told:
            line.parts.append(below)
            line.count += below.count
    line.parts = list(_merged(line.parts))
    return line


def _named(tensor: _Line) -> str:
    """What is told of a tensor on the line of its part; a weight of its own needs no name."""
    own = tensor.name == "weight" and not tensor.told.startswith("of ")
    return tensor.told if own else f"{tensor.name} {tensor.told}"


def _merged(parts: list[_Line]) -> Iterator[_Line]:
    """Neighbours that are alike, as one."""
    start = 0
    while start < len(parts):
        end = start + 1
        while end < len(parts) and parts[start].parts and parts[start].same(parts[end]):
            end += 1
        first, alike = parts[start], end - start
        if alike > 1:
            told = f"{alike} alike, each {first.count:,}"
            first = _Line(
                name=f"{first.name}–{parts[end - 1].name}", told=told, count=alike * first.count, parts=first.parts
            )
        yield first
        start = end


def _rows(parts: list[_Line], *, indent: str) -> Iterator[tuple[str, str, str]]:
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        yield f"{indent}{'└─' if last else '├─'} {part.name}", part.told, f"{part.count:,}"
        yield from _rows(part.parts, indent=indent + ("   " if last else "│  "))
