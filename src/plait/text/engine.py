"""The engine under a `Tokenizer`, complete: plain encodings without truncation or padding, ids to text, the vocabulary.

This is the one file that holds a `tokenizers.Tokenizer`. Truncation and padding are state on that object and therefore
never used: what the file on disk switched on is switched off once, here, and remembered as `Defaults`. After that no
call changes the object, so any number of threads may share it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast, runtime_checkable

import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors

from plait.errors import TokenizerError
from plait.text.frame import Frame, Slot, Special
from plait.text.memory import Memory, memory_of
from plait.text.packed import pack

Text = str | Sequence[str]  # one sequence: a text, or its words when it is already split


@runtime_checkable
class Raw(Protocol):
    """One sequence as the engine gives it: no special tokens around it, nothing cut, nothing padded."""

    def __len__(self) -> int: ...
    @property
    def ids(self) -> list[int]: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...
    @property
    def word_ids(self) -> list[int | None]: ...


class Engine(Protocol):
    """What a `Tokenizer` needs below it; the crate and the pure-Python reference both are one."""

    fast: bool
    version: int  # grows when tokens are added

    @property
    def defaults(self) -> Defaults: ...
    @property
    def model_type(self) -> str: ...
    @property
    def decoder(self) -> Mapping[str, Any] | None: ...
    def packed(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> list[bytes]: ...
    def encode(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> Sequence[Raw]: ...
    def frame(self, sequences: int, *, special: bool) -> Frame: ...
    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str: ...
    def decode_batch(self, rows: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]: ...
    def join(self, tokens: Sequence[str]) -> str: ...
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, index: int) -> str | None: ...
    def vocabulary(self, *, added: bool) -> dict[str, int]: ...
    def size(self, *, added: bool) -> int: ...
    def added_tokens(self) -> dict[int, tokenizers.AddedToken]: ...
    def add(self, tokens: Sequence[tokenizers.AddedToken], *, special: bool) -> int: ...
    def set_frame(self, *, before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> None: ...
    def to_json(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a tokenizer.json says about padding and truncation; only the sides and the pad token outlive loading."""

    padding_side: str | None = None
    truncation_side: str | None = None
    pad_token: str | None = None
    pad_token_type_id: int = 0


def _probe(sequence: int) -> tokenizers.Encoding:
    """One token at characters 0–1 of a sequence: what a post-processor makes of it shows its frame."""
    state = {
        "ids": [0],
        "type_ids": [sequence],
        "tokens": [""],
        "words": [None],
        "offsets": [[0, 1]],
        "special_tokens_mask": [0],
        "attention_mask": [1],
        "overflowing": [],
        "sequence_ranges": {},
    }
    encoding = tokenizers.Encoding()
    encoding.__setstate__(json.dumps(state).encode())
    return encoding


def _within(ids: Sequence[int]) -> list[int]:
    """The ids that the crate's type holds; those beyond it are beyond the vocabulary as well, and add nothing."""
    return [index for index in ids if index < 2**32]


