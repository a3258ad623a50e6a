"""The enumerations that scripts import in place of texts, complete: each member is its text."""

from __future__ import annotations

from enum import StrEnum


class IntervalStrategy(StrEnum):
    """When to evaluate, log or save."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(StrEnum):
    """When to save."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class SchedulerType(StrEnum):
    """Which schedule of learning rates; the names are those of `get_scheduler`."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"


class TensorType(StrEnum):
    """What `return_tensors` makes."""

    PYTORCH = "pt"
    NUMPY = "np"
    TENSORFLOW = "tf"


class Tasks(StrEnum):
    """The tasks of ModelScope that `pipeline` answers here."""

    text_classification = "text-classification"
    sentiment_analysis = "sentiment-analysis"
    zero_shot_classification = "zero-shot-classification"
    token_classification = "token-classification"
    named_entity_recognition = "ner"
    fill_mask = "fill-mask"
    text_generation = "text-generation"
    chat = "text-generation"
    text2text_generation = "text2text-generation"
    translation = "translation"
    text_summarization = "summarization"
    table_question_answering = "table-question-answering"
    feature_extraction = "feature-extraction"
    sentence_embedding = "feature-extraction"
