"""Training: arguments, trainer, collators, optimizers, schedules, metrics, callbacks.

The public names, complete; resolved on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait import lazy

if TYPE_CHECKING:
    from plait.train.arguments import TrainingArguments as TrainingArguments
    from plait.train.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
    from plait.train.callbacks import TrainerCallback as TrainerCallback
    from plait.train.callbacks import TrainerControl as TrainerControl
    from plait.train.callbacks import TrainerState as TrainerState
    from plait.train.collate import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from plait.train.collate import DataCollatorForMultipleChoice as DataCollatorForMultipleChoice
    from plait.train.collate import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
    from plait.train.collate import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from plait.train.collate import DataCollatorWithPadding as DataCollatorWithPadding
    from plait.train.collate import DefaultDataCollator as DefaultDataCollator
    from plait.train.collate import default_data_collator as default_data_collator
    from plait.train.metrics import EvalPrediction as EvalPrediction
    from plait.train.metrics import PredictionOutput as PredictionOutput
    from plait.train.metrics import TrainOutput as TrainOutput
    from plait.train.metrics import load_metric as load_metric
    from plait.train.optim import AdamW as AdamW
    from plait.train.randomness import set_seed as set_seed
    from plait.train.schedule import get_constant_schedule as get_constant_schedule
    from plait.train.schedule import get_constant_schedule_with_warmup as get_constant_schedule_with_warmup
    from plait.train.schedule import get_cosine_schedule_with_warmup as get_cosine_schedule_with_warmup
    from plait.train.schedule import (
        get_cosine_with_hard_restarts_schedule_with_warmup as get_cosine_with_hard_restarts_schedule_with_warmup,
    )
    from plait.train.schedule import get_linear_schedule_with_warmup as get_linear_schedule_with_warmup
    from plait.train.schedule import (
        get_polynomial_decay_schedule_with_warmup as get_polynomial_decay_schedule_with_warmup,
    )
    from plait.train.schedule import get_scheduler as get_scheduler
    from plait.train.seq2seq import Seq2SeqTrainer as Seq2SeqTrainer
    from plait.train.seq2seq import Seq2SeqTrainingArguments as Seq2SeqTrainingArguments
    from plait.train.trainer import Trainer as Trainer

# module -> the public names that it defines
_TABLE: dict[str, tuple[str, ...]] = {
    "plait.train.arguments": ("TrainingArguments",),
    "plait.train.callbacks": (
        "EarlyStoppingCallback",
        "TrainerCallback",
        "TrainerControl",
        "TrainerState",
    ),
    "plait.train.collate": (
        "DataCollatorForLanguageModeling",
        "DataCollatorForMultipleChoice",
        "DataCollatorForSeq2Seq",
        "DataCollatorForTokenClassification",
        "DataCollatorWithPadding",
        "DefaultDataCollator",
        "default_data_collator",
    ),
    "plait.train.metrics": (
        "EvalPrediction",
        "PredictionOutput",
        "TrainOutput",
        "load_metric",
    ),
    "plait.train.optim": ("AdamW",),
    "plait.train.randomness": ("set_seed",),
    "plait.train.schedule": (
        "get_constant_schedule",
        "get_constant_schedule_with_warmup",
        "get_cosine_schedule_with_warmup",
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        "get_linear_schedule_with_warmup",
        "get_polynomial_decay_schedule_with_warmup",
        "get_scheduler",
    ),
    "plait.train.seq2seq": (
        "Seq2SeqTrainer",
        "Seq2SeqTrainingArguments",
    ),
    "plait.train.trainer": ("Trainer",),
}
_MODULES, __getattr__, __dir__ = lazy.names(__name__, _TABLE)

__all__ = list(_MODULES)
