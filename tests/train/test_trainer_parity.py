"""Against the reference trainer on a tiny causal language model: ten steps, the same rows in the same order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plait.train import Trainer, TrainingArguments

CONFIG = transformers.LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    initializer_range=0.2,
)


def rows() -> list[dict[str, Any]]:
    """Rows of equal length, so that every batch has as many labels; a mark of -100 at the start of each."""
    ids = torch.randint(0, 32, (40, 12), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": torch.cat([torch.tensor([-100, -100]), row[2:]])} for row in ids]


def pair(folder: Path, **options: Any) -> tuple[list[float], list[float], float]:
    """Logged losses of both, and the largest difference of their parameters relative to how far they moved."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(CONFIG)
    twin, start = copy.deepcopy(model), copy.deepcopy(model)
    common: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "max_steps": 10,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "warmup_steps": 2,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "optim": "adamw_torch",
        "train_sampling_strategy": "sequential",
        **options,
    }
    ours = Trainer(model, TrainingArguments(str(folder / "ours"), **common), train_dataset=rows())
    ours.train()
    theirs = transformers.Trainer(
        twin,
        transformers.TrainingArguments(str(folder / "theirs"), **common),
        train_dataset=rows(),  # type: ignore[arg-type]
    )
    theirs.train()
    gap = max((a - b).abs().max().item() for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    moved = max((a - b).abs().max().item() for a, b in zip(model.parameters(), start.parameters(), strict=True))
    assert moved > 3e-3
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (ours, theirs)]
    return losses[0], losses[1], gap


@pytest.mark.parametrize("accumulation", [1, 2])
def test_ten_steps_agree(tmp_path: Path, accumulation: int) -> None:
    ours, theirs, gap = pair(tmp_path, gradient_accumulation_steps=accumulation)
    assert gap < 1e-5
    assert len(ours) == 10
    # The reference rounds what it logs to four digits behind the point.
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_ten_steps_without_clipping_or_decay(tmp_path: Path) -> None:
    _, _, gap = pair(tmp_path, max_grad_norm=0.0, weight_decay=0.0, lr_scheduler_type="linear")
    assert gap < 1e-5


def test_regression_does_not_depend_on_accumulation_here(tmp_path: Path) -> None:
    """Eight rows in one batch or in four: one step of plain descent must be the same step.

    In the reference, a step of this model is multiplied by the number of accumulated batches.
    """
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    torch.manual_seed(0)
    start = transformers.BertForSequenceClassification(config)
    data = [{"input_ids": row["input_ids"], "labels": float(i)} for i, row in enumerate(rows()[:8])]

    def step(trainer: Any, arguments: Any, batch: int, folder: str) -> float:
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        args = arguments(
            str(tmp_path / folder),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            max_steps=1,
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer(model, args, train_dataset=data, optimizers=(optimizer, None)).train()
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return float(torch.cat([(a - b).detach().reshape(-1) for a, b in pairs]).norm())

    ours = [step(Trainer, TrainingArguments, batch, f"ours{batch}") for batch in (8, 2)]
    theirs = [step(transformers.Trainer, transformers.TrainingArguments, batch, f"theirs{batch}") for batch in (8, 2)]
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    assert ours[1] == pytest.approx(ours[0], rel=1e-5)
    # Measured in transformers 5.23; when a later version is right, this line may go.
    assert theirs[1] / theirs[0] == pytest.approx(4.0, rel=1e-3) or theirs[1] == pytest.approx(theirs[0], rel=1e-3)


@pytest.mark.parametrize("tied", [True, False])
def test_models_of_the_reference_library_resume_too(tmp_path: Path, tied: bool) -> None:
    config = copy.deepcopy(CONFIG)
    config.tie_word_embeddings = tied

    def trainer(seed: int) -> Trainer:
        torch.manual_seed(seed)
        args = TrainingArguments(
            str(tmp_path), max_steps=6, save_steps=3, logging_steps=1, report_to="none", use_cpu=True
        )
        return Trainer(transformers.LlamaForCausalLM(config), args, train_dataset=rows())

    whole, part = trainer(0), trainer(1)
    whole.train()
    part.train(resume_from_checkpoint=tmp_path / "checkpoint-3")
    for (name, a), b in zip(whole.model.named_parameters(), part.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "checkpoint-6")
    for a, b in zip(whole.model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
