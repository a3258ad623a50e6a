"""The vocabulary of a tokenizer, complete: tokens ↔ ids, sizes, added tokens, and adding more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plait.errors import OptionError, TokenizerError, nearest
from plait.text.special import ROLES, SpecialTokens, content

if TYPE_CHECKING:
    from tokenizers import AddedToken

    from plait.text.engine import Engine


def id_list(ids: Any) -> list[Any]:
    """Ids from an int, list, array or tensor as a list of int (or of such lists), negative ones refused."""
    if isinstance(ids, dict):
        ids = ids["input_ids"]
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if hasattr(ids, "__index__"):
        ids = [ids]
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise TokenizerError(f"Token ids are whole numbers or lists of them, but found {ids!r} ({type(ids).__name__}).")
    if ids and (not hasattr(ids[0], "__index__") or getattr(ids[0], "shape", ())):
        return list(ids)
    if set(map(type, ids)) == {int} and min(ids) >= 0:
        return list(ids)
    row: list[int] = []
    for place, value in enumerate(ids):
        if not hasattr(value, "__index__"):
            raise TokenizerError(
                f"Token ids are whole numbers, but item {place} is {value!r} ({type(value).__name__})."
            )
        if (index := value.__index__()) < 0:
            raise TokenizerError(
                f"Token id {index} at position {place} is negative. Labels mark ignored places with -100: "
                "replace them with pad_token_id before decoding."
            )
        row.append(index)
    return row


class Vocabulary(SpecialTokens):
    """Tokens and their ids."""

    model_max_length: int

    def __init__(self, engine: Engine, roles: Mapping[str, str | None], additional: Iterable[str]) -> None:
        super().__init__(roles, additional)
        self.engine = engine

    def _id_of(self, token: str) -> int | None:
        return self.engine.token_to_id(token)

    def _token_of(self, index: int) -> str:
        token = self.engine.id_to_token(index)
        if token is None:
            raise TokenizerError(f"There is no token with id {index}; the vocabulary has {len(self)} tokens.")
        return token

    def __len__(self) -> int:
        """The size of the vocabulary, added tokens included."""
        return self.engine.size(added=True)

    def __bool__(self) -> bool:
        return True  # never the length: `if tokenizer:` asks whether there is one

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without added tokens."""
        return self.engine.size(added=False)

    def get_vocab(self) -> dict[str, int]:
        """Token → id, added tokens included."""
        return self.engine.vocabulary(added=True)

    @property
    def vocab(self) -> dict[str, int]:
        """The same as `get_vocab()`."""
        return self.get_vocab()

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id → added token, in the order of ids."""
        return dict(sorted(self.engine.added_tokens().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Added token → id, in the order of ids."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        """The same as `added_tokens_encoder`."""
        return self.added_tokens_encoder

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or a list of ids; an unknown token has the id of `unk_token`, or None without one."""
        if isinstance(tokens, str):
            index = self.engine.token_to_id(tokens)
            if index is None and self.unk_token is not None:
                return self.unk_token_id
            return index
        if not isinstance(tokens, Sequence):
            raise TokenizerError(f"Tokens are str or lists of str, but found {tokens!r} ({type(tokens).__name__}).")
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or a list of tokens; an id beyond the vocabulary has None."""
        if hasattr(ids, "__index__") and not getattr(ids, "shape", ()):
            return self.engine.id_to_token(id_list(ids)[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.engine.id_to_token(index) for index in id_list(ids) if index not in skipped]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Tokens joined to text as the decoder joins them."""
        return self.engine.join(tokens)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a row gets."""
        return self.engine.frame(2 if pair else 1, special=True).special_count

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of a text fit the model beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of two texts together fit the model beside the special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """The token type ids of the row that the ids of one or two texts become."""
        lengths = [len(token_ids_0)] if token_ids_1 is None else [len(token_ids_0), len(token_ids_1)]
        return self.engine.frame(len(lengths), special=True).type_ids(lengths)

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Ids of one or two texts with the special tokens around them."""
        sequences = [list(token_ids_0)] if token_ids_1 is None else [list(token_ids_0), list(token_ids_1)]
        return self.engine.frame(len(sequences), special=True).ids(sequences)

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens, 0 for others.

        With `already_has_special_tokens` the ids are looked up; otherwise the mask is that of the row the texts become.
        """
        if already_has_special_tokens:
            special = set(self.all_special_ids)
            return [int(index in special) for index in id_list(token_ids_0)]
        lengths = [len(token_ids_0)] if token_ids_1 is None else [len(token_ids_0), len(token_ids_1)]
        return self.engine.frame(len(lengths), special=True).special_mask(lengths)

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens (str, AddedToken, or a list) that the text is searched for first; returns how many were new.

        The model needs `resize_token_embeddings(len(tokenizer))` afterwards when the vocabulary outgrew it.
        """
        from tokenizers import AddedToken

        items = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        made = []
        for item in items:
            if not isinstance(item, str | AddedToken):
                raise TokenizerError(f"A token to add is a str or an AddedToken, but found {item!r}.")
            made.append(AddedToken(item, normalized=not special_tokens) if isinstance(item, str) else item)
        return self.engine.add(made, special=special_tokens)

    def add_special_tokens(
        self, special_tokens_dict: dict[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Fill roles ({"pad_token": "[PAD]"}; a list under "additional_special_tokens"); returns how many are new."""
        added = 0
        for role, value in special_tokens_dict.items():
            if role in ROLES:
                added += self.add_tokens([value], special_tokens=True)
                setattr(self, role, value)
            elif role in ("additional_special_tokens", "extra_special_tokens"):
                added += self.add_tokens(value, special_tokens=True)
                kept = [] if replace_additional_special_tokens else self.additional_special_tokens
                self.additional_special_tokens = [*kept, *map(content, value)]
            else:
                names = (*ROLES, "additional_special_tokens")
                raise OptionError(
                    f"{role!r} is not a role of a special token: {', '.join(names)}.{nearest(role, names)}"
                )
        return added
