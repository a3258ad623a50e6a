"""The GGUF file format, complete for versions 2 and 3, little-endian: metadata and the table of tensors. No torch here.

Format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): "GGUF", version, two counts; the metadata, each a
name, a type and a value; the tensors, each a name, dimensions (fastest first), a type and an offset; then, aligned, the
data. Every count and length is checked against the size of the file before anything is read or allocated for it.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from plait.errors import WeightsError

Buffer = mmap.mmap | bytes

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEEPEST = 4
_DIMENSIONS = 4
# Metadata and table of the largest vocabularies take 20 MB; a file that announces far more would exhaust the memory.
_HEAD_LIMIT = 100_000_000
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class TensorType:
    """How numbers are stored: `numbers` of them in every block of `size` bytes."""

    name: str
    numbers: int
    size: int


# ggml's codes. Those that `dequantise.py` does not decode are here too, so that an error can name them.
TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    30: TensorType("BF16", 1, 2),
}
_UNREAD = {
    9: "Q8_1",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One line of the table: `shape` as torch has it (slowest first), `start` in bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) // self.type.numbers * self.type.size


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file, arrays as lists; of the first file when `path` is one of a split model.

    Raises `WeightsError` when the file is not well formed.
    """
    path = first_part(Path(path))
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return Reader(buffer, label=str(path)).metadata()
    except (OSError, ValueError) as error:  # mmap refuses an empty file with a ValueError
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path} cannot be read: {error}.") from error


def first_part(path: Path) -> Path:
    """`model-00002-of-00003.gguf` -> `model-00001-of-00003.gguf`; any other path as it is."""
    return parts(path)[0]


def parts(path: Path) -> list[Path]:
    """The paths of all files of a split model, whether they are there or not; of any other model the one path."""
    found = _SPLIT.fullmatch(path.name)
    if found is None or not 1 <= int(found[2]) <= int(found[3]):
        return [path]
    return [path.with_name(f"{found[1]}-{index:05}-of-{found[3]}.gguf") for index in range(1, int(found[3]) + 1)]


def present_parts(path: Path, *, label: str) -> list[Path]:
    """The paths of all files of a model. Raises `WeightsError` when one of a split model is missing."""
    files = parts(path)
    missing = [file.name for file in files if not file.is_file()]
    if len(files) > 1 and missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise WeightsError(
            f"{label}: {path.name} is one of {len(files)} files, of which {len(missing)} are missing: {listed}. "
            "Fetch them as well."
        )
    return files


