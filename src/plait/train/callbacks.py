"""Where a program may look in and steer, complete: events, what they see (state) and what they may ask for (control).

Subclass `TrainerCallback`, override the events of interest; each is called as `event(args, state, control, **context)`
and may set flags of `control`. The context holds model, optimizer, lr_scheduler, processing_class and, where they
exist, logs and metrics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.console import logger
from plait.errors import OptionError, TrainingError, nearest
from plait.train.checkpoint import read_json, write_json

if TYPE_CHECKING:
    from plait.train.arguments import TrainingArguments

log = logger("train")


@dataclass
class TrainerState:
    """How far a run has come; trainer_state.json is this, readable under the names that transformers uses.

    `log_history` holds every logged dict with its step.
    """

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    num_train_epochs: int = 0
    logging_steps: int = 0
    eval_steps: int = 0
    save_steps: int = 0
    train_batch_size: int = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    stateful_callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save_to_json(self, path: str | Path) -> None:
        """Write the state to a JSON file."""
        write_json(Path(path), dataclasses.asdict(self))

    @classmethod
    def load_from_json(cls, path: str | Path) -> TrainerState:
        """Read a state back; raises `TrainingError` for a file that is not one."""
        content = read_json(Path(path))
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(content, dict) or not {*content} <= {*names}:
            raise TrainingError(f"{path} is not the state of a plait training run.")
        return cls(**content)


@dataclass
class TrainerControl:
    """What callbacks ask for; the trainer clears a flag once it has done it."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Overridable events, in the order of a run; the default does nothing."""

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The trainer has been made."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Training begins, or goes on from a checkpoint."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """An epoch begins, or goes on."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The batches of an update are about to be read."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The gradients of one batch of an update have been added."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The gradients are complete, divided and clipped."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The parameters have changed; the gradients are still there."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """An update is done."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """The last update of an epoch, or of the run, is done."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """`logs` have been appended to state.log_history."""

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """One batch of an evaluation is done."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """An evaluation is done; `metrics` holds its results."""

    def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A prediction is done; `metrics` holds its results."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """A checkpoint is on disk."""

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Training is over."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold for this callback to go on as if never interrupted; JSON values."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""


EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


class Callbacks:
    """The callbacks of one trainer, called in order with one shared state and control."""

    def __init__(self, args: TrainingArguments, state: TrainerState) -> None:
        self.args = args
        self.state = state
        self.control = TrainerControl()
        self.members: list[TrainerCallback] = []

    def add(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Append a callback, or one made from its class; raises `OptionError` for a method that looks like an event."""
        member = callback() if isinstance(callback, type) else callback
        for name in dir(member):
            if name.startswith("on_") and name not in EVENTS:
                raise OptionError(f"{type(member).__name__}.{name} is no event.{nearest(name, EVENTS)}")
        self.members.append(member)

    def find(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """The member that is `callback`, or the first of that class."""
        for member in self.members:
            if member is callback or (isinstance(callback, type) and type(member) is callback):
                return member
        return None

    def call(self, event: str, **context: Any) -> TrainerControl:
        """Tell every member of an event."""
        for member in self.members:
            answer = getattr(member, event)(self.args, self.state, self.control, **context)
            if isinstance(answer, TrainerControl):
                vars(self.control).update(vars(answer))
        return self.control

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of every member that has one, by its class name (and number, when there are several)."""
        return {key: state for key, member in self._keyed() if (state := member.state())}

    def load_states(self, states: dict[str, dict[str, Any]]) -> None:
        """Give members their states back."""
        for key, member in self._keyed():
            if key in states:
                member.load_state(states[key])

    def _keyed(self) -> Iterable[tuple[str, TrainerCallback]]:
        seen: dict[str, int] = {}
        for member in self.members:
            name = type(member).__name__
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name}.{seen[name]}"), member


class DefaultFlowCallback(TrainerCallback):
    """Asks for logging, evaluating and saving when the arguments say so."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After every so many steps, and at the last."""
        step, last = state.global_step, state.global_step >= state.max_steps
        control.should_log |= args.logging_first_step and step == 1
        control.should_log |= args.logging_strategy == "steps" and (step % state.logging_steps == 0 or last)
        # The last step is saved, so it may be the best: it is evaluated too, where the best is wanted.
        due = step % state.eval_steps == 0 or (last and args.load_best_model_at_end)
        control.should_evaluate |= args.eval_strategy == "steps" and due
        control.should_save |= args.save_strategy == "steps" and (step % state.save_steps == 0 or last)
        control.should_training_stop |= last

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After every epoch."""
        control.should_log |= args.logging_strategy == "epoch"
        control.should_evaluate |= args.eval_strategy == "epoch"
        control.should_save |= args.save_strategy == "epoch"


class EarlyStoppingCallback(TrainerCallback):
    """Stops when `metric_for_best_model` has not improved for `early_stopping_patience` evaluations in a row.

    An improvement counts when it exceeds `early_stopping_threshold`, in the unit of the metric.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0) -> None:
        if early_stopping_patience < 1 or early_stopping_threshold < 0:
            raise OptionError(
                f"early stopping needs a patience of 1 or more evaluations and a threshold of 0 or more, but they are "
                f"{early_stopping_patience} and {early_stopping_threshold}."
            )
        self.patience = early_stopping_patience
        self.threshold = early_stopping_threshold
        self.worse = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that there is something to go by, and count anew in a new run."""
        if state.global_step == 0:
            self.worse = 0
        if args.eval_strategy == "no" or args.metric_for_best_model is None:
            raise TrainingError(
                "early stopping needs evaluations and a metric: set eval_strategy to 'steps' or 'epoch' and "
                "metric_for_best_model, for example 'loss'."
            )
        if not args.load_best_model_at_end:
            log.warning(
                "early stopping without load_best_model_at_end=True: the model stays as it was at the last step."
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count evaluations without improvement."""
        value = metric_value(kwargs["metrics"], args.metric_for_best_model)
        if value is None:
            return  # another data set's evaluation, of a dict of several
        best = state.best_metric
        gain = math.inf if best is None else (value - best) * (1 if args.greater_is_better else -1)
        self.worse = 0 if gain > self.threshold else self.worse + 1  # a NaN is no gain
        control.should_training_stop |= self.worse >= self.patience

    def state(self) -> dict[str, Any]:
        """The number of evaluations without improvement."""
        return {"worse": self.worse}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.worse = int(state["worse"])


def metric_value(metrics: Mapping[str, Any], name: str) -> float | None:
    """The metric `name`, with or without its "eval_", or None when these are not its metrics."""
    value = metrics.get(name if name.startswith("eval_") else f"eval_{name}")
    return None if value is None else float(value)
