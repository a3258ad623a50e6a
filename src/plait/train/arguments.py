"""The options of a training run, complete: fields, their defaults, and what values are allowed.

Names follow transformers; every spelling of its versions 4 and 5 is understood (plait.train.names). Where this class
decides something of its own, the field says so.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.console import logger
from plait.errors import OptionError, nearest
from plait.train.launch import Launched
from plait.train.names import CONVERTED, IGNORED, SYNONYMS, convert
from plait.train.sampler import STRATEGIES
from plait.train.schedule import SCHEDULES

if TYPE_CHECKING:
    import torch

log = logger("train")

_OPTIMIZERS = {
    "adamw": "adamw",
    "adamw_torch": "adamw",
    "adamw_hf": "adamw",
    "adamw_torch_fused": "adamw_fused",
    "adamw_fused": "adamw_fused",
    "sgd": "sgd",
}
TRACKERS = ("tensorboard", "wandb")
_MOMENTS = ("no", "steps", "epoch")
# Metrics of which less is better; for any other name more is.
_ERRORS = {"loss", "mae", "mse", "rmse", "mape", "perplexity", "wer", "cer", "nmae", "nrmse"}


@dataclass(init=False)
class TrainingArguments(Launched):
    """How to train. Unknown names and bad values raise `OptionError`, which names the nearest or the allowed one."""

    output_dir: str = "trainer_output"  # checkpoints, and the report unless logging_dir is given

    # how long, and how much at a time
    num_train_epochs: float = 3.0
    max_steps: int = -1  # updates; when positive it decides instead of num_train_epochs
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1  # batches per update; gradients do not depend on how rows are split

    # the update
    learning_rate: float = 5e-5
    weight_decay: float = 0.0  # on matrices; never on biases and norms
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float | None = 1.0  # 0 or None: no clipping
    optim: str = "adamw"  # adamw, adamw_fused, sgd
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] | None = None
    warmup_steps: float = 0  # below 1: that fraction of all steps

    # the loss
    loss: str | None = None  # for models that only predict: mse, mae, huber, pinball, cross_entropy, …
    loss_kwargs: dict[str, Any] | None = None  # such as {"delta": 0.5} or {"quantiles": [0.1, 0.9]}
    label_smoothing_factor: float = 0.0
    label_names: list[str] | None = None  # None: the arguments of forward that are labels

    # numbers and devices
    seed: int = 42
    data_seed: int | None = None  # None: seed
    bf16: bool = False
    fp16: bool = False  # on a CPU float32 is used in its place, and the log says so
    use_cpu: bool = False
    gradient_checkpointing: bool = False

    # data
    train_sampling_strategy: str = "random"  # random, sequential, group_by_length
    dataloader_drop_last: bool = False
    dataloader_num_workers: int = 0
    remove_unused_columns: bool = True

    # when; a number of steps below 1 is a fraction of all steps
    eval_strategy: str = "no"  # no, steps, epoch
    eval_steps: float | None = None  # None: logging_steps
    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    save_strategy: str = "steps"  # no, steps, epoch, best
    save_steps: float = 500
    save_total_limit: int | None = None  # the best and the newest checkpoint always stay
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None  # None: "loss", where one is needed
    greater_is_better: bool | None = None  # None: told by the metric's name

    # who hears of it
    report_to: list[str] | str | None = (
        None  # None: the report folder; "tensorboard", "wandb", "all" add; "none": nothing
    )
    logging_dir: str | None = None  # None: output_dir/report
    run_name: str | None = None
    disable_tqdm: bool = False  # no progress bar

    def __init__(self, output_dir: str | Path | None = None, **options: Any) -> None:
        if output_dir is not None:
            options["output_dir"] = output_dir
        self.ignored: dict[str, Any] = {}
        given = self._resolve(options)
        for field in dataclasses.fields(self):
            setattr(self, field.name, given.get(field.name, field.default))
        self.__post_init__()

    def _resolve(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options under our names; names without effect go to `self.ignored` and are logged together."""
        fields = [field.name for field in dataclasses.fields(self)]
        given: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for name, value in options.items():
            if name in IGNORED:
                self.ignored[name] = value
                continue
            target = SYNONYMS.get(name) or CONVERTED.get(name) or name
            if target not in fields:
                known = [*fields, *SYNONYMS, *CONVERTED, *IGNORED]
                raise OptionError(f"TrainingArguments has no argument {name!r}.{nearest(name, known)}")
            if name in CONVERTED and (value := convert(name, value)) is None:
                continue
            if name == "warmup_ratio" and options.get("warmup_steps"):
                continue  # a count of steps has always won over the ratio
            # warmup_steps=0 is what scripts write beside a ratio: it says nothing against it.
            silent = target == "warmup_steps" and not (given.get(target) and value)
            if target in given and given[target] != value and not silent:
                raise OptionError(f"{spelled[target]} and {name} are two names of one argument, with different values.")
            if target not in given or value:
                given[target], spelled[target] = value, name
        noticed = {name: IGNORED[name] for name, value in self.ignored.items() if value}
        if noticed:
            log.warning("no effect here: %s", "; ".join(f"{name} ({reason})" for name, reason in noticed.items()))
        return given

    def __getattr__(self, name: str) -> Any:
        # Only reached for names that are no fields: other spellings, and what was ignored.
        if name in SYNONYMS:
            return getattr(self, SYNONYMS[name])
        if name in IGNORED:
            return self.__dict__.get("ignored", {}).get(name)
        known = [*(field.name for field in dataclasses.fields(self)), *SYNONYMS, *IGNORED]
        raise AttributeError(f"TrainingArguments has no argument {name!r}.{nearest(name, known)}")

    def __post_init__(self) -> None:
        self.output_dir = str(self.output_dir)
        self.logging_dir = None if self.logging_dir is None else str(self.logging_dir)
        self._normalise_names()
        self._check_numbers()
        self._check_evaluation()

    # -- names ---------------------------------------------------------------------------------------------------------

    def _normalise_names(self) -> None:
        for name in ("eval_strategy", "logging_strategy", "save_strategy"):
            value = _text(getattr(self, name))
            value = "no" if value.lower() in ("false", "none") else value.lower()
            setattr(self, name, self._choice(name, value, (*_MOMENTS, "best") if name == "save_strategy" else _MOMENTS))
        self.train_sampling_strategy = self._choice(
            "train_sampling_strategy", _text(self.train_sampling_strategy), STRATEGIES
        )
        self.lr_scheduler_type = self._choice("lr_scheduler_type", _text(self.lr_scheduler_type), tuple(SCHEDULES))
        self.optim = _OPTIMIZERS[self._choice("optim", _text(self.optim), tuple(_OPTIMIZERS))]
        if self.report_to is None:
            return
        listed = [self.report_to] if isinstance(self.report_to, str) else list(self.report_to)
        for tracker in listed:
            self._choice("report_to", tracker, (*TRACKERS, "all", "none"))
        self.report_to = list(TRACKERS) if "all" in listed else listed

    def _choice(self, name: str, value: str, choices: tuple[str, ...]) -> str:
        if value not in choices:
            remedy = " For others pass a TrainerCallback or your own objects to Trainer." if name in _OPEN else ""
            raise OptionError(
                f"{name} must be one of {', '.join(choices)}, but is {value!r}.{nearest(value, choices)}{remedy}"
            )
        return value

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _check_numbers(self) -> None:
        for field, (kind, low, high, words) in _RANGES.items():
            value = getattr(self, field)
            if value is None and field in _OPTIONAL:
                continue
            proper = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not proper or (kind is int and int(value) != value) or not low <= value <= high:
                raise OptionError(f"{field} must be {words}, but is {value!r}.")
            setattr(self, field, kind(value))
        for field in ("eval_steps", "logging_steps", "save_steps", "warmup_steps"):
            value = getattr(self, field)
            if value is not None and value >= 1:
                if int(value) != value:
                    raise OptionError(f"{field} must be a whole number, or a fraction below 1, but is {value!r}.")
                setattr(self, field, int(value))
        if self.max_steps == 0 or self.max_steps < -1:
            raise OptionError(
                f"max_steps must be a positive number of updates, or -1 for none, but is {self.max_steps}."
            )
        if self.bf16 and self.fp16:
            raise OptionError("bf16 and fp16 exclude each other.")
        for flag in _FLAGS:
            if not isinstance(getattr(self, flag), bool):
                raise OptionError(f"{flag} must be True or False, but is {getattr(self, flag)!r}.")

    def _check_evaluation(self) -> None:
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps
        needs_metric = self.load_best_model_at_end or self.save_strategy == "best"
        if needs_metric and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if needs_metric and self.eval_strategy == "no":
            name = "load_best_model_at_end=True" if self.load_best_model_at_end else "save_strategy='best'"
            raise OptionError(f"{name} needs evaluations: set eval_strategy to 'steps' or 'epoch'.")
        if self.load_best_model_at_end and self.save_strategy not in (self.eval_strategy, "best"):
            raise OptionError(
                f"load_best_model_at_end=True needs a checkpoint of every evaluation: save_strategy is "
                f"{self.save_strategy!r}, but eval_strategy is {self.eval_strategy!r}. Give both the same value."
            )
        if self.load_best_model_at_end and self.save_strategy == "steps":
            ratio = self.save_steps / self.eval_steps
            if abs(ratio - round(ratio)) > 1e-9:
                raise OptionError(
                    f"load_best_model_at_end=True needs save_steps to be a multiple of eval_steps, but they are "
                    f"{self.save_steps} and {self.eval_steps}."
                )
        if self.metric_for_best_model is None:
            return
        smaller = self.metric_for_best_model.removeprefix("eval_").split("_")[-1].lower() in _ERRORS
        if self.greater_is_better is None:
            self.greater_is_better = not smaller
        if self.greater_is_better and smaller:
            raise OptionError(
                f"greater_is_better=True, but metric_for_best_model is {self.metric_for_best_model!r}, of which less "
                f"is better. Leave greater_is_better out."
            )

    # -- what follows from the options ---------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model goes: this process's CUDA device, else MPS, else the CPU; the CPU when `use_cpu`."""
        import torch

        from plait import settings

        if self.use_cpu:
            return torch.device("cpu")
        if torch.cuda.is_available():
            return torch.device("cuda", settings.torchrun().local_rank)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The dtype of matrix products under autocast, None for the model's own.

        bf16 is honoured everywhere. fp16 is for CUDA: a CPU has no fast float16, and there float32 is the exact choice.
        """
        import torch

        if self.bf16:
            return torch.bfloat16
        if not self.fp16:
            return None
        if self.device.type == "cuda":
            return torch.float16
        log.warning("fp16=True needs a CUDA device; on %s float32 is used instead.", self.device.type)
        return None

    @property
    def report_dir(self) -> Path:
        """Where the report of the run goes."""
        return Path(self.logging_dir) if self.logging_dir else Path(self.output_dir) / "report"

    @property
    def train_batch_size(self) -> int:
        """Rows per process and batch in training."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Rows per process and batch in evaluation."""
        return self.per_device_eval_batch_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of warm-up in a run of `num_training_steps`."""
        return steps_of(self.warmup_steps, num_training_steps)

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        return dataclasses.asdict(self)


def steps_of(value: float, total: int) -> int:
    """A number of steps: `value` itself, or that fraction of `total`, rounded up, when it is below 1."""
    return math.ceil(value * total) if 0 < value < 1 else int(value)


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


_OPEN = ("report_to", "optim", "lr_scheduler_type")
_OPTIONAL = ("max_grad_norm", "eval_steps", "save_total_limit", "data_seed")
_FLAGS = (
    "bf16",
    "fp16",
    "use_cpu",
    "gradient_checkpointing",
    "dataloader_drop_last",
    "remove_unused_columns",
    "logging_first_step",
    "load_best_model_at_end",
    "disable_tqdm",
)
_COUNT = (int, 1, math.inf, "a whole number, 1 or more")
_STEPS = (float, 1e-9, math.inf, "a positive number of steps, or a fraction of all steps below 1")
_POSITIVE = (float, 0, math.inf, "a number, 0 or more")
# field -> type, smallest and largest value, and both in words
_RANGES: dict[str, tuple[type, float, float, str]] = {
    "num_train_epochs": (float, 1e-9, math.inf, "a positive number"),
    "max_steps": (int, -math.inf, math.inf, "a whole number"),
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "save_total_limit": _COUNT,
    "learning_rate": _POSITIVE,
    "weight_decay": _POSITIVE,
    "max_grad_norm": _POSITIVE,
    "warmup_steps": _POSITIVE,
    "adam_beta1": (float, 0, 1 - 1e-9, "a number in [0, 1)"),
    "adam_beta2": (float, 0, 1 - 1e-9, "a number in [0, 1)"),
    "adam_epsilon": (float, 1e-300, math.inf, "a positive number"),
    "label_smoothing_factor": (float, 0, 1 - 1e-9, "a number in [0, 1)"),
    "seed": (int, 0, math.inf, "a whole number, 0 or more"),
    "data_seed": (int, 0, math.inf, "a whole number, 0 or more"),
    "dataloader_num_workers": (int, 0, math.inf, "a whole number, 0 or more"),
    "logging_steps": _STEPS,
    "eval_steps": _STEPS,
    "save_steps": _STEPS,
}
