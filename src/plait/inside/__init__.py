"""Looking inside a model while it reads a text: attention maps, statistics of each layer, and what it would say there.

reading: the numbers · pictures: as PNG · page: as one HTML page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait import lazy

if TYPE_CHECKING:
    from plait.inside.page import write as write
    from plait.inside.reading import Look as Look
    from plait.inside.reading import look as look
    from plait.inside.reading import task_of as task_of

_TABLE: dict[str, tuple[str, ...]] = {
    "plait.inside.reading": ("Look", "look", "task_of"),
    "plait.inside.page": ("write",),
}
_MODULES, __getattr__, __dir__ = lazy.names(__name__, _TABLE)

__all__ = [*_MODULES]
