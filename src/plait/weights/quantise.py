"""Matrices in few bits, which a CPU multiplies sooner, complete: int8 with a factor per row, and int4 with a factor and
an offset per group of 32.

Only weights are quantised; what is multiplied stays floating. For few rows of input, as in decoding, ATen's kernels
read the small numbers as they lie: on a CPU that is bound by memory, and half the bytes are half the time. For many
rows the matrix is made dense and multiplied as usual. The kernels take bfloat16, so few rows of float32 are rounded to
it; many are not. Factors and offsets are rounded to bfloat16 before the numbers are: both ways see the same matrix.

A state dict, and with it a file, holds few-bit numbers row by row, whatever order this CPU reads them in. A matrix made
of one on "meta" has no numbers yet: a load brings them.

Shapes: O outputs, I inputs, G = I / 32 groups, N rows of input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import OptionError, nearest

GROUP = 32
BLOCK = 64  # rows that the kernel of int4 keeps together at most
Kind = Literal["int8", "int4"]


class Matrix(nn.Module):
    """A matrix (O, I) that may be multiplied and made dense again; it has the same numbers in a model of any dtype."""

    # what has been done to the weights of a model in this form
    title: str
    # up to how many rows of input the kernel is faster than to make the matrix dense
    few: int

    def __init__(self, weight: Tensor) -> None:
        """Of the shape of a matrix (O, I)."""
        super().__init__()
        self.shape = (weight.shape[0], weight.shape[1])

    def _hold(self, name: str, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """A buffer to be filled, where `like` is."""
        self.register_buffer(name, torch.empty(shape, dtype=dtype, device=like.device))

    @property
    def size(self) -> int:
        """How many numbers the matrix has, O * I."""
        return self.shape[0] * self.shape[1]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(O, I), as numbers of `dtype`."""
        raise NotImplementedError(f"{type(self).__name__} must say what its numbers are.")

    def few_rows(self, x: Tensor) -> Tensor | None:
        """`x @ matrixᵀ` (N, O) of bfloat16 (N, I) by a kernel, None where there is none."""
        raise NotImplementedError(f"{type(self).__name__} must say how its kernel multiplies.")

    def many_rows(self, x: Tensor) -> Tensor:
        """`x @ matrixᵀ` of any (..., I) by the dense matrix."""
        return functional.linear(x, self.dense(x.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the model to another device, and never to another dtype."""
        for name, part in self._buffers.items():
            moved = fn(part)  # type: ignore[arg-type]
            self._buffers[name] = moved if moved.dtype == part.dtype else part.to(moved.device)  # type: ignore[union-attr]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O); gradients reach `x` and never the matrix."""
        rows = x.shape[:-1].numel()
        learns = torch.is_grad_enabled() and x.requires_grad
        if 0 < rows <= self.few and x.device.type == "cpu" and not learns:
            y = self.few_rows(x.reshape(rows, -1).to(torch.bfloat16))
            if y is not None:
                return y.to(x.dtype).view(*x.shape[:-1], -1)
        return self.many_rows(x)

    if TYPE_CHECKING:
        __call__ = forward


class Int8(Matrix):
    """Each row is whole numbers from -127 to 127 times one factor."""

    title = "quantised to int8"
    few = 16
    own_dtypes = MappingProxyType({"factors": torch.bfloat16})
    numbers: Tensor
    factors: Tensor

    def __init__(self, weight: Tensor) -> None:
        """From a floating matrix (O, I)."""
        super().__init__(weight)
        self._hold("numbers", weight, self.shape, torch.int8)
        self._hold("factors", weight, self.shape[:1], torch.bfloat16)
        for rows in _parts(self.shape, of=weight):
            part = weight[rows].float()
            self.factors[rows] = factors = _positive(part.abs().amax(dim=1) / 127)
            self.numbers[rows] = (part / factors.float()[:, None]).round_().clamp_(-127, 127)

    def receive(self, name: str, tensor: Tensor) -> bool:
        """Take `numbers` of a file into memory where they begin at an address that the kernel cannot read from."""
        if name != "numbers" or tensor.device.type != "cpu" or _aligned(tensor):
            return False
        self.numbers = tensor.clone()
        return True

    def dense(self, dtype: torch.dtype) -> Tensor:
        if dtype == torch.float16:  # many factors are too small for it, their products are not
            return self.dense(torch.float32).to(dtype)
        return self.numbers.to(dtype) * self.factors.to(dtype)[:, None]

    def few_rows(self, x: Tensor) -> Tensor | None:
        # The kernel reads 16 numbers at a time: beyond the end of other rows, and it dies of other addresses.
        if x.shape[1] % 16 or not _aligned(self.numbers):
            return None
        return torch._weight_int8pack_mm(x, self.numbers, self.factors)

    def many_rows(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float16:  # sums of whole numbers leave its range
            return super().many_rows(x)
        # The factors go to the sums, of which there are fewer; int8 numbers are exact in every floating type.
        return functional.linear(x, self.numbers.to(x.dtype)) * self.factors.to(x.dtype)


class Int4(Matrix):
    """Each group of 32 neighbours in a row is whole numbers from -8 to 7 times one factor, plus one offset.

    `numbers` (O, I / 2) hold two each, in the order that the kernel of this CPU wants, or row by row where it has none
    or the shape does not fit it; the latter is always computed dense.
    """

    title = "quantised to int4"
    few = 64
    own_dtypes = MappingProxyType({"scales": torch.bfloat16})
    numbers: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        """From a floating matrix (O, I). Raises OptionError when I is no multiple of 32."""
        super().__init__(weight)
        if weight.shape[1] % GROUP:
            raise OptionError(f"int4 groups {GROUP} neighbours of a row, but the matrix has rows of {weight.shape[1]}.")
        self.order = _order(self.shape[0]) if weight.device.type == "cpu" else None
        pack = _adjacent if self.order is None else _packed
        self._hold("numbers", weight, (self.shape[0], self.shape[1] // 2), torch.uint8)
        self._hold("scales", weight, (self.shape[1] // GROUP, self.shape[0], 2), torch.bfloat16)
        for rows in _parts(self.shape, of=weight):
            levels, factors, offsets = _levels(weight[rows].float())
            self.numbers[rows] = pack(levels)
            # (O, G) twice -> (G, O, 2)
            self.scales[:, rows] = torch.stack((factors, offsets), dim=-1).transpose(0, 1)

    def receive(self, name: str, tensor: Tensor) -> bool:
        """Take `numbers` that lie row by row, into the order of this CPU; whether it was they and there is one."""
        order = _order(self.shape[0]) if tensor.device.type == "cpu" else None
        if name != "numbers" or order is None:
            self.order = None if name == "numbers" else self.order
            return False
        self.numbers, self.order = torch.empty_like(tensor), order
        for rows in _parts(self.shape, of=tensor):
            self.numbers[rows] = _packed(_spread(tensor[rows]).int())
        return True

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.order is not None and not self.numbers.is_meta:
            destination[f"{prefix}numbers"] = _adjacent(self._columns().T)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        given = state_dict.get(f"{prefix}numbers")
        taken = given is not None and given.shape == self.numbers.shape and self.receive("numbers", given.cpu())
        rest = {**state_dict, f"{prefix}numbers": self.numbers} if taken else state_dict
        super()._load_from_state_dict(rest, prefix, *others)

    def dense(self, dtype: torch.dtype) -> Tensor:
        levels = self._columns().float().view(-1, GROUP, self.shape[0])  # (I, O) -> (G, 32, O)
        factors, offsets = self.scales.float()[:, None].unbind(dim=-1)  # (G, 1, O) each
        return levels.mul_(factors).add_(offsets - 8 * factors).to(dtype).flatten(0, 1).T

    def _columns(self) -> Tensor:
        """The numbers plus 8, uint8 (I, O)."""
        rows, columns = self.shape
        if self.order is None:
            return _spread(self.numbers).T
        block = len(self.order)
        # blocks of rows, each column by column: (O / block, I, block / 2) -> low halves, then high ones (…, block)
        pairs = self.numbers.view(rows // block, columns, block // 2)
        levels = torch.cat((pairs & 15, pairs >> 4), dim=-1)
        if self.order != tuple(range(block)):
            levels = levels[..., torch.tensor(self.order, device=levels.device).argsort()]
        return levels.transpose(0, 1).reshape(columns, rows)  # (O / block, I, block) -> (I, O)

    def few_rows(self, x: Tensor) -> Tensor | None:
        if self.order is None:
            return None
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.numbers, GROUP, self.scales)
        return y


KINDS: dict[str, Callable[[Tensor], Matrix]] = {"int8": Int8, "int4": Int4}


def check_kind(kind: str) -> None:
    """Raise OptionError for a kind of quantisation that does not exist."""
    if kind not in KINDS:
        raise OptionError(f"quantize must be one of {', '.join(KINDS)}, but is {kind!r}.{nearest(str(kind), KINDS)}")


def quantised(weight: Tensor, kind: str) -> Matrix:
    """A matrix (O, I) in the named kind, or in int8 where its rows are no whole groups of int4."""
    return Int8(weight) if kind == "int8" or weight.shape[1] % GROUP else Int4(weight)


def quantised_bytes(weight: Tensor, kind: str) -> int:
    """The memory that a matrix (O, I), on whatever device, takes in the named kind."""
    made = quantised(torch.empty_like(weight, device="meta"), kind)
    return sum(part.nbytes for part in made.buffers())


class QuantisedLinear(nn.Module):
    """`x @ matrixᵀ + bias`, in place of a linear layer.

    Made from one that is on "meta", it waits for `receive("weight", …)`, which a load calls; the bias is that layer's.
    """

    bias: nn.Parameter | None

    def __init__(self, linear: nn.Linear, kind: str) -> None:
        super().__init__()
        self.kind, self.in_features, self.out_features = kind, linear.in_features, linear.out_features
        self.register_parameter("bias", linear._parameters["bias"])
        self.matrix: Matrix | None = None
        if linear.weight.is_meta:
            self.register_parameter("weight", linear._parameters["weight"])
        else:
            self.matrix = quantised(linear.weight.detach(), kind)

    def receive(self, name: str, tensor: Tensor) -> bool:
        """Take the numbers of a parameter instead of the tensor; whether it was one to take."""
        if name != "weight":
            return False
        del self._parameters["weight"]
        self.matrix = quantised(tensor, self.kind)
        return True

    def taken_bytes(self, name: str) -> int | None:
        """Bytes of the matrix that the parameter `name` on "meta" will become; None for one that stays what it is."""
        weight = self._parameters.get("weight")
        return quantised_bytes(weight, self.kind) if name == "weight" and weight is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        assert self.matrix is not None
        y = self.matrix(x)
        return y if self.bias is None else y + self.bias

    if TYPE_CHECKING:
        __call__ = forward


def _aligned(numbers: Tensor) -> bool:
    return numbers.data_ptr() % 16 == 0


def _positive(factors: Tensor) -> Tensor:
    """Factors in bfloat16, never 0, and never so much rounded down that the largest number would not fit."""
    rounded = factors.to(torch.bfloat16)
    above = (rounded.view(torch.int16) + 1).view(torch.bfloat16)  # the next number, as these are positive
    return torch.where(rounded.float() < factors, above, rounded).clamp(min=torch.finfo(torch.bfloat16).tiny)


def _parts(shape: tuple[int, int], *, of: Tensor) -> Iterator[slice]:
    """The rows of `of` in parts of whole blocks and about a million bytes of float32; none where it is on "meta".

    So small are then all tensors that are made on the way, and memory does not end in holes of their size.
    """
    step = max(BLOCK, (1 << 18) // max(shape[1], 1) // BLOCK * BLOCK)
    return (slice(start, start + step) for start in range(0, 0 if of.is_meta else shape[0], step))


def _levels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of float32 (O, I): levels from 0 to 15, int32 (O, I), and the factor and the offset of each group, (O, G)."""
    groups = weight.reshape(weight.shape[0], -1, GROUP)  # (O, I) -> (O, G, 32)
    low, high = groups.aminmax(dim=2)
    factors = _positive((high - low) / 15)
    offsets = (low + 8 * factors.float()).to(torch.bfloat16)
    numbers = (groups - offsets.float()[..., None]).div_(factors.float()[..., None]).round_().clamp_(-8, 7)
    return numbers.flatten(1).to(torch.int32) + 8, factors, offsets


def _adjacent(levels: Tensor) -> Tensor:
    """Levels from 0 to 15, (O, I) -> uint8 (O, I / 2), neighbours in one byte, the first in its low half."""
    return (levels[:, ::2] | levels[:, 1::2] << 4).to(torch.uint8)


def _spread(numbers: Tensor) -> Tensor:
    """The inverse of `_adjacent`: uint8 (O, I / 2) -> (O, I)."""
    # (O, I / 2) -> (O, I / 2, 2) -> (O, I)
    return torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(1)


def _packed(levels: Tensor) -> Tensor:
    """Levels from 0 to 15, int32 (O, I) -> uint8 (O, I / 2) in the order of the kernel."""
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels, 2)
    return packed


def _order(rows: int) -> tuple[int, ...] | None:
    """The order in which the kernel keeps a block of the rows; None where they are no whole blocks."""
    order = _block()
    return order if order is not None and rows % len(order) == 0 else None


@cache
def _block() -> tuple[int, ...] | None:
    """Which row of a block each half byte of a packed column holds: all low halves, then all high ones.

    The order depends on the CPU and is written nowhere, so it is found by packing the numbers of rows. None where
    there is no such kernel, or where its order is another kind of thing.
    """
    if not hasattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu"):
        return None
    for block in (BLOCK, 32, 16):
        rows = torch.arange(2 * block, dtype=torch.int32)[:, None].expand(-1, GROUP)
        digits = [_packed(digit.contiguous()) for digit in (rows % 16, rows // 16)]
        # (2 blocks, 32 columns, block / 2) -> low halves, then high ones, of both digits
        parts = [digit.view(2, GROUP, block // 2) for digit in digits]
        low, high = (torch.cat((part & 15, part >> 4), dim=-1).int() for part in parts)
        found = low + 16 * high
        order = found[0, 0]
        # The same in every column and every block, and each row once.
        same = torch.equal(found, torch.stack((order, order + block))[:, None].expand_as(found))
        if same and sorted(order.tolist()) == list(range(block)):
            return tuple(order.tolist())
    return None
