"""What may be handed to a tokenizer call, complete: one text or many, pairs, words; and what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from plait.errors import TokenizerError
from plait.text.engine import Text


class Inputs(NamedTuple):
    """Texts in the shape that the engine takes: one or two columns of texts (or of lists of words)."""

    columns: tuple[list[Text], ...]
    single: bool
    words: bool

    @classmethod
    def of(cls, text: Any, text_pair: Any, *, words: bool) -> Inputs:
        """Sort out the arguments of a call; anything that is not text raises a `TokenizerError`."""
        one = _is_words if words else _is_text
        if one(text):
            if text_pair is not None and not one(text_pair):
                raise TokenizerError(
                    f"text is {_kind(words)}, so text_pair must be one too, but it is {_show(text_pair)}. "
                    "For a batch pass two lists of the same length."
                )
            return cls(([text],) if text_pair is None else ([text], [text_pair]), single=True, words=words)
        firsts = _batch("text", text, words)
        if text_pair is not None:
            seconds = _batch("text_pair", text_pair, words) if not one(text_pair) else None
            if seconds is None or len(seconds) != len(firsts):
                size = "one text" if seconds is None else f"{len(seconds)} texts"
                raise TokenizerError(
                    f"text has {len(firsts)} texts and text_pair has {size}; each text needs its own second text."
                )
            return cls(_checked((firsts, seconds), words), single=False, words=words)
        if firsts and _is_pair(firsts[0], words):
            for place, pair in enumerate(firsts):
                if not _is_pair(pair, words):
                    raise TokenizerError(f"Item 0 of the batch is a pair, but item {place} is {_show(pair)}.")
            columns = ([pair[0] for pair in firsts], [pair[1] for pair in firsts])
            return cls(_checked(columns, words), single=False, words=words)
        return cls(_checked((firsts,), words), single=False, words=words)

    @property
    def sequences(self) -> int:
        """1, or 2 for pairs."""
        return len(self.columns)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)


def _is_pair(value: Any, words: bool) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(isinstance(item, list | tuple) if words else isinstance(item, str) for item in value)


def _batch(name: str, value: Any, words: bool) -> list[Any]:
    if value is None or isinstance(value, str | bytes | bytearray | dict) or not isinstance(value, Iterable):
        raise _wrong(name, value, words)
    return list(value)


def _checked(columns: tuple[list[Any], ...], words: bool) -> tuple[list[Any], ...]:
    """The columns, when all of them are text."""
    one = _is_words if words else _is_text
    for name, column in zip(("text", "text_pair"), columns, strict=False):
        for place, item in enumerate(column):
            if not one(item):
                raise _wrong(f"{name}[{place}]" if len(column) > 1 else name, item, words)
    return columns


def _kind(words: bool) -> str:
    return "a list of words" if words else "a str"


def _show(value: Any) -> str:
    """A short picture of a value for an error."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def _wrong(name: str, value: Any, words: bool) -> TokenizerError:
    """The error for a value that is not text, with the remedy that fits it."""
    if value is None or value != value:
        remedy = "Drop empty rows, or put '' in their place."
    elif isinstance(value, bytes | bytearray):
        remedy = "Decode it first: value.decode('utf-8')."
    elif isinstance(value, list | tuple) and not words:
        remedy = "For text that is split into words pass is_split_into_words=True; a pair is a tuple of two str."
    elif isinstance(value, str) and words:
        remedy = "With is_split_into_words=True a text is a list of words."
    else:
        remedy = "Convert it with str(value)."
    return TokenizerError(f"{name} is {_show(value)}, but a tokenizer takes {_kind(words)} or a list of them. {remedy}")


def surrogate(columns: Sequence[Sequence[Text]]) -> TokenizerError | None:
    """The error for text that is not valid Unicode (a lone surrogate), or None when all of it is."""
    for name, column in zip(("text", "text_pair"), columns, strict=False):
        for place, item in enumerate(column):
            for text in (item,) if isinstance(item, str) else item:
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as error:
                    return TokenizerError(
                        f"{name}[{place}] holds the lone surrogate {text[error.start]!r} at character {error.start}, "
                        "which is not valid Unicode. Read the file with errors='replace', or clean the text: "
                        "text.encode('utf-8', 'replace').decode('utf-8')."
                    )
    return None