class Reader:
    """Reads the head of one file from `buffer`, front to back: `metadata()` first, then `tensors()`."""

    def __init__(self, buffer: Buffer, *, label: str) -> None:
        self._buffer, self._size, self._position, self._label = buffer, len(buffer), 0, label
        self._limit = min(self._size, _HEAD_LIMIT)
        magic = buffer[:4]
        if magic != b"GGUF":
            raise WeightsError(f"{label} is not a GGUF file: it begins with {magic!r} and not with b'GGUF'.")
        self._position = 4
        version = self._unpack("I")
        if version not in (2, 3):
            # A big-endian file's version reads as a multiple of 2^24.
            hint = "it is big-endian, for another kind of machine" if version % (1 << 24) == 0 else "known are 2 and 3"
            raise WeightsError(f"{label} is GGUF of version {version}, which plait does not read: {hint}.")
        self._tensors = self._count("tensors", smallest=24)
        self._items = self._count("metadata items", smallest=13)
        self._alignment = 32

    def metadata(self) -> dict[str, Any]:
        """Every name and value; arrays are lists."""
        values: dict[str, Any] = {}
        for _ in range(self._items):
            name = self._string("a metadata name")
            if name in values:
                raise WeightsError(f"{self._label} is damaged: the metadata name {name!r} occurs twice.")
            values[name] = self._value(self._unpack("I"), name)
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise WeightsError(f"{self._label} is damaged: general.alignment is {alignment!r}, not a power of two.")
        self._alignment = alignment
        return values

    def tensors(self) -> list[TensorInfo]:
        """The table of tensors, after the metadata. Raises `WeightsError` on data outside the file or overlapping."""
        drafts = [self._tensor() for _ in range(self._tensors)]
        # The data begin at the next multiple of the alignment.
        data = -(-self._position // self._alignment) * self._alignment
        infos = [
            TensorInfo(name=name, shape=shape, type=kind, start=data + offset) for name, shape, kind, offset in drafts
        ]
        self._check(infos, data)
        return infos

    def _tensor(self) -> tuple[str, tuple[int, ...], TensorType, int]:
        name = self._string("a tensor name")
        dimensions = self._unpack("I")
        if dimensions > _DIMENSIONS:
            raise WeightsError(f"{self._label} is damaged: tensor {name!r} has {dimensions} dimensions, more than 4.")
        lengths = tuple(self._unpack("Q") for _ in range(dimensions))
        code, offset = self._unpack("I"), self._unpack("Q")
        if code not in TYPES:
            known = ", ".join(kind.name for kind in TYPES.values())
            raise WeightsError(
                f"{self._label}: tensor {name!r} is stored as {_UNREAD.get(code, f'type {code}')}, which plait does "
                f"not read. Take a file that uses {known} alone."
            )
        kind = TYPES[code]
        row = lengths[0] if lengths else 1
        if row % kind.numbers:
            raise WeightsError(
                f"{self._label} is damaged: the rows of tensor {name!r} have {row} numbers, which do not divide into "
                f"blocks of {kind.numbers} ({kind.name})."
            )
        return name, lengths[::-1], kind, offset

    def _check(self, infos: list[TensorInfo], data: int) -> None:
        end, before = data, "the table of tensors"
        if len({info.name for info in infos}) != len(infos):
            raise WeightsError(f"{self._label} is damaged: two tensors have the same name.")
        for info in sorted(infos, key=lambda info: (info.start, info.size)):
            if (info.start - data) % self._alignment:
                raise WeightsError(
                    f"{self._label} is damaged: tensor {info.name!r} is not aligned to {self._alignment} bytes."
                )
            if info.start < end:
                raise WeightsError(f"{self._label} is damaged: tensor {info.name!r} overlaps {before}.")
            end, before = info.start + info.size, f"{info.name!r}"
            if end > self._size:
                raise WeightsError(
                    f"{self._label} is cut off: tensor {info.name!r} ends at byte {end}, the file has {self._size}. "
                    "Fetch it again."
                )

    def _value(self, code: int, name: str, depth: int = 0) -> Any:
        if code == _STRING:
            return self._string(name)
        if code == _ARRAY:
            return self._array(name, depth + 1)
        if code not in _SCALARS:
            raise WeightsError(f"{self._label} is damaged: the metadata item {name!r} has the unknown type {code}.")
        return self._unpack(_SCALARS[code])

    def _array(self, name: str, depth: int) -> list[Any]:
        if depth > _DEEPEST:
            raise WeightsError(
                f"{self._label} is damaged: the metadata item {name!r} is nested more than {_DEEPEST} deep."
            )
        code = self._unpack("I")
        if code in _SCALARS:
            size = struct.calcsize(f"<{_SCALARS[code]}")
            count = self._count(f"elements of {name!r}", smallest=size)
            start = self._position
            self._position += count * size
            return list(struct.unpack_from(f"<{count}{_SCALARS[code]}", self._buffer, start))
        count = self._count(f"elements of {name!r}", smallest=8 if code == _STRING else 12)
        if code == _STRING:
            return list(self._strings(count, name))
        return [self._value(code, name, depth) for _ in range(count)]

    def _strings(self, count: int, name: str) -> Iterator[str]:
        # A vocabulary holds a hundred thousand of them: this loop is why opening a file takes 50 ms and not a second.
        buffer, limit, position, length_at = self._buffer, self._limit, self._position, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if position + 8 > limit:
                self._cut_off(name)
            start = position + 8
            position = start + length_at(buffer, position)[0]
            if position > limit:
                self._cut_off(name)
            yield self._decode(buffer[start:position], name)
        self._position = position

    def _string(self, what: str) -> str:
        length = self._unpack("Q")
        start = self._position
        if length > self._limit - start:
            self._cut_off(what)
        self._position = start + length
        return self._decode(self._buffer[start : self._position], what)

    def _decode(self, text: bytes, what: str) -> str:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise WeightsError(f"{self._label} is damaged: {what} is not valid UTF-8 ({text[:40]!r}).") from error

    def _unpack(self, form: str) -> Any:
        size = struct.calcsize(f"<{form}")
        if self._position + size > self._limit:
            self._cut_off("a number")
        (value,) = struct.unpack_from(f"<{form}", self._buffer, self._position)
        self._position += size
        return value

    def _count(self, what: str, *, smallest: int) -> int:
        """A count of things of which each takes at least `smallest` bytes of the rest of the file."""
        count: int = self._unpack("Q")
        if count * smallest > self._limit - self._position:
            raise WeightsError(
                f"{self._label} is damaged or cut off: it announces {count} {what}, more than "
                f"{self._limit} bytes can hold."
            )
        return count

    def _cut_off(self, what: str) -> None:
        raise WeightsError(
            f"{self._label} is damaged or cut off: {what} reaches beyond {self._limit} bytes. Fetch it again."
        )
