"""The trainer with an encoder and a decoder: the collator's decoder inputs, label smoothing, the paper's schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from plait.models.auto import AutoModelForSeq2SeqLM
from plait.models.seq2seq import Seq2SeqModel
from plait.text import Tokenizer
from plait.train import DataCollatorForSeq2Seq, Trainer, TrainingArguments


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm)


def small(**values: Any) -> Seq2SeqModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 40}
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1, "hidden_dropout_prob": 0.0}
    return AutoModelForSeq2SeqLM.from_config({"model_type": "transformer", **sizes, **layers, **values})


def rows() -> list[dict[str, list[int]]]:
    """Sequences of 3 to 6 words; the label is the sequence backwards, and the end."""
    numbers = torch.Generator().manual_seed(1)
    texts = [torch.randint(3, 40, (3 + index % 4,), generator=numbers).tolist() for index in range(16)]
    return [{"input_ids": text, "attention_mask": [1] * len(text), "labels": [*text[::-1], 2]} for text in texts]


def trained(model: Seq2SeqModel, tokenizer: Tokenizer, folder: Path, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=16, logging_steps=1, save_strategy="no", **options
    )
    collator = DataCollatorForSeq2Seq(tokenizer, model=model)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows(), data_collator=collator)
    trainer.train()
    return trainer


@pytest.mark.network
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_logged_loss_is_that_of_every_word(tokenizer: Tokenizer, tmp_path: Path, smoothing: float) -> None:
    model = small()
    batch = DataCollatorForSeq2Seq(tokenizer, model=model)(rows())
    labels = batch.pop("labels")
    assert torch.equal(batch["decoder_input_ids"][:, 0], torch.ones(16).long())
    with torch.no_grad():
        logits = model(**batch).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
    trainer = trained(model, tokenizer, tmp_path, max_steps=1, label_smoothing_factor=smoothing)
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    # Logs are rounded to four places at the finest.
    assert logged == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.network
def test_a_small_batch_is_learned_by_heart(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small()
    trained(
        model,
        tokenizer,
        tmp_path,
        max_steps=150,
        learning_rate=4e-3,
        lr_scheduler_type="inverse_sqrt",
        warmup_steps=30,
        adam_beta2=0.98,
    )
    batch = DataCollatorForSeq2Seq(tokenizer, model=model)(rows())
    model.eval()
    answers = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=7).tolist()
    for row, answer in zip(rows(), answers, strict=True):
        assert answer[1 : len(row["labels"]) + 1] == row["labels"]
