"""Matrices held transposed as well, complete: a gradient then reaches few vectors without a copy of the matrix.

A gradient needs the matrix the other way round, which oneDNN otherwise puts in that order anew in every step. Who has
the memory for it keeps both: `hold` before training, `release` after it. What is held belongs to its parameter, and to
no other: it is in no state, in no file and in no copy.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor

_PLACE = "_transposed"  # the attribute of the parameter


class _Transposed:
    """A matrix (O, I) as (I, O), and of which numbers it was made."""

    def __init__(self, weight: Tensor) -> None:
        # While its memory is held here, nothing else comes to lie at its address; changes are counted for both.
        self.source, self.version = weight.detach(), weight._version
        self.matrix = self.source.t().contiguous()

    def fits(self, weight: Tensor) -> bool:
        """Whether the numbers of `weight` are still those, where they were."""
        source = self.source
        same = weight.data_ptr() == source.data_ptr() and weight.dtype == source.dtype and weight.shape == source.shape
        return same and weight.stride() == source.stride() and source._version == self.version == weight._version

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing of it is pickled, not even its class: an empty mapping stands there."""
        return OrderedDict, ()


def hold(weight: Tensor) -> None:
    """Hold a matrix (O, I) as (I, O) as well, in as much memory again.

    After any change of its numbers, type or place that PyTorch counts, what is held is used no more; `weight.data` can
    be changed without being counted, so `release` first.
    """
    if held(weight) is None:
        setattr(weight, _PLACE, _Transposed(weight))


def held(weight: Tensor) -> Tensor | None:
    """What is held of a matrix, (I, O); None where nothing is. What no longer fits is let go of."""
    found = getattr(weight, _PLACE, None)
    if not isinstance(found, _Transposed):
        return None
    if found.fits(weight):
        return found.matrix
    delattr(weight, _PLACE)
    return None


def release(weight: Tensor) -> None:
    """Let go of what is held of a matrix, if anything is."""
    if hasattr(weight, _PLACE):
        delattr(weight, _PLACE)
