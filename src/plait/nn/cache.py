"""The memory of a decoder between calls, complete: keys, values and the position of every slot.

It belongs to the caller, who passes it to each forward: a model holds no state. Buffers are allocated ahead and grow by
doubling, so one more token costs no copy of the history. Shapes: B batch, T new tokens, S slots in use, H heads of
keys, D dimensions of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plait.errors import GenerationError


class LayerCache:
    """Keys and values of one layer; of the stack it attends to as well (`memory`), computed once."""

    def __init__(self) -> None:
        self.length = 0
        self.memory: tuple[Tensor, Tensor] | None = None
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor, *, capacity: int = 0) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) behind what is there; return views of all slots in use, (B, H, S, D).

        `capacity` is a number of slots to allocate ahead.
        """
        end = self.length + keys.shape[2]
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            # The backward pass reads what each step saw: it must stay as it was then.
            self._keys = keys if self._keys is None else torch.cat((self._keys[:, :, : self.length], keys), dim=2)
            self._values = values if self._values is None else torch.cat((self._values[:, :, : self.length], values), 2)
            self.length = end
            return self._keys, self._values
        self._keys = _room(self._keys, keys, self.length, end, capacity)
        self._values = _room(self._values, values, self.length, end, capacity)
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def select(self, rows: Tensor, *, memory: bool = True) -> None:
        """Keep the rows of the batch named by their indices, in that order; those of the memory only if `memory`."""
        if self._keys is not None and self._values is not None:
            rows = rows.to(self._keys.device)  # layers may lie on several
            self._keys, self._values = (_chosen(part, rows, self.length) for part in (self._keys, self._values))
        if memory and self.memory is not None:
            rows = rows.to(self.memory[0].device)
            self.memory = self.memory[0][rows], self.memory[1][rows]


class Cache:
    """What a stack of `layers` layers remembers: one `LayerCache` each, and the positions that they share.

    `length` counts the slots in use. `capacity` is a number of slots to allocate ahead; more are made when needed.
    """

    def __init__(self, layers: int, *, capacity: int = 0) -> None:
        self.layers = [LayerCache() for _ in range(layers)]
        self.capacity = capacity
        self.length = 0
        # None while slot i holds position i in every row, so that the common case keeps and builds nothing.
        self._positions: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether every row holds the positions 0, 1, 2, … without padding."""
        return self._positions is None

    def counted(self) -> Tensor | int:
        """How many of the slots in use are no padding: (B, 1), or one number for all rows."""
        return self.length if self._positions is None else (self._positions >= 0).sum(dim=1, keepdim=True)

    def extend(self, positions: Tensor | None, *, tokens: int) -> Tensor | None:
        """Take up `tokens` more slots and return the positions of all slots, (B, S), or None while they are plain.

        `positions` (B, T) holds -1 for padding, and is None when the new slots simply continue a plain cache.
        Only the positions move here: each layer appends its keys and values itself.
        """
        start, self.length = self.length, self.length + tokens
        if positions is None and self._positions is None:
            return None
        if positions is None:
            raise GenerationError(
                "this cache holds padded or explicitly positioned tokens: the positions of the next ones must be given"
            )
        if self._positions is None:
            before = torch.arange(start, device=positions.device).expand(positions.shape[0], start)
        else:
            before = self._positions
        self._positions = torch.cat((before, positions), dim=1)
        return self._positions

    def rollback(self, length: int) -> None:
        """Forget every slot from `length` on.

        Raises GenerationError when the cache holds fewer slots than that.
        """
        if not 0 <= length <= self.length:
            raise GenerationError(f"cannot roll back to {length} tokens: the cache holds {self.length}")
        self.length = length
        for layer in self.layers:
            layer.length = length
        if self._positions is not None:
            self._positions = self._positions[:, :length]

    def select(self, rows: Tensor, *, memory: bool = True) -> None:
        """Keep the rows of the batch named by their indices (n,), in that order; an index may occur more than once.

        `memory=False` leaves what the layers attend to as it is: for rows that only change places with others of the
        same source.
        """
        for layer in self.layers:
            layer.select(rows, memory=memory)
        if self._positions is not None:
            self._positions = self._positions[rows]


def _room(buffer: Tensor | None, new: Tensor, used: int, end: int, capacity: int) -> Tensor:
    """A buffer (B, H, at least `end`, D) that holds the first `used` slots of `buffer`."""
    if buffer is not None and end <= buffer.shape[2]:
        return buffer
    batch, heads, _, dim = new.shape
    slots = max(end, capacity, 0 if buffer is None else 2 * buffer.shape[2])
    room = new.new_empty(batch, heads, slots, dim)
    if buffer is not None:
        room[:, :, :used] = buffer[:, :, :used]
    return room


def _chosen(buffer: Tensor, rows: Tensor, used: int) -> Tensor:
    """Rows of a buffer (B, H, slots, D) with as much room; only the slots in use are copied."""
    room = buffer.new_empty(len(rows), *buffer.shape[1:])
    room[:, :, :used] = buffer[:, :, :used][rows]
    return room
