"""One safetensors file, complete: its table of contents checked as the format demands, its tensors as views of it.

Format (https://huggingface.co/docs/safetensors): 8 bytes little-endian length N; N bytes of JSON, an object
{name: {"dtype", "shape", "data_offsets": [begin, end]}} beside an optional "__metadata__" of strings; then the data.
Offsets count from the end of the JSON and must cover the data exactly: no overlap, no hole,
nothing after the last tensor.
A reader of our own because it takes half the time of the safetensors package for a few hundred tensors, at the same
memory, and because its errors name the tensor and the remedy.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from plait.errors import WeightsError, nearest
from plait.weights.checkpoint import Entry, Format
from plait.weights.mapped import MappedFile

# The limit of the reference implementation: a longer table of contents is an attack or a broken file.
HEADER_LIMIT = 100_000_000

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


class SafetensorsFile:
    """A `Checkpoint` over one .safetensors file. Raises `WeightsError` when the file is not well formed."""

    format: Format = "safetensors"

    def __init__(self, path: Path, *, label: str | None = None) -> None:
        self.label = label or str(path)
        self._file = MappedFile(path, label=self.label)
        header, self._data = _read_header(self._file)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise WeightsError(f"{self.label} is damaged: its __metadata__ is not a table of texts. Fetch it again.")
        self.metadata: Mapping[str, str] = metadata
        self._entries: dict[str, Entry] = {}
        self._starts: dict[str, int] = {}
        ends: dict[str, int] = {}
        for name, item in header.items():
            self._entries[name], self._starts[name], ends[name] = _entry(name, item, label=self.label)
        _check_cover(self._starts, ends, size=self._file.size - self._data, label=self.label)

    def entries(self) -> Mapping[str, Entry]:
        """The table of contents, by name, in the file's order."""
        return self._entries

    def tensor(self, name: str) -> torch.Tensor:
        """A private view of the file; writing to it does not change the file."""
        entry = self._entry(name)
        return self._file.tensor(self._data + self._starts[name], dtype=entry.dtype, shape=entry.shape)

    def borrow(self, name: str) -> torch.Tensor:
        """The same values, from pages that leave memory together with the tensor."""
        entry = self._entry(name)
        return self._file.borrow(self._data + self._starts[name], dtype=entry.dtype, shape=entry.shape)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise WeightsError(f"{self.label} holds no tensor {name!r}.{nearest(name, self._entries)}")
        return self._entries[name]


def _read_header(file: MappedFile) -> tuple[dict[str, Any], int]:
    """The JSON object at the head of the file and the byte at which the data begin."""
    if file.size < 8:
        raise WeightsError(
            f"{file.label} is not a safetensors file: it has {file.size} bytes, fewer than its header. Fetch it again."
        )
    length = int.from_bytes(file.read(0, 8), "little")
    if length > HEADER_LIMIT:
        raise WeightsError(
            f"{file.label} is not a safetensors file: its header would be {length} bytes long; "
            f"the format allows {HEADER_LIMIT}. Fetch it again."
        )
    if 8 + length > file.size:
        raise WeightsError(
            f"{file.label} is cut off: its header is {length} bytes long, the file has {file.size}. Fetch it again."
        )
    text = file.read(8, 8 + length)
    if not text.startswith(b"{"):
        raise WeightsError(
            f"{file.label} is not a safetensors file: its header does not begin with '{{'. Fetch it again."
        )
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{file.label} is damaged: its header is not valid JSON ({error}). Fetch it again."
        ) from error
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {twice!r} occurs twice")
    return table


def _entry(name: str, item: Any, *, label: str) -> tuple[Entry, int, int]:
    """One line of the table of contents: the entry and the bytes that it covers."""
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(
            f"{label} is damaged: tensor {name!r} is described by {item!r:.200}, not by dtype, shape and data_offsets."
        )
    stored, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    if not isinstance(stored, str) or stored not in DTYPES:
        raise WeightsError(
            f"{label}: tensor {name!r} has the type {stored!r}, which plait does not read. "
            f"Known types: {', '.join(DTYPES)}."
        )
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2):
        raise WeightsError(
            f"{label} is damaged: tensor {name!r} has shape {shape!r:.200} and data_offsets {offsets!r:.200}."
        )
    start, stop = offsets
    size = prod(shape) * DTYPES[stored].itemsize
    if stop - start != size:
        raise WeightsError(
            f"{label} is damaged: tensor {name!r} of shape {tuple(shape)} and type {stored} takes {size} bytes, "
            f"its data_offsets [{start}, {stop}] cover {stop - start}."
        )
    return Entry(name=name, shape=tuple(shape), dtype=DTYPES[stored], stored=stored), start, stop


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(starts: dict[str, int], ends: dict[str, int], *, size: int, label: str) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    position, before = 0, "the header"
    for name in sorted(starts, key=lambda name: (starts[name], ends[name])):
        if starts[name] < position:
            raise WeightsError(f"{label} is damaged: tensor {name!r} overlaps {before}.")
        if starts[name] > position:
            raise WeightsError(
                f"{label} is damaged: {starts[name] - position} bytes between {before} and {name!r} "
                "belong to no tensor."
            )
        position, before = ends[name], f"{name!r}"
    if position > size:
        raise WeightsError(
            f"{label} is cut off: its tensors take {position} bytes, the file holds {size} of them. Fetch it again."
        )
    if position < size:
        raise WeightsError(f"{label} is damaged: {size - position} bytes after the last tensor belong to no tensor.")
