"""A GGUF model as a checkpoint, complete: one file or several, quantised tensors decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plait.errors import WeightsError, nearest
from plait.weights.checkpoint import Checkpoint, Entry, Format
from plait.weights.dequantise import PLAIN, dequantise
from plait.weights.gguf import Reader, TensorInfo, present_parts
from plait.weights.mapped import MappedFile
from plait.weights.sharded import Sharded


class GGUFFile:
    """A `Checkpoint` over one .gguf file, under its own names. Raises `WeightsError` when it is not well formed."""

    format: Format = "gguf"

    def __init__(self, path: Path, *, label: str | None = None) -> None:
        self.label = label or str(path)
        self._file = MappedFile(path, label=self.label)
        reader = Reader(self._file.buffer, label=self.label)
        self.metadata: Mapping[str, Any] = reader.metadata()
        self._infos: dict[str, TensorInfo] = {info.name: info for info in reader.tensors()}
        self._entries = {
            name: Entry(
                name=name, shape=info.shape, dtype=PLAIN.get(info.type.name, torch.float32), stored=info.type.name
            )
            for name, info in self._infos.items()
        }

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents, by name, in the file's order."""
        return self._entries

    def tensor(self, name: str) -> torch.Tensor:
        """A private view of the file, or a decoded tensor (float32) when it is quantised."""
        info = self._info(name)
        if info.type.name in PLAIN:
            return self._file.tensor(info.start, dtype=PLAIN[info.type.name], shape=info.shape)
        return self.borrow(name)

    def borrow(self, name: str) -> torch.Tensor:
        """The same values, from pages that leave memory together with the tensor, or once it is decoded."""
        info = self._info(name)
        if info.type.name in PLAIN:
            return self._file.borrow(info.start, dtype=PLAIN[info.type.name], shape=info.shape)
        return dequantise(self._file.borrow(info.start, dtype=torch.uint8, shape=(info.size,)), info.type, info.shape)

    def _info(self, name: str) -> TensorInfo:
        if name not in self._infos:
            raise WeightsError(f"{self.label} holds no tensor {name!r}.{nearest(name, self._infos)}")
        return self._infos[name]


def open_gguf(path: Path, *, label: str | None = None) -> Checkpoint:
    """Open a GGUF model, all of its files when it is split; the metadata are those of the first.

    Raises `WeightsError` when a file is missing, or there are not as many tensors as the first file says.
    """
    label = label or str(path)
    files = present_parts(path, label=label)
    if len(files) == 1:
        return GGUFFile(path, label=label)
    shards = [GGUFFile(file, label=f"{file.name}, a part of {label},") for file in files]
    model = Sharded(shards, label=label, metadata=shards[0].metadata)
    announced = shards[0].metadata.get("split.tensors.count", len(model.entries()))
    if announced != len(model.entries()):
        raise WeightsError(
            f"{label}: its first file announces {announced} tensors, the {len(files)} files hold "
            f"{len(model.entries())}. They do not belong together: fetch them again."
        )
    return model
