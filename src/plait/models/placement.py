"""Which part of a model lies where, complete: `device_map` and `max_memory`, planned before a weight is read.

The parts are the embeddings, each layer, the norms, the pool and the head. A part lies on a device, or on disk: then
its weights are read from the checkpoint while it computes, and nothing of it is in memory before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from plait.console import logger
from plait.errors import OptionError, nearest
from plait.nn.stack import Stack
from plait.weights.rules import Rules
from plait.weights.save import parse_size
from plait.weights.translated import Translated

Place = torch.device | Literal["disk"]
AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The place of each part. `main` is where inputs begin, and where parts on disk compute."""

    places: Mapping[str, Place]
    main: torch.device

    def device(self, name: str) -> torch.device | None:
        """Where the tensor `name` of the network lies, None for on disk; what belongs to no part is on `main`."""
        found = next((part for part in self.places if name.startswith(f"{part}.")), None)
        place = self.main if found is None else self.places[found]
        return place if isinstance(place, torch.device) else None

    @property
    def spread(self) -> bool:
        """Whether there is more than one place."""
        return set(self.places.values()) != {self.main}

    def shown(self) -> dict[str, Any]:
        """As `hf_device_map` says it: numbers for accelerators, "cpu" and "disk"; {"": place} for a single one."""
        names = {part: "disk" if place == "disk" else _spelled(place) for part, place in self.places.items()}
        return names if self.spread else {"": _spelled(self.main)}


def _spelled(place: torch.device) -> Any:
    return place.type if place.index is None else place.index


def plan(
    network: nn.Module,
    source: Translated | None,
    rules: Rules,
    *,
    device_map: Any,
    max_memory: Mapping[Any, Any] | None,
    dtype: torch.dtype | None,
) -> Plan:
    """Decide where each part of a network on "meta" goes.

    `device_map`: None for the CPU, a device, "disk", "auto", "balanced", "balanced_low_0", "sequential", or {name:
    device} with names of parts here or in the checkpoint and "" for all others. `max_memory` {device: bytes or "10GB"}
    bounds the automatic ones, and what fits nowhere lies on disk. `source` is the checkpoint, needed with a map.
    `dtype` is what weights are converted to, None for their own.
    Raises OptionError for a map that leaves a part out, divides one, or names a device that is not there.
    """
    if max_memory is not None and device_map not in AUTOMATIC:
        raise OptionError("`max_memory` bounds an automatic placement: give device_map='auto' with it.")
    if max_memory is not None and not isinstance(max_memory, Mapping):
        raise OptionError(f"`max_memory` is a table such as {{'cpu': '10GB'}}, but is {max_memory!r}.")
    device_map = {"": "disk"} if device_map == "disk" else device_map
    parts = parts_of(network)
    if source is None:
        return Plan(places=dict.fromkeys(parts, CPU), main=CPU)
    if isinstance(device_map, Mapping):
        places = _mapped(network, parts, rules, device_map)
    elif device_map in AUTOMATIC:
        copied = dtype is not None and any(entry.dtype != dtype for entry in source.entries().values())
        sizes = _sizes(network, parts, source, dtype)
        places = _filled(sizes, _rooms(max_memory, copied=copied), device_map)
    else:
        places = dict.fromkeys(parts, CPU if device_map is None else device_of(device_map))
    main = next((place for place in places.values() if isinstance(place, torch.device)), None) or _main(max_memory)
    for part, first in _sharing(network, parts).items():
        if places[part] != places[first]:
            logger("models").info("%s shares weights with %s, and lies at its place.", part, first)
            places[part] = places[first]
    # What is added to the scores of every layer is tiny, and read wherever they are.
    places |= {part: main for part in parts if part.endswith((".relative_bias", ".relative_vectors"))}
    return Plan(places=places, main=main)


def parts_of(network: nn.Module) -> list[str]:
    """The names of the parts, in the order in which they compute."""
    names = []
    for name, child in network.named_children():
        if not isinstance(child, Stack):
            names.append(name)
            continue
        for inner, part in child.named_children():
            if isinstance(part, nn.ModuleList):
                names += [f"{name}.{inner}.{index}" for index in range(len(part))]
            else:
                names.append(f"{name}.{inner}")
    return names


