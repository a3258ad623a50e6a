"""A checkpoint in several files, complete: shards as one table of contents, and the index that lists them.

An index (`model.safetensors.index.json`) is {"metadata": {…}, "weight_map": {tensor name: file name}}. Its files lie
beside it: a name with a separator in it is refused. Each tensor must be where the index says; a tensor that the index
forgets is read all the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plait.errors import WeightsError, nearest
from plait.weights.checkpoint import Checkpoint, Entry, Format
from plait.weights.safetensors import SafetensorsFile
from plait.weights.torch_archive import TorchArchive


class Sharded:
    """A `Checkpoint` over several; no name may occur in two of them."""

    def __init__(self, shards: Sequence[Checkpoint], *, label: str, metadata: Mapping[str, Any]) -> None:
        self.label = label
        self.format: Format = shards[0].format
        self.metadata = metadata
        self._owners: dict[str, Checkpoint] = {}
        self._entries: dict[str, Entry] = {}
        for shard in shards:
            for name, entry in shard.entries().items():
                if name in self._owners:
                    raise WeightsError(
                        f"{label}: tensor {name!r} is in two files, {self._owners[name].label} and {shard.label}."
                    )
                self._owners[name], self._entries[name] = shard, entry

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents of all files."""
        return self._entries

    def tensor(self, name: str) -> torch.Tensor:
        """A private view of the file that holds it."""
        return self._owner(name).tensor(name)

    def borrow(self, name: str) -> torch.Tensor:
        """The same values, from pages that leave memory together with the tensor."""
        return self._owner(name).borrow(name)

    def _owner(self, name: str) -> Checkpoint:
        if name not in self._owners:
            raise WeightsError(f"{self.label} holds no tensor {name!r}.{nearest(name, self._owners)}")
        return self._owners[name]


def open_index(path: Path, *, label: str | None = None) -> Sharded:
    """Open all files that an index lists. Raises `WeightsError` when a file is missing or a tensor is not there."""
    label = label or str(path)
    weight_map, metadata = _read_index(path, label=label)
    files = sorted(set(weight_map.values()))
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"{label} lists {len(files)} files, of which {len(missing)} are missing: {_some(missing)}. "
            "Fetch the checkpoint again."
        )
    shards: dict[str, Checkpoint] = {}
    for name in files:
        shards[name] = _open_shard(path.parent / name, label=f"{name} (listed by {label})")
    for tensor, name in weight_map.items():
        if tensor not in shards[name].entries():
            holder = next((other for other, shard in shards.items() if tensor in shard.entries()), None)
            where = f"it is in {holder}" if holder else "no file holds it"
            raise WeightsError(
                f"{label} says that tensor {tensor!r} is in {name}, but {where}. Fetch the checkpoint again."
            )
    return Sharded(list(shards.values()), label=label, metadata=metadata)


def _open_shard(path: Path, *, label: str) -> Checkpoint:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path, label=label)
    return TorchArchive(path, label=label)


def _read_index(path: Path, *, label: str) -> tuple[dict[str, str], Mapping[str, Any]]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{label} is not valid JSON ({error}). Fetch it again.") from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{label} is not an index of shards: it has no weight_map from tensor names to file names.")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\:\0]+\.(safetensors|bin)", name):
            raise WeightsError(
                f"{label} is refused: it says that tensor {tensor!r} is in {name!r}. "
                "A shard is a .safetensors or .bin file in the folder of its index."
            )
    metadata = index.get("metadata")
    return weight_map, metadata if isinstance(metadata, dict) else {}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
