"""Heads of attention multiplied by a factor each, complete: what `head_mask` and its relatives do.

Shapes: B batch, H heads, T queries, S keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn

from plait.errors import OptionError


def head_factors(head_mask: Tensor | None, layers: int, *, name: str = "head_mask") -> list[Tensor | None]:
    """The factors (heads,) of each layer's heads, None for a layer where nothing changes.

    `name` is what the mask is called in errors.
    """
    if head_mask is None:
        return [None] * layers
    if head_mask.dim() == 1:
        return [head_mask] * layers
    if head_mask.dim() == 2 and head_mask.shape[0] == layers:
        return list(head_mask)
    raise OptionError(f"`{name}` must have the shape (heads,) or ({layers}, heads), but has {tuple(head_mask.shape)}.")


@contextmanager
def heads_multiplied(
    layers: Sequence[nn.Module] | nn.ModuleList,
    head_mask: Tensor | None,
    *,
    part: str = "attention",
    name: str = "head_mask",
) -> Iterator[None]:
    """While the block runs, the output of each head of the layers' `part` is multiplied by its factor.

    That is the same as multiplying its attention weights. Other threads that compute with the layers meanwhile see
    nothing of it.
    """
    handles, own = [], threading.get_ident()
    for layer, factor in zip(layers, head_factors(head_mask, len(layers), name=name), strict=True):
        if factor is None:
            continue
        attention = cast("Any", getattr(layer, part))
        if factor.shape[0] != attention.spec.heads:
            raise OptionError(f"`{name}` names {factor.shape[0]} heads, but the layers have {attention.spec.heads}.")
        # (heads,) -> (heads * head_dim,)
        columns = factor.repeat_interleave(attention.spec.head_dim)

        def multiply(module: nn.Module, arguments: tuple[Tensor], columns: Tensor = columns) -> tuple[Tensor] | None:
            return (arguments[0] * columns.to(arguments[0]),) if threading.get_ident() == own else None

        handles.append(attention.output.register_forward_pre_hook(multiply))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def masked(attentions: Iterable[Tensor], factors: Iterable[Tensor | None]) -> tuple[Tensor, ...]:
    """Attention weights (B, H, T, S) of each layer, multiplied by the factors of its heads."""
    pairs = zip(attentions, factors, strict=True)
    # (B, H, T, S) * (H, 1, 1)
    return tuple(part if factor is None else part * factor[:, None, None].to(part) for part, factor in pairs)
