"""From a list of rows to one batch of tensors, complete for text and for tables of numbers.

Padding is the tokenizer's (`tokenizer.pad`); labels that belong to tokens are padded here, with -100, which counts in
no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plait.errors import DataError, OptionError

IGNORED = -100  # the label that no loss counts
_LABELS = ("label", "label_ids")


def to_tensor(values: Sequence[Any], column: str) -> Tensor:
    """One column of a batch as a tensor (B, …): whole numbers and booleans int64, other numbers float32.

    Tensors keep their dtype, but float64 becomes float32, the dtype that losses are computed in. Raises `DataError` for
    text, missing values and rows of unequal shape.
    """
    try:
        rows = [_row(value) for value in values]
        stacked = torch.stack(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        shapes = sorted({str(np.shape(value)) for value in values if not isinstance(value, str | None)})
        if len(shapes) > 1:
            hint = f"Its rows have shapes {', '.join(shapes)}: pad them with DataCollatorWithPadding(tokenizer)."
        else:
            hint = f"First value: {values[0]!r:.80}."
        raise DataError(f"column {column!r} cannot become a tensor: {error}. {hint}") from error
    return stacked.float() if stacked.dtype is torch.float64 else stacked


def _row(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Decimal):
        value = float(value)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"it holds {type(value).__name__}, not numbers")
    return torch.as_tensor(array if array.dtype.kind == "f" else array.astype(np.int64))


def _named(features: Sequence[Any]) -> list[dict[str, Any]]:
    """Copies of the rows, `label` or `label_ids` renamed to `labels`."""
    rows = []
    for row in features:
        if not isinstance(row, Mapping):
            raise DataError(
                f"a row of the data set is a {type(row).__name__}; it must map names of the model's arguments to "
                f"values, for example {{'input_features': …, 'labels': …}}."
            )
        rows.append({"labels" if name in _LABELS else name: value for name, value in row.items()})
    if rows and isinstance(label := rows[0].get("labels"), str):
        raise DataError(
            f"the labels are text ({label!r:.60}), but a loss needs numbers. Number them: "
            "dataset.class_encode_column('label'), and load the model with as many num_labels."
        )
    return rows


def default_data_collator(features: Sequence[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """Stack every column of rows that have equal shapes already; `label` and `label_ids` become `labels`.

    Columns of text are left out: no model takes them.
    """
    if return_tensors != "pt":
        raise OptionError(f"return_tensors must be 'pt', but is {return_tensors!r}: models here take torch tensors.")
    rows = _named(features)
    columns = [name for name, value in rows[0].items() if value is not None and not isinstance(value, str)]
    return {name: to_tensor([row[name] for row in rows], name) for name in columns}


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object."""

    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Any], return_tensors: str | None = None) -> dict[str, Any]:
        """Rows of equal shapes to tensors."""
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Pad the rows of a batch to their longest with the tokenizer; other columns are stacked.

    `padding` True or "longest", "max_length" (with `max_length`), or False; `pad_to_multiple_of` rounds the length up.
    """

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """Rows of token ids of any length to tensors (B, longest)."""
        return _padded(self, _named(features))


def _padded(collator: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tokens of `rows` through `tokenizer.pad`, every other column of numbers through `to_tensor`."""
    if collator.return_tensors != "pt":
        raise OptionError(f"return_tensors must be 'pt', but is {collator.return_tensors!r}.")
    tokens = [name for name in rows[0] if _belongs_to_tokens(name, collator.tokenizer)]
    if "input_ids" not in tokens:
        raise DataError(f"there is no column 'input_ids' to pad; the columns are {', '.join(rows[0])}.")
    batch = dict(
        collator.tokenizer.pad(
            [{name: _plain(row[name]) for name in tokens} for row in rows],
            padding=collator.padding,
            max_length=collator.max_length,
            pad_to_multiple_of=collator.pad_to_multiple_of,
            return_tensors="pt",
        )
    )
    others = [name for name, value in rows[0].items() if name not in tokens and not isinstance(value, str | None)]
    return batch | {name: to_tensor([row[name] for row in rows], name) for name in others}


def _belongs_to_tokens(name: str, tokenizer: Any) -> bool:
    return name in {"input_ids", "attention_mask", "token_type_ids", *getattr(tokenizer, "model_input_names", ())}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor | np.ndarray) else value


@dataclass
class _LabelCollator:
    """What collators share whose labels belong to tokens: pad the inputs, then the labels at the same side."""

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "pt"

    def _split(self, features: Sequence[Any]) -> tuple[dict[str, Any], list[list[int]] | None]:
        rows = _named(features)
        labels = [list(_plain(row.pop("labels"))) for row in rows] if "labels" in rows[0] else None
        return _padded(self, rows), labels

    def _aligned(self, labels: list[list[int]], length: int) -> Tensor:
        side = getattr(self.tokenizer, "padding_side", "right")
        padded = torch.full((len(labels), length), self.label_pad_token_id)
        for row, values in zip(padded, labels, strict=True):
            where = slice(length - len(values), None) if side == "left" else slice(len(values))
            row[where] = torch.tensor(values, dtype=torch.int64)
        return padded


