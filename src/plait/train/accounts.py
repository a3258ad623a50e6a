"""What a script asks of a trainer about its run, complete: metrics printed and kept, the state written, counts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from plait import disk
from plait.errors import TrainingError
from plait.train.arguments import TrainingArguments
from plait.train.callbacks import TrainerState
from plait.train.card import card
from plait.train.checkpoint import STATE, read_json
from plait.train.distributed import Processes


class Accounts:
    """What a `Trainer` tells of itself; files go to `output_dir`, from the main process alone."""

    args: TrainingArguments
    model: nn.Module
    optimizer: Any
    state: TrainerState
    processes: Processes

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Print the metrics of "train", "eval" or "test", a line each, by name."""
        if self.processes.main:
            width = max(map(len, metrics), default=0)
            lines = (f"  {name:<{width}} = {_shown(name, metrics[name])}" for name in sorted(metrics))
            sys.stdout.write("\n".join([f"***** {split} metrics *****", *lines, ""]))

    def save_metrics(self, split: str, metrics: Mapping[str, Any], combined: bool = True) -> None:
        """Write the metrics to `split`_results.json; with `combined`, add them to all_results.json too."""
        if not self.processes.main:
            return
        folder = Path(self.args.output_dir)
        disk.write_json(folder / f"{split}_results.json", dict(metrics))
        if combined:
            path = folder / "all_results.json"
            before = read_json(path) if path.is_file() else {}
            disk.write_json(path, {**before, **metrics})

    def save_state(self) -> None:
        """Write how far the run has come, and its history, to trainer_state.json."""
        if self.processes.main:
            Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
            self.state.save_to_json(Path(self.args.output_dir) / STATE)

    def create_model_card(
        self,
        *,
        model_name: str | None = None,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write README.md: what is said here, the arguments of the run that are not defaults, and its evaluations."""
        if not self.processes.main:
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "language": language,
            "license": license,
            "base_model": finetuned_from,
            "tags": [*_listed(tags), *_listed(tasks)],
            "datasets": _listed(dataset_tags) or _listed(dataset),
            "dataset_args": _listed(dataset_args),
        }
        text = card(self.args, self.state.log_history, name=model_name or folder.resolve().name, facts=facts)
        with disk.replaced(folder / "README.md") as aside:
            aside.write_text(text, encoding="utf-8")

    def num_examples(self, dataloader: Any) -> int:
        """The rows that a loader goes over."""
        return int(dataloader.num_examples if hasattr(dataloader, "num_examples") else len(dataloader.dataset))

    def get_num_trainable_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(part.numel() for part in self.model.parameters() if part.requires_grad)

    def get_learning_rates(self) -> list[float]:
        """The present rate of each group of the optimizer. Raises `TrainingError` before there is one."""
        if self.optimizer is None:
            raise TrainingError("there is no optimizer before train(), or create_optimizer(), has made one.")
        return [group["lr"] for group in self.optimizer.param_groups]


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _shown(name: str, value: Any) -> str:
    if name.endswith("_runtime") and isinstance(value, int | float):
        minutes, seconds = divmod(float(value), 60)
        hours, minutes = divmod(int(minutes), 60)
        return f"{hours}:{minutes:02}:{seconds:05.2f}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
