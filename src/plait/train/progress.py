"""What a person sees while it runs, complete: one bar with loss and remaining time, and a line at the end.

Away from a terminal, in a file of `nohup` or a queue, each entry of the log is a line. Where the script shows log
records, these are the lines; PLAIT_PROGRESS=0 and `disable_tqdm=True` write nothing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plait import console, settings

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

    def entry(self, text: str) -> None:
        """One entry of the log: a record, and a line where neither a bar nor the records show it."""
        log.info(text)
        away = not console.interactive() and settings.progress() is None
        if self.enabled and away and not log.isEnabledFor(logging.INFO):
            sys.stderr.write(text + "\n")

    def final(self, text: str) -> None:
        """The line that stays."""
        self.entry(text)
        if self.enabled and console.interactive():
            sys.stderr.write(text + "\n")
