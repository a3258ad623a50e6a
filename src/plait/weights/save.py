"""From tensors to safetensors files, complete: in one file or several with an index, under the names transformers uses.

A process that is killed at any moment leaves the old weights or the new ones, whole. New files are written aside,
synced and renamed; what a reader opens changes in one step, because `model.safetensors` is preferred to an index:

| before | after | the step |
|---|---|---|
| nothing, or one file | one file | that file is renamed into place |
| one file | several | the one file is removed |
| several | one file | the one file is renamed into place |
| several | several | the index is renamed into place; the number of files differs, so none of theirs is overwritten |
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from plait.disk import PARTIAL, replaced, sync
from plait.errors import OptionError, WeightsError
from plait.weights.safetensors import DTYPES

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
_UNITS = {"": 1, **{f"{letter}B": 1000**n for n, letter in enumerate(("", "K", "M", "G", "T"))}}
_UNITS |= {f"{letter}IB": 1024**n for n, letter in enumerate(("K", "M", "G", "T"), start=1)}
_STORED = {dtype: name for name, dtype in DTYPES.items()}
_LINE = 64  # bytes that a CPU reads at once


def save_state(
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    max_shard_size: str | int = "5GB",
    metadata: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write `state` into `folder`, which is made if need be, and return the paths of the files that hold it.

    A tensor that has several names is written under the first. `max_shard_size`: bytes, or a text such as "200MB" or
    "5GB" (powers of 1000; "GiB" for 1024); a larger tensor has a file of its own. `metadata`: texts to store beside the
    tensors, by default {"format": "pt"}. Earlier safetensors weights in the folder are replaced, all other files stay.
    Raises `OptionError` for a size that cannot be read, `WeightsError` for a tensor that cannot be written.
    """
    limit = parse_size(max_shard_size)
    _check(state)
    metadata = {"format": "pt"} if metadata is None else metadata
    tensors = _distinct(state)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    old = {file: int(found[1]) for file in folder.iterdir() if (found := _SHARD.fullmatch(file.name))}
    shards = _shards(tensors, limit)
    if len(shards) == 1:
        paths = [folder / ONE_FILE]
        write_safetensors(tensors, paths[0], metadata=metadata)
        stale = [folder / INDEX, *old]
    else:
        while len(shards) in old.values():
            shards = _one_more(shards)
        paths = [folder / f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
        index = _index(tensors, shards, paths)
        try:
            for path, names in zip(paths, shards, strict=True):
                write_safetensors({name: tensors[name] for name in names}, path, metadata=metadata)
            _write(folder / INDEX, [index])
        except BaseException:
            if not ((folder / INDEX).is_file() and (folder / INDEX).read_bytes() == index):
                for path in paths:  # which nothing lists; a full disk must not stay full
                    path.unlink(missing_ok=True)
            raise
        stale = [folder / ONE_FILE, *old]
    leftovers = [file for file in folder.glob(f".model*.safetensors*{PARTIAL}") if file.is_file()]
    for file in (*stale, *leftovers):  # in this order: the one that a reader would prefer goes first
        file.unlink(missing_ok=True)
    sync(folder)
    return paths


def parse_size(size: str | int, *, least: int = 1) -> int:
    """Bytes: 5_000_000_000 and "5GB" are the same; never fewer than `least`. Raises `OptionError` for anything else,
    and for 0 unless `least` is 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", str(size).strip().upper())
    number = float(found[1]) if found and found[2] in _UNITS and not isinstance(size, bool) else math.inf
    if found is None or number == math.inf or (number == 0 and least > 0):
        raise OptionError(
            f"max_shard_size must be a number of bytes or a text such as '5GB' or '200MB', but is {size!r}."
        )
    return max(least, int(number * _UNITS[found[2]]))


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write one safetensors file, aside first and then renamed; at most one tensor is copied at a time.

    Raises `WeightsError` for a tensor that the format cannot hold, `OptionError` for metadata that are not texts.
    """
    _check(tensors)
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise OptionError(f"metadata of a safetensors file are texts, but {key!r} is {value!r}. Write str(value).")
    # Whole lines of a CPU's cache first, which then all begin one, as it reads matrices soonest (plait.nn.product);
    # of the rest longer types first, so that every tensor is aligned to its own type.
    ordered = sorted(tensors, key=lambda name: (tensors[name].nbytes % _LINE > 0, -tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in ordered:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _STORED[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(8 + len(text)) % _LINE)
    _write(path, [struct.pack("<Q", len(text)) + text, *(tensors[name] for name in ordered)])


def _check(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name == "__metadata__":
            raise WeightsError("Tensor '__metadata__' cannot be saved: safetensors keeps its metadata under that name.")
        if tensor.dtype not in _STORED or tensor.layout is not torch.strided or tensor.is_meta:
            what = "on 'meta'" if tensor.is_meta else f"{tensor.layout} of {tensor.dtype}"
            raise WeightsError(
                f"Tensor {name!r} cannot be saved: it is {what}. Make it a dense tensor of a common type."
            )


def _distinct(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each once."""
    seen: dict[tuple[object, ...], str] = {}
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and seen.setdefault(place, name) != name:
            continue
        kept[name] = tensor
    return kept


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    """Names by file, in their order; a file is full when the next tensor would exceed `limit`."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        if shards[-1] and size + length > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += length
    return shards


def _one_more(shards: list[list[str]]) -> list[list[str]]:
    """The same tensors in one file more, which is empty when every file holds but one tensor."""
    for index, names in enumerate(shards):
        if len(names) > 1:
            return [*shards[:index], names[:-1], names[-1:], *shards[index + 1 :]]
    return [*shards, []]


def _index(tensors: Mapping[str, Tensor], shards: Sequence[Sequence[str]], paths: Sequence[Path]) -> bytes:
    files = {name: path.name for path, names in zip(paths, shards, strict=True) for name in names}
    total = {
        "total_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "total_size": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
    }
    content = {"metadata": total, "weight_map": dict(sorted(files.items()))}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _write(path: Path, pieces: Sequence[bytes | Tensor]) -> None:
    """Write the pieces one after another, as one file in one step."""
    with replaced(path) as aside, aside.open("wb") as file:
        for piece in pieces:
            file.write(piece if isinstance(piece, bytes) else _bytes(piece))


def _bytes(tensor: Tensor) -> memoryview:
    # Conjugation and negation may be pending marks on a view; the file holds plain numbers.
    plain = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data
