"""Rows of ids as bytes, complete: a row is the bytes of its ids, each an unsigned integer of 32 bits.

Joining, cutting and counting such rows is what `bytes` does best, and a whole batch of them becomes one NumPy array
without a look at any id. Lists are made from them where lists are wanted.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZE = 4  # bytes of one id
CODE: Final = "I"  # as `array` and `memoryview` call them: the ids of the tokenizers library are of this type


def pack(ids: Iterable[int]) -> bytes:
    """The row of some ids."""
    return array(CODE, ids).tobytes()


def unpack(row: bytes) -> list[int]:
    """The ids of a row."""
    return memoryview(row).cast(CODE).tolist()


def length(row: bytes) -> int:
    """How many ids a row has."""
    return len(row) // SIZE


def cut(row: bytes, start: int, stop: int) -> bytes:
    """The ids of a row from `start` to `stop`."""
    return row[SIZE * start : SIZE * stop]


def numbers(rows: Sequence[bytes]) -> NDArray[np.uint32]:
    """The ids of all rows one after the other."""
    import numpy as np

    return np.frombuffer(b"".join(rows), dtype=np.uint32)
