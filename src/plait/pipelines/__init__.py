"""From raw input to answer in one call: `pipeline(task, model=…)`.

base: what all tasks share · one file per task.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plait.errors import OptionError, nearest

if TYPE_CHECKING:
    from plait.pipelines.base import Pipeline


@dataclass(frozen=True)
class Task:
    """Where a task's pipeline is, and which `AutoModel…` class loads its model."""

    module: str
    pipeline: str
    model: str


TASKS: dict[str, Task] = {
    "text-generation": Task("text_generation", "TextGenerationPipeline", "AutoModelForCausalLM"),
    "text-classification": Task(
        "text_classification", "TextClassificationPipeline", "AutoModelForSequenceClassification"
    ),
    "zero-shot-classification": Task(
        "zero_shot", "ZeroShotClassificationPipeline", "AutoModelForSequenceClassification"
    ),
    "token-classification": Task(
        "token_classification", "TokenClassificationPipeline", "AutoModelForTokenClassification"
    ),
    "question-answering": Task("question_answering", "QuestionAnsweringPipeline", "AutoModelForQuestionAnswering"),
    "table-question-answering": Task(
        "table_question_answering", "TableQuestionAnsweringPipeline", "AutoModelForTableQuestionAnswering"
    ),
    "text2text-generation": Task("text_to_text", "TextToTextPipeline", "AutoModelForSeq2SeqLM"),
    "summarization": Task("text_to_text", "SummarizationPipeline", "AutoModelForSeq2SeqLM"),
    "translation": Task("text_to_text", "TranslationPipeline", "AutoModelForSeq2SeqLM"),
    "fill-mask": Task("fill_mask", "FillMaskPipeline", "AutoModelForMaskedLM"),
    "feature-extraction": Task("feature_extraction", "FeatureExtractionPipeline", "AutoModel"),
}
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}
_DIRECTION = re.compile(r"translation_\w+_to_\w+")  # "translation_en_to_de"


def task_of(name: str) -> Task:
    """The row of a task or of its other name. Raises OptionError with the nearest name and the list."""
    known = sorted([*TASKS, *ALIASES])
    row = "translation" if _DIRECTION.fullmatch(name) else ALIASES.get(name, name)
    if (found := TASKS.get(row)) is None:
        raise OptionError(f"There is no pipeline for {name!r}.{nearest(name, known)} There are: {', '.join(known)}.")
    return found


def pipeline(
    task: str,
    model: Any = None,
    *,
    tokenizer: Any = None,
    device: Any = None,
    revision: str | None = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    device_map: Any = None,
    token: str | bool | None = None,
    trust_remote_code: bool | None = None,
    model_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> Pipeline:
    """The pipeline of `task`, ready to call with texts.

    `model` is a reference or a loaded model; `tokenizer` likewise, by default the model's. `device`: "cpu", "cuda", or
    the number of a GPU, -1 for none. `revision`, `dtype` (or `torch_dtype`), `device_map`, `token` and `model_kwargs`
    go to `from_pretrained`; `options` become defaults of each call. Raises OptionError for an unknown task or option,
    and when no model is named.
    """
    row = task_of(task)
    if _DIRECTION.fullmatch(task):
        options = {"direction": task, **options}
    if model is None:
        raise OptionError(f"pipeline({task!r}) needs a model: model='org/name', a folder, or a loaded model.")
    from plait.models import auto

    source = {"revision": revision, "token": token, "trust_remote_code": trust_remote_code or None}
    source = {name: value for name, value in source.items() if value is not None}
    loading = {**source, "dtype": dtype, "torch_dtype": torch_dtype, "device_map": device_map, **(model_kwargs or {})}
    loading = {name: value for name, value in loading.items() if value is not None}
    if isinstance(model, str) or hasattr(model, "__fspath__"):
        reference = model
        model = getattr(auto, row.model).from_pretrained(reference, **loading)
        tokenizer = reference if tokenizer is None else tokenizer
    elif loading:
        raise OptionError(f"`{next(iter(loading))}` is for loading a model, but this one is loaded already.")
    if tokenizer is None:
        raise OptionError("A loaded model does not know its tokenizer: pass tokenizer=… as well.")
    if isinstance(tokenizer, str) or hasattr(tokenizer, "__fspath__"):
        tokenizer = auto.AutoTokenizer.from_pretrained(tokenizer, **source)
    made = getattr(importlib.import_module(f"plait.pipelines.{row.module}"), row.pipeline)
    result: Pipeline = made(model, tokenizer, device=device, **options)
    return result
