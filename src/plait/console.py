"""What plait prints, complete: progress bars, tables and log lines, with one policy for all long work.

Everything goes to standard error, so that standard output stays clean for results. Bars show on a terminal
(or when PLAIT_PROGRESS=1) and never elsewhere; log lines go through the standard `logging` tree under "plait".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from plait import settings


def logger(name: str) -> logging.Logger:
    """The logger of one part of plait, for example `logger("hub")` for "plait.hub"."""
    return logging.getLogger(f"plait.{name}")


def interactive() -> bool:
    """Whether progress bars are drawn."""
    forced = settings.progress()
    return sys.stderr.isatty() if forced is None else forced


class Bar(Protocol):
    """A running progress bar."""

    def advance(self, steps: float = 1) -> None:
        """Move on by `steps` units."""

    def note(self, text: str) -> None:
        """Replace the short text shown beside the bar, such as the current loss."""


class _Silent:
    def advance(self, steps: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@contextmanager
def bar(description: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """A progress bar for the enclosed work; silent when not on a terminal.

    `total` is in units; `unit="bytes"` shows sizes and speed as bytes.
    """
    if not interactive():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += (
        [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
    )
    columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    with Progress(
        *columns, console=Console(stderr=True, force_terminal=settings.progress()), transient=True
    ) as progress:
        task = progress.add_task(description, total=total, note="")

        class _Drawn:
            def advance(self, steps: float = 1) -> None:
                progress.advance(task, steps)

            def note(self, text: str) -> None:
                progress.update(task, note=text)

        yield _Drawn()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as plain text, ready to print: the first column to the left, the others to the right."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title, title_justify="left")
    for index, name in enumerate(columns):
        grid.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    # Cells are text, not markup: "[kW]" is a unit, ":)" a smile.
    console = Console(width=120, no_color=True, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(grid)
    return capture.get()
