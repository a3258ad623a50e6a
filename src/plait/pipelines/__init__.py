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


def task_for(model: Any, **source: Any) -> str:
    """The task that a loaded model, or the configuration of a reference, was made for.

    Raises OptionError when it does not say, or there is no pipeline for that.
    """
    from plait.models import auto
    from plait.models.registry import family_of

    config = getattr(model, "config", None) or auto.AutoConfig.from_pretrained(model, **source)
    heads = family_of(config.model_type, label=config.label).HEADS
    named = {task: getattr(auto, row.model).task for task, row in TASKS.items()}
    made = {getattr(model, "task", None)} if hasattr(model, "task") else set(config.get("architectures") or ())
    for task, head in named.items():
        if head in made or (head in heads and heads[head].architecture in made):
            return task
    raise OptionError(
        f"{model if isinstance(model, str) else config.label} does not say what it is for. Name the task, one of "
        f"{', '.join(sorted([*TASKS, *ALIASES]))}."
    )


def pipeline(
    task: str | None = None,
    model: Any = None,
    *,
    tokenizer: Any = None,
    framework: str | None = None,
    use_fast: bool = True,
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
    """The pipeline of `task`, by default the one that the model was made for, ready to call with texts.

    `model` is a reference or a loaded model; `tokenizer` likewise, by default the model's; `use_fast` as
    `AutoTokenizer` takes it. `framework` is "pt", the only one. `device`: "cpu", "cuda", or
    the number of a GPU, -1 for none. `revision`, `dtype` (or `torch_dtype`), `device_map`, `token` and `model_kwargs`
    go to `from_pretrained`; `options` become defaults of each call. Raises OptionError for an unknown task or option,
    and when no model is named.
    """
    if framework not in (None, "pt"):
        raise OptionError(f"framework must be 'pt', but is {framework!r}: models here are torch's.")
    source = {"revision": revision, "token": token, "trust_remote_code": trust_remote_code or None}
    source = {name: value for name, value in source.items() if value is not None}
    if task is None and model is not None:
        task = task_for(model, **source)
    if task is None:
        raise OptionError("pipeline() needs a task, such as 'text-generation', a model, or both.")
    row = task_of(task)
    if _DIRECTION.fullmatch(task):
        options = {"direction": task, **options}
    if model is None:
        raise OptionError(f"pipeline({task!r}) needs a model: model='org/name', a folder, or a loaded model.")
    from plait.models import auto

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
        tokenizer = auto.AutoTokenizer.from_pretrained(tokenizer, use_fast=use_fast, **source)
    made = getattr(importlib.import_module(f"plait.pipelines.{row.module}"), row.pipeline)
    result: Pipeline = made(model, tokenizer, device=device, **options)
    return result
