"""The trainer, complete: it puts the rooms of this package together into `train`, `evaluate` and `predict`.

What a batch is (loader, sampler), what a loss is (criterion, loss), what an update is (loop), what a checkpoint is
(checkpoint), what happens after what (training) and what is told to whom (callbacks, report, trackers) is decided
there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plait import settings
from plait.console import logger
from plait.errors import OptionError, TrainingError
from plait.nn.loss import LossTerms
from plait.train import randomness
from plait.train.accounts import Accounts
from plait.train.arguments import TrainingArguments
from plait.train.callbacks import Callbacks, DefaultFlowCallback, TrainerCallback, TrainerState
from plait.train.checkpoint import write_json
from plait.train.collate import DataCollatorWithPadding, default_data_collator
from plait.train.criterion import Criterion, LossFunction
from plait.train.distributed import join
from plait.train.evaluation import Evaluation, Scored, evaluate
from plait.train.loader import Batches, Loader, UsedColumns, check_rows, lengths_of
from plait.train.loop import autocast
from plait.train.loss import as_terms, read_predictions
from plait.train.metrics import EvalPrediction, Metric, PredictionOutput, TrainOutput, load_metric
from plait.train.optim import check_optimizer, make_optimizer, trainable_parameters
from plait.train.progress import Progress
from plait.train.report import ReportCallback
from plait.train.sampler import BatchPlan
from plait.train.saving import save_model
from plait.train.schedule import get_scheduler
from plait.train.stream_loader import StreamLoader, is_stream, training_loader
from plait.train.trackers import trackers
from plait.train.training import Training

log = logger("train")

Batch = dict[str, Any]
ComputeMetrics = Callable[[EvalPrediction], Mapping[str, Any]] | str | Metric | Sequence[str | Metric]


class Trainer(Accounts):
    """Trains, evaluates and runs a model on data sets of named columns.

    `model` is any `nn.Module`, or `model_init` makes a fresh one per call of `train`. `processing_class` (also spelled
    `tokenizer`) pads batches and is saved with the model. `compute_metrics` is a function of `EvalPrediction`, for
    which all predictions are kept, or a metric, its name or several of these, which stream in constant memory.
    `optimizers` replaces optimizer and schedule. To change the loss, override `compute_loss` (taken as a mean over the
    labels of its batch) or pass `compute_loss_func(output, labels)` (a mean, a pair (sum, count) or `LossTerms`).

    Raises `OptionError` and `TrainingError`.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        data_collator: Callable[[list[Any]], Mapping[str, Any]] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        tokenizer: Any = None,
        model_init: Callable[[], nn.Module] | None = None,
        compute_loss_func: LossFunction | None = None,
        compute_metrics: ComputeMetrics | None = None,
        callbacks: Iterable[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.args = args or TrainingArguments()
        if (model is None) == (model_init is None):
            raise OptionError("Trainer needs either model or model_init, and not both.")
        if tokenizer is not None and processing_class is not None and tokenizer is not processing_class:
            raise OptionError("tokenizer and processing_class are two names of one argument, with different values.")
        if model_init is not None and any(part is not None for part in optimizers):
            raise OptionError("optimizers belong to one model, but model_init makes a new one for each training.")
        self.device = self.args.device
        self.processes = join(self.device)
        randomness.set_seed(self.args.seed)
        self.model_init = model_init
        self.compute_loss_func = compute_loss_func
        self._own_loss = type(self).compute_loss is not Trainer.compute_loss
        first = model_init() if model_init is not None else model
        assert first is not None
        self._place(first)
        self.processing_class = processing_class if processing_class is not None else tokenizer
        self.data_collator = data_collator or (
            DataCollatorWithPadding(self.processing_class)
            if hasattr(self.processing_class, "pad")
            else default_data_collator
        )
        self.train_dataset = train_dataset
        if train_dataset is not None:
            trainable_parameters(first)  # refuses a model in which there is nothing to train
        self.eval_dataset = eval_dataset
        self.compute_metrics, self.metrics = _split_metrics(compute_metrics)
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self._given_optimizers = optimizers
        self.optimizer, self.lr_scheduler = optimizers
        self.dtype = self.args.autocast_dtype
        self.progress = Progress(enabled=not self.args.disable_tqdm and self.processes.main)
        self.state = self.fresh_state()
        self.callbacks = Callbacks(self.args, self.state)
        self.report = None if self.args.report_to == ["none"] else ReportCallback(self.args.report_dir)
        for callback in (
            DefaultFlowCallback(),
            *trackers(self.args),
            *([self.report] if self.report else []),
            *(callbacks or ()),
        ):
            self.callbacks.add(callback)
        self.training: Training | None = None
        self._unused: set[str] = set()
        self.tell("on_init_end")

    # -- callbacks and state -------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """`processing_class` by its older name."""
        return self.processing_class

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Add a callback, or one made from its class."""
        self.callbacks.add(callback)

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Remove a callback, or the first of a class."""
        self.pop_callback(callback)

    def pop_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """Remove a callback, or the first of a class, and return it; None when there is none."""
        member = self.callbacks.find(callback)
        if member is not None:
            self.callbacks.members.remove(member)
        return member

    def is_world_process_zero(self) -> bool:
        """Whether this process writes files and prints."""
        return self.processes.main

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add an entry to the history, stamped with epoch and step, and tell callbacks and the logger.

        `start_time` is there for overrides that pass it on; speeds are measured where work begins and ends.
        """
        entry = {**logs, "epoch": round(self.state.epoch, 6)}
        self.state.log_history.append({**entry, "step": self.state.global_step})
        if self.processes.main:
            shown = ", ".join(f"{name} {_short(value)}" for name, value in entry.items())
            self.progress.entry(f"step {self.state.global_step}: {shown}")
        self.tell("on_log", logs=entry)

    def tell(self, event: str, **context: Any) -> None:
        """Tell the callbacks of an event, with what they may want to see."""
        self.callbacks.state = self.state
        self.callbacks.call(
            event,
            model=self.model,
            processing_class=self.processing_class,
            optimizer=self.optimizer,
            lr_scheduler=self.lr_scheduler,
            **context,
        )

    def fresh_state(self) -> TrainerState:
        """The state of a run that has not begun."""
        return TrainerState(
            is_local_process_zero=settings.torchrun().local_rank == 0,
            is_world_process_zero=self.processes.main,
            train_batch_size=self.args.per_device_train_batch_size,
        )

    def _place(self, model: nn.Module) -> None:
        self.model = model.to(self.device)
        self.criterion = Criterion(model, self.args, self.compute_loss_func)

    # -- batches -------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """The loader of the training set: `len`, `num_batches`, and iteration over the batches of its first epoch."""
        if self.train_dataset is None:
            raise TrainingError("training needs a train_dataset.")
        return self._loader(self.train_dataset, "train_dataset", training=True)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """The loader of the evaluation set, or of `eval_dataset` (a name, when eval_dataset is a dict of sets)."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, str):
            rows = self.eval_dataset[rows]
        if rows is None:
            raise TrainingError("evaluation needs an eval_dataset.")
        return self._loader(rows, "eval_dataset", training=False)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The loader of a set to predict."""
        return self._loader(test_dataset, "test_dataset", training=False)

    def _loader(self, rows: Any, name: str, *, training: bool) -> Any:
        args, stream = self.args, is_stream(rows)
        count = 0 if stream else check_rows(rows, name)
        keep = None
        if args.remove_unused_columns:
            keep = UsedColumns(self.model, self.criterion.label_names, said=self._unused, name=name)
            keep.expect(getattr(rows, "column_names", None) or ())
        if stream:
            return self._stream_loader(rows, keep, training=training)
        strategy = args.train_sampling_strategy if training else "sequential"
        plan = BatchPlan(
            rows=count,
            batch=args.per_device_train_batch_size if training else args.per_device_eval_batch_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            strategy=strategy,
            lengths=lengths_of(rows) if strategy == "group_by_length" else None,
            drop_last=args.dataloader_drop_last and training,
            rank=self.processes.rank,
            processes=self.processes.count,
        )
        batches = Batches(rows, plan=plan, collate=self.data_collator, keep=keep)
        return Loader(batches, workers=args.dataloader_num_workers, pin_memory=self.device.type == "cuda")

    def _stream_loader(self, stream: Any, keep: UsedColumns | None, *, training: bool) -> StreamLoader:
        args = self.args
        if args.dataloader_num_workers:
            log.info("dataloader_num_workers has no effect on a stream: the training reads it, to know its place")
        parts: dict[str, Any] = {
            "batch": args.per_device_train_batch_size if training else args.per_device_eval_batch_size,
            "collate": self.data_collator,
            "keep": keep,
            "seed": args.seed if args.data_seed is None else args.data_seed,
            "processes": self.processes,
        }
        return training_loader(stream, args, **parts) if training else StreamLoader(stream, **parts)

    def _on_device(self, batch: Batch) -> Batch:
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    # -- optimizer and schedule ----------------------------------------------------------------------------------------

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Set `optimizer` and `lr_scheduler`, unless they were given."""
        self.optimizer, self.lr_scheduler = self._given_optimizers
        if self.optimizer is None:
            self.create_optimizer()
        else:
            check_optimizer(self.model, self.optimizer)
        if self.lr_scheduler is None:
            self.create_scheduler(num_training_steps)

    def create_optimizer(self) -> Any:
        """Set and return the optimizer that the arguments name."""
        self.optimizer = make_optimizer(self.model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Set and return the schedule that the arguments name."""
        self.lr_scheduler = get_scheduler(
            self.args.lr_scheduler_type,
            optimizer or self.optimizer,
            num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
            num_training_steps=num_training_steps,
            scheduler_specific_kwargs=self.args.lr_scheduler_kwargs,
        )
        return self.lr_scheduler

    # -- the loss ------------------------------------------------------------------------------------------------------

    def compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool = False, **context: Any) -> Any:
        """The mean loss of a batch, with the model's output when `return_outputs`; override it to change the loss.

        `context` takes what overrides for transformers pass on (`num_items_in_batch`): the trainer divides by itself.
        """
        output = self.criterion.output(model, inputs)
        loss = self.criterion.terms(output, inputs, self.criterion.count(inputs)).mean()
        return (loss, output) if return_outputs else loss

    def training_loss(self, batch: Batch) -> LossTerms:
        """The loss of one training batch as (sum, count), with its graph."""
        count = self.criterion.count(batch)
        batch = self._on_device(batch)
        if self._own_loss:
            return as_terms(self.compute_loss(self.model, batch), count)
        return self.criterion.terms(self.criterion.output(self.model, batch), batch, count)

    def _score(self, batch: Batch) -> Scored:
        """Loss, predictions and labels of one batch, without gradients."""
        count = self.criterion.count(batch)
        batch = self._on_device(batch)
        labels = self.criterion.labels(batch)
        with torch.no_grad(), autocast(self.device, self.dtype):
            if self._own_loss and labels:
                loss, output = self.compute_loss(self.model, dict(batch), return_outputs=True)
                terms: LossTerms | None = as_terms(loss, count)
            else:
                output = self.criterion.output(self.model, batch, quiet=True)
                terms = self.criterion.terms(output, batch, count) if labels else None
            predictions = read_predictions(output)
            if self.preprocess_logits_for_metrics is not None:
                predictions = self.preprocess_logits_for_metrics(predictions, labels[0] if len(labels) == 1 else labels)
        if not isinstance(predictions, tuple):
            predictions = () if predictions is None else (predictions,)
        return Scored(terms, predictions, labels)

    # -- training ------------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | Path | bool | None = None) -> TrainOutput:
        """Train to the end; `resume_from_checkpoint` goes on from a folder, or with True from the latest in output_dir.

        A resumed run is the uninterrupted one to the bit, on the same kind and number of devices and threads.
        """
        if self.args.eval_strategy != "no" and self.eval_dataset is None:
            raise TrainingError(
                f"eval_strategy={self.args.eval_strategy!r} needs an eval_dataset. Pass one to the trainer, or leave "
                "eval_strategy out."
            )
        randomness.set_seed(self.args.seed)
        if self.model_init is not None:
            self._place(self.model_init())
        self.training, mode = Training(self), self.model.training
        try:
            return self.training.run(resume_from_checkpoint)
        finally:
            self.training = None
            self.model.train(mode)  # a model that answered without dropout before does so after

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """Write the model, its tokenizer and the arguments to `output_dir` (by default that of the arguments)."""
        if self.processes.main:
            self.write_model(Path(output_dir or self.args.output_dir))
        self.processes.barrier()

    def write_model(self, folder: Path) -> None:
        """What `save_model` does, on this process, whichever it is."""
        save_model(self.model, folder, processor=self.processing_class)
        write_json(folder / "training_args.json", self.args.to_dict())

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, *, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Metrics of the evaluation set, or of `eval_dataset`; several sets, in a dict, are told apart by name."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, Mapping):
            results = [
                self.evaluate(part, metric_key_prefix=f"{metric_key_prefix}_{name}") for name, part in rows.items()
            ]
            return {name: value for result in results for name, value in result.items()}
        result = self._pass_over(self.get_eval_dataloader(rows), metric_key_prefix, "evaluating", keep=False)
        self.log(dict(result.metrics))
        self.tell("on_evaluate", metrics=result.metrics)
        return {**result.metrics, "epoch": self.state.epoch}

    def predict(self, test_dataset: Any, *, metric_key_prefix: str = "test") -> PredictionOutput:
        """Predictions for every row in order, its labels and metrics when there are labels."""
        result = self._pass_over(self.get_test_dataloader(test_dataset), metric_key_prefix, "predicting", keep=True)
        self.tell("on_predict", metrics=result.metrics)
        return PredictionOutput(result.predictions, result.labels, result.metrics)

    def _pass_over(self, loader: Any, prefix: str, description: str, *, keep: bool) -> Evaluation:
        """Go through a loader in evaluation mode; `keep` keeps predictions even when no metric needs them."""
        started, training = time.perf_counter(), self.model.training
        self.model.eval()
        try:
            batches = None if isinstance(loader, StreamLoader) else len(loader)
            with self.progress.passing(description, batches) as advance:

                def after_batch() -> None:
                    advance()
                    self.tell("on_prediction_step")

                result = evaluate(
                    loader,
                    self._score,
                    keep=keep or self.compute_metrics is not None,
                    metrics=self.metrics,
                    processes=self.processes,
                    after_batch=after_batch,
                )
        finally:
            self.model.train(training)
        if self.compute_metrics is not None and result.labels is not None:
            result.metrics |= self.compute_metrics(EvalPrediction(result.predictions, result.labels))
        metrics = {} if result.loss is None else {"loss": result.loss}
        metrics |= {name: value.item() if hasattr(value, "item") else value for name, value in result.metrics.items()}
        seconds = time.perf_counter() - started
        rows = loader.num_examples if isinstance(loader, Loader | StreamLoader) else result.batches
        metrics |= {
            "runtime": round(seconds, 4),
            "samples_per_second": round(rows / seconds, 3),
            "steps_per_second": round(result.batches / seconds, 3),
        }
        start = f"{prefix}_"
        result.metrics = {name if name.startswith(start) else start + name: value for name, value in metrics.items()}
        # Not at every evaluation on the way: drawing takes as long as many a step.
        done = self.training is None or self.state.global_step == self.state.max_steps
        if self.report is not None and self.processes.main and result.labels is not None and done:
            names = getattr(getattr(self.model, "config", None), "id2label", None)
            self.report.predictions(result.predictions, result.labels, name=prefix, labels=names)
        return result


def _split_metrics(given: Any) -> tuple[Callable[[EvalPrediction], Mapping[str, Any]] | None, list[Metric]]:
    """The function that needs all predictions, and the metrics that stream."""
    if given is None:
        return None, []
    if isinstance(given, str | Metric):
        given = [given]
    if isinstance(given, Sequence):
        return None, [load_metric(part) if isinstance(part, str) else part for part in given]
    return given, []


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
