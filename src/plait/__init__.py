"""plait: one small Python stack for the whole life of a Transformer.

The public names, complete. They are resolved on first use from one table, so `import plait` imports nothing heavy:
no torch, no numpy, no pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait import lazy
from plait.errors import PlaitError

if TYPE_CHECKING:
    from plait.data import ClassLabel as ClassLabel
    from plait.data import Dataset as Dataset
    from plait.data import DatasetDict as DatasetDict
    from plait.data import Features as Features
    from plait.data import IterableDataset as IterableDataset
    from plait.data import IterableDatasetDict as IterableDatasetDict
    from plait.data import Value as Value
    from plait.data import concatenate_datasets as concatenate_datasets
    from plait.data import disable_caching as disable_caching
    from plait.data import enable_caching as enable_caching
    from plait.data import interleave_datasets as interleave_datasets
    from plait.data import is_caching_enabled as is_caching_enabled
    from plait.data import load_dataset as load_dataset
    from plait.data import load_from_disk as load_from_disk
    from plait.generate.processors import LogitsProcess as LogitsProcess
    from plait.generate.processors import LogitsProcessList as LogitsProcessList
    from plait.generate.processors import LogitsProcessor as LogitsProcessor
    from plait.generate.processors import LogitsProcessorList as LogitsProcessorList
    from plait.generate.processors import MinPLogitsWarper as MinPLogitsWarper
    from plait.generate.processors import NoRepeatNGramLogitsProcessor as NoRepeatNGramLogitsProcessor
    from plait.generate.processors import RepetitionPenaltyLogitsProcessor as RepetitionPenaltyLogitsProcessor
    from plait.generate.processors import TemperatureLogitsWarper as TemperatureLogitsWarper
    from plait.generate.processors import TopKLogitsWarper as TopKLogitsWarper
    from plait.generate.processors import TopPLogitsWarper as TopPLogitsWarper
    from plait.generate.settings import GenerationConfig as GenerationConfig
    from plait.generate.stopping import StoppingCriteria as StoppingCriteria
    from plait.generate.stopping import StoppingCriteriaList as StoppingCriteriaList
    from plait.generate.streamers import TextIteratorStreamer as TextIteratorStreamer
    from plait.generate.streamers import TextStreamer as TextStreamer
    from plait.hub.resolve import resolve as resolve
    from plait.models.absent import AutoModelForAudioClassification as AutoModelForAudioClassification
    from plait.models.absent import AutoModelForCTC as AutoModelForCTC
    from plait.models.absent import AutoModelForImageClassification as AutoModelForImageClassification
    from plait.models.absent import (
        AutoModelForImageClassificationWithAttention as AutoModelForImageClassificationWithAttention,
    )
    from plait.models.absent import AutoModelForImageSegmentation as AutoModelForImageSegmentation
    from plait.models.absent import AutoModelForImageSuperResolution as AutoModelForImageSuperResolution
    from plait.models.absent import AutoModelForImageToImage as AutoModelForImageToImage
    from plait.models.absent import AutoModelForObjectDetection as AutoModelForObjectDetection
    from plait.models.absent import AutoModelForSemanticSegmentation as AutoModelForSemanticSegmentation
    from plait.models.absent import AutoModelForSpeechClassification as AutoModelForSpeechClassification
    from plait.models.absent import AutoModelForSpeechSeq2Seq as AutoModelForSpeechSeq2Seq
    from plait.models.absent import AutoModelForSpeechToText as AutoModelForSpeechToText
    from plait.models.absent import AutoModelForTextToSpeech as AutoModelForTextToSpeech
    from plait.models.absent import AutoModelForVision2Seq as AutoModelForVision2Seq
    from plait.models.absent import AutoModelForVisionTextDualEncoder as AutoModelForVisionTextDualEncoder
    from plait.models.auto import AutoConfig as AutoConfig
    from plait.models.auto import AutoModel as AutoModel
    from plait.models.auto import AutoModelForCausalLM as AutoModelForCausalLM
    from plait.models.auto import AutoModelForMaskedLM as AutoModelForMaskedLM
    from plait.models.auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from plait.models.auto import AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction
    from plait.models.auto import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from plait.models.auto import AutoModelForSeq2SeqLM as AutoModelForSeq2SeqLM
    from plait.models.auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from plait.models.auto import AutoModelForTableQuestionAnswering as AutoModelForTableQuestionAnswering
    from plait.models.auto import AutoModelForTextClassification as AutoModelForTextClassification
    from plait.models.auto import AutoModelForTextGeneration as AutoModelForTextGeneration
    from plait.models.auto import AutoModelForTextToTextGeneration as AutoModelForTextToTextGeneration
    from plait.models.auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from plait.models.auto import AutoModelForZeroShotClassification as AutoModelForZeroShotClassification
    from plait.models.auto import AutoTokenizer as AutoTokenizer
    from plait.pipelines import pipeline as pipeline
    from plait.tabular import TabularRegressor as TabularRegressor
    from plait.text import BatchEncoding as BatchEncoding
    from plait.train import AdamW as AdamW
    from plait.train import DataCollatorForLanguageModeling as DataCollatorForLanguageModeling
    from plait.train import DataCollatorForMultipleChoice as DataCollatorForMultipleChoice
    from plait.train import DataCollatorForSeq2Seq as DataCollatorForSeq2Seq
    from plait.train import DataCollatorForTokenClassification as DataCollatorForTokenClassification
    from plait.train import DataCollatorWithPadding as DataCollatorWithPadding
    from plait.train import DefaultDataCollator as DefaultDataCollator
    from plait.train import EarlyStoppingCallback as EarlyStoppingCallback
    from plait.train import EvalPrediction as EvalPrediction
    from plait.train import Seq2SeqTrainer as Seq2SeqTrainer
    from plait.train import Seq2SeqTrainingArguments as Seq2SeqTrainingArguments
    from plait.train import Trainer as Trainer
    from plait.train import TrainerCallback as TrainerCallback
    from plait.train import TrainingArguments as TrainingArguments
    from plait.train import default_data_collator as default_data_collator
    from plait.train import get_constant_schedule as get_constant_schedule
    from plait.train import get_constant_schedule_with_warmup as get_constant_schedule_with_warmup
    from plait.train import get_cosine_schedule_with_warmup as get_cosine_schedule_with_warmup
    from plait.train import (
        get_cosine_with_hard_restarts_schedule_with_warmup as get_cosine_with_hard_restarts_schedule_with_warmup,
    )
    from plait.train import get_linear_schedule_with_warmup as get_linear_schedule_with_warmup
    from plait.train import get_polynomial_decay_schedule_with_warmup as get_polynomial_decay_schedule_with_warmup
    from plait.train import get_scheduler as get_scheduler
    from plait.train import load_metric as load_metric
    from plait.train import set_seed as set_seed

__version__ = "0.1.0"

# module -> the public names that it defines
_TABLE: dict[str, tuple[str, ...]] = {
    "plait.data": (
        "ClassLabel",
        "Dataset",
        "DatasetDict",
        "Features",
        "IterableDataset",
        "IterableDatasetDict",
        "Value",
        "concatenate_datasets",
        "interleave_datasets",
        "disable_caching",
        "enable_caching",
        "is_caching_enabled",
        "load_dataset",
        "load_from_disk",
    ),
    "plait.generate.processors": (
        "LogitsProcess",
        "LogitsProcessList",
        "LogitsProcessor",
        "LogitsProcessorList",
        "MinPLogitsWarper",
        "NoRepeatNGramLogitsProcessor",
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
    ),
    "plait.generate.settings": ("GenerationConfig",),
    "plait.generate.stopping": (
        "StoppingCriteria",
        "StoppingCriteriaList",
    ),
    "plait.generate.streamers": (
        "TextIteratorStreamer",
        "TextStreamer",
    ),
    "plait.hub.resolve": ("resolve",),
    "plait.models.absent": (
        "AutoModelForAudioClassification",
        "AutoModelForCTC",
        "AutoModelForImageClassification",
        "AutoModelForImageClassificationWithAttention",
        "AutoModelForImageSegmentation",
        "AutoModelForImageSuperResolution",
        "AutoModelForImageToImage",
        "AutoModelForObjectDetection",
        "AutoModelForSemanticSegmentation",
        "AutoModelForSpeechClassification",
        "AutoModelForSpeechSeq2Seq",
        "AutoModelForSpeechToText",
        "AutoModelForTextToSpeech",
        "AutoModelForVision2Seq",
        "AutoModelForVisionTextDualEncoder",
    ),
    "plait.models.auto": (
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForMaskedLM",
        "AutoModelForMultipleChoice",
        "AutoModelForNextSentencePrediction",
        "AutoModelForQuestionAnswering",
        "AutoModelForSeq2SeqLM",
        "AutoModelForSequenceClassification",
        "AutoModelForTableQuestionAnswering",
        "AutoModelForTextClassification",
        "AutoModelForTextGeneration",
        "AutoModelForTextToTextGeneration",
        "AutoModelForTokenClassification",
        "AutoModelForZeroShotClassification",
        "AutoTokenizer",
    ),
    "plait.pipelines": ("pipeline",),
    "plait.tabular": ("TabularRegressor",),
    "plait.text": ("BatchEncoding",),
    "plait.train": (
        "AdamW",
        "DataCollatorForLanguageModeling",
        "DataCollatorForMultipleChoice",
        "DataCollatorForSeq2Seq",
        "DataCollatorForTokenClassification",
        "DataCollatorWithPadding",
        "DefaultDataCollator",
        "EarlyStoppingCallback",
        "EvalPrediction",
        "Seq2SeqTrainer",
        "Seq2SeqTrainingArguments",
        "Trainer",
        "TrainerCallback",
        "TrainingArguments",
        "default_data_collator",
        "get_constant_schedule",
        "get_constant_schedule_with_warmup",
        "get_cosine_schedule_with_warmup",
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        "get_linear_schedule_with_warmup",
        "get_polynomial_decay_schedule_with_warmup",
        "get_scheduler",
        "load_metric",
        "set_seed",
    ),
}
_MODULES, __getattr__, __dir__ = lazy.names(__name__, _TABLE)

__all__ = ["PlaitError", "__version__", *_MODULES]
