"""TensorBoard and Weights & Biases, complete: numbers of the log go there when `report_to` names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait import settings
from plait.console import logger
from plait.errors import MissingExtraError, require
from plait.train.callbacks import TrainerCallback

if TYPE_CHECKING:
    from plait.train.arguments import TrainingArguments

log = logger("train")


class TensorBoardCallback(TrainerCallback):
    """Event files in the report folder; look at them with `tensorboard --logdir …`."""

    def __init__(self) -> None:
        require("tensorboard", extra="train", purpose="write TensorBoard event files")
        self.writer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open an event file; a resumed run replaces what the interrupted one wrote after its checkpoint."""
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            purge = state.global_step + 1 if state.global_step else None
            self.writer = SummaryWriter(str(args.report_dir), purge_step=purge)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write every number of a log entry."""
        for name, value in kwargs["logs"].items() if self.writer else ():
            if isinstance(value, int | float):
                self.writer.add_scalar(_tag(name), value, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the event file."""
        if self.writer:
            self.writer.close()
            self.writer = None


class WandbCallback(TrainerCallback):
    """A run at Weights & Biases, named `run_name`; kept on disk when plait is offline."""

    def __init__(self) -> None:
        self.wandb = require_wandb()
        self.run: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the run."""
        if state.is_world_process_zero:
            mode = {"mode": "offline"} if settings.offline() else {}
            args.report_dir.mkdir(parents=True, exist_ok=True)
            self.run = self.wandb.init(name=args.run_name, config=args.to_dict(), dir=str(args.report_dir), **mode)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Send every number of a log entry."""
        if self.run:
            numbers = {_tag(name): value for name, value in kwargs["logs"].items() if isinstance(value, int | float)}
            self.run.log(numbers, step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the run."""
        if self.run:
            self.run.finish()
            self.run = None


def require_wandb() -> Any:
    """The package wandb, which no extra of plait installs."""
    try:
        return require("wandb", extra="train", purpose="report to Weights & Biases")
    except MissingExtraError as error:
        raise MissingExtraError(
            "`wandb` is needed to report to Weights & Biases, but is not installed. Install it with: pip install wandb"
        ) from error


def _tag(name: str) -> str:
    """eval_loss -> eval/loss, loss -> train/loss: TensorBoard and W&B group by what stands before the slash."""
    for prefix in ("eval", "test"):
        if name.startswith(f"{prefix}_"):
            return f"{prefix}/{name.removeprefix(f'{prefix}_')}"
    return f"train/{name}"


def trackers(args: TrainingArguments) -> list[TrainerCallback]:
    """The trackers that `report_to` names and that are installed; for one that is not, a warning says how to get it.

    A missing tracker does not stop a run: the report folder holds the same numbers.
    """
    kinds: dict[str, type[TrainerCallback]] = {"tensorboard": TensorBoardCallback, "wandb": WandbCallback}
    found: list[TrainerCallback] = []
    for name in args.report_to or () if isinstance(args.report_to, list) else ():
        if name not in kinds:
            continue
        try:
            found.append(kinds[name]())
        except MissingExtraError as error:
            log.warning("report_to=%r is left out: %s", name, error)
    return found
