"""Special tokens around sequences, complete: `Frame`, and `Encoding`, one finished row with all its details.

A row is made of parts in order. A part is a special token, or a slot that a window of a sequence fills:

    [CLS]  ⟨A 0:5⟩  [SEP]  ⟨B 3:9⟩  [SEP]  [PAD] [PAD]

The engine's plain encoding of a whole sequence is never cut: truncation and overflow are other windows over the same
encoding, padding is a count on one side. Every detail (offsets, word ids, masks) is read through the parts on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from plait.text.packed import pack

if TYPE_CHECKING:
    from plait.text.engine import Raw


class Special(NamedTuple):
    """A special token that the frame writes."""

    id: int
    token: str
    type_id: int


class Slot(NamedTuple):
    """The place of a sequence, 0 or 1."""

    sequence: int
    type_id: int


Window = tuple[int, int]  # start and stop in the tokens of one sequence


class CharSpan(NamedTuple):
    start: int
    end: int


class TokenSpan(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True)
class Frame:
    """The parts of a row."""

    parts: tuple[Special | Slot, ...]

    @cached_property
    def special_count(self) -> int:
        """How many special tokens the frame adds."""
        return sum(isinstance(part, Special) for part in self.parts)

    @cached_property
    def plain(self) -> bool:
        """Whether every token has type 0."""
        return not any(part.type_id for part in self.parts)

    @cached_property
    def _packed_parts(self) -> list[bytes | int]:
        """For each part a packed row of its own, or the number of the sequence that comes there."""
        return [pack([part.id]) if isinstance(part, Special) else part.sequence for part in self.parts]

    @cached_property
    def _ends(self) -> tuple[bytes, bytes] | None:
        """The special tokens before and after the slot, when there is one slot."""
        slots = [place for place, part in enumerate(self.parts) if isinstance(part, Slot)]
        if len(slots) != 1:
            return None
        ids = [part.id if isinstance(part, Special) else 0 for part in self.parts]
        return pack(ids[: slots[0]]), pack(ids[slots[0] + 1 :])

    def packed(self, sequences: Sequence[bytes]) -> bytes:
        """The packed row whose slots hold `sequences`."""
        if self._ends is not None:
            before, after = self._ends
            return before + sequences[0] + after
        return b"".join([sequences[part] if isinstance(part, int) else part for part in self._packed_parts])

    def ids(self, sequences: Sequence[list[int]]) -> list[int]:
        """The ids of a row whose slots hold `sequences`."""
        row: list[int] = []
        for part in self.parts:
            row += [part.id] if isinstance(part, Special) else sequences[part.sequence]
        return row

    def special_mask(self, lengths: Sequence[int]) -> list[int]:
        """1 for the frame's special tokens, 0 for tokens of the sequences."""
        row: list[int] = []
        for part in self.parts:
            row += [1] if isinstance(part, Special) else [0] * lengths[part.sequence]
        return row

    def type_ids(self, lengths: Sequence[int]) -> list[int]:
        """The token type ids of a row whose slots hold sequences of `lengths` tokens."""
        if self.plain:
            return [0] * (self.special_count + sum(lengths))
        row: list[int] = []
        for part in self.parts:
            row += [part.type_id] * (1 if isinstance(part, Special) else lengths[part.sequence])
        return row


@dataclass(frozen=True, kw_only=True)
class Fill:
    """The padding of a row: how many tokens on each side, and which."""

    left: int = 0
    right: int = 0
    id: int = 0
    token: str = ""
    type_id: int = 0

    def of(self, *, left: int = 0, right: int = 0) -> Fill:
        """The same padding for a row that lacks so many tokens."""
        return Fill(left=left, right=right, id=self.id, token=self.token, type_id=self.type_id)


NO_FILL = Fill()


