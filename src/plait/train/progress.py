"""What a person sees while it runs, complete: one bar with loss and remaining time, and a line at the end.

Away from a terminal nothing is drawn; log records say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plait import console

log = console.logger("train")


class Progress:
    """The bar of one trainer; an evaluation during training borrows the bar of the training."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.outer: console.Bar | None = None
        self.text = ""

    @contextmanager
    def training(self, steps: int, *, done: int) -> Iterator[Callable[[], None]]:
        """A bar over the steps that remain; yields what moves it on by one."""
        if not self.enabled:
            yield lambda: None
            return
        with console.bar("training", total=steps - done, unit="steps") as bar:
            self.outer = bar
            try:
                yield bar.advance
            finally:
                self.outer, self.text = None, ""

    def note(self, text: str) -> None:
        """Show a short text beside the bar of the training, such as the loss."""
        self.text = text
        if self.outer is not None:
            self.outer.note(text)

    @contextmanager
    def passing(self, description: str, batches: int | None) -> Iterator[Callable[[], None]]:
        """Progress of one pass over a data set; yields what moves it on by one batch."""
        if not self.enabled:
            yield lambda: None
            return
        outer, kept = self.outer, self.text
        if outer is None:
            with console.bar(description, total=batches, unit="batches") as bar:
                yield bar.advance
            return
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            outer.note(f"{kept}  {description} {done}{'' if batches is None else f'/{batches}'}")

        yield advance
        outer.note(kept)

    def final(self, text: str) -> None:
        """The line that stays."""
        log.info(text)
        if self.enabled and console.interactive():
            sys.stderr.write(text + "\n")
