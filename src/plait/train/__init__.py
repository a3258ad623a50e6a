"""Training: arguments, trainer, collators, optimizers, schedules, metrics, callbacks.

The public names, complete; resolved on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from plait.errors import nearest

if TYPE_CHECKING:
    from plait.train.arguments import TrainingArguments as TrainingArguments
    from plait.train.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
    from plait.train.callbacks import TrainerCallback as TrainerCallback
    from plait.train.callbacks import TrainerControl as TrainerControl
    from plait.train.callbacks import TrainerState as TrainerState
    from plait.train.collate import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from plait.train.collate import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
    from plait.train.collate import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from plait.train.collate import DataCollatorWithPadding as DataCollatorWithPadding
    from plait.train.collate import default_data_collator as default_data_collator
    from plait.train.metrics import EvalPrediction as EvalPrediction
    from plait.train.metrics import PredictionOutput as PredictionOutput
    from plait.train.metrics import TrainOutput as TrainOutput
    from plait.train.metrics import load_metric as load_metric
    from plait.train.optim import AdamW as AdamW
    from plait.train.randomness import set_seed as set_seed
    from plait.train.schedule import get_scheduler as get_scheduler
    from plait.train.trainer import Trainer as Trainer

# public name -> module that defines it
_TABLE: dict[str, str] = {
    "TrainingArguments": "arguments",
    "EarlyStoppingCallback": "callbacks",
    "TrainerCallback": "callbacks",
    "TrainerControl": "callbacks",
    "TrainerState": "callbacks",
    "DataCollatorForLanguageModeling": "collate",
    "DataCollatorForSeq2Seq": "collate",
    "DataCollatorForTokenClassification": "collate",
    "DataCollatorWithPadding": "collate",
    "default_data_collator": "collate",
    "EvalPrediction": "metrics",
    "PredictionOutput": "metrics",
    "TrainOutput": "metrics",
    "load_metric": "metrics",
    "AdamW": "optim",
    "set_seed": "randomness",
    "get_scheduler": "schedule",
    "Trainer": "trainer",
}

__all__ = [*_TABLE]


def __getattr__(name: str) -> Any:
    if name not in _TABLE:
        raise AttributeError(f"plait.train has no public name {name!r}.{nearest(name, _TABLE)}")
    value = getattr(importlib.import_module(f"plait.train.{_TABLE[name]}"), name)
    globals()[name] = value
    return value
