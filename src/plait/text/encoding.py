"""The result of a tokenizer call, complete: `BatchEncoding`, a dict of columns that also reads as attributes.

It is a real `dict`, so `**batch`, `json.dumps` and every isinstance check work. Details that most calls never look at
(offsets, word ids, tokens) are not stored: they are worked out from the texts when the first of them is asked for.
`FlatEncoding` is the same for a caller who stores the columns without a look at them: it has no lists yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, NoReturn

from plait.errors import TokenizerError, nearest
from plait.flat import Flat
from plait.text import pad
from plait.text.frame import CharSpan, Encoding, TokenSpan

Details = Sequence[Encoding] | Callable[[], Sequence[Encoding]]


class BatchEncoding(dict[str, Any]):
    """Columns by name: `input_ids`, `token_type_ids`, `attention_mask` and what else was asked for.

    Values are lists (of one row, or of rows), or tensors (B, T) with `tensor_type` "pt", "np" or "tf".
    `batch["input_ids"]` and `batch.input_ids` read a column, `batch[0]` the `Encoding` of a row, `batch[:2]` slices.
    Pickling keeps the columns and drops the details.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Details | Encoding | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
    ) -> None:
        super().__init__(data or ())
        self._details: Details | None = [encoding] if isinstance(encoding, Encoding) else encoding
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis=prepend_batch_axis)

    def __getattr__(self, name: str) -> Any:
        # Only called when normal lookup fails, so methods of dict win over columns of the same name.
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return super().__getitem__(name)
        except KeyError:
            raise AttributeError(
                f"This encoding has no {name!r}; it has {', '.join(self) or 'no columns'}.{nearest(name, self)}"
            ) from None

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, str):
            return super().__getitem__(item)
        if isinstance(item, slice):
            return {key: column[item] for key, column in self.items()}
        return self.encodings[item]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    @property
    def data(self) -> dict[str, Any]:
        """The columns as a plain dict."""
        return dict(self)

    @property
    def is_fast(self) -> bool:
        """Whether details of tokens are at hand."""
        return self._details is not None

    @property
    def encodings(self) -> Sequence[Encoding]:
        """The rows with all their details."""
        if self._details is None:
            self._no_details()
        if callable(self._details):
            self._details = self._details()
        return self._details

    def _no_details(self) -> NoReturn:
        raise TokenizerError(
            "This encoding holds columns only: it was made from a dict, by pad(), or came out of a pickle. "
            "Details of tokens (offsets, word ids, char_to_token) are on what the tokenizer call itself returned."
        )

    @property
    def n_sequences(self) -> int | None:
        """1 for single texts, 2 for pairs, None when not known."""
        return self.encodings[0].n_sequences if self.is_fast and self.encodings else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self.encodings[batch_index].tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row the index of its word; None for special tokens."""
        return self.encodings[batch_index].word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row 0 (first text) or 1 (second); None for special tokens."""
        return self.encodings[batch_index].sequence_ids

    def _place(self, first: int, second: int | None) -> tuple[Encoding, int]:
        """(row, index) from the two ways of calling: `(index)` for row 0, or `(row, index)`."""
        row, index = (0, first) if second is None else (first, second)
        return self.encodings[row], index

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The text (0 or 1) of a token. Call with (token) for row 0, or (row, token)."""
        row, token = self._place(batch_or_token_index, token_index)
        return row.token_to_sequence(token)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The word of a token. Call with (token) for row 0, or (row, token)."""
        row, token = self._place(batch_or_token_index, token_index)
        return row.token_to_word(token)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters of a token. Call with (token) for row 0, or (row, token)."""
        row, token = self._place(batch_or_token_index, token_index)
        return row.token_to_chars(token)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that covers a character. Call with (char) for row 0, or (row, char)."""
        row, char = self._place(batch_or_char_index, char_index)
        return row.char_to_token(char, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word that covers a character. Call with (char) for row 0, or (row, char)."""
        row, char = self._place(batch_or_char_index, char_index)
        return row.char_to_word(char, sequence_index)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word. Call with (word) for row 0, or (row, word)."""
        row, word = self._place(batch_or_word_index, word_index)
        return row.word_to_tokens(word, sequence_index)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word. Call with (word) for row 0, or (row, word)."""
        row, word = self._place(batch_or_word_index, word_index)
        return row.word_to_chars(word, sequence_index)

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Turn every column that is a list into a tensor, in place; None changes nothing."""
        kind = pad.framework(tensor_type)
        if kind is not None:
            for key, column in self.items():
                if not pad.is_tensor(column):
                    self[key] = pad.as_tensor(key, [column] if prepend_batch_axis else column, kind)
        return self

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchEncoding:
        """Move every PyTorch tensor to a device, in place; other columns stay as they are. Returns itself."""
        for key, column in self.items():
            if hasattr(column, "to") and hasattr(column, "device"):
                # NumPy arrays (2.x) have `device` and no `to`, so they stay.
                self[key] = column.to(device=device, non_blocking=non_blocking)
        return self


class FlatEncoding(BatchEncoding):
    """An encoding whose columns may be `Flat`, until the first look at anything in it: then it is a `BatchEncoding`.

    What only writes (`batch["labels"] = …`, `del`, `update`, `|=`) and what asks for names (`in`, `len`) is no look.
    """

    def __init__(self, data: Mapping[str, Any], encoding: Details | None = None) -> None:
        super().__init__(data, encoding)
        self._looking = Lock()

    def flat_columns(self) -> dict[str, Any]:
        """The columns as they are stored, without a look at them."""
        return dict(dict.items(self))

    def __getattribute__(self, name: str) -> Any:
        if name in ("update", "flat_columns", "__class__"):
            return object.__getattribute__(self, name)
        return getattr(_looked_at(self), name)

    # Python finds these without asking for an attribute.

    def __getitem__(self, item: Any) -> Any:
        return _looked_at(self)[item]

    def __iter__(self) -> Iterator[str]:
        return iter(_looked_at(self))

    def __reversed__(self) -> Iterator[str]:
        return reversed(_looked_at(self))

    def __eq__(self, other: object) -> bool:
        return _looked_at(self) == other

    def __ne__(self, other: object) -> bool:
        return _looked_at(self) != other

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> Any:
        return _looked_at(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | _looked_at(self)

    def __repr__(self) -> str:
        return repr(_looked_at(self))


def _looked_at(encoding: FlatEncoding) -> BatchEncoding:
    """The encoding with lists in it, and of the class that it seems to have. Threads wait for the first that looks."""
    with object.__getattribute__(encoding, "_looking"):
        for name, column in list(dict.items(encoding)):
            if isinstance(column, Flat):
                dict.__setitem__(encoding, name, column.lists())
        encoding.__class__ = BatchEncoding  # type: ignore[assignment]
    return encoding
