"""A model that lies in several places computes as if it lay in one, complete: hooks around its parts.

Before a part computes, its inputs come to its device; if it lies on disk, so do its weights, for that long: they are
views of the mapped checkpoint, and their pages leave memory with them. Everything outside the parts stays where the
caller's tensors are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plait.console import logger
from plait.errors import OptionError
from plait.models.placement import Plan
from plait.nn.stack import Stack
from plait.weights.safetensors import SafetensorsFile
from plait.weights.save import write_safetensors
from plait.weights.translated import Translated


def dispatch(network: nn.Module, plan: Plan, source: Translated, *, folder: Path | None) -> None:
    """Let a loaded `network` compute where `plan` says; parts on disk read `source`.

    With a `folder`, weights on disk that are not in the checkpoint as they are needed (of another type, cut or joined)
    are written there first, so that they are not converted at each call.
    """
    if not plan.spread:
        return
    names = _names(network, source) if "disk" in plan.places.values() else {}
    devices = {place for place in plan.places.values() if place != "disk"} | {plan.main}
    converted = False
    for part, place in plan.places.items():
        module = network.get_submodule(part)
        if place == "disk":
            leaves = list(_leaves(module, part, names))
            kept = _kept(part, leaves, source, folder)
            converted |= kept is not source
            streamed = _Streamed(part, leaves, kept, plan.main)
            module.register_forward_pre_hook(streamed.bring)
            module.register_forward_hook(streamed.drop, always_call=True)
    if folder is not None and not converted:
        logger("models").info(
            "offload_folder has no effect: the checkpoint holds the parts on disk as they are needed."
        )
    if len(devices) > 1:
        for name, module in network.named_modules():
            if isinstance(module, Stack):
                _follow(module, plan.main, returns=True)
            elif name in plan.places:
                place = plan.places[name]
                _follow(module, plan.main if place == "disk" else place, returns="." not in name)


# -- weights from disk -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Leaf:
    """A parameter or buffer that is not in memory: who has it, under which name, and what stands in for it."""

    owner: nn.Module
    leaf: str
    name: str
    stand_in: Tensor


def _names(network: nn.Module, source: Translated) -> dict[int, str]:
    """For each tensor of the network, that of its names under which the checkpoint has it."""
    state = network.state_dict(keep_vars=True)
    return {id(tensor): name for name, tensor in state.items() if name in source.entries()}


def _leaves(module: nn.Module, part: str, names: Mapping[int, str]) -> Iterator[_Leaf]:
    for prefix, owner in module.named_modules(prefix=part):
        for leaf, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            if tensor is not None and tensor.is_meta:
                yield _Leaf(owner, leaf, names.get(id(tensor), f"{prefix}.{leaf}"), tensor)


class _Streamed:
    """A part whose weights are in memory only while it computes, in one thread or in several at once."""

    def __init__(self, part: str, leaves: list[_Leaf], source: Any, device: torch.device) -> None:
        self.part, self.leaves, self.source, self.device = part, leaves, source, device
        self._lock = threading.Lock()
        self._threads: set[int] = set()  # those that compute the part now; the first brings, the last drops

    def bring(self, module: nn.Module, arguments: Any) -> None:
        """Map the weights. Raises OptionError for one that should be trained."""
        with self._lock:
            if not self._threads:
                self._map()
            self._threads.add(threading.get_ident())

    def drop(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Let go of them."""
        with self._lock:
            self._threads.discard(threading.get_ident())
            if not self._threads:
                for each in self.leaves:
                    self._bind(each, each.stand_in)

    def _map(self) -> None:
        for each in self.leaves:
            if each.stand_in.requires_grad and torch.is_grad_enabled():
                raise OptionError(
                    f"{each.name} lies on disk and cannot be trained. Freeze it (model.freeze()), or load the model "
                    "with more of it in memory (max_memory, device_map)."
                )
            tensor = self.source.borrow(each.name)
            tensor = tensor.to(device=self.device, dtype=each.stand_in.dtype).contiguous()
            self._bind(
                each, nn.Parameter(tensor, requires_grad=False) if each.leaf in each.owner._parameters else tensor
            )

    @staticmethod
    def _bind(each: _Leaf, tensor: Tensor) -> None:
        table: dict[str, Any] = each.owner._parameters if each.leaf in each.owner._parameters else each.owner._buffers
        table[each.leaf] = tensor


def _kept(part: str, leaves: list[_Leaf], source: Translated, folder: Path | None) -> Any:
    """What a part reads from: the checkpoint, or a file in `folder` that holds its weights converted."""
    if folder is None or all(source.direct(each.name, each.stand_in.dtype) for each in leaves):
        return source
    if folder.is_file():
        raise OptionError(f"offload_folder={str(folder)!r} is a file. Name a folder, there or yet to be made.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.safetensors"
    converted = {each.name: source.borrow(each.name).to(each.stand_in.dtype).contiguous() for each in leaves}
    write_safetensors(converted, path, metadata={"format": "pt"})
    logger("models").info("%s lies on disk, as %s.", part, path)
    return SafetensorsFile(path)


# -- inputs ------------------------------------------------------------------------------------------------------------


def _follow(module: nn.Module, device: torch.device, *, returns: bool) -> None:
    """Bring what `module` is called with to `device`; with `returns`, and what it gives back to where that was."""
    origins: list[torch.device] = []

    def come(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        given = next((value for value in (*arguments, *named.values()) if isinstance(value, Tensor)), None)
        origins.append(device if given is None else given.device)
        return moved(arguments, device), moved(named, device)

    def go(_: nn.Module, arguments: Any, output: Any) -> Any:
        origin = origins.pop()
        return moved(output, origin) if returns and output is not None else output

    module.register_forward_pre_hook(come, with_kwargs=True)
    module.register_forward_hook(go, always_call=True)


def moved(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on `device`; lists, caches and records, which are written to, stay themselves."""
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device)
    if isinstance(value, tuple):
        parts = [moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{name: moved(part, device) for name, part in found.items()})
    return value
