"""From GGUF's quantised blocks to float32, complete for the types that `gguf.TYPES` names; equal to ggml bit for bit.

Layouts follow ggml's block structs (ggml-common.h). Three words describe all of them. A *block* holds 32 or 256
numbers. Small integers are packed into bytes in *runs*: a run of r bytes gives first the lowest bits of its r bytes,
then the next higher bits, and so on. A number is `scale · integer - minimum`, where the K types have a scale for every
16 or 32 numbers, itself an integer times one float16. Comments below list a block's fields in order, with their bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from plait.weights.gguf import TensorType

PLAIN: dict[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}

# Numbers decoded at a time: the temporaries stay in the cache of the processor, and the peak of memory is the result.
_CHUNK = 1 << 18


def dequantise(raw: Tensor, kind: TensorType, shape: tuple[int, ...]) -> Tensor:
    """Bytes (N,) uint8 of blocks of `kind` -> float32 of `shape`."""
    decode = _DECODERS[kind.name]
    blocks = raw.view(len(raw) // kind.size, kind.size)
    result = torch.empty(prod(shape), dtype=torch.float32)
    rows = result.view(len(blocks), kind.numbers)
    step = _CHUNK // kind.numbers
    for start in range(0, len(blocks), step):
        rows[start : start + step] = decode(blocks[start : start + step])
    return result.view(shape)


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of every block: (N, bytes) -> (N, 1) float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _integers(packed: Tensor, *, bits: int, run: int) -> Tensor:
    """(N, bytes) -> (N, bytes · 8 / bits) uint8, run by run, from the lowest bits of its bytes to the highest."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)
    # (N, runs, 1, run) >> (fields, 1) -> (N, runs, fields, run)
    fields = packed.reshape(len(packed), -1, 1, run) >> shifts[:, None]
    return (fields & ((1 << bits) - 1)).reshape(len(packed), -1)


def _scaled(integers: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Tensor:
    """(N, numbers) of integers, (N, groups) of scales and minima -> (N, numbers) `scale · integer - minimum`."""
    # (N, numbers) -> (N, groups, numbers / groups)
    grouped = integers.reshape(*scale.shape, -1).float().mul_(scale[:, :, None])
    if minimum is not None:
        grouped.sub_(minimum[:, :, None])
    return grouped.reshape(len(integers), -1)


def _q4_0(b: Tensor) -> Tensor:
    # 2 scale, 16 integers
    return _scaled(_integers(b[:, 2:], bits=4, run=16).to(torch.int8) - 8, _half(b, 0))


def _q4_1(b: Tensor) -> Tensor:
    # 2 scale, 2 offset (a minimum with the other sign), 16 integers
    return _scaled(_integers(b[:, 4:], bits=4, run=16), _half(b, 0), -_half(b, 2))


def _q5_0(b: Tensor) -> Tensor:
    # 2 scale, 4 fifth bits, 16 lower bits
    return _scaled((_integers(b[:, 6:], bits=4, run=16) | _fifth(b[:, 2:6], run=1)).to(torch.int8) - 16, _half(b, 0))


def _q5_1(b: Tensor) -> Tensor:
    # 2 scale, 2 offset, 4 fifth bits, 16 lower bits
    return _scaled(_integers(b[:, 8:], bits=4, run=16) | _fifth(b[:, 4:8], run=1), _half(b, 0), -_half(b, 2))


def _fifth(packed: Tensor, *, run: int) -> Tensor:
    return _integers(packed, bits=1, run=run) << 4


def _q8_0(b: Tensor) -> Tensor:
    # 2 scale, 32 integers
    return _scaled(b[:, 2:].contiguous().view(torch.int8), _half(b, 0))


def _q2_k(b: Tensor) -> Tensor:
    # 16 scales (lower half byte) and minima (upper), 64 integers, 2 scale of scales, 2 scale of minima
    scale, minimum = _half(b, 80) * (b[:, :16] & 15), _half(b, 82) * (b[:, :16] >> 4)
    return _scaled(_integers(b[:, 16:80], bits=2, run=32), scale, minimum)


def _q3_k(b: Tensor) -> Tensor:
    # 32 third bits, 64 lower bits, 8 lower half bytes of scales, 4 upper pairs of bits of scales, 2 scale of scales
    third = _integers(b[:, :32], bits=1, run=32) << 2
    integers = (_integers(b[:, 32:96], bits=2, run=32) | third).to(torch.int8) - 4
    scales = _integers(b[:, 96:104], bits=4, run=8) | (_integers(b[:, 104:108], bits=2, run=4) << 4)
    return _scaled(integers, _half(b, 108) * (scales.to(torch.int8) - 32))


def _q4_k(b: Tensor) -> Tensor:
    # 2 scale of scales, 2 scale of minima, 12 scales and minima, 128 integers
    return _scaled(_integers(b[:, 16:], bits=4, run=32), *_six_bits(b))


def _q5_k(b: Tensor) -> Tensor:
    # 2 scale of scales, 2 scale of minima, 12 scales and minima, 32 fifth bits, 128 lower bits
    return _scaled(_integers(b[:, 48:], bits=4, run=32) | _fifth(b[:, 16:48], run=32), *_six_bits(b))


def _six_bits(b: Tensor) -> tuple[Tensor, Tensor]:
    """The 8 scales and 8 minima of a Q4_K or Q5_K block, six bits each in bytes 4 to 15: both (N, 8) float32.

    Of these twelve bytes the first four hold scales 0–3, the next minima 0–3; the last hold the lower half bytes of
    scales 4–7 (low) and of minima 4–7 (high), whose upper two bits are on top of the first and the next four.
    """
    first, second, third = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scales = torch.cat([first & 63, third & 15 | first >> 6 << 4], dim=1)
    minima = torch.cat([second & 63, third >> 4 | second >> 6 << 4], dim=1)
    return _half(b, 0) * scales, _half(b, 2) * minima


def _q6_k(b: Tensor) -> Tensor:
    # 128 lower half bytes, 64 upper pairs of bits, 16 scales of 8 bits with sign, 2 scale of scales
    integers = _integers(b[:, :128], bits=4, run=64) | (_integers(b[:, 128:192], bits=2, run=32) << 4)
    return _scaled(integers.to(torch.int8) - 32, _half(b, 208) * b[:, 192:208].contiguous().view(torch.int8))


_DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
