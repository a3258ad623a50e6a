"""A number that worker processes see change, complete: the epoch, for workers that outlive it.

Forked workers share the memory page that it lies in, which needs no open file; a spawned one gets a tensor in shared
memory, made when it is spawned.
"""

from __future__ import annotations

import mmap
import struct
from multiprocessing import context
from typing import Any

_FORM = struct.Struct("q")


class SharedNumber:
    """An integer in memory that is shared with the processes that this one starts."""

    def __init__(self, value: int = 0, tensor: Any = None) -> None:
        self._page = mmap.mmap(-1, _FORM.size)
        self._tensor = tensor
        if tensor is None:
            self.set(value)

    def get(self) -> int:
        """The number."""
        return int(self._tensor) if self._tensor is not None else int(_FORM.unpack(self._page[:])[0])

    def set(self, value: int) -> None:
        """Change it, here and in the processes that share it."""
        self._page[:] = _FORM.pack(value)
        if self._tensor is not None:
            self._tensor.fill_(value)

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is None:
            return (SharedNumber, (self.get(),))
        if self._tensor is None:
            import torch

            self._tensor = torch.tensor(self.get()).share_memory_()  # type: ignore[no-untyped-call]
        return (SharedNumber, (0, self._tensor))
