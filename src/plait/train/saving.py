"""A model's weights to a folder and back into the same model, complete for any module.

A model that knows how to write itself does (`save_pretrained`, and `load_weights` to read it back in place); any other
is its state dict in safetensors files, tensors that are shared written once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plait.errors import TrainingError
from plait.weights.checkpoint import open_checkpoint
from plait.weights.save import save_state


def save_model(model: Any, folder: Path, *, processor: Any = None) -> None:
    """Write `model`, and what turns text into its inputs, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        save_state({names[0]: tensor for names, tensor in _slots(model)}, folder)
    if hasattr(processor, "save_pretrained"):
        processor.save_pretrained(folder)


def load_model(model: Any, folder: Path) -> None:
    """Fill `model` in place with what `save_model` wrote; raises `TrainingError` for weights of another model."""
    if hasattr(model, "load_weights"):
        model.load_weights(folder)
        return
    checkpoint = open_checkpoint(folder)
    stored = {*checkpoint.entries()}
    chosen = [
        (names, next((name for name in names if name in stored), None), tensor) for names, tensor in _slots(model)
    ]
    missing = [names[0] for names, name, _ in chosen if name is None]
    unexpected = sorted(stored - {name for names, _, _ in chosen for name in names})
    if missing or unexpected:
        raise TrainingError(
            f"{folder} does not fit {type(model).__name__}: it lacks {', '.join(missing[:5]) or 'nothing'}, and holds "
            f"{', '.join(unexpected[:5]) or 'nothing'} in excess ({len(missing)} and {len(unexpected)} tensors)."
        )
    for _, name, tensor in chosen:
        assert name is not None
        value = checkpoint.tensor(name)
        if value.shape != tensor.shape:
            raise TrainingError(
                f"{folder} does not fit {type(model).__name__}: {name} has shape {tuple(value.shape)} there and "
                f"{tuple(tensor.shape)} here."
            )
        with torch.no_grad():
            tensor.copy_(value)


def _slots(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Every tensor of the state dict once, with all the names it has there."""
    slots: dict[int, tuple[list[str], Tensor]] = {}
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        slots.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(slots.values())
