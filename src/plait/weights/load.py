"""From a checkpoint into a module, complete: strict, tensor by tensor, without a copy where type and device allow.

The module is built on "meta", so nothing is allocated or initialised for a parameter that is about to be loaded. Every
tensor of the file must have a place and every parameter must have a tensor; all that does not fit is said in one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor, nn

from plait.errors import OptionError, WeightsError, nearest
from plait.weights.checkpoint import Checkpoint
from plait.weights.rules import Rules
from plait.weights.translated import Translated, identical

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did.

    `new`: names of ours that the checkpoint lacks, as the caller allowed. `ignored`: its names that were left out, and
    why. `dtype`: the floating type that most of the loaded numbers have, None without any.
    """

    new: list[str]
    ignored: Mapping[str, str]
    dtype: torch.dtype | None


@dataclass(kw_only=True)
class _Slot:
    """One parameter or buffer of the module, with every name and owner that share it."""

    tensor: Tensor
    names: list[str] = field(default_factory=list)
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)


def load_into(
    module: nn.Module,
    checkpoint: Checkpoint,
    rules: Rules,
    *,
    dtype: torch.dtype | None = None,
    new: Sequence[str] = (),
    device: torch.device | str | Callable[[str], torch.device | None] = "cpu",
) -> LoadReport:
    """Bind the tensors of `checkpoint` to the parameters and buffers of `module`, by the names that `rules` give.

    `dtype`: the floating type to convert to; None keeps each tensor's own. `new`: beginnings of our names ("head.")
    that the checkpoint may lack; those stay as they are, on "meta", for the caller to initialise. `device`: where to,
    or a function from one of our names to where that one goes; None leaves it on "meta", in the type that it would
    have, frozen, for the caller to read later.
    Parameters on "meta" are replaced, shared ones stay shared, and `requires_grad` is kept; others are filled in place,
    in their own type and on their own device. A module's attribute `own_dtypes` {name: dtype} says which have a type of
    their own. A module with a method `receive(name, tensor)` may take the numbers of a parameter or buffer instead of
    the tensor; it then returns True, and must not keep the tensor.
    Raises one `WeightsError` that lists all that is missing, unexpected, misshapen or of another kind; the module is
    then unchanged.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise OptionError(f"dtype must be a floating type such as torch.bfloat16, but is {dtype}.")
    if isinstance(new, str):
        raise OptionError(f"new must be a tuple such as ({new!r},), but is the text {new!r}.")
    source = Translated(checkpoint, rules)
    slots = _slots(module)
    entries = source.entries()
    chosen = [(slot, next((name for name in slot.names if name in entries), None)) for slot in slots]
    absent = [slot for slot, name in chosen if name is None]
    declared = [slot.names[0] for slot in absent if any(_below(name, new) for name in slot.names)]
    missing = [slot.names[0] for slot in absent if slot.names[0] not in declared]
    text = _problems(slots, missing, source=source, rules=rules)
    if text:
        raise WeightsError(f"{checkpoint.label} does not fit {type(module).__name__}.\n{text}")
    sizes: dict[torch.dtype, int] = {}
    for slot, name in chosen:
        if name is not None:
            place = device(slot.names[0]) if callable(device) else torch.device(device)
            loaded = _fill(slot, name, source=source, dtype=dtype, device=place)
            if loaded.is_floating_point() and _own_dtype(slot) is None:
                sizes[loaded.dtype] = sizes.get(loaded.dtype, 0) + loaded.numel()
    return LoadReport(new=declared, ignored=source.ignored, dtype=max(sizes, key=sizes.__getitem__, default=None))


def _slots(module: nn.Module) -> list[_Slot]:
    """Parameters and persistent buffers, each once. Raises WeightsError for a buffer that no checkpoint can fill."""
    slots: dict[int, _Slot] = {}
    for prefix, owner in module.named_modules(remove_duplicate=False):
        for leaf, tensor in (*owner._parameters.items(), *owner._buffers.items()):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if tensor is None:
                continue
            if leaf in owner._non_persistent_buffers_set:
                if tensor.is_meta:
                    raise WeightsError(
                        f"The buffer {name!r} of {type(module).__name__} is on 'meta', and no checkpoint holds it "
                        "(persistent=False). Compute it in forward, or build it on a device."
                    )
                continue
            slot = slots.setdefault(id(tensor), _Slot(tensor=tensor))
            slot.names.append(name)
            slot.owners.append((owner, leaf))
    return list(slots.values())


def _below(name: str, prefixes: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(prefix.rstrip(".") + ".") for prefix in prefixes)


def _fill(
    slot: _Slot, name: str, *, source: Translated, dtype: torch.dtype | None, device: torch.device | None
) -> Tensor:
    """Give one slot its tensor, or without a `device` its type alone, and return what it holds now."""
    old, stored = slot.tensor, source.entries()[name].dtype
    wanted = _own_dtype(slot) or ((dtype or stored) if stored.is_floating_point else old.dtype)
    if all(hasattr(owner, "receive") for owner, _ in slot.owners) and all(
        # Borrowed anew for each, so that the file's pages leave memory as soon as it has taken the numbers.
        owner.receive(leaf, source.borrow(name).to(device if old.is_meta else old.device))  # type: ignore[operator]
        for owner, leaf in slot.owners
    ):
        return torch.empty(old.shape, dtype=wanted, device="meta")
    if not old.is_meta:
        with torch.no_grad():
            old.copy_(source.borrow(name))
        return old
    if device is None:
        tensor = torch.empty(old.shape, dtype=wanted, device="meta")  # a function of "meta" tensors loads a compiler
    elif wanted == stored and device.type == "cpu":
        tensor = source.tensor(name)
    else:
        # One tensor at a time: the file's pages leave memory together with the borrowed tensor.
        tensor = source.borrow(name).to(device=device, dtype=wanted).contiguous()
    if isinstance(old, nn.Parameter):
        tensor = nn.Parameter(tensor, requires_grad=old.requires_grad and device is not None)
    for owner, leaf in slot.owners:
        setattr(owner, leaf, tensor)
    return tensor


def _own_dtype(slot: _Slot) -> torch.dtype | None:
    """The type that a module wants for a tensor whatever the model's; None where it follows the model."""
    own = (getattr(owner, "own_dtypes", {}).get(leaf) for owner, leaf in slot.owners)
    return next((dtype for dtype in own if dtype is not None), None)


