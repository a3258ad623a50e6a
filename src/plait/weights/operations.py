"""What a rule does to tensors beside renaming them, complete: small pure operations, each with its inverse.

Their side is the file's, our side is the model's. `to_ours` and `to_theirs` are inverse to each other, bit for bit.
They return views where torch can, work on tensors without data ("meta") to learn shapes, and raise `WeightsError`
when a shape does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from plait.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


class Operation(Protocol):
    """Tensors of one side of a rule become those of the other side."""

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """From the file's tensors to the model's."""

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The inverse."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One tensor of theirs, cut along `dim` into parts of ours in the proportions `sizes`, say (4, 1, 1).

    With `blocks`, their dimension is a sequence of that many blocks, each cut in this way, and a part of ours collects
    its piece of every block (GPT-NeoX keeps query, key and value of one head together).
    """

    sizes: tuple[int, ...]
    dim: int = 0
    blocks: int = 1

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(… n …) -> (… n·size/total …) for each size."""
        import torch

        (tensor,) = tensors
        total = self.blocks * sum(self.sizes)
        dim, length = _dimension(tensor, self.dim)
        if length % total:
            raise WeightsError(
                f"dimension {self.dim} of {tuple(tensor.shape)} does not divide into {self.blocks} × {self.sizes}"
            )
        unit = length // total
        # (…, n, …) -> (…, blocks, n / blocks, …)
        grouped = _unflatten(tensor, dim, self.blocks, length // self.blocks)
        parts = torch.split(grouped, [size * unit for size in self.sizes], dim=dim + 1)
        # (…, blocks, part / blocks, …) -> (…, part, …); a view when there is one block
        return [part.flatten(dim, dim + 1) for part in parts]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The parts, joined."""
        import torch

        dim = _dimension(tensors[0], self.dim)[0]
        lengths = [_dimension(tensor, self.dim)[1] for tensor in tensors]
        unit = sum(lengths) // sum(self.sizes)
        if lengths != [size * unit for size in self.sizes] or any(length % self.blocks for length in lengths):
            raise WeightsError(f"lengths {lengths} along dimension {self.dim} are not {self.blocks} × {self.sizes}")
        _same_but(tensors, dim)
        # (…, part, …) -> (…, blocks, part / blocks, …), joined -> (…, blocks, n / blocks, …) -> (…, n, …)
        grouped = [_unflatten(tensor, dim, self.blocks, -1) for tensor in tensors]
        return [torch.cat(grouped, dim=dim + 1).flatten(dim, dim + 1)]


@dataclass(frozen=True, kw_only=True)
class Concat:
    """Several tensors of theirs, joined along `dim` into one of ours: the inverse of `Split`."""

    sizes: tuple[int, ...]
    dim: int = 0
    blocks: int = 1

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The parts, joined."""
        return Split(sizes=self.sizes, dim=self.dim, blocks=self.blocks).to_theirs(tensors)

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The parts."""
        return Split(sizes=self.sizes, dim=self.dim, blocks=self.blocks).to_ours(tensors)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`count` tensors (…) of theirs, laid upon each other into one (count, …) of ours: the experts of a mixture."""

    count: int

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(…) each -> (count, …)."""
        import torch

        _same_but(tensors, None)
        return [torch.stack(list(tensors))]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(count, …) -> (…) each, views."""
        (tensor,) = tensors
        if _dimension(tensor, 0)[1] != self.count:
            raise WeightsError(f"{tuple(tensor.shape)} is not a stack of {self.count} tensors")
        return list(tensor.unbind(0))


@dataclass(frozen=True)
class Transpose:
    """The last two dimensions swapped, in every tensor; a vector stays, so that one rule serves weight and bias.

    GPT-2 stores linear layers as (inputs, outputs).
    """

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(…, a, b) -> (…, b, a), views."""
        return [tensor.transpose(-1, -2) if tensor.dim() > 1 else tensor for tensor in tensors]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same."""
        return self.to_ours(tensors)


@dataclass(frozen=True)
class Row:
    """Our vectors are matrices of one row there (BART keeps the bias of its scores so)."""

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(1, n) -> (n), views."""
        for tensor in tensors:
            if tensor.dim() != 2 or tensor.shape[0] != 1:
                raise WeightsError(f"{tuple(tensor.shape)} is not a matrix of one row")
        return [tensor[0] for tensor in tensors]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(n) -> (1, n), views."""
        return [tensor[None] for tensor in tensors]


@dataclass(frozen=True, kw_only=True)
class PermuteRope:
    """Rotary pairs in each of `heads` heads: theirs are neighbours (0, 1), (2, 3) …, ours (0, d/2), (1, d/2 + 1) ….

    Acts on the first dimension, so on weights (heads·d, D) and biases (heads·d) alike. llama.cpp stores Llama's query
    and key so.
    """

    heads: int

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(heads·d, …) from neighbours to halves."""
        # (heads·d, …) -> (heads, d/2, 2, …) -> (heads, 2, d/2, …) -> (heads·d, …)
        return [
            _unflatten(tensor, 0, self.heads, self._half(tensor), 2).transpose(1, 2).flatten(0, 2) for tensor in tensors
        ]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(heads·d, …) from halves to neighbours."""
        # (heads·d, …) -> (heads, 2, d/2, …) -> (heads, d/2, 2, …) -> (heads·d, …)
        return [
            _unflatten(tensor, 0, self.heads, 2, self._half(tensor)).transpose(1, 2).flatten(0, 2) for tensor in tensors
        ]

    def _half(self, tensor: Tensor) -> int:
        length = _dimension(tensor, 0)[1]
        if length % (2 * self.heads):
            raise WeightsError(
                f"dimension 0 of {tuple(tensor.shape)} does not divide into {self.heads} heads of rotary pairs"
            )
        return length // (2 * self.heads)


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Their numbers are ours plus `by`: llama.cpp stores some norms' factors whole, whose offset ours leave out.

    The one operation that rounds: an inverse up to the last bit.
    """

    by: float

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(…) each, less `by`."""
        return [tensor - self.by for tensor in tensors]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """(…) each, plus `by`."""
        return [tensor + self.by for tensor in tensors]


def _dimension(tensor: Tensor, dim: int) -> tuple[int, int]:
    """The dimension, counted from the front, and its length."""
    if not -tensor.dim() <= dim < tensor.dim():
        raise WeightsError(f"{tuple(tensor.shape)} has no dimension {dim}")
    return dim % tensor.dim(), tensor.shape[dim]


def _unflatten(tensor: Tensor, dim: int, *sizes: int) -> Tensor:
    # Always a view: one dimension becomes several.
    return tensor.reshape(*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :])


def _same_but(tensors: Sequence[Tensor], dim: int | None) -> None:
    """The tensors agree in type and, but for the length of `dim`, in shape."""
    shapes = [tuple(length for index, length in enumerate(tensor.shape) if index != dim) for tensor in tensors]
    dtypes = [tensor.dtype for tensor in tensors]
    if len(set(shapes)) > 1 or len(set(dtypes)) > 1:
        described = ", ".join(sorted({f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors}))
        raise WeightsError(f"tensors that belong together differ: {described}")
