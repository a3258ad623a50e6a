"""Text files, complete: one row per line, paragraph or document, in a column `text`."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data.features import Features, Value, arrow_of
from plait.data.readers.base import Reader, open_bytes, wrong_encoding
from plait.data.widen import cast
from plait.errors import DataError, OptionError

_CHARS = 4 << 20  # read at once


@dataclass
class TextReader(Reader):
    """`sample_by` is "line", "paragraph" (divided by empty lines) or "document" (a file). Line ends are cut off."""

    WITHOUT_EFFECT = {"chunksize": "files are read in blocks of characters"}

    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    keep_linebreaks: bool = False
    sample_by: str = "line"

    def __post_init__(self) -> None:
        if self.sample_by not in ("line", "paragraph", "document"):
            raise OptionError(f"sample_by must be 'line', 'paragraph' or 'document', but is {self.sample_by!r}.")
        if self.features is None:
            self.features = Features({"text": Value("string")})
        if len(self.features) != 1:
            raise DataError(f"Text files have one column, but features= names {list(self.features)}.")

    def blocks(self) -> Iterator[dict[str, Any]]:
        assert self.features is not None
        ((name, feature),) = self.features.items()
        for path in self.files:
            try:
                for rows in self._rows(path):
                    yield {name: cast(pa.array(rows, type=pa.string()), arrow_of(feature))}
            except UnicodeDecodeError as error:
                raise wrong_encoding(path, self.encoding, error) from error

    def _rows(self, path: Path) -> Iterator[list[str]]:
        if self.sample_by == "document":
            yield ["".join(self._pieces(path))]
            return
        divider = "\n" if self.sample_by == "line" else "\n\n"
        rest = ""
        for piece in self._pieces(path):
            rest += piece
            *rows, rest = self._cut(rest, divider)
            if rows:
                yield rows
        if self.sample_by == "paragraph":
            rest = rest.lstrip("\n")
        if rest.strip("\n") or (rest and self.sample_by == "line"):
            yield [rest if self.keep_linebreaks else rest.rstrip("\n")]

    def _cut(self, text: str, divider: str) -> list[str]:
        if self.sample_by == "paragraph":
            parts = text.split(divider)
            return [part.strip("\n") for part in parts[:-1] if part.strip("\n")] + [parts[-1]]
        parts = text.split(divider)
        return [f"{part}\n" for part in parts[:-1]] + [parts[-1]] if self.keep_linebreaks else parts

    def _pieces(self, path: Path) -> Iterator[str]:
        """The text in pieces, with all line ends as \\n."""
        decoder = codecs.getincrementaldecoder(self.encoding)(self.encoding_errors)
        held = ""  # a \r at the end may be half of a line end
        with open_bytes(path) as stream:
            while data := stream.read(_CHARS):
                text = held + decoder.decode(data)
                held = "\r" if text.endswith("\r") else ""
                yield text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        yield (held + decoder.decode(b"", final=True)).replace("\r", "\n")
