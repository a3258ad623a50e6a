"""How the demo is told, complete: headings, times, what failed, and where everything is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plait.errors import PlaitError


class Stages:
    """The stages so far: their titles and seconds, and the titles of those that failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def say(self, text: str = "", *, end: str = "\n") -> None:
        """Print to standard output; a terminal that lacks a character shows "?" in its place."""
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write((text + end).encode(encoding, errors="replace").decode(encoding))
        sys.stdout.flush()

    @contextmanager
    def stage(self, title: str, purpose: str) -> Iterator[None]:
        """Tell one stage. An error that plait raises on purpose ends the stage, not the demo; any other ends both."""
        self.say(f"\n{len(self.seconds) + 1}. {title}: {purpose}\n")
        start = time.perf_counter()
        try:
            yield
        except PlaitError as error:
            self.failed.append(title)
            self.say(f"   This stage failed. {error}")
        finally:
            self.seconds[title] = time.perf_counter() - start
        self.say(f"\n   {title} took {self.seconds[title]:.1f} s")

    def summary(self, folder: Path) -> None:
        """What took how long, what failed, and the files worth a look."""
        total = sum(self.seconds.values())
        self.say(f"\nAll stages took {total:.0f} s: {', '.join(f'{t} {s:.0f} s' for t, s in self.seconds.items())}.")
        if self.failed:
            self.say(f"Failed: {', '.join(self.failed)}.")
        self.say("Left behind:")
        for path in sorted(folder.rglob("*")):
            if path.suffix == ".png" or path.name == "report.json":
                self.say(f"  {path}")
            elif path.name == "model.safetensors":
                self.say(f"  {path.parent} (a model)")
