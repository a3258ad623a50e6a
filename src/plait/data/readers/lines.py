"""Text before it is parsed, complete: any encoding as UTF-8, without comments and without lines that are left out,
and with one character between fields."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass
class LineFilter:
    """What is left out of the lines of one file: those of whose number (from 0) `skipped` is true, the last `footer`
    ones, and what follows the character `comment` outside of quotes; a line with nothing else goes as a whole.
    `divide` writes what remains of a line in the usual way."""

    comment: str | None
    quote: str | None
    skipped: Callable[[int], bool] | None = None
    footer: int = 0
    divide: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        self._number = 0
        self._inside = False  # a field in quotes that goes on in the next line
        self._held: list[str] = []  # the last lines so far

    def keep(self, lines: list[str]) -> str:
        """What remains of the next lines."""
        found = self._held
        for line in lines:
            number, self._number = self._number, self._number + 1
            if self.skipped is None or not self.skipped(number):
                line = self._without_comment(line) if self.comment else line
                found.append(self.divide(line) if self.divide is not None else line)
        end = len(found) - self.footer if self.footer else len(found)
        self._held = found[max(end, 0) :]
        return "".join(found[: max(end, 0)])

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


def divider(separator: str, quote: str | None) -> Callable[[str], str]:
    """What writes a line whose fields are divided by a regular expression with commas instead.

    Spaces of any number may stand in quotes; other expressions know no quotes, as in pandas.
    """
    pattern = re.compile(separator)

    def divide(line: str) -> str:
        text = line.strip()
        if not text:
            return "\n"
        if separator == r"\s+":
            reader = csv.reader([text.replace("\t", " ")], delimiter=" ", quotechar=quote, skipinitialspace=True)
            fields: list[Any] = next(reader)
        else:
            fields = pattern.split(text)
        written = io.StringIO()
        csv.writer(written, quotechar=quote or '"', lineterminator="\n").writerow(fields)
        return written.getvalue()

    return divide


class Recoded(io.RawIOBase):
    """A stream of text in any encoding, as UTF-8, with what a filter leaves of its lines."""

    def __init__(self, stream: BinaryIO, encoding: str, errors: str, lines: LineFilter | None) -> None:
        self._text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
        self._lines = lines
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held:
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
        while lines := self._text.readlines(1 << 20):
            if kept := self._lines.keep(lines):
                return kept.encode("utf-8", "surrogatepass")
        return None
