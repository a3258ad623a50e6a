"""Two processes under torchrun's variables: the same parameters, losses, predictions and resumed bits as one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_models import Regressor, Tagger, numbers, pad_rows, tokens

from plait.train import Trainer, TrainingArguments

HERE = Path(__file__)


class Branched(Regressor):
    """A part that only some rows use, and one that none do: gradients that one process has and another has not."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.rare, self.never = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output, rare = super().forward(features), features[:, 0] > 1
        return (
            output.index_add(0, rare.nonzero()[:, 0], self.rare(features[rare]).squeeze(-1)) if rare.any() else output
        )


def run(case: str, folder: Path, *, batch: int, resume: bool = False) -> None:
    """Train one case and write what came of it; a process of several writes its own predictions."""
    torch.manual_seed(1 + int(os.environ.get("RANK", 0)))  # each process starts from other weights
    options: dict[str, Any] = {
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": batch,
        "num_train_epochs": 2,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
        "logging_steps": 1,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.5,
        "save_steps": 3,
        "use_cpu": True,
        "report_to": "none",
    }
    if case == "tags":
        model: torch.nn.Module = Tagger()
        rows, extra = tokens(25), {"data_collator": pad_rows}
        if os.environ.get("RANK", "0") != "0":
            model.head.weight.data.zero_()  # the main process's weights count
    else:
        options["loss"] = "huber"
        rows, extra = numbers(25), {}
        torch.manual_seed(0)
        model = Branched() if case == "branches" else Regressor(dropout=0.3 if case == "dropout" else 0.0)
    trainer = Trainer(
        model,
        TrainingArguments(str(folder), **options),
        train_dataset=rows,
        eval_dataset=rows[:13],
        compute_metrics=["accuracy"]
        if case == "tags"
        else lambda p: {"mae": float(abs(p.predictions - p.label_ids).mean())},
        **extra,
    )
    trainer.train(resume_from_checkpoint=folder / "checkpoint-3" if resume else None)
    evaluated = trainer.evaluate()
    predicted = trainer.predict(rows[:7])
    trainer.save_model(folder / "final")
    seen = {name: value for name, value in evaluated.items() if not name.endswith(("_runtime", "_per_second"))}
    result = {
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "norms": [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry],
        "evaluated": seen,
        "predictions": predicted.predictions.tolist(),
        "labels": predicted.label_ids.tolist(),
    }
    (folder / f"result-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))


def launch(case: str, folder: Path, *, resume: bool = False) -> None:
    """The same in two processes of half the batch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE), case, str(folder), str(int(resume))],
            env={**os.environ, **places, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def results(folder: Path, rank: int = 0) -> dict[str, Any]:
    return dict(json.loads((folder / f"result-{rank}.json").read_text()))


@pytest.mark.parametrize("case", ["numbers", "branches", "tags"])
def test_two_processes_are_one(tmp_path: Path, case: str) -> None:
    """25 rows in batches of 8: the last batch has one row, so one process has none."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    run(case, alone, batch=8)
    launch(case, together)
    one, two = results(alone), results(together)
    state = load_file(alone / "final" / "model.safetensors")
    for name, tensor in load_file(together / "final" / "model.safetensors").items():
        assert (tensor - state[name]).abs().max() < 1e-6, name
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert two["norms"] == pytest.approx(one["norms"], rel=1e-5)
    assert two["evaluated"] == pytest.approx(one["evaluated"], rel=1e-5)
    # Behind the tokens, padding differs: there is as much as the longest row of a process's own batch asks for.
    counted = torch.tensor(one["labels"]) != -100
    gap = torch.tensor(two["predictions"])[counted] - torch.tensor(one["predictions"])[counted]
    assert gap.abs().max() < 1e-5
    assert two["labels"] == one["labels"]
    assert results(together, 1) == two  # both processes know everything


def test_two_processes_resume_to_the_bit(tmp_path: Path) -> None:
    """Each process has its own dropout; both states are in the checkpoint."""
    launch("dropout", tmp_path)
    whole = results(tmp_path)
    final = (tmp_path / "final" / "model.safetensors").read_bytes()
    launch("dropout", tmp_path, resume=True)
    assert results(tmp_path) == whole
    assert (tmp_path / "final" / "model.safetensors").read_bytes() == final


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], Path(sys.argv[2]), batch=4, resume=sys.argv[3] == "1")
    # Everything is written. Gloo's own threads now and then abort a process that ends in the ordinary way.
    os._exit(0)
