"""One training from its first step to its last, complete: the order of events, what is due after a step, resuming.

    epoch → step: batches → update → due? log, evaluate, save → …      (Trainer.train makes one `Training` and runs it)

Where it is in the data is an epoch and a number of updates within it; from these the sampler knows every later row.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plait.console import logger
from plait.errors import TrainingError
from plait.train import checkpoint, randomness
from plait.train.arguments import steps_of
from plait.train.callbacks import TrainerState, metric_value
from plait.train.loader import Loader
from plait.train.loop import Update, Updater
from plait.train.metrics import TrainOutput
from plait.train.saving import load_model
from plait.train.stream_loader import StreamLoader

if TYPE_CHECKING:
    from plait.train.trainer import Trainer

log = logger("train")

Batch = dict[str, Any]


class Training:
    """One run of `trainer`."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.args = trainer.args
        self.folder = Path(trainer.args.output_dir)
        self.started = time.perf_counter()
        trainer.processes.agree(trainer.model)
        self._enable_gradient_checkpointing()
        trainer.state = trainer.fresh_state()
        self.loader = trainer.get_train_dataloader()
        self.plan: dict[str, Any] = {}  # what the order of the rows depends on
        self.epoch, self.position = 0, 0
        self.steps_per_epoch = self._measure()
        trainer.create_optimizer_and_scheduler(trainer.state.max_steps)
        self.updater = Updater(
            trainer.model,
            trainer.optimizer,
            trainer.lr_scheduler,
            device=trainer.device,
            dtype=trainer.dtype,
            max_norm=self.args.max_grad_norm,
            processes=trainer.processes,
        )
        # Loss and count since the last log line, then since the start; on the device, so that no step waits for them.
        dtype = torch.float32 if trainer.device.type == "mps" else torch.float64
        self.sums = torch.zeros(4, dtype=dtype, device=trainer.device)

    @property
    def state(self) -> TrainerState:
        """The trainer's."""
        return self.trainer.state

    def run(self, source: str | Path | bool | None) -> TrainOutput:
        """Train from the start or from the checkpoint that `source` tells."""
        trainer, control = self.trainer, self.trainer.callbacks.control
        generators = self._resume(source)
        if generators is None:
            randomness.set_seed(randomness.derive(self.args.seed, trainer.processes.rank) % 2**32)
        done = self.state.global_step
        trainer.tell("on_train_begin")
        with trainer.progress.training(self.state.max_steps, done=done) as advance:
            while self.epoch < self.state.num_train_epochs and self.state.global_step < self.state.max_steps:
                batches = self._batches()
                if generators is not None:  # last of all: nothing between here and the next step may draw
                    randomness.restore(generators)
                    generators = None
                control.should_epoch_stop = False
                trainer.tell("on_epoch_begin")
                while not self._epoch_is_over():
                    self._step(batches)
                    advance()
                if control.should_training_stop:
                    break
                self.epoch, self.position = self.epoch + 1, 0
        return self._finish(done)

    # -- before --------------------------------------------------------------------------------------------------------

    def _enable_gradient_checkpointing(self) -> None:
        if not self.args.gradient_checkpointing:
            return
        enable = getattr(self.trainer.model, "gradient_checkpointing_enable", None)
        if enable is None:
            name = type(self.trainer.model).__name__
            raise TrainingError(f"gradient_checkpointing=True, but {name} has no gradient_checkpointing_enable().")
        enable()

    def _measure(self) -> int:
        """Fill in how long the run is; returns the updates per epoch."""
        args, state, batches = self.args, self.state, len(self.loader)
        if not batches:
            raise TrainingError("the training loader has no batches.")
        steps_per_epoch = -(-batches // args.gradient_accumulation_steps)
        state.max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch)
        state.num_train_epochs = -(-state.max_steps // steps_per_epoch)
        for name in ("logging_steps", "eval_steps", "save_steps"):
            setattr(state, name, steps_of(getattr(args, name), state.max_steps))
        self.plan = {"batches": batches, "gradient_accumulation_steps": args.gradient_accumulation_steps}
        if isinstance(self.loader, Loader):
            plan = self.loader.batches.plan
            self.plan |= {"rows": plan.rows, "batch size of all processes": plan.global_batch}
            self.plan |= {"seed": plan.seed, "train_sampling_strategy": plan.strategy}
        if isinstance(self.loader, StreamLoader):
            # a stream has no length: the run is one epoch, however often the stream begins anew, and may be prolonged
            del self.plan["batches"]
            self.plan |= self.loader.plan
        return steps_per_epoch

    def _resume(self, source: str | Path | bool | None) -> Mapping[str, Tensor] | None:
        """Take up a checkpoint; returns the random generators' states, to be set last, or None for a fresh start."""
        trainer = self.trainer
        if trainer.processes.main:
            checkpoint.sweep(self.folder)
        trainer.processes.barrier()
        if source is None or source is False:
            if found := checkpoint.checkpoints(self.folder):
                remedy = "train(resume_from_checkpoint=True) goes on from it"
                log.warning("%s holds %s of an earlier run; %s.", self.folder, found[-1].name, remedy)
            return None
        folder = checkpoint.locate(source, self.folder)
        saved = TrainerState.load_from_json(folder / checkpoint.STATE)
        progress = checkpoint.read_json(folder / checkpoint.PROGRESS)
        self._check_plan(progress["plan"], folder)
        load_model(trainer.model, folder)
        names = [name for name in ("optimizer", "scheduler", "scaler") if (folder / f"{name}.json").exists()]
        self.updater.load_state({name: checkpoint.read_tree(folder, name) for name in names})
        trainer.callbacks.load_states(saved.stateful_callbacks)
        self.sums += torch.tensor(progress["sums"], dtype=torch.float64).to(self.sums)
        self.epoch, self.position = progress["epoch"], progress["position"]
        if isinstance(self.loader, StreamLoader):
            self._resume_stream(progress, folder)
        moved = self.folder / f"checkpoint-{saved.best_global_step}"
        if saved.best_model_checkpoint and not Path(saved.best_model_checkpoint).is_dir() and moved.is_dir():
            saved.best_model_checkpoint = str(moved)
        # How far it has come is the checkpoint's; how far it goes, and who it is, is this run's.
        done = ("epoch", "global_step", "log_history", "best_metric", "best_global_step", "best_model_checkpoint")
        trainer.state = dataclasses.replace(self.state, **{name: getattr(saved, name) for name in done})
        log.info("resuming from %s", folder)
        generators: dict[int, dict[str, Tensor]] = checkpoint.read_tree(folder, "random")
        if trainer.processes.rank not in generators:
            log.warning(
                "%s was saved by %d processes: not every random number will be the same.", folder, len(generators)
            )
        return generators.get(trainer.processes.rank)

    def _resume_stream(self, progress: Mapping[str, Any], folder: Path) -> None:
        if "stream" not in progress:
            raise TrainingError(f"cannot resume from {folder}: its run was on a data set, and this one is on a stream.")
        self.loader.load_state(progress["stream"])
        # a run may go on beyond its old end
        self.epoch, self.position = 0, progress["stream"]["given"] // self.args.gradient_accumulation_steps

    def _check_plan(self, saved: Mapping[str, Any], folder: Path) -> None:
        for name, value in self.plan.items():
            if saved.get(name) != value:
                raise TrainingError(
                    f"cannot resume from {folder}: in its run, {name} was {saved.get(name)!r}, now it is "
                    f"{value!r}, so other rows would come next. Give both runs the same data and batch arguments."
                )

    # -- step by step --------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[Batch | None]:
        """The batches that remain of this epoch."""
        loader = self.loader
        if isinstance(loader, StreamLoader):
            return iter(loader)
        position = self.position * self.args.gradient_accumulation_steps
        if isinstance(loader, Loader):
            loader.seek(self.epoch, position)
            return iter(loader)
        if position:
            log.warning("this loader cannot seek: %d batches are read and thrown away to resume.", position)
        return itertools.islice(iter(loader), position, None)

    def _epoch_is_over(self) -> bool:
        control = self.trainer.callbacks.control
        return self.position == self.steps_per_epoch or control.should_epoch_stop or control.should_training_stop

    def _step(self, batches: Iterator[Batch | None]) -> None:
        """One update, and what is due after it."""
        trainer, control = self.trainer, self.trainer.callbacks.control
        trainer.model.train()
        trainer.tell("on_step_begin")
        update = self.updater.update(
            itertools.islice(batches, self.args.gradient_accumulation_steps),
            trainer.training_loss,
            after_batch=lambda: trainer.tell("on_substep_end"),
            before_step=lambda: trainer.tell("on_pre_optimizer_step"),
            after_step=lambda: trainer.tell("on_optimizer_step"),
        )
        self.sums += torch.stack([update.total, update.count, update.total, update.count])
        self.state.global_step += 1
        self.position += 1
        self.state.epoch = self.epoch + self.position / self.steps_per_epoch
        trainer.tell("on_step_end")
        if self._epoch_is_over():
            trainer.tell("on_epoch_end")
        if control.should_log:
            control.should_log = False
            self._log(update)
        if control.should_evaluate:
            control.should_evaluate = False
            self._note_best(trainer.evaluate())
        if control.should_save:
            control.should_save = False
            self._save()

    def _log(self, update: Update) -> None:
        loss = self._mean(0)
        self.sums[:2] = 0
        if not math.isfinite(loss):
            remedy = "look for NaN in inputs and labels, or lower learning_rate"
            log.warning("the loss is %s at step %d: %s.", loss, self.state.global_step, remedy)
        self.trainer.progress.note(f"loss {loss:.4g}")
        self.trainer.log({"loss": loss, "grad_norm": float(update.norm), "learning_rate": update.rate})

    def _mean(self, start: int) -> float:
        total, count = self.sums[start : start + 2].tolist()
        return total / count if count else 0.0

    def _note_best(self, metrics: Mapping[str, Any]) -> None:
        """Remember the best value of metric_for_best_model."""
        name, state = self.args.metric_for_best_model, self.state
        if name is None:
            return
        value = metric_value(metrics, name)
        if value is None:
            raise TrainingError(
                f"metric_for_best_model is {name!r}, but the evaluation gave {', '.join(metrics)}. Name one of these."
            )
        sign = 1 if self.args.greater_is_better else -1
        if math.isfinite(value) and (state.best_metric is None or (value - state.best_metric) * sign > 0):
            state.best_metric, state.best_global_step = value, state.global_step
            self.trainer.callbacks.control.should_save |= self.args.save_strategy == "best"

    def _save(self) -> None:
        """Write a checkpoint of this step, and remove those that are no longer wanted."""
        trainer, state = self.trainer, self.state
        state.stateful_callbacks = trainer.callbacks.states()
        if state.best_global_step == state.global_step:
            state.best_model_checkpoint = str(self.folder / f"checkpoint-{state.global_step}")
        processes = trainer.processes
        parts = {name: processes.gather(tensor) for name, tensor in randomness.capture().items()}
        generators = {rank: {name: part[rank] for name, part in parts.items()} for rank in range(processes.count)}
        over = self.position == self.steps_per_epoch or trainer.callbacks.control.should_epoch_stop
        place = {"epoch": self.epoch + 1, "position": 0} if over else {"epoch": self.epoch, "position": self.position}
        progress = {**place, "sums": self.sums.tolist(), "plan": self.plan}
        if isinstance(self.loader, StreamLoader):
            progress["stream"] = self.loader.state()

        def write(folder: Path) -> None:
            trainer.write_model(folder)
            for name, tree in {**self.updater.state(), "random": generators}.items():
                checkpoint.write_tree(folder, name, tree)
            state.save_to_json(folder / checkpoint.STATE)
            checkpoint.write_json(folder / checkpoint.PROGRESS, progress)

        if processes.main:
            written = checkpoint.commit(self.folder, state.global_step, write)
            best = [Path(state.best_model_checkpoint)] if state.best_model_checkpoint else []
            checkpoint.rotate(self.folder, self.args.save_total_limit, keep=[written, *best])
        processes.barrier()
        trainer.tell("on_save")

    # -- after ---------------------------------------------------------------------------------------------------------

    def _finish(self, done: int) -> TrainOutput:
        trainer, seconds = self.trainer, time.perf_counter() - self.started
        steps = self.state.global_step - done
        rows = getattr(self.loader, "num_examples", 0) * steps / self.steps_per_epoch
        metrics = {
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(rows / seconds, 3),
            "train_steps_per_second": round(steps / seconds, 3),
            "train_loss": self._mean(2),
        }
        trainer.log(metrics)
        if self.args.load_best_model_at_end:
            self._load_best()
        trainer.callbacks.control.should_training_stop = False
        trainer.tell("on_train_end")
        trainer.progress.final(f"trained {steps} steps in {seconds:.1f} s, loss {metrics['train_loss']:.4g}")
        return TrainOutput(self.state.global_step, metrics["train_loss"], {**metrics, "epoch": self.state.epoch})

    def _load_best(self) -> None:
        best = self.state.best_model_checkpoint
        if best is None or checkpoint.problem(Path(best)):
            log.warning("load_best_model_at_end=True, but no checkpoint holds the best evaluation; the model stays.")
            return
        load_model(self.trainer.model, Path(best))
        metric = self.args.metric_for_best_model
        log.info("loaded the best model: %s of %.6g, from %s", metric, self.state.best_metric, best)
