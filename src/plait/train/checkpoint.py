"""Checkpoints of a run, complete: what one holds, how it comes to disk all or nothing, which is the latest.

    checkpoint-120/
      model.safetensors …    the model, as `save_pretrained` or its state dict gives it
      optimizer.json + .safetensors, scheduler.json, scaler.json, random.json + .safetensors
      trainer_state.json     how far it has come, and the history; transformers reads it too
      progress.json          the place in the data, what the order of its rows depends on, running sums of the loss
      training_args.json
      complete.json          the marker, written last: name and size of every file

It is written to a folder aside, every file is synced, the marker last, and the folder renamed: after a kill at any
moment a folder named `checkpoint-…` with its marker is complete, and one without is no checkpoint. No pickle anywhere.

Which one is latest is told by the time in its marker, not by its step: an output folder may be used again from step 0.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.disk import told
from plait.errors import DiskError, TrainingError

MARKER = "complete.json"
STATE = "trainer_state.json"
PROGRESS = "progress.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_ASIDE = re.compile(r"\.(checkpoint-\d+)\.(partial|removed)")


# -- a tree of state as JSON and tensors -------------------------------------------------------------------------------


def write_tree(folder: Path, name: str, tree: Any) -> None:
    """Write nested dicts, lists, tuples, numbers and tensors as `name`.json, the tensors in `name`.safetensors."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = _encode(tree, tensors, name)
    write_json(folder / f"{name}.json", plain)
    if tensors:
        save_file(tensors, folder / f"{name}.safetensors")


def read_tree(folder: Path, name: str) -> Any:
    """What `write_tree` wrote."""
    from safetensors.torch import load_file

    file = folder / f"{name}.safetensors"
    return _decode(read_json(folder / f"{name}.json"), load_file(file) if file.exists() else {})


def _encode(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": _encode(torch.from_numpy(value), tensors, where)}
    if isinstance(value, Tensor):
        # A copy: safetensors refuses tensors that share memory, as the views of a flat optimizer state do.
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {"tensor": where}
    if isinstance(value, Mapping):
        # As pairs, since keys may be numbers; and so no key can be mistaken for one of the marks used here.
        return {"dict": [[key, _encode(item, tensors, f"{where}.{key}")] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors, f"{where}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(item, tensors, f"{where}.{i}") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TrainingError(
        f"{where} cannot be saved in a checkpoint: it is a {type(value).__name__}. State may hold numbers, text, "
        f"tensors, and lists and dicts of these."
    )


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == "tensor":
        return tensors[content]
    if mark == "array":
        return _decode(content, tensors).numpy()
    if mark == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    return {key: _decode(item, tensors) for key, item in content}


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises `TrainingError` that names the file when it is damaged or absent."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {path}: {error}.") from error


# -- all or nothing ----------------------------------------------------------------------------------------------------


def commit(parent: Path, step: int, write: Callable[[Path], None]) -> Path:
    """Make `parent`/checkpoint-`step` from what `write(folder)` puts into a folder; returns its path.

    A checkpoint of the same step, from an earlier run, is replaced.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    aside, final = parent / f".checkpoint-{step}.partial", parent / f"checkpoint-{step}"
    aside.mkdir()
    try:
        with told(final):
            write(aside)
    except DiskError:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk must not stay full
        raise
    files = sorted(path for path in aside.rglob("*") if path.is_file())
    for path in files:
        _sync(path)
    sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
    write_json(aside / MARKER, {"step": step, "saved": time.time(), "files": sizes})
    _sync(aside / MARKER)
    for folder in [*{path.parent for path in files}, aside]:
        _sync(folder)
    if final.exists():
        final.rename(parent / f".{final.name}.removed")
    aside.rename(final)
    _sync(parent)
    sweep(parent)
    return final


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; at no moment does half of it look like a whole one."""
    checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.removed"))
    sweep(checkpoint.parent)


def sweep(parent: Path) -> None:
    """Finish what a killed save or removal left: a whole checkpoint that lacks but its name gets it, the rest goes."""
    for path in [*parent.iterdir()] if parent.is_dir() else []:
        if path.is_dir() and (match := _ASIDE.fullmatch(path.name)):
            final = parent / match[1]
            if match[2] == "partial" and not final.exists() and problem(path) is None:
                path.rename(final)
            else:
                shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- which there are ---------------------------------------------------------------------------------------------------


def problem(folder: Path) -> str | None:
    """What keeps a folder from being a complete checkpoint, or None."""
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / MARKER).is_file():
        return f"its marker {MARKER} is missing, so it was not written to the end or not by plait"
    try:
        files = read_json(folder / MARKER)["files"]
    except (TrainingError, KeyError, TypeError):
        return f"its marker {MARKER} is damaged, so it was not written to the end"
    for name, size in files.items():
        path = folder / name
        if not path.is_file():
            return f"its file {name} is missing"
        if path.stat().st_size != size:
            return f"its file {name} has {path.stat().st_size} bytes, not {size}"
    return None


def checkpoints(parent: Path) -> list[Path]:
    """The complete checkpoints in a folder, in the order in which they were saved."""
    found = [path for path in parent.glob("checkpoint-*") if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    complete = [path for path in found if problem(path) is None]
    return sorted(complete, key=lambda path: (read_json(path / MARKER)["saved"], step_of(path)))


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name, -1 when it has another name."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def locate(source: str | Path | bool, parent: Path) -> Path:
    """The checkpoint to resume from: `source` itself, or for True the latest complete one in `parent`.

    Raises `TrainingError` when there is none, or `source` is not complete.
    """
    available = checkpoints(parent)
    if source is True:
        if not available:
            raise TrainingError(
                f"resume_from_checkpoint=True, but {parent} holds no complete checkpoint. Leave it out to start anew."
            )
        return available[-1]
    folder = Path(str(source))
    if trouble := problem(folder):
        instead = f" The latest complete one in {parent} is {available[-1].name}." if available else ""
        raise TrainingError(f"cannot resume from {folder}: {trouble}.{instead}")
    return folder


def rotate(parent: Path, limit: int | None, *, keep: Iterable[Path]) -> None:
    """Remove the oldest checkpoints beyond `limit`; those to `keep` stay, even when they alone are more."""
    available = checkpoints(parent) if limit is not None else []
    kept = {path for path in keep if path in available}
    for path in reversed(available):
        if len(kept) < (limit or 0):
            kept.add(path)
    for path in available:
        if path not in kept:
            remove(path)