def device_of(place: Any, *, given: str = "device_map") -> torch.device:
    """The device of a name, or of the number of an accelerator, as the argument `given` says it.

    Raises OptionError for one that is not there.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if isinstance(place, int) and not isinstance(place, bool):
        if accelerator is None or not 0 <= place < torch.accelerator.device_count():
            raise OptionError(
                f"{given} names the accelerator {place}, but torch sees {torch.accelerator.device_count()} of them. "
                "Give 'cpu', 'disk' or 'auto'."
            )
        return torch.device(accelerator.type, place)
    try:
        device = torch.device(place)
    except (RuntimeError, TypeError) as error:
        hint = nearest(str(place), ("cpu", "cuda", "disk", *AUTOMATIC))
        raise OptionError(
            f"{given} names {place!r}, which is not a device that torch knows.{hint} Give 'auto', 'cpu' or 'cuda:0', "
            "say."
        ) from error
    there = device.type in ("cpu", "meta") or (accelerator is not None and device.type == accelerator.type)
    if not there or (device.index or 0) >= max(1, torch.accelerator.device_count()):
        raise OptionError(f"{given} names {place!r}, which is not a device of this computer. Give 'auto' or 'cpu'.")
    return device


def _main(max_memory: Mapping[Any, Any] | None) -> torch.device:
    """Where everything computes when everything is on disk."""
    named = [device_of(place, given="max_memory") for place in max_memory or () if place != "disk"]
    return named[0] if named else torch.accelerator.current_accelerator(check_available=True) or CPU


def _sharing(network: nn.Module, parts: Sequence[str]) -> dict[str, str]:
    """Those parts that share a weight with an earlier one, and that one."""
    owners: dict[int, str] = {}
    found: dict[str, str] = {}
    for part in parts:
        for parameter in network.get_submodule(part).parameters():
            first = owners.setdefault(id(parameter), part)
            if first != part:
                found[part] = found.get(first, first)
    return found


def _sizes(network: nn.Module, parts: Sequence[str], source: Translated, dtype: torch.dtype | None) -> dict[str, int]:
    """Bytes of each part as it will be loaded; a shared weight counts where it comes first, a quantised matrix in its
    few bits."""
    sizes, seen = dict.fromkeys(parts, 0), set()
    entries = source.entries()
    for part in parts:
        for name, tensor in network.get_submodule(part).state_dict(prefix=f"{part}.", keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                owner, _, leaf = name.rpartition(".")
                taken = getattr(network.get_submodule(owner), "taken_bytes", None)
                if taken is not None and (few := taken(leaf)) is not None:
                    sizes[part] += few
                    continue
                stored = entries[name].dtype if name in entries else tensor.dtype
                wanted = dtype if dtype is not None and stored.is_floating_point else stored
                sizes[part] += tensor.numel() * wanted.itemsize
    return sizes


# -- automatic ---------------------------------------------------------------------------------------------------------


def _rooms(max_memory: Mapping[Any, Any] | None, *, copied: bool) -> list[tuple[torch.device, float]]:
    """The devices in the order in which they are filled, with their bytes."""
    if max_memory is not None:
        rooms = {place: size for place, size in max_memory.items() if place != "disk"}
        return [(device_of(place, given="max_memory"), _bytes(size)) for place, size in rooms.items()]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if accelerator is not None else 0
    devices = [torch.device(accelerator.type, index) for index in range(count)] if accelerator is not None else []
    # Weights that stay as they are in the file are its pages, which the system takes back when it needs memory.
    return [*((device, _free(device)) for device in devices), (CPU, _available() if copied else math.inf)]


def _bytes(size: Any) -> float:
    try:
        return parse_size(size, least=0)
    except OptionError:
        raise OptionError(f"`max_memory` holds numbers of bytes or texts such as '10GB', but also {size!r}.") from None


def _free(device: torch.device) -> float:
    """Nine tenths of what is free: the rest is for what is computed."""
    return 0.9 * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def _available() -> float:
    """Bytes of memory that the system could give."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":") for line in file)
    except OSError:
        return math.inf
    return 0.9 * 1024 * int(lines["MemAvailable"].split()[0])


