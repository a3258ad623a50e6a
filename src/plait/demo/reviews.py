"""The text classification of the demo, complete: sentences of film reviews, good or bad, every weight trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plait.demo import files
from plait.demo.stages import Stages

_SEED = 42
LABELS = ("negative", "positive")


def load() -> Any:
    """The sentences as a training part of 800 and a test part of 200."""
    from plait.data import load_dataset

    dataset = load_dataset("csv", data_files=str(files.table("reviews.csv")), split="train")
    return dataset.train_test_split(test_size=0.2, seed=_SEED)


def encoded(parts: Any, tokenizer: Any) -> Any:
    """The sentences as token ids beside their labels."""

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        return dict(tokenizer(batch["text"], truncation=True, max_length=128))

    unused = [name for name in parts["train"].column_names if name != "label"]
    return parts.map(encode, batched=True, remove_columns=unused)


def run(stages: Stages, reference: str, output: Path, *, small: bool = False, epochs: int | None = None) -> None:
    """Fine-tune and measure on the held-out sentences; leaves the model in `output`/model.

    A `small` network, which knows little beforehand, takes larger steps and more of them.
    """
    import numpy as np
    import torch

    from plait.models.auto import AutoModelForSequenceClassification, AutoTokenizer
    from plait.train import DataCollatorWithPadding, Trainer, TrainingArguments

    parts = load()
    tokenizer = AutoTokenizer.from_pretrained(reference)
    rows = encoded(parts, tokenizer)
    torch.manual_seed(_SEED)  # of the new head
    model = AutoModelForSequenceClassification.from_pretrained(
        reference, id2label=dict(enumerate(LABELS)), label2id={name: index for index, name in enumerate(LABELS)}
    )
    stages.say(f"   {len(rows['train'])} sentences to learn from, {len(rows['test'])} held out")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=epochs or (8 if small else 3),
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=1e-3 if small else 1e-4,
            warmup_steps=0.1,
            train_sampling_strategy="group_by_length",
            logging_strategy="epoch",
            save_strategy="no",
            seed=_SEED,
        ),
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda result: {"accuracy": float(np.mean(result[0].argmax(-1) == result[1]))},
    )
    trainer.train()
    result = trainer.evaluate()
    commoner = max(np.mean(parts["test"]["label"]), 1 - np.mean(parts["test"]["label"]))
    stages.say(f"   accuracy on the held-out sentences: {result['eval_accuracy']:.1%}; guessing: {commoner:.1%}")
    if small:
        stages.say("   That is what 800 sentences alone can teach; the pretrained model reaches about 86%.")
    trainer.save_model(str(output / "model"))
    for row in parts["test"].select(range(3)):
        scores = model.eval()(**tokenizer(row["text"], return_tensors="pt").to(model.device)).logits
        share = scores.softmax(-1)[0].tolist()
        verdict = LABELS[share.index(max(share))]
        stages.say(f"   {verdict} ({max(share):.0%} sure; people: {LABELS[row['label']]}): {row['text']}")