class CrateEngine:
    """The `tokenizers` crate behind the `Engine` interface."""

    fast = True

    def __init__(self, crate: tokenizers.Tokenizer) -> None:
        padding, truncation = crate.padding or {}, crate.truncation or {}
        self.version = 0
        self._defaults = Defaults(
            padding_side=padding.get("direction"),
            truncation_side=truncation.get("direction"),
            pad_token=padding.get("pad_token"),
            pad_token_type_id=padding.get("pad_type_id", 0),
        )
        crate.no_padding()
        crate.no_truncation()
        self._crate = crate
        self._splitting: tokenizers.Tokenizer | None = None
        self._frames: dict[tuple[int, bool], Frame] = {}

    @cached_property
    def _memory(self) -> Memory | None:
        return memory_of(self._crate)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> CrateEngine:
        """Read the text of a tokenizer.json; `source` names it in errors."""
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the crate raises plain Exception
            raise TokenizerError(
                f"{source} is not a tokenizer that the tokenizers library ({tokenizers.__version__}) reads: {error}"
            ) from error

    @property
    def defaults(self) -> Defaults:
        return self._defaults

    @property
    def model_type(self) -> str:
        """ "BPE", "WordPiece", "Unigram" or "WordLevel"."""
        return type(self._crate.model).__name__

    @property
    def decoder(self) -> Mapping[str, Any] | None:
        """The decoder as tokenizer.json spells it, or None."""
        decoder = self._crate.decoder
        return None if decoder is None else json.loads(decoder.__getstate__())

    def packed(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> list[bytes]:
        """The ids of `texts`, the quick way, as packed rows."""
        if not words and not split_special and self._memory is not None and self._memory.quick:
            return self._memory.packed(cast("Sequence[str]", texts))
        crate = self._splitter() if split_special else self._crate
        encodings = crate.encode_batch_fast(texts, is_pretokenized=words, add_special_tokens=False)
        return [pack(encoding.ids) for encoding in encodings]

    def encode(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> Sequence[Raw]:
        """Plain encodings of `texts`, with offsets and word ids."""
        crate = self._splitter() if split_special else self._crate
        if len(texts) == 1:
            return [crate.encode(texts[0], is_pretokenized=words, add_special_tokens=False)]
        encodings: Sequence[Raw] = crate.encode_batch(texts, is_pretokenized=words, add_special_tokens=False)
        return encodings

    def _splitter(self) -> tokenizers.Tokenizer:
        """A twin that cuts special tokens in a text like any other text, made when first asked for."""
        if self._splitting is None:
            twin = tokenizers.Tokenizer.from_str(self._crate.to_str())
            twin.encode_special_tokens = True
            self._splitting = twin
        return self._splitting

    def frame(self, sequences: int, *, special: bool) -> Frame:
        """What stands around one or two sequences, read off the post-processor once."""
        key = (sequences, special)
        if key not in self._frames:
            self._frames[key] = self._read_frame(sequences, special)
        return self._frames[key]

    def _read_frame(self, sequences: int, special: bool) -> Frame:
        whole = self._crate.post_process(_probe(0), _probe(1) if sequences == 2 else None, special)
        rows = zip(whole.sequence_ids, whole.ids, whole.tokens, whole.type_ids, strict=True)
        return Frame(
            tuple(
                Special(id=index, token=token, type_id=type_id)
                if sequence is None
                else Slot(sequence=sequence, type_id=type_id)
                for sequence, index, token, type_id in rows
            )
        )

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        try:
            return self._crate.decode(ids, skip_special_tokens=skip_special)
        except OverflowError:
            return self._crate.decode(_within(ids), skip_special_tokens=skip_special)

    def decode_batch(self, rows: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        try:
            return self._crate.decode_batch(rows, skip_special_tokens=skip_special)
        except OverflowError:
            return self._crate.decode_batch(list(map(_within, rows)), skip_special_tokens=skip_special)

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens back to text, as the decoder joins them."""
        decoder = self._crate.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def token_to_id(self, token: str) -> int | None:
        return self._crate.token_to_id(token)

    def id_to_token(self, index: int) -> str | None:
        return self._crate.id_to_token(index)

    def vocabulary(self, *, added: bool) -> dict[str, int]:
        return self._crate.get_vocab(with_added_tokens=added)

    def size(self, *, added: bool) -> int:
        return self._crate.get_vocab_size(with_added_tokens=added)

    def added_tokens(self) -> dict[int, tokenizers.AddedToken]:
        return self._crate.get_added_tokens_decoder()

    def add(self, tokens: Sequence[tokenizers.AddedToken], *, special: bool) -> int:
        """Add tokens; how many were new. The one change after loading, so not while other threads encode."""
        self._splitting = None
        self.version += 1
        add = self._crate.add_special_tokens if special else self._crate.add_tokens
        count = add(list(tokens))
        self.__dict__.pop("_memory", None)
        return count

    def set_frame(self, *, before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> None:
        """Replace what stands around each text by special tokens (token, id); used while loading."""
        self._frames.clear()
        self._splitting = None

        def around(slot: str, kind: int) -> list[str]:
            return [f"{token}:{kind}" for token, _ in before] + [slot] + [f"{token}:{kind}" for token, _ in after]

        single, second = around("$A:0", 0), around("$B:1", 1)
        self._crate.post_processor = processors.TemplateProcessing(
            single=single, pair=single + second, special_tokens=list(dict.fromkeys([*before, *after]))
        )

    def set_normalizer(self, **options: bool | None) -> bool:
        """Change options of BERT's normalizer, used while loading; whether texts go through one."""
        normalizer = self._crate.normalizer
        if not isinstance(normalizer, normalizers.BertNormalizer):
            return False
        for name, value in options.items():
            setattr(normalizer, name, value)
        self._crate.normalizer = normalizer
        return True

    def set_prefix_space(self, wanted: bool) -> bool:
        """Whether a text gets a space before it, in byte-level BPE; used while loading. False for other kinds."""
        splitter, processor = self._crate.pre_tokenizer, self._crate.post_processor
        if not isinstance(splitter, pre_tokenizers.ByteLevel):
            return False
        splitter.add_prefix_space = wanted
        self._crate.pre_tokenizer = splitter
        if isinstance(processor, processors.RobertaProcessing | processors.ByteLevel):  # which trim offsets by it
            state = {**json.loads(processor.__getstate__()), "add_prefix_space": wanted}
            processor.__setstate__(json.dumps(state).encode())
            self._crate.post_processor = processor
        return True

    def to_json(self) -> str:
        return self._crate.to_str(pretty=True)
