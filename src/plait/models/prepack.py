"""Weights where a CPU reads them soonest, complete: memory for them before they are read from the file.

It is made of large pages where the system has them, so that few are looked up; each tensor begins with a line of the
cache; and what queries, keys and values are made by lies one behind the other, to be one product (`plait.nn.joined`).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from itertools import chain
from math import prod

import torch
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.weights.checkpoint import Entry

_LINE = 64  # bytes


def prepack(
    network: nn.Module,
    entries: Mapping[str, Entry],
    *,
    dtype: torch.dtype | None,
    device: Callable[[str], torch.device | None],
) -> None:
    """Give memory to each parameter on "meta" that one of `entries` will fill and whose `device` is the CPU.

    `dtype` is the floating type that they will have; None keeps that of each entry.
    """
    types: dict[Tensor, torch.dtype] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        place = device(name)
        if name in entries and parameter.is_meta and place is not None and place.type == "cpu":
            stored = entries[name].dtype
            types[parameter] = dtype if dtype is not None and stored.is_floating_point else stored
    groups = list(_groups(network, types))
    memory = _Memory(sum(_size(sum(part.numel() for part in group), types[group[0]]) for group in groups))
    made: dict[Tensor, nn.Parameter] = {}
    for group in groups:
        whole = memory.take((sum(len(part) for part in group), *group[0].shape[1:]), types[group[0]])
        for part, piece in zip(group, torch.split(whole, [len(part) for part in group]), strict=True):
            made[part] = nn.Parameter(piece, requires_grad=part.requires_grad)
    for module in network.modules():
        for leaf, old in module._parameters.items():
            if old in made:
                setattr(module, leaf, made[old])


def _groups(network: nn.Module, types: Mapping[Tensor, torch.dtype]) -> list[list[Tensor]]:
    """Parameters that lie one behind the other, each parameter once."""
    groups: list[list[Tensor]] = []
    for module in network.modules():
        if isinstance(module, Attention):
            layers = module.query, module.key, module.value
            for leaf in ("weight", "bias"):
                parts = [part for layer in layers if (part := getattr(layer, leaf)) in types]
                if len(set(parts)) == len(layers) and len({types[part] for part in parts}) == 1:
                    groups.append(parts)
    grouped = set(chain.from_iterable(groups))
    return [*groups, *([part] for part in types if part not in grouped)]


def _size(count: int, dtype: torch.dtype) -> int:
    """Bytes of `count` numbers, in whole lines."""
    return -(-count * dtype.itemsize // _LINE) * _LINE


class _Memory:
    """Bytes for tensors, in large pages on systems that have them."""

    def __init__(self, size: int) -> None:
        self._map: mmap.mmap | None = None
        self._taken = 0
        if size and hasattr(mmap, "MADV_HUGEPAGE"):
            self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            try:
                self._map.madvise(mmap.MADV_HUGEPAGE)
            except OSError:  # a kernel without them
                self._map = None

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor whose numbers are not set, in memory that lives as long as it does."""
        count = prod(shape)
        if self._map is None or count == 0:
            return torch.empty(shape, dtype=dtype)
        tensor = torch.frombuffer(self._map, dtype=dtype, count=count, offset=self._taken).view(shape)
        self._taken += _size(count, dtype)
        return tensor
