"""With plait's own models and tokenizers: fine-tuning, accumulation, resuming, and files that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from plait.models.auto import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from plait.text import Tokenizer
from plait.train import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    load_metric,
)

GOOD = [
    "a fine day",
    "truly wonderful, warm and bright",
    "good",
    "what a lovely film",
    "the best of all",
    "I like it a lot",
]
BAD = ["a bad day", "truly awful, cold and grey", "poor", "what a dreadful film", "the worst of all", "I hate it a lot"]


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm)


def rows(tokenizer: Tokenizer, *, numbers: bool = False) -> list[dict[str, Any]]:
    texts = [text for pair in zip(GOOD, BAD, strict=True) for text in pair]
    return [
        {**tokenizer(text), "text": text, "label": (2.5 if numbers else 1) * (index % 2)}
        for index, text in enumerate(texts)
    ]


def small_bert(**options: Any) -> Any:
    config = AutoConfig.for_model(
        "bert",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=30522,
        **options,
    )
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(str(folder), **{"use_cpu": True, "report_to": "none", "save_strategy": "no", **options})


def test_fine_tuning_as_the_article_does(tmp_path: Path, minilm: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(str(minilm), num_labels=2)
    metric = load_metric("accuracy")

    def compute_metrics(eval_pred: EvalPrediction) -> dict[str, float]:
        logits, labels = eval_pred
        return metric.compute(predictions=np.argmax(logits, axis=-1), references=labels)

    trainer = Trainer(
        model=model,
        args=arguments(
            tmp_path,
            num_train_epochs=6,
            learning_rate=5e-4,
            per_device_train_batch_size=4,
            evaluation_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            save_total_limit=1,
        ),
        train_dataset=rows(tokenizer),
        eval_dataset=rows(tokenizer),
        tokenizer=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
        compute_metrics=compute_metrics,
    )
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    result = trainer.evaluate()
    assert before <= 0.75
    assert result["eval_accuracy"] == 1.0
    assert result["eval_loss"] == trainer.state.best_metric
    trainer.save_model(tmp_path / "final")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "final").eval()
    batch = tokenizer(GOOD + BAD, padding=True, return_tensors="pt")
    with torch.no_grad():
        gap = model.eval()(**batch).logits - theirs(**batch).logits
    assert gap.abs().max() < 1e-4
    again = Tokenizer.from_folder(tmp_path / "final")
    assert again(GOOD[1]) == tokenizer(GOOD[1])


@pytest.mark.parametrize("labels", [1, 2])
def test_a_step_does_not_depend_on_accumulation(tmp_path: Path, tokenizer: Tokenizer, labels: int) -> None:
    """Regression and classification: 12 rows at once, or 5 and 5 and 2."""
    steps = []
    for batch, accumulation in [(12, 1), (5, 3)]:
        model = small_bert(num_labels=labels, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        start = [p.detach().clone() for p in model.parameters()]
        trainer = Trainer(
            model,
            arguments(
                tmp_path,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                num_train_epochs=1,
                max_grad_norm=0,
                lr_scheduler_type="constant",
            ),
            train_dataset=rows(tokenizer, numbers=labels == 1),
            tokenizer=tokenizer,
            optimizers=(torch.optim.SGD(model.parameters(), lr=1.0), None),
        )
        trainer.train()
        steps.append(torch.cat([(p - q).detach().reshape(-1) for p, q in zip(model.parameters(), start, strict=True)]))
    assert steps[0].norm() > 1e-3
    # The step is the gradient itself; entries of size 0.1 from float32 sums over 12 rows of up to 10 tokens.
    assert (steps[0] - steps[1]).abs().max() < 1e-6


def test_resuming_a_model_to_the_bit(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def trainer(**options: Any) -> Trainer:
        args = arguments(
            tmp_path,
            per_device_train_batch_size=5,
            num_train_epochs=2,
            save_strategy="steps",
            save_steps=2,
            logging_steps=1,
        )
        return Trainer(small_bert(num_labels=2, **options), args, train_dataset=rows(tokenizer), tokenizer=tokenizer)

    whole, part = trainer(), trainer(initializer_range=0.5)
    whole.train()
    part.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, part)]
    assert losses[0] == losses[1]
    for (name, a), b in zip(whole.model.named_parameters(), part.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def small_llama(vocabulary: int) -> Any:
    config = AutoConfig.for_model(
        "llama",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def test_a_language_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """It learns a text by heart; tied weights are one parameter, saved once and loaded again."""
    model = small_llama(len(tokenizer))
    trainer = Trainer(
        model,
        arguments(
            tmp_path, num_train_epochs=40, learning_rate=1e-2, per_device_train_batch_size=6, label_smoothing_factor=0.0
        ),
        train_dataset=[{"input_ids": tokenizer(text)["input_ids"]} for text in GOOD + BAD],
        eval_dataset=[{"input_ids": tokenizer(text)["input_ids"]} for text in GOOD + BAD],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert before > 9  # about the logarithm of the vocabulary
    assert after < 1.5
    smoothed = Trainer(
        model,
        arguments(tmp_path, label_smoothing_factor=0.1),
        eval_dataset=[{"input_ids": tokenizer(text)["input_ids"]} for text in GOOD + BAD],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    ).evaluate()["eval_loss"]
    ids = tokenizer(GOOD + BAD, padding=True, return_tensors="pt")
    labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
    with torch.no_grad():
        logits = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=0.1
    )
    assert smoothed == pytest.approx(float(expected), rel=1e-4)
    trainer.save_model(tmp_path / "final")
    other = small_llama(len(tokenizer))
    other.load_weights(tmp_path / "final")
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
