"""The tokenizer, complete: text to ids and back, for one text or many, with every argument given per call.

A `Tokenizer` never changes while it encodes: padding, truncation and the rest are arguments, so one object serves any
number of threads. Only setting an attribute, `add_tokens` and `add_special_tokens` change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait import console, flat
from plait.errors import OptionError, TokenizerError, nearest
from plait.text import options, pad
from plait.text.cleaning import clean_up
from plait.text.encoding import BatchEncoding, FlatEncoding
from plait.text.frame import NO_FILL, Fill
from plait.text.inputs import Inputs
from plait.text.rows import Rows, alone
from plait.text.vocabulary import Vocabulary, id_list

if TYPE_CHECKING:
    from plait.text.detokenizer import StreamingDetokenizer
    from plait.text.engine import Engine
    from plait.text.options import Plan, Side
    from plait.text.rows import Form

VERY_LONG = int(1e30)  # what model_max_length reads when nobody knows
_OF_NO_EFFECT = {"engine", "name_or_path", "init_kwargs", "_told_too_long"}  # on ids, beside the engine's own digest
_log = console.logger("text")


class Tokenizer(Vocabulary):
    """Text to ids and back. Made by `from_folder` or `from_gguf`, not by hand.

    `tokenizer(text)` → `BatchEncoding`; `encode`, `decode`, `tokenize`, `pad` and the `convert_…` functions are
    the usual ones. Attributes: `model_input_names`, `model_max_length`, `padding_side`, `truncation_side`,
    `chat_template`, and every special token by role (`pad_token`, `pad_token_id`, …).
    """

    def __init__(
        self,
        engine: Engine,
        *,
        roles: Mapping[str, str | None] | None = None,
        additional: Iterable[str] = (),
        model_input_names: Sequence[str] = ("input_ids", "attention_mask"),
        model_max_length: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        split_special_tokens: bool = False,
        chat_template: str | dict[str, str] | None = None,
        name_or_path: str = "",
        init_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        defaults = engine.defaults
        super().__init__(engine, {"pad_token": defaults.pad_token, **(roles or {})}, additional)
        self.model_input_names = list(model_input_names)
        self.model_max_length = VERY_LONG if model_max_length is None else model_max_length
        self.padding_side: Side = options.side("padding_side", padding_side or defaults.padding_side or "right")
        self.truncation_side: Side = options.side(
            "truncation_side", truncation_side or defaults.truncation_side or "right"
        )
        self.pad_token_type_id = defaults.pad_token_type_id
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.split_special_tokens = split_special_tokens
        self.chat_template = chat_template
        self.name_or_path = name_or_path
        self.init_kwargs = dict(init_kwargs or {})
        self._told_too_long = False

    @classmethod
    def from_folder(cls, folder: str | Path, **overrides: Any) -> Tokenizer:
        """Load from a folder; see `plait.text.load.from_folder` for the files read and the `overrides`."""
        from plait.text import load

        return load.from_folder(Path(folder), **overrides)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], **overrides: Any) -> Tokenizer:
        """Build from the metadata of a GGUF file; see `plait.text.gguf.from_gguf`."""
        from plait.text import gguf

        return gguf.from_gguf(metadata, **overrides)

    def save_pretrained(self, save_directory: str | Path) -> tuple[str, ...]:
        """Write tokenizer.json, tokenizer_config.json and the chat template; returns the paths written."""
        from plait.text.save import save

        return save(self, Path(save_directory))

    def train_new_from_iterator(self, text_iterator: Iterable[Any], vocab_size: int, **options: Any) -> Tokenizer:
        """A tokenizer of the same kind with a vocabulary learned from texts; see `plait.text.train.train_new`."""
        from plait.text.train import train_new

        return train_new(self, text_iterator, vocab_size, **options)

    def __repr__(self) -> str:
        roles = {role: token for role, token in self.special_tokens_map.items() if isinstance(token, str)}
        more = f" and {len(self.additional_special_tokens)} more" if self.additional_special_tokens else ""
        length = "unknown" if self.model_max_length > options.NO_LIMIT else self.model_max_length
        return (
            f"Tokenizer({self.engine.model_type}, {len(self)} tokens, name_or_path={self.name_or_path!r}, "
            f"model_max_length={length}, padding_side={self.padding_side!r}, truncation_side={self.truncation_side!r}, "
            f"special_tokens={roles}{more})"
        )

    def __fingerprint__(self) -> str:
        """A digest of all that decides about ids and texts; data sets put it into the keys of their caches."""
        import hashlib
        import json

        settings = {name: value for name, value in vars(self).items() if name not in _OF_NO_EFFECT}
        text = json.dumps(settings, sort_keys=True, default=repr) + self.engine.to_json()
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()

    @property
    def is_fast(self) -> bool:
        """Whether the engine is the compiled one, not the pure-Python reference."""
        return self.engine.fast

    @property
    def backend_tokenizer(self) -> Any:
        """The same rules as a `tokenizers.Tokenizer`, to look at their steps: a copy, so nothing done to it stays."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(self.engine.to_json())

    # ---- text to ids -----------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        split_special_tokens: bool | None = None,
        verbose: bool = True,
        **unknown: Any,
    ) -> BatchEncoding:
        """Encode one text or many.

        text                a str; a list of str (a batch); a list of pairs; with `is_split_into_words` a list of words
                            or a list of such lists
        text_pair           the second text, or as many as there are in `text`
        text_target         texts of the labels: their ids come back under "labels" (alone: as "input_ids")
        text_pair_target    their second texts
        add_special_tokens  [CLS], [SEP], <s> … around the texts
        padding             True or "longest": to the longest row; "max_length"; False or "do_not_pad"
        truncation          True or "longest_first": shorten the longer text first; "only_first"; "only_second"; False.
                            Not stated: a `max_length` without padding truncates
        max_length          in tokens, special ones counted; default `model_max_length`
        stride              tokens shared by neighbouring windows, with `return_overflowing_tokens`
        pad_to_multiple_of  round the padded length up
        padding_side, truncation_side   "right" or "left"; default the tokenizer's
        return_tensors      "pt", "np", "tf": (B, T) int64; None: lists
        return_…            further columns: token_type_ids and attention_mask (default: when the model reads them),
                            special_tokens_mask, offset_mapping, length, and every window that truncation cuts off
                            (with overflow_to_sample_mapping)
        split_special_tokens  cut special tokens found in the text like other text
        verbose             warn once when a row is longer than `model_max_length`

        Raises `OptionError` for an argument or value that does not exist, `TokenizerError` for input that is not text
        and for lengths that cannot be met.
        """
        if text.__class__ is str and not (
            text_pair is not None
            or text_target is not None
            or text_pair_target is not None
            or padding
            or truncation
            or max_length is not None
            or stride
            or is_split_into_words
            or pad_to_multiple_of is not None
            or padding_side is not None
            or truncation_side is not None
            or return_tensors is not None
            or return_token_type_ids is not None
            or return_attention_mask is not None
            or return_overflowing_tokens
            or return_special_tokens_mask
            or return_offsets_mapping
            or return_length
            or split_special_tokens
            or self.split_special_tokens
            or unknown
        ):
            try:
                columns, row = alone(self.engine, text, self.model_input_names, special=add_special_tokens)
                if verbose:
                    self._warn_when_too_long(len(columns["input_ids"]))
                return BatchEncoding(columns, row)
            except (TypeError, UnicodeEncodeError):
                pass  # not valid Unicode, which is named below
        names = Tokenizer.__call__.__kwdefaults__ or {}
        if unknown:
            name = next(iter(unknown))
            raise OptionError(f"The tokenizer call has no argument {name!r}.{nearest(name, names)}")
        if text_target is not None or text_pair_target is not None:
            given = locals()
            targets = text_target, text_pair_target
            return self._with_labels(text, text_pair, targets, {name: given[name] for name in names})
        kind = pad.framework(return_tensors)
        inputs = Inputs.of(text, text_pair, words=is_split_into_words)
        frame = self.engine.frame(inputs.sequences, special=add_special_tokens)
        plan = options.plan(
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            overflow=return_overflowing_tokens,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side or self.padding_side,
            truncation_side=truncation_side or self.truncation_side,
            model_max_length=self.model_max_length,
            special=frame.special_count,
        )
        rows = Rows(
            self.engine,
            inputs,
            frame,
            plan,
            fill=self._fill(plan),
            details=return_offsets_mapping or return_special_tokens_mask,
            split_special=self.split_special_tokens if split_special_tokens is None else split_special_tokens,
        )
        if verbose and plan.max_length is None:
            self._warn_when_too_long(max(rows.lengths, default=0))
        single = inputs.single and kind is None and not return_overflowing_tokens
        flatly = kind is None and not single and flat.is_welcome()
        form: Form = "flat" if flatly else kind
        batch = self._columns(
            rows,
            form,
            types=return_token_type_ids,
            attention=return_attention_mask,
            special=return_special_tokens_mask,
            offsets=return_offsets_mapping,
        )
        if return_length:
            batch["length"] = rows.padded()
        if return_overflowing_tokens:
            batch["overflow_to_sample_mapping"] = rows.samples()
        elif single:
            batch = {key: column if key == "length" else column[0] for key, column in batch.items()}
        rows.forget()
        return FlatEncoding(batch, rows.encodings) if flatly else BatchEncoding(batch, rows.encodings, kind)

    encode_plus = batch_encode_plus = __call__

    def _columns(
        self, rows: Rows, form: Form, *, types: bool | None, attention: bool | None, special: bool, offsets: bool
    ) -> dict[str, Any]:
        """The columns with a value for each token: those asked for, and by default (`None`) those the model reads."""
        batch: dict[str, Any] = {"input_ids": rows.ids(form)}
        if self._wanted("token_type_ids", types):
            batch["token_type_ids"] = rows.types(form)
        if self._wanted("attention_mask", attention):
            batch["attention_mask"] = rows.attention(form)
        if special:
            batch["special_tokens_mask"] = [row.special_tokens_mask for row in rows.encodings()]
        if offsets:
            batch["offset_mapping"] = [row.offsets for row in rows.encodings()]
        return batch

    def _with_labels(self, text: Any, text_pair: Any, targets: Any, arguments: dict[str, Any]) -> BatchEncoding:
        labels = self(*targets, **arguments)
        if text is None:
            return labels
        batch = self(text, text_pair, **arguments)
        batch["labels"] = labels["input_ids"]
        return batch

    def _wanted(self, column: str, asked: bool | None) -> bool:
        return column in self.model_input_names if asked is None else asked

    def _fill(self, plan: Plan) -> Fill:
        """What a padded place gets; without a pad token padding is an error."""
        if plan.padding is None:
            return NO_FILL
        index = self.pad_token_id
        if index is None:
            raise TokenizerError(
                f"There is no token to pad with: pad_token is {self.pad_token!r}. Set one that the vocabulary has, "
                "such as tokenizer.pad_token = tokenizer.eos_token, or add one: "
                "tokenizer.add_special_tokens({'pad_token': '[PAD]'})."
            )
        return Fill(id=index, token=self.pad_token, type_id=self.pad_token_type_id)

    def _warn_when_too_long(self, longest: int) -> None:
        if longest > self.model_max_length and not self._told_too_long:
            self._told_too_long = True
            _log.warning(
                "A row has %d tokens, more than the %d that the model reads (model_max_length). "
                "Pass truncation=True to cut rows to that length.",
                longest,
                self.model_max_length,
            )

    def encode(self, text: Any, text_pair: Any = None, **arguments: Any) -> Any:
        """The `input_ids` of a call with the same arguments: list of int for one text."""
        return self(text, text_pair, **arguments)["input_ids"]

    def tokenize(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = False, **arguments: Any
    ) -> list[str]:
        """The tokens of a text as strings."""
        return self(text, pair, add_special_tokens=add_special_tokens, **arguments).tokens()

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad rows that are ids already: a dict of columns, or a list of dicts (one per row).

        `input_ids` decides the length; attention_mask, token_type_ids and special_tokens_mask are padded with it, other
        columns pass through. Rows may be lists, arrays or tensors. A missing attention mask is made. There is nothing
        that `verbose` would tell.
        """
        columns = encoded_inputs
        if not isinstance(columns, Mapping):
            rows = list(columns)
            columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        main = self.model_input_names[0]
        if main not in columns:
            raise TokenizerError(f"pad() needs a column {main!r}, but the columns are {', '.join(columns) or 'none'}.")
        plan = options.plan(
            padding=padding,
            truncation=False,
            max_length=max_length,
            stride=0,
            overflow=False,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side or self.padding_side,
            truncation_side=self.truncation_side,
            model_max_length=self.model_max_length,
            special=0,
        )
        fill = self._fill(plan)
        padded = pad.pad(
            columns,
            plan,
            main=main,
            values={main: fill.id, "attention_mask": 0, "token_type_ids": fill.type_id, "special_tokens_mask": 1},
            attention=self._wanted("attention_mask", return_attention_mask),
            tensors=pad.framework(return_tensors),
        )
        return BatchEncoding(padded)

    # ---- ids to text -----------------------------------------------------------------------------------------------

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> Any:
        """The text of ids: an int, a list, an array or a tensor. A list of lists gives a list of texts.

        `clean_up_tokenization_spaces` removes the spaces before punctuation and in contractions. Not given, it is what
        tokenizer_config.json says, except for BPE, whose texts have no such spaces to remove. An id beyond the
        vocabulary adds nothing; a negative one, such as the -100 of labels, raises a `TokenizerError`.
        """
        ids = id_list(token_ids)
        if ids and not isinstance(ids[0], int):
            return self.batch_decode(ids, skip_special_tokens, clean_up_tokenization_spaces)
        text = self.engine.decode(ids, skip_special=skip_special_tokens)
        return clean_up(text) if self.cleans(clean_up_tokenization_spaces) else text

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """The texts of many rows of ids."""
        rows = [id_list(row) for row in sequences]
        for place, row in enumerate(rows):
            if row and not isinstance(row[0], int):
                raise TokenizerError(f"Row {place} holds {row[0]!r:.60} where ids are; flatten lists that are deeper.")
        texts = self.engine.decode_batch(rows, skip_special=skip_special_tokens)
        return [clean_up(text) for text in texts] if self.cleans(clean_up_tokenization_spaces) else texts

    def cleans(self, asked: bool | None = None) -> bool:
        """Whether decoding removes the spaces before punctuation."""
        return bool(self.clean_up_tokenization_spaces) and self.engine.model_type != "BPE" if asked is None else asked

    def detokenizer(
        self, *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> StreamingDetokenizer:
        """A fresh stream of text out of ids, for one row that grows; its pieces joined are what `decode` gives."""
        from plait.text.detokenizer import StreamingDetokenizer

        return StreamingDetokenizer(
            self,
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=clean_up_tokenization_spaces,
        )

    def apply_chat_template(self, conversation: Any, tools: Any = None, **arguments: Any) -> Any:
        """A conversation as the model wants it, as text or as ids; see `plait.text.chat.apply`."""
        from plait.text.chat import apply

        return apply(self, conversation, tools, **arguments)

    def get_chat_template(self, chat_template: str | None = None, tools: Any = None) -> str:
        """The template that `apply_chat_template` would use, given the same two arguments."""
        from plait.text.chat import choose

        return choose(self, chat_template, with_tools=tools is not None)[0]
