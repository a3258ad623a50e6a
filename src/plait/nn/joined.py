"""Linear layers that read the same vectors as one product, complete.

They are one matrix where their own lie one behind the other in memory, as whoever makes them may put them. Each stays
the layer that it is: its parameters have their names and shapes, are saved, moved and changed on their own. A layer
that no longer lies beside the others, that is watched or replaced, or that learns is computed by itself again.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from plait.nn.direct import direct
from plait.nn.linear import Linear, bare, linear


def joined(layers: Sequence[Linear], x: Tensor) -> Tensor | None:
    """What `layers` make of `x` (..., I), beside each other (..., O1 + O2 + …); None where they are no one matrix."""
    if not (all(bare(layer) for layer in layers) and direct(x)):
        return None
    weights = [layer.weight for layer in layers]
    weight = _whole(weights)
    if weight is None or weight.dtype != x.dtype:
        return None
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if not direct(x, *weights, *biases):
        return None
    if not biases:
        return linear(x, weight, None)
    bias = _whole(biases) if len(biases) == len(layers) else None
    return None if bias is None else linear(x, weight, bias)


def _whole(parts: Sequence[Tensor]) -> Tensor | None:
    """The tensor of which `parts` are the pieces (rows, ...), or None where they are not one behind the other."""
    first, rows = parts[0], 0
    end = first.data_ptr()
    for part in parts:
        if part.data_ptr() != end or part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
            return None
        if type(part) is not nn.Parameter or not part.is_contiguous():
            return None
        end += part.nbytes
        rows += len(part)
    if first.untyped_storage().data_ptr() != parts[-1].untyped_storage().data_ptr():
        return None  # two blocks of memory that happen to be neighbours
    return first.as_strided((rows, *first.shape[1:]), first.stride())