def _filled(sizes: Mapping[str, int], rooms: list[tuple[torch.device, float]], how: str) -> dict[str, Place]:
    rooms = _balanced(sizes, rooms, how)
    places, free = _packed(sizes, rooms), 0
    # While it computes, a part from disk is where inputs begin: what the largest takes is kept free there. More of them
    # may then be on disk, a larger one among them. All others stay where they are placed and are read once.
    while rooms and (largest := _largest_on_disk(sizes, places)) > free:
        free = largest
        device, room = rooms[0]
        places = _packed(sizes, [(device, room - free), *rooms[1:]])
    return places


def _largest_on_disk(sizes: Mapping[str, int], places: Mapping[str, Place]) -> int:
    return max((sizes[part] for part, place in places.items() if place == "disk"), default=0)


def _balanced(
    sizes: Mapping[str, int], rooms: list[tuple[torch.device, float]], how: str
) -> list[tuple[torch.device, float]]:
    """Each accelerator takes its share and no more; "balanced_low_0" leaves the first what the others do not take."""
    several = [device for device, _ in rooms if device.type != "cpu"]
    if how == "sequential" or len(several) < 2:
        return rooms
    total, largest = sum(sizes.values()), max(sizes.values())
    share = total / (len(several) - 1 if how == "balanced_low_0" else len(several)) + largest
    bounds = {device: min(room, share) if device.type != "cpu" else room for device, room in rooms}
    if how == "balanced_low_0":
        bounds[several[0]] = max(0.0, total - sum(bounds[device] for device in several[1:]))
    return list(bounds.items())


def _packed(sizes: Mapping[str, int], rooms: Iterable[tuple[torch.device, float]]) -> dict[str, Place]:
    """One device after the other; of what does not fit the last one, smaller parts behind it still may."""
    rooms = list(rooms)
    devices, left = [device for device, _ in rooms], [room for _, room in rooms]
    places: dict[str, Place] = {}
    at = 0
    for part, size in sizes.items():
        while at + 1 < len(left) and size > left[at]:
            at += 1
        if at < len(left) and size <= left[at]:
            places[part] = devices[at]
            left[at] -= size
        else:
            places[part] = "disk"
    return places


def _dots(name: str) -> list[int]:
    """Where the beginnings of a name end, 0 for the whole of it."""
    return [index for index, letter in enumerate(name) if letter == "."] + [0]


# -- said by hand ------------------------------------------------------------------------------------------------------


def _mapped(network: nn.Module, parts: Sequence[str], rules: Rules, given: Mapping[Any, Any]) -> dict[str, Place]:
    """The places that {name: device} says; names are ours or the checkpoint's, with its prefix or without."""
    spots: dict[str, Place] = {
        str(key): "disk" if place == "disk" else device_of(place) for key, place in given.items()
    }
    places: dict[str, Place] = {}
    used: set[str] = set()
    known = set(parts)
    for part in parts:
        found = set()
        for ours in network.get_submodule(part).state_dict(prefix=f"{part}."):
            names = [part, ours, *(rules.theirs_of(ours) or ())]
            names += [name.removeprefix(prefix) for name in names for prefix in rules.prefixes]
            keys = [key for key in spots if any(name == key or name.startswith(f"{key}.") for name in names)]
            key = max(keys, key=len, default="" if "" in spots else None)
            if key is None:
                called = names[2] if len(names) > 2 else ours
                raise OptionError(
                    f"device_map says nothing about {called} (part {part!r}). Name it, or add '' for all that is not "
                    "named."
                )
            used.update(keys, [key])
            known.update(name[: dot if dot > 0 else None] for name in names for dot in _dots(name))
            found.add(key)
        if len({spots[key] for key in found}) > 1:
            raise OptionError(
                f"device_map divides the part {part!r}: {', '.join(map(repr, sorted(found)))} go to different "
                "places. Give the whole part one."
            )
        places[part] = spots[found.pop()] if found else CPU
    if unknown := [key for key in spots if key and key not in used]:
        raise OptionError(
            f"device_map names {unknown[0]!r}, which this model does not have.{nearest(unknown[0], known)} Its parts "
            f"are {', '.join(parts[:4])}, …"
        )
    return places
