"""Text before it is parsed, complete: any encoding as UTF-8, without comments and without lines that are left out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass
class LineFilter:
    """What is left out of the lines of one file: the lines with the numbers `skipped` (from 0), and what follows the
    character `comment` outside of quotes; a line with nothing else goes as a whole."""

    comment: str | None
    quote: str | None
    skipped: set[int]

    def __post_init__(self) -> None:
        self._number = 0
        self._inside = False  # a field in quotes that goes on in the next line

    def keep(self, lines: list[str]) -> str:
        """What remains of the next lines."""
        found = []
        for line in lines:
            number, self._number = self._number, self._number + 1
            if number not in self.skipped:
                found.append(self._without_comment(line) if self.comment else line)
        return "".join(found)

    def _without_comment(self, line: str) -> str:
        assert self.comment is not None
        end = line.find(self.comment)
        if end < 0 and (not self.quote or self.quote not in line):
            return line
        end = -1
        for index, character in enumerate(line):
            if character == self.quote:
                self._inside = not self._inside
            elif character == self.comment and not self._inside:
                end = index
                break
        if end < 0:
            return line
        kept = line[:end]
        return kept + line[len(line.rstrip("\r\n")) :] if kept.strip() else ""


class Recoded(io.RawIOBase):
    """A stream of text in any encoding, as UTF-8, with what a filter leaves of its lines."""

    def __init__(self, stream: BinaryIO, encoding: str, errors: str, lines: LineFilter | None) -> None:
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
        self._lines = lines
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            piece = self._next()
            if piece is None:
                return 0
            self._held = piece
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count

    def _next(self) -> bytes | None:
        if self._lines is None:
            text = self._text.read(1 << 20)
            return text.encode("utf-8", "surrogatepass") if text else None
        lines = self._text.readlines(1 << 20)
        return self._lines.keep(lines).encode("utf-8", "surrogatepass") if lines else None
