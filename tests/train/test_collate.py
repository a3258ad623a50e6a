"""Collators: shapes, dtypes and values of batches; masking by its statistics; refusals by their text."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from plait.errors import DataError, OptionError
from plait.text import Tokenizer
from plait.train import (
    DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
    default_data_collator,
)


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm)


def rows(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    texts = ["a short text", "a somewhat longer text, with a comma", "one"]
    return [{**tokenizer(text), "label": index} for index, text in enumerate(texts)]


def test_default_stacks_numbers() -> None:
    batch = default_data_collator(
        [
            {
                "x": [1.0, 2.0],
                "n": 3,
                "b": True,
                "t": torch.tensor([1, 2], dtype=torch.int32),
                "label": 0.5,
                "text": "a",
            },
            {
                "x": [3.0, 4.0],
                "n": 4,
                "b": False,
                "t": torch.tensor([3, 4], dtype=torch.int32),
                "label": 1.5,
                "text": "b",
            },
        ]
    )
    assert list(batch) == ["x", "n", "b", "t", "labels"]  # text is left out
    dtypes = {name: value.dtype for name, value in batch.items()}
    assert dtypes == {"x": torch.float32, "n": torch.int64, "b": torch.int64, "t": torch.int32, "labels": torch.float32}
    assert batch["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch["labels"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], torch.int64),
        ([np.int32(1), np.int32(2)], torch.int64),
        ([np.float64(1), np.float64(2)], torch.float32),
        ([np.float16(1), np.float16(2)], torch.float16),
        ([Decimal("1"), Decimal("2")], torch.float32),
        ([torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)], torch.float32),
    ],
)
def test_targets_of_every_kind(values: list[Any], dtype: torch.dtype) -> None:
    labels = default_data_collator([{"label_ids": value} for value in values])["labels"]
    assert labels.dtype is dtype
    assert labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ([{"x": [1, 2]}, {"x": [1]}], "column 'x' cannot become a tensor"),
        (
            [{"x": [1, 2]}, {"x": [1]}],
            "Its rows have shapes (1,), (2,): pad them with DataCollatorWithPadding(tokenizer).",
        ),
        ([{"x": ["a"]}, {"x": ["b"]}], "column 'x' cannot become a tensor: it holds list, not numbers."),
        ([{"x": 1.0}, {"x": None}], "column 'x' cannot become a tensor: it holds NoneType, not numbers."),
        ([(1, 2)], "a row of the data set is a tuple; it must map names of the model's arguments to values"),
    ],
)
def test_refusals(features: list[Any], text: str) -> None:
    with pytest.raises(DataError) as caught:
        default_data_collator(features)
    assert text in str(caught.value)


def test_other_frameworks_are_refused() -> None:
    with pytest.raises(OptionError, match="return_tensors must be 'pt', but is 'np'"):
        default_data_collator([{"x": 1}], return_tensors="np")
    with pytest.raises(OptionError, match="return_tensors must be 'pt', but is 'tf'"):
        DataCollatorWithPadding(None, return_tensors="tf")([{"input_ids": [1]}])


def test_padding_equals_transformers(tokenizer: Tokenizer, minilm: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(minilm)
    for options in ({}, {"pad_to_multiple_of": 8}, {"padding": "max_length", "max_length": 20}):
        ours = DataCollatorWithPadding(tokenizer, **options)(rows(tokenizer))
        expected = transformers.DataCollatorWithPadding(theirs, **options)(rows(tokenizer))
        assert {*ours} == {*expected}
        for name in expected:
            assert torch.equal(ours[name], expected[name]), name


def test_labels_of_tokens(tokenizer: Tokenizer) -> None:
    features = [{"input_ids": [5, 6, 7], "labels": [1, 2, 3]}, {"input_ids": [8], "labels": [4]}]
    batch = DataCollatorForTokenClassification(tokenizer)(features)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3], [4, -100, -100]]


def test_labels_follow_the_padding_side(tokenizer: Tokenizer, minilm: Path) -> None:
    left = Tokenizer.from_folder(minilm, padding_side="left")
    batch = DataCollatorForTokenClassification(left)(
        [{"input_ids": [5, 6], "labels": [1, 2]}, {"input_ids": [8], "labels": [4]}]
    )
    assert batch["input_ids"].tolist() == [[5, 6], [0, 8]]
    assert batch["labels"].tolist() == [[1, 2], [-100, 4]]


def test_sources_and_targets(tokenizer: Tokenizer) -> None:
    class Model:
        def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
            return labels.roll(1, 1)

    features = [{"input_ids": [5], "labels": [1, 2, 3]}, {"input_ids": [8, 9], "labels": [4]}]
    batch = DataCollatorForSeq2Seq(tokenizer, model=Model(), pad_to_multiple_of=4)(features)
    assert batch["input_ids"].tolist() == [[5, 0, 0, 0], [8, 9, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3, -100], [4, -100, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[-100, 1, 2, 3], [-100, 4, -100, -100]]


def test_next_token_labels_are_told_by_the_mask_not_by_the_padding_id(tokenizer: Tokenizer) -> None:
    # 0 is the padding id; as a real token it must be learned.
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": [5, 0]}, {"input_ids": [7, 8, 9]}])
    assert batch["labels"].tolist() == [[5, 0, -100], [7, 8, 9]]


def test_masking_statistics(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    special = sorted(tokenizer.all_special_ids)
    features = [{"input_ids": [101, *[2000 + i] * 400, 102]} for i in range(100)]
    batch = DataCollatorForLanguageModeling(tokenizer)(features)
    tokens, labels = batch["input_ids"], batch["labels"]
    original = torch.tensor([feature["input_ids"] for feature in features])
    chosen = labels != -100
    assert torch.equal(labels[chosen], original[chosen])
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(tokens[~chosen], original[~chosen])
    assert {101, 102} <= {*special}
    # 40 000 tokens: one standard deviation of a share p is sqrt(p (1 - p) / n); four of them are allowed.
    n = chosen.sum().item()
    assert abs(n / 40_000 - 0.15) < 4 * (0.15 * 0.85 / 40_000) ** 0.5
    masked = (tokens[chosen] == tokenizer.mask_token_id).float().mean().item()
    kept = (tokens[chosen] == original[chosen]).float().mean().item()
    assert abs(masked - 0.8) < 4 * (0.8 * 0.2 / n) ** 0.5
    assert abs(kept - 0.1) < 4 * (0.1 * 0.9 / n) ** 0.5


def test_masking_needs_a_mask(tokenizer: Tokenizer) -> None:
    class Plain:
        mask_token_id = None

    with pytest.raises(OptionError, match=r"has no mask token; use DataCollatorForLanguageModeling\(…, mlm=False\)"):
        DataCollatorForLanguageModeling(Plain())
    with pytest.raises(OptionError, match=r"mlm_probability must be in \(0, 1\], but is 1.5"):
        DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.5)
    with pytest.raises(DataError, match="there is no column 'input_ids' to pad; the columns are x"):
        DataCollatorWithPadding(tokenizer)([{"x": 1}])


def test_the_default_collator_as_an_object() -> None:
    given = [{"x": [1.0, 2.0], "label": 3}, {"x": [0.5, 0.0], "label": 1}]
    batch = DefaultDataCollator()(given)
    assert {name: value.tolist() for name, value in batch.items()} == {"x": [[1.0, 2.0], [0.5, 0.0]], "labels": [3, 1]}
    with pytest.raises(OptionError, match="return_tensors must be 'pt', but is 'np'"):
        DefaultDataCollator(return_tensors="np")(given)


def test_choices_are_padded_together(tokenizer: Tokenizer) -> None:
    pairs = tokenizer(["a b", "a b", "c", "c"], ["one", "two three four", "five", "six seven"])
    rows = [
        {**{name: pairs[name][start : start + 2] for name in pairs}, "label": start // 2, "ending": "text"}
        for start in (0, 2)
    ]
    batch = DataCollatorForMultipleChoice(tokenizer)(rows)
    flat = tokenizer.pad(pairs, return_tensors="pt")
    assert {*batch} == {*flat, "labels"}
    assert all(torch.equal(batch[name], flat[name].view(2, 2, -1)) for name in flat)
    assert batch["labels"].tolist() == [0, 1]
    theirs = transformers.DataCollatorForMultipleChoice(
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    )([{name: value for name, value in row.items() if name != "ending"} for row in rows])
    assert all(torch.equal(batch[name], theirs[name]) for name in theirs)
    rows[1]["input_ids"] = rows[1]["input_ids"][:1]
    with pytest.raises(DataError, match="rows have 1 and 2 choices, but those of a batch need the same number"):
        DataCollatorForMultipleChoice(tokenizer)(rows)


@pytest.mark.parametrize("name", ["label", "labels"])
def test_labels_that_are_text_are_refused_with_the_remedy(tokenizer: Tokenizer, name: str) -> None:
    rows = [{**tokenizer("good"), name: "pos"}, {**tokenizer("bad"), name: "neg"}]
    for collate in (default_data_collator, DataCollatorWithPadding(tokenizer)):
        with pytest.raises(
            DataError, match=r"the labels are text \('pos'\), .* dataset\.class_encode_column\('label'\)"
        ):
            collate(rows)