def _problems(slots: list[_Slot], missing: list[str], *, source: Translated, rules: Rules) -> str:
    """The error text: every group with its count, its names and its remedy; empty when all fits."""
    places = {name: slot.tensor for slot in slots for name in slot.names}
    homeless = [name for name in source.entries() if name not in places]
    unexpected = [*source.unexpected, *dict.fromkeys(origin for name in homeless for origin in source.origin(name))]
    partly = source.incomplete | source.unfit
    expected = {name: (rules.theirs_of(name) or (name,))[0] for name in missing if name not in partly}
    # Nearest names are sought for the lines that are shown only: the search compares every pair of letters.
    hints = [_hint(name, unexpected) for name in list(expected.values())[:SHOWN]]
    back = [_hint(name, expected.values()) for name in unexpected[:SHOWN]]
    groups = {
        "missing in the checkpoint": (
            [f"{expected[ours]} ({ours}){hint}" for ours, hint in zip_longest(expected, hints, fillvalue="")]
            + [f"{name}: {why}" for name, why in source.incomplete.items()],
            "Only a part that is asked to be new may be missing. Fetch the checkpoint again, or open it as the model "
            "it was made for.",
        ),
        "without a place in the model": (
            [name + hint for name, hint in zip_longest(unexpected, back, fillvalue="")],
            "No weight is dropped silently. Open the checkpoint as the model it was made for.",
        ),
        "of another shape": (
            _misshapen(source, places)
            + [f"{', '.join(rules.theirs_of(name))} ({name}): {why}" for name, why in source.unfit.items()],
            "The configuration and the weights do not belong together.",
        ),
        "of another kind of type": (
            _unlike(source, places),
            "The weights are stored in a way that plait does not read, perhaps quantised by another tool.",
        ),
        "contradicting another": (
            source.contradictions + _untied(source, slots),
            "Remove the wrong one from the file, or fetch it again.",
        ),
    }
    paragraphs = [
        f"{len(lines)} {'tensor' if len(lines) == 1 else 'tensors'} {title}:\n  "
        + _listed(lines, between="\n  ")
        + f"\n  {remedy}"
        for title, (lines, remedy) in groups.items()
        if lines
    ]
    return "\n".join(paragraphs)


def _misshapen(source: Translated, places: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{', '.join(source.origin(name))} ({name}): {entry.shape} in the checkpoint, "
        f"{tuple(places[name].shape)} in the model"
        for name, entry in source.entries().items()
        if name in places and entry.shape != tuple(places[name].shape)
    ]


def _unlike(source: Translated, places: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{', '.join(source.origin(name))} ({name}): {entry.stored} in the checkpoint, "
        f"{_kind(places[name].dtype)} in the model"
        for name, entry in source.entries().items()
        if name in places and _kind(entry.dtype) != _kind(places[name].dtype)
    ]


def _untied(source: Translated, slots: list[_Slot]) -> list[str]:
    """Tensors that the module shares and the file holds twice, with different numbers."""
    different = []
    for slot in slots:
        first, *others = [name for name in slot.names if name in source.entries()] or [""]
        different += [
            f"{', '.join(source.origin(other))} differs from {', '.join(source.origin(first))}; the model shares them"
            for other in others
            if not identical(source.borrow(first), source.borrow(other))
        ]
    return different


def _hint(name: str, choices: Iterable[str]) -> str:
    found = nearest(name, choices)
    return f".{found}" if found else ""


def _listed(items: Sequence[str], *, between: str) -> str:
    more = [f"… and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return between.join([*items[:SHOWN], *more])


def _kind(dtype: torch.dtype) -> str:
    """Types of one kind convert into each other and keep their meaning; 8-bit floats need scales beside the tensor."""
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "8-bit floating" if dtype.itemsize == 1 else "floating"
    return "boolean" if dtype is torch.bool else "integer"