@dataclass
class DataCollatorForTokenClassification(_LabelCollator):
    """Pad tokens and, with -100 at the same side, their labels."""

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """Rows with `input_ids` and `labels` of equal length to tensors (B, T)."""
        batch, labels = self._split(features)
        if labels is not None:
            batch["labels"] = self._aligned(labels, batch["input_ids"].shape[1])
        return batch


@dataclass
class DataCollatorForSeq2Seq(_LabelCollator):
    """Pad sources with the tokenizer and targets with -100; with a `model`, add the decoder's inputs.

    `model.prepare_decoder_input_ids_from_labels(labels=…)` makes them, where the model has it.
    """

    model: Any = None

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """Rows with `input_ids` (S,) and `labels` (T,) to tensors (B, S) and (B, T)."""
        batch, labels = self._split(features)
        if labels is None:
            return batch
        longest = max(len(values) for values in labels)
        if self.padding == "max_length" and self.max_length is not None:
            longest = max(longest, self.max_length)
        multiple = self.pad_to_multiple_of or 1
        batch["labels"] = self._aligned(labels, -(-longest // multiple) * multiple)
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            batch["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return batch


@dataclass
class DataCollatorForMultipleChoice:
    """Pad the choices of a batch to their longest; every row holds a list of ids for each of its C choices."""

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """Rows with `input_ids` (C, T) to tensors (B, C, longest), and `labels` (B,), the number of the right one.

        Raises `DataError` when rows have different numbers of choices.
        """
        rows = _named(features)
        counts = sorted({len(row["input_ids"]) for row in rows})
        if len(counts) > 1:
            raise DataError(
                f"rows have {' and '.join(map(str, counts))} choices, but those of a batch need the same number."
            )
        tokens = [name for name in rows[0] if _belongs_to_tokens(name, self.tokenizer)]
        choices = [{name: row[name][choice] for name in tokens} for row in rows for choice in range(counts[0])]
        # (B·C, T) -> (B, C, T)
        batch = {name: value.view(len(rows), counts[0], -1) for name, value in _padded(self, choices).items()}
        others = [name for name, value in rows[0].items() if name not in tokens and not isinstance(value, str | None)]
        return batch | {name: to_tensor([row[name] for row in rows], name) for name in others}


@dataclass
class DataCollatorForLanguageModeling:
    """Labels for a language model from its own tokens: the next token (`mlm=False`) or masked ones (`mlm=True`).

    Masking is BERT's (arXiv:1810.04805 §3.1): of `mlm_probability` of the tokens, special ones never, 80 % become the
    mask, 10 % a random token, 10 % stay. Padding is told by `attention_mask`, not by the padding id, so a tokenizer
    that pads with its end-of-text token still learns to end a text.
    """

    tokenizer: Any
    mlm: bool = True
    mlm_probability: float = 0.15
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    padding: bool | str = True
    max_length: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.mlm_probability <= 1:
            raise OptionError(f"mlm_probability must be in (0, 1], but is {self.mlm_probability}.")
        if self.mlm and getattr(self.tokenizer, "mask_token_id", None) is None:
            raise OptionError("this tokenizer has no mask token; use DataCollatorForLanguageModeling(…, mlm=False).")

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        """Rows with `input_ids` to `input_ids`, `attention_mask` and `labels`, all (B, T) int64."""
        rows = [row if isinstance(row, Mapping) else {"input_ids": row} for row in features]
        tokens = [{name: row[name] for name in row if _belongs_to_tokens(name, self.tokenizer)} for row in rows]
        batch = _padded(self, tokens)
        valid = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        if self.mlm:
            batch["input_ids"], batch["labels"] = self._masked(batch["input_ids"], valid)
        else:
            batch["labels"] = batch["input_ids"].masked_fill(~valid, IGNORED)
        return batch

    def _masked(self, tokens: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        special = torch.isin(tokens, torch.tensor(sorted(self.tokenizer.all_special_ids)))
        chosen = (torch.rand(tokens.shape) < self.mlm_probability) & valid & ~special
        labels = tokens.masked_fill(~chosen, IGNORED)
        fate = torch.rand(tokens.shape)
        random_tokens = torch.randint(len(self.tokenizer), tokens.shape)
        tokens = tokens.masked_fill(chosen & (fate < 0.8), self.tokenizer.mask_token_id)
        return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random_tokens, tokens), labels
