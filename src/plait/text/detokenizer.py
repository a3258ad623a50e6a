"""Ids to text one at a time, complete: `StreamingDetokenizer`, which never gives half a character.

The pieces that `add` and `finish` return, joined, are exactly `tokenizer.decode(all ids)`. What is not settled yet is
held back: bytes of a character that is not complete, and a space that clean-up may remove.

How a token becomes text depends on the decoder, so there is one way for each kind:

* byte-level BPE: tokens are bytes, and an incremental UTF-8 decoder joins them;
* byte fall-back (sentencepiece): a run of byte tokens is text only as a whole, so it is held until it ends;
* all others: a token's text depends only on whether it is the first.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from plait.text.cleaning import CLEANUPS
from plait.text.letters import bytes_of_letters
from plait.text.vocabulary import id_list

if TYPE_CHECKING:
    from plait.text.tokenizer import Tokenizer


class StreamingDetokenizer:
    """Text of a growing row of ids.

        stream = StreamingDetokenizer(tokenizer)
        for id in ids: print(stream.add(id), end="")
        print(stream.finish())

    `skip_special_tokens` leaves out special tokens; `clean_up_tokenization_spaces` is that of `decode`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> None:
        self._skipped = (
            {index for index, token in tokenizer.engine.added_tokens().items() if token.special}
            if skip_special_tokens
            else set()
        )
        kinds = decoder_kinds(tokenizer.engine.decoder)
        self._pieces: _Bytes | _Tokens = _Bytes(tokenizer) if kinds == {"ByteLevel"} else _Tokens(tokenizer, kinds)
        self._cleaner = _Cleaner() if tokenizer.cleans(clean_up_tokenization_spaces) else None

    def add(self, token_id: int) -> str:
        """The text that is settled by one more id, often empty."""
        (index,) = id_list(token_id)
        if index in self._skipped:
            return ""
        text = self._pieces.add(index)
        return self._cleaner.add(text) if self._cleaner else text

    def add_all(self, token_ids: Iterable[int]) -> str:
        """The text that is settled by several more ids."""
        return "".join(map(self.add, token_ids))

    def finish(self) -> str:
        """The rest, when no more ids come: what was held back, with U+FFFD for bytes that never became a character."""
        text = self._pieces.finish()
        return self._cleaner.add(text) + self._cleaner.finish() if self._cleaner else text


def decoder_kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    """The types of decoder that take part, from the form in tokenizer.json."""
    if decoder is None:
        return set()
    if decoder["type"] == "Sequence":
        return {kind for part in decoder["decoders"] for kind in decoder_kinds(part)}
    return {decoder["type"]}


class _Bytes:
    """Byte-level BPE. Python's and the crate's UTF-8 decoders put U+FFFD in the same places (Unicode, table 3-8)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._engine = tokenizer.engine
        self._bytes = bytes_of_letters()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, index: int) -> str:
        token = self._engine.id_to_token(index)
        if token is None:
            return ""
        try:
            data = bytes([self._bytes[letter] for letter in token])
        except KeyError:  # an added token is text as it stands
            data = token.encode("utf-8")
        return self._decoder.decode(data)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Tokens:
    """Decoders that work on tokens: a piece is what decoding with the token before it adds to decoding without."""

    def __init__(self, tokenizer: Tokenizer, kinds: set[str]) -> None:
        self._engine = tokenizer.engine
        self._byte_runs = "ByteFallback" in kinds
        self._anchor: list[int] = []
        self._held: list[int] = []

    def add(self, index: int) -> str:
        token = self._engine.id_to_token(index)
        if token is None:
            return ""
        self._held.append(index)
        if self._byte_runs and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return ""
        return self.finish()

    def finish(self) -> str:
        if not self._held:
            return ""
        before = self._engine.decode(self._anchor, skip_special=False)
        text = self._engine.decode(self._anchor + self._held, skip_special=False)
        self._anchor, self._held = self._held[-1:], []
        return text[len(before) :]


class _Replace:
    """`str.replace` on a stream: holds back an end that may be the beginning of the pattern."""

    def __init__(self, pattern: str, replacement: str) -> None:
        self._pattern, self._replacement = pattern, replacement
        self._held = ""

    def add(self, text: str) -> str:
        *before, tail = (self._held + text).split(self._pattern)
        sizes = range(min(len(self._pattern) - 1, len(tail)), 0, -1)
        held = next((size for size in sizes if tail.endswith(self._pattern[:size])), 0)
        self._held = tail[len(tail) - held :]
        return self._replacement.join([*before, tail[: len(tail) - held]])

    def finish(self) -> str:
        text, self._held = self._held, ""
        return text


class _Cleaner:
    """`clean_up` on a stream: its replacements one behind the other."""

    def __init__(self) -> None:
        self._stages = [_Replace(spaced, closed) for spaced, closed in CLEANUPS]

    def add(self, text: str) -> str:
        for stage in self._stages:
            text = stage.add(text)
        return text

    def finish(self) -> str:
        text = ""
        for stage in self._stages:
            text = stage.add(text) + stage.finish()
        return text
