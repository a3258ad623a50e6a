"""The pure-Python engine, complete: the pipeline of a tokenizer.json, stage by stage, behind the `Engine` interface.

It gives ids and tokens. Offsets are bookkeeping that would hide the algorithms, so asking for them is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from plait.errors import TokenizerError
from plait.text.engine import CrateEngine, Defaults, Raw, Text
from plait.text.frame import Frame
from plait.text.packed import pack
from plait.text.reference.added import AddedTokens
from plait.text.reference.bpe import BPE
from plait.text.reference.decode import decoder
from plait.text.reference.normalize import normalizer
from plait.text.reference.split import splitter
from plait.text.reference.unigram import Unigram
from plait.text.reference.wordpiece import WordPiece

if TYPE_CHECKING:
    from tokenizers import AddedToken

MODELS: dict[str, Any] = {"BPE": BPE, "Unigram": Unigram, "WordPiece": WordPiece}


@dataclass(frozen=True)
class Plain:
    """One sequence: its ids and tokens. A token that is not known has the id of the unknown token."""

    ids: list[int]
    tokens: list[str]

    def append(self, token: str, index: int) -> None:
        self.ids.append(index)
        self.tokens.append(token)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        _no_details()

    @property
    def word_ids(self) -> list[int | None]:
        _no_details()


def _no_details() -> NoReturn:
    raise TokenizerError(
        "The Python reference (use_fast=False) gives no offsets and word ids. Load with use_fast=True."
    )


class ReferenceEngine:
    """A tokenizer.json run in Python. It holds no state that a call changes."""

    fast = False

    def __init__(self, crate: CrateEngine) -> None:
        self.version = 0
        self._crate = crate  # keeps the vocabulary of added tokens and writes files; encodes and decodes nothing
        self._read()

    @classmethod
    def from_json(cls, text: str) -> ReferenceEngine:
        """Read the text of a tokenizer.json."""
        return cls(CrateEngine.from_json(text, source="the tokenizer"))

    def _read(self) -> None:
        spec = json.loads(self._crate.to_json())
        kind = spec["model"]["type"]
        if kind not in MODELS:
            raise TokenizerError(f"The model {kind!r} is not in the Python reference; load with use_fast=True.")
        self._normalize = normalizer(spec["normalizer"])
        self._split = splitter(spec["pre_tokenizer"])
        self._model = MODELS[kind](spec["model"])
        self._decode = decoder(spec["decoder"])
        added = sorted(spec["added_tokens"], key=lambda token: not token["special"])
        # Most added tokens are looked for in the text as it comes, some in the normalized text.
        self._verbatim = AddedTokens((token for token in added if not token["normalized"]), spelled=str)
        self._normal = AddedTokens((token for token in added if token["normalized"]), spelled=self._normalize)
        self._ids: dict[str, int] = {**self._model.vocabulary, **{token["content"]: token["id"] for token in added}}
        self._tokens = {index: token for token, index in self._ids.items()}
        self._special = {token["content"] for token in added if token["special"]}

    def packed(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> list[bytes]:
        """The ids of `texts`, as packed rows."""
        return [pack(raw.ids) for raw in self.encode(texts, words=words, split_special=split_special)]

    def encode(self, texts: Sequence[Text], *, words: bool, split_special: bool) -> Sequence[Raw]:
        """Plain encodings of `texts`."""
        return [self._encode([text] if isinstance(text, str) else text, split_special) for text in texts]

    def _encode(self, words: Sequence[str], split_special: bool) -> Plain:
        made = Plain([], [])
        for word in words:
            word.encode("utf-8")  # a lone surrogate is no text
            for place, (text, token) in enumerate(self._verbatim.sections(word, skip_special=split_special)):
                if token is not None:
                    made.append(text, token["id"])
                else:
                    self._section(text, split_special, place == 0, made)
        return made

    def _section(self, text: str, split_special: bool, first: bool, made: Plain) -> None:
        """Add the tokens of a stretch of text between added tokens."""
        sections = self._normal.sections(self._normalize(text), skip_special=split_special)
        for place, (stretch, token) in enumerate(sections):
            if token is not None:
                made.append(stretch, token["id"])
                continue
            for word in filter(None, self._split(stretch, first and place == 0)):
                for piece in self._model.tokens(word):
                    made.append(piece, self._model.vocabulary.get(piece, self._model.unknown_id))

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        tokens = [self._tokens[index] for index in ids if index in self._tokens]
        return self.join([token for token in tokens if not (skip_special and token in self._special)])

    def decode_batch(self, rows: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        return [self.decode(row, skip_special=skip_special) for row in rows]

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens back to text."""
        return "".join(self._decode(list(tokens)))

    # ---- the rest is looked up, not computed -----------------------------------------------------------------------

    @property
    def defaults(self) -> Defaults:
        return self._crate.defaults

    @property
    def model_type(self) -> str:
        return self._crate.model_type

    @property
    def decoder(self) -> Mapping[str, Any] | None:
        return self._crate.decoder

    def frame(self, sequences: int, *, special: bool) -> Frame:
        return self._crate.frame(sequences, special=special)

    def set_frame(self, *, before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> None:
        self._crate.set_frame(before=before, after=after)

    def token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def id_to_token(self, index: int) -> str | None:
        return self._tokens.get(index)

    def vocabulary(self, *, added: bool) -> dict[str, int]:
        return dict(self._ids if added else self._model.vocabulary)

    def size(self, *, added: bool) -> int:
        return self._crate.size(added=added)

    def added_tokens(self) -> dict[int, AddedToken]:
        return self._crate.added_tokens()

    def add(self, tokens: Sequence[AddedToken], *, special: bool) -> int:
        new = self._crate.add(tokens, special=special)
        self.version += 1
        self._read()
        return new

    def to_json(self) -> str:
        return self._crate.to_json()
