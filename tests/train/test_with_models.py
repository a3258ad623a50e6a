"""With plait's own models and tokenizers: fine-tuning, accumulation, resuming, and files that others read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from plait.models.auto import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from plait.text import Tokenizer
from plait.train import (
    AdamW,
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


def test_the_arguments_of_the_article(
    tmp_path: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole call, on a CPU, without the two trackers: it trains, and says what it does in their place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    training_args = TrainingArguments(
        output_dir="./results",
        num_train_epochs=3,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        warmup_steps=500,
        weight_decay=0.01,
        logging_dir="./logs",
        logging_steps=100,
        evaluation_strategy="steps",
        eval_steps=500,
        save_strategy="steps",
        save_steps=500,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        learning_rate=2e-5,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        gradient_accumulation_steps=2,
        fp16=True,
        fp16_opt_level="O1",
        dataloader_drop_last=True,
        dataloader_num_workers=4,
        seed=42,
        report_to=["tensorboard", "wandb"],
    )
    padded = [
        {**row, **tokenizer(row["text"], truncation=True, padding="max_length", max_length=16)}
        for row in rows(tokenizer)
    ]
    trainer = Trainer(
        model=small_bert(num_labels=2),
        args=training_args,
        train_dataset=padded,
        eval_dataset=padded,
        tokenizer=tokenizer,
        compute_metrics=["accuracy"],
        data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
    )
    assert trainer.train().global_step == 3  # 12 rows: one full batch per epoch
    assert "fp16=True needs a CUDA device; on cpu float32 is used instead." in caplog.text
    assert "report_to='wandb' is left out" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "results"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["checkpoint-3"]
    assert any(path.name.startswith("events.out.tfevents") for path in (tmp_path / "logs").iterdir())
    assert trainer.state.best_model_checkpoint == "results/checkpoint-3"
    assert trainer.evaluate()["eval_loss"] == trainer.state.best_metric
    assert trainer.predict(padded).predictions.shape == (12, 2)


class QwenRegression(torch.nn.Module):
    """The article's regression: features → adapter → frozen Transformer → one number."""

    def __init__(self, base_model: Any) -> None:
        super().__init__()
        self.base_model = base_model
        self.feature_adapter = torch.nn.Linear(4, base_model.config.hidden_size)
        self.regressor = torch.nn.Linear(base_model.config.hidden_size, 1)
        for param in self.base_model.parameters():
            param.requires_grad = False

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        adapted = self.feature_adapter(input_features).unsqueeze(1)
        last_hidden = self.base_model(inputs_embeds=adapted).last_hidden_state[:, 0, :]
        return self.regressor(last_hidden).squeeze(-1)


def test_the_regression_of_the_article(tmp_path: Path, minilm: Path) -> None:
    features = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    power = features @ torch.tensor([2.0, -1.0, 0.5, 0.0])
    data = [{"input_features": x, "labels": y} for x, y in zip(features, power, strict=True)]

    def trainer() -> Trainer:
        torch.manual_seed(0)
        model = QwenRegression(AutoModel.from_pretrained(str(minilm)))
        optimizer = AdamW(
            [{"params": model.feature_adapter.parameters()}, {"params": model.regressor.parameters()}], lr=2e-3
        )
        return Trainer(
            model,
            arguments(
                tmp_path,
                loss="mse",
                num_train_epochs=6,
                per_device_train_batch_size=32,
                save_strategy="epoch",
                save_total_limit=1,
            ),
            train_dataset=data[:800],
            eval_dataset=data[800:],
            compute_metrics=["r2", "rmse"],
            optimizers=(optimizer, None),
        )

    run = trainer()
    frozen = [p.detach().clone() for p in run.model.base_model.parameters()]
    untrained = run.evaluate()["eval_r2"]
    run.train()
    result = run.evaluate()
    assert result["eval_r2"] > 0.5 > untrained  # 150 steps of two small layers around a frozen network
    for before, after in zip(frozen, run.model.base_model.parameters(), strict=True):
        assert torch.equal(before, after)
    again = trainer()
    again.train(resume_from_checkpoint=True)
    assert again.evaluate()["eval_loss"] == result["eval_loss"]


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