class Encoding:
    """One row with all its details, each computed when asked for.

    Indices of characters refer to the text (or to the word, when the input was split into words).
    """

    def __init__(self, frame: Frame, raws: Sequence[Raw], windows: Sequence[Window], fill: Fill) -> None:
        self._frame, self._raws, self._windows, self._fill = frame, raws, windows, fill

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Encoding({len(self)} tokens: {self.tokens!r})"

    def _row(self, slot: Any, special: Any, fill: Any) -> list[Any]:
        """One detail along the row: `slot(part, raw, start, stop)` is a list, `special(part)` and `fill` are single."""
        row = [fill] * self._fill.left
        for part in self._frame.parts:
            if isinstance(part, Special):
                row.append(special(part))
            else:
                row += slot(part, self._raws[part.sequence], *self._windows[part.sequence])
        row += [fill] * self._fill.right
        return row

    @cached_property
    def ids(self) -> list[int]:
        return self._row(lambda part, raw, start, stop: raw.ids[start:stop], lambda part: part.id, self._fill.id)

    @cached_property
    def tokens(self) -> list[str]:
        return self._row(
            lambda part, raw, start, stop: raw.tokens[start:stop], lambda part: part.token, self._fill.token
        )

    @cached_property
    def type_ids(self) -> list[int]:
        return self._row(
            lambda part, raw, start, stop: [part.type_id] * (stop - start),
            lambda part: part.type_id,
            self._fill.type_id,
        )

    @cached_property
    def attention_mask(self) -> list[int]:
        return self._row(lambda part, raw, start, stop: [1] * (stop - start), lambda part: 1, 0)

    @cached_property
    def special_tokens_mask(self) -> list[int]:
        return self._row(lambda part, raw, start, stop: [0] * (stop - start), lambda part: 1, 1)

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        return self._row(lambda part, raw, start, stop: raw.offsets[start:stop], lambda part: (0, 0), (0, 0))

    @cached_property
    def word_ids(self) -> list[int | None]:
        return self._row(lambda part, raw, start, stop: raw.word_ids[start:stop], lambda part: None, None)

    @cached_property
    def sequence_ids(self) -> list[int | None]:
        return self._row(lambda part, raw, start, stop: [part.sequence] * (stop - start), lambda part: None, None)

    @property
    def n_sequences(self) -> int:
        """1 for a single text, 2 for a pair."""
        return len(self._raws)

    def token_to_sequence(self, token: int) -> int | None:
        """The sequence (0 or 1) of a token, None for a special token."""
        return self.sequence_ids[token]

    def token_to_word(self, token: int) -> int | None:
        """The word of a token, None for a special token."""
        return self.word_ids[token]

    def token_to_chars(self, token: int) -> CharSpan | None:
        """The characters of a token, None for a special token."""
        return None if self.sequence_ids[token] is None else CharSpan(*self.offsets[token])

    def char_to_token(self, char: int, sequence: int = 0) -> int | None:
        """The token that covers a character, None when there is none."""
        for token, (owner, (start, stop)) in enumerate(zip(self.sequence_ids, self.offsets, strict=True)):
            if owner == sequence and start <= char < stop:
                return token
        return None

    def char_to_word(self, char: int, sequence: int = 0) -> int | None:
        """The word that covers a character, None when there is none."""
        token = self.char_to_token(char, sequence)
        return None if token is None else self.word_ids[token]

    def word_to_tokens(self, word: int, sequence: int = 0) -> TokenSpan | None:
        """The tokens of a word, None when the row does not hold it."""
        places = zip(self.sequence_ids, self.word_ids, strict=True)
        tokens = [token for token, place in enumerate(places) if place == (sequence, word)]
        return TokenSpan(tokens[0], tokens[-1] + 1) if tokens else None

    def word_to_chars(self, word: int, sequence: int = 0) -> CharSpan | None:
        """The characters of a word, None when the row does not hold it."""
        span = self.word_to_tokens(word, sequence)
        return None if span is None else CharSpan(self.offsets[span.start][0], self.offsets[span.end - 1][1])
