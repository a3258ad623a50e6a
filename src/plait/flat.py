"""Columns of rows of whole numbers in one piece of memory, complete: `Flat`, and who may be handed one.

`Dataset.map` stores what a function returns as Arrow columns, for which a list of lists is a detour: a tokenizer has
the ids of a batch in one piece, and Arrow wants them so. Within `welcome()` the functions that are called may return
mappings with a method `flat_columns()`, whose values may be `Flat`. Elsewhere nobody makes any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_welcome: ContextVar[bool] = ContextVar("plait flat columns", default=False)


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """One column of a batch, not yet made into what anybody wants of it.

    `lengths` are those of its rows, `numbers()` all whole numbers one after the other, `lists()` a list for each row.
    """

    lengths: Sequence[int]
    numbers: Callable[[], NDArray[Any]]
    lists: Callable[[], list[list[int]]]


@contextmanager
def welcome() -> Iterator[None]:
    """Functions called within may return flat columns. It holds for this thread and task alone."""
    token = _welcome.set(True)
    try:
        yield
    finally:
        _welcome.reset(token)


def is_welcome() -> bool:
    """Whether who called takes flat columns."""
    return _welcome.get()
