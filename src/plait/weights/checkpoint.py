"""What every weight format offers, and which file of a folder is opened: complete for both.

A folder may hold the same weights several times. The first of these that is there is opened, and the choice is logged:
`model.safetensors`, `model.safetensors.index.json`, `*.gguf`, `pytorch_model.bin`, `pytorch_model.bin.index.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from plait.console import logger
from plait.disk import left_behind
from plait.errors import NotFoundError, WeightsError
from plait.weights.gguf import parts

if TYPE_CHECKING:
    import torch

Format = Literal["safetensors", "gguf", "torch"]

PRECEDENCE = (
    "model.safetensors",
    "model.safetensors.index.json",
    "*.gguf",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor. `dtype` is what `tensor(name)` returns; `stored` is the file's own word ("BF16", "Q4_1")."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    stored: str


class Checkpoint(Protocol):
    """Named tensors on disk. Nothing is read before a tensor is touched, except the tables of contents."""

    @property
    def label(self) -> str:
        """What error messages call it, for example "model.safetensors of org/name"."""

    @property
    def format(self) -> Format:
        """The family of file formats."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the file says beside its tensors."""

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents, by name, in the file's order."""

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor that may be kept and written to: where the format allows a private view of the file.

        Writing never changes the file. Two calls with one name may return views of the same memory.
        Raises `WeightsError` when there is no such tensor.
        """

    def borrow(self, name: str) -> torch.Tensor:
        """The same values for a conversion or a copy: the pages that it maps leave memory together with the tensor."""


def open_checkpoint(path: Path, *, label: str | None = None) -> Checkpoint:
    """Open a weight file, or the weights of a folder; several shards appear as one checkpoint.

    `label` names the folder or file in error messages (default: the path).
    Raises `NotFoundError` when there is no file, `WeightsError` when it is not what its name says.
    """
    path = Path(path)
    if path.is_dir():
        return _open_file(_choose(path, label or str(path)), folder_label=label or str(path))
    if not path.is_file():
        raise NotFoundError(f"No weights at {label or path}: there is no such file or folder.")
    return _open_file(path, label=label)


def _choose(folder: Path, label: str) -> Path:
    found: list[Path] = []
    for pattern in PRECEDENCE:
        matches = sorted(folder.glob(pattern)) if "*" in pattern else [folder / pattern]
        found += [match for match in matches if match.is_file()]
    if not found:
        names = sorted(item.name for item in folder.iterdir())
        listing = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
        raise NotFoundError(
            f"{label} holds no weights. Looked for {', '.join(PRECEDENCE)}; the folder holds: {listing or 'nothing'}."
        )
    chosen = found[0]
    models = sorted({parts(file)[0].name for file in found if file.suffix == ".gguf"})
    if chosen.suffix == ".gguf" and len(models) > 1:
        raise WeightsError(f"{label} holds {len(models)} GGUF models: {', '.join(models)}. Name the one to open.")
    same = parts(chosen) if chosen.suffix == ".gguf" else [chosen]
    others = [file.name for file in found if file not in same]
    if others:
        logger("weights").info("Reading %s of %s; not reading %s.", chosen.name, label, ", ".join(others))
    return chosen


def _open_file(file: Path, *, label: str | None = None, folder_label: str | None = None) -> Checkpoint:
    # The readers need torch; opening none of them must not.
    label = label or (f"{file.name} of {folder_label}" if folder_label else str(file))
    if told := left_behind(file):
        raise WeightsError(f"{label} {told}")
    if file.name.endswith(".index.json"):
        from plait.weights.sharded import open_index

        return open_index(file, label=label)
    if file.suffix == ".safetensors":
        from plait.weights.safetensors import SafetensorsFile

        return SafetensorsFile(file, label=label)
    if file.suffix == ".gguf":
        from plait.weights.gguf_file import open_gguf

        return open_gguf(file, label=label)
    if file.suffix in {".bin", ".pt", ".pth"}:
        from plait.weights.torch_archive import TorchArchive

        return TorchArchive(file, label=label)
    raise WeightsError(
        f"{label} is not a weight file that plait reads: its name ends in {file.suffix or 'nothing'!r}, "
        "known are .safetensors, .gguf, .bin, .pt, .pth and .index.json."
    )
