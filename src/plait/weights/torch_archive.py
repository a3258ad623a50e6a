"""One file of `torch.save` (pytorch_model.bin), complete: read by the restricted unpickler alone, memory-mapped.

`weights_only=True` admits tensors and plain containers; a file that asks for anything else is refused, not executed.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plait.errors import WeightsError, nearest
from plait.weights.checkpoint import Entry, Format


class TorchArchive:
    """A `Checkpoint` over one .bin, .pt or .pth file. Raises `WeightsError` when refused or no table of tensors."""

    format: Format = "torch"

    def __init__(self, path: Path, *, label: str | None = None) -> None:
        self.label = label or str(path)
        self.metadata: Mapping[str, Any] = {}
        self._tensors = _table(_load(path, label=self.label), label=self.label)
        self._entries = {
            name: Entry(
                name=name,
                shape=tuple(tensor.shape),
                dtype=tensor.dtype,
                stored=str(tensor.dtype).removeprefix("torch."),
            )
            for name, tensor in self._tensors.items()
        }
        first: dict[int, str] = {}
        for name, tensor in self._tensors.items():
            first.setdefault(tensor.data_ptr(), name)
        self._owners = set(first.values())

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents, by name, in the file's order."""
        return self._entries

    def tensor(self, name: str) -> torch.Tensor:
        """A private view of the file; writing to it changes neither the file nor a tensor of another name.

        An archive may hold two names of one memory, as of tied weights, and views of any strides: those are copied.
        """
        tensor = self.borrow(name)
        return tensor.contiguous() if name in self._owners else tensor.clone(memory_format=torch.contiguous_format)

    def borrow(self, name: str) -> torch.Tensor:
        """The same values as they lie; torch maps an archive as a whole, its pages leave memory with the checkpoint."""
        if name not in self._tensors:
            raise WeightsError(f"{self.label} holds no tensor {name!r}.{nearest(name, self._tensors)}")
        return self._tensors[name]


def _load(path: Path, *, label: str) -> object:
    # Archives of torch < 1.6 are no zip files and cannot be mapped; the restricted unpickler reads them all the same.
    mapped = _is_archive(path, label=label)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):  # an error page of a hub, say, in the place of the file
            raise WeightsError(
                f"{label} is not a torch archive, or is damaged: torch.save writes no such bytes. Fetch it again."
            ) from error
        raise WeightsError(
            f"{label} is refused: it holds Python objects that are not tensors, and unpickling them could run "
            f"any code. Ask its author for a safetensors file, or convert it where you trust it. ({_refusal(error)})"
        ) from error
    except Exception as error:  # damage shows as exceptions of many kinds, which torch does not document
        raise WeightsError(
            f"{label} is not a torch archive, or is damaged: {_first_line(error)} Fetch it again."
        ) from error


def _is_archive(path: Path, *, label: str) -> bool:
    """Whether the file is a zip archive.

    Compressed members are refused: torch writes none, and a small one can unpack to more than the memory.
    """
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            packed = [item.filename for item in archive.infolist() if item.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise WeightsError(f"{label} is damaged: {_first_line(error)} Fetch it again.") from error
    if packed:
        raise WeightsError(f"{label} is refused: its member {packed[0]!r} is compressed.")
    return True


def _refusal(error: Exception) -> str:
    """What the restricted unpickler met; what torch says around it are ways to unpickle all the same."""
    found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if found:
        return f"It asks for {found[1]}."
    return next((text for text in re.findall(r"WeightsUnpickler error: (.+)", str(error))), _first_line(error))[:300]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _table(content: object, *, label: str) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{label} holds a {type(content).__name__}, not a table of tensors.")
    table: dict[str, torch.Tensor] = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(
                f"{label} is not a plain table of tensors: its item {name!r} is of type "
                f"{type(tensor).__name__}. Save the state_dict of the model alone."
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise WeightsError(
                f"{label}: tensor {name!r} is sparse, quantised or empty of data, which plait does not read."
            )
        table[name] = tensor.detach()
    return table
