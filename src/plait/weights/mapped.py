"""A file mapped into memory, complete: byte ranges, and tensors that are views of the map.

The map is private: a tensor may be trained in place, its changed pages are copied and the file stays as it was.
Untouched pages are the operating system's page cache, shared among processes, so reading all weights costs memory once.
"""

from __future__ import annotations

import mmap
import os
import weakref
from math import prod
from pathlib import Path

import torch

from plait.errors import WeightsError


class MappedFile:
    """One read-only file of `size` bytes. It may be replaced on disk meanwhile; the opened bytes stay the same."""

    def __init__(self, path: Path, *, label: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise WeightsError(
                f"{label} cannot be opened: {error.strerror}. Check the file and its permissions."
            ) from error
        weakref.finalize(self, os.close, self._descriptor)
        self.label = label
        self.size = os.fstat(self._descriptor).st_size
        if self.size == 0:
            raise WeightsError(f"{label} is empty. Fetch it again.")
        self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_COPY)

    def read(self, start: int, stop: int) -> bytes:
        """A copy of the bytes from `start` to `stop`."""
        return self._map[start:stop]

    @property
    def buffer(self) -> mmap.mmap:
        """The whole file as a buffer, for readers that parse it in place."""
        return self._map

    def tensor(self, start: int, *, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """A view of the map, of `shape`, that begins at byte `start`; the caller has checked the bounds."""
        return _view(self._map, start, dtype=dtype, shape=shape)

    def borrow(self, start: int, *, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """Like `tensor`, from a map of its own: its pages are unmapped as soon as the tensor and its views are gone."""
        length = prod(shape) * dtype.itemsize
        if length == 0:
            return torch.empty(shape, dtype=dtype)
        aligned = start - start % mmap.ALLOCATIONGRANULARITY
        window = mmap.mmap(self._descriptor, start - aligned + length, access=mmap.ACCESS_COPY, offset=aligned)
        return _view(window, start - aligned, dtype=dtype, shape=shape)


def _view(buffer: mmap.mmap, start: int, *, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    count = prod(shape)
    if count == 0:
        return torch.empty(shape, dtype=dtype)  # frombuffer refuses an empty range
    if start % dtype.itemsize:
        # A format that does not align its tensors: torch kernels may assume aligned elements, so this one is copied.
        raw = torch.frombuffer(buffer, dtype=torch.uint8, count=count * dtype.itemsize, offset=start)
        return raw.clone().view(dtype).view(shape)
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=start).view(shape)
