"""What each task makes of a network's output, complete: a task is a row of a table with its outputs, its labels and its
loss.

Losses are a sum and a count in float32, whatever the dtype of the model. Shapes: B batch, T tokens, D width, V words, C
labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plait.errors import OptionError
from plait.models.config import Config
from plait.nn.loss import LossTerms, binary_cross_entropy, cross_entropy, mean_squared_error
from plait.nn.topology import Hidden

Labels = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row. `fields` are the first outputs in order, `labels` the arguments of forward that hold the answers.

    `outputs` names the scores, given which tokens are valid (B, T), None for all; `loss` compares them with the
    answers. `scored` says of which slots (B, T) the loss reads the scores, where that is for the labels to say. With
    `new_head`, a checkpoint may lack the head: it is then drawn anew, which is where fine-tuning begins.
    `choices`: inputs have a dimension of choices behind the batch.
    """

    title: str
    fields: tuple[str, ...]
    outputs: Callable[[Hidden, Tensor | None], Mapping[str, Any]]
    labels: tuple[str, ...] = ("labels",)
    loss: Callable[[dict[str, Any], Labels, Config], LossTerms] | None = None
    scored: Callable[[Labels], Tensor] | None = None
    new_head: bool = False
    choices: bool = False


def _states(hidden: Hidden, valid: Tensor | None) -> dict[str, Tensor | None]:
    return {"last_hidden_state": hidden.states, "pooler_output": hidden.pooled}


def _logits(hidden: Hidden, valid: Tensor | None) -> dict[str, Tensor | None]:
    return {"logits": hidden.scores}


def _cells(hidden: Hidden, valid: Tensor | None) -> dict[str, Any]:
    assert hidden.cells is not None
    operations = hidden.cells.operations
    return {"logits": hidden.scores, "logits_aggregation": operations, "cells": hidden.cells}


def _cell_loss(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    from plait.models.table import cell_loss  # which knows the model, and so this table

    return cell_loss(outputs, labels, config)


def _span(hidden: Hidden, valid: Tensor | None) -> dict[str, Tensor | None]:
    """No answer begins or ends in padding:

    its scores are the lowest there are, so that a text is answered as if alone.
    """
    scores = hidden.scores
    assert scores is not None
    if valid is not None:
        scores = scores.masked_fill(~valid[:, :, None], torch.finfo(scores.dtype).min)
    # (B, T, 2) -> twice (B, T)
    start, end = scores.unbind(dim=-1)
    return {"start_logits": start.contiguous(), "end_logits": end.contiguous()}


def _next_word(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    """Each position against the word behind it; the labels are the input itself, -100 where nothing counts."""
    logits, words = outputs["logits"], labels["labels"]
    _require_shape("labels", words, logits.shape[:-1])
    return cross_entropy(logits[:, :-1], whole_numbers(words[:, 1:], logits.shape[-1]))


def _words(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    logits, words = outputs["logits"], labels["labels"]
    _require_shape("labels", words, logits.shape[:-1])
    return cross_entropy(logits, whole_numbers(words, logits.shape[-1]))


def _at_words(labels: Labels) -> Tensor:
    return labels["labels"] != -100


def _before_words(labels: Labels) -> Tensor:
    counted = _at_words(labels)
    if counted.dim() != 2:
        return counted  # the loss says what is wrong
    return torch.cat((counted[..., 1:], torch.zeros_like(counted[..., :1])), dim=-1)


def _sequence(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    logits, answers = outputs["logits"], labels["labels"]
    match problem_type(config, answers):
        case "regression":
            answers = answers[:, None] if answers.dim() == 1 and logits.shape[1] == 1 else answers
            _require_shape("labels", answers, logits.shape)
            return mean_squared_error(logits, answers)
        case "multi_label_classification":
            _require_shape("labels", answers, logits.shape)
            return binary_cross_entropy(logits, answers)
        case _:
            return _row(logits, answers)


def _row(logits: Tensor, answers: Tensor) -> LossTerms:
    """One label for each row: (B,), or (B, 1) as some data sets have it."""
    answers = answers.squeeze(1) if answers.dim() == 2 and answers.shape[1] == 1 else answers
    _require_shape("labels", answers, logits.shape[:1])
    return cross_entropy(logits, whole_numbers(answers, logits.shape[-1]))


def _one_label(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    return _row(outputs["logits"], next(iter(labels.values())))


def _span_ends(outputs: dict[str, Any], labels: Labels, config: Config) -> LossTerms:
    """First and last token of the answer; a place outside the text, where truncation cut it off, counts nothing."""
    terms = []
    for end in ("start", "end"):
        places = labels[f"{end}_positions"]
        places = places.squeeze(1) if places.dim() == 2 else places
        logits = outputs[f"{end}_logits"]
        _require_shape(f"{end}_positions", places, logits.shape[:1])
        outside = (places < 0) | (places >= logits.shape[1])
        scored = logits.gather(1, places.masked_fill(outside, 0)[:, None])[:, 0]
        outside = outside | (scored == torch.finfo(logits.dtype).min)
        terms.append(cross_entropy(logits, places.masked_fill(outside, -100)))
    return LossTerms(terms[0].total + terms[1].total, terms[0].count + terms[1].count)


def problem_type(config: Config, labels: Tensor) -> str:
    """What kind of answer `labels` are: as the configuration says, else by `num_labels` and their dtype.

    Raises OptionError where that is ambiguous: several labels per row could be several yes/no answers or several
    numbers.
    """
    if config.problem_type is not None:
        return str(config.problem_type)
    if config.num_labels == 1:
        return "regression"
    one_each = labels.dim() == 1 or (labels.dim() == 2 and labels.shape[1] == 1)
    if one_each and not labels.is_floating_point():
        return "single_label_classification"
    raise OptionError(
        f"Labels of dtype {str(labels.dtype).removeprefix('torch.')} and shape {tuple(labels.shape)} with "
        f"num_labels={config.num_labels} could be several numbers or several yes/no answers. Say which when loading "
        "the model: "
        "problem_type='regression' or problem_type='multi_label_classification'."
    )


def whole_numbers(labels: Tensor, count: int) -> Tensor:
    if labels.is_floating_point():
        raise OptionError(
            f"Labels must be whole numbers, but are {str(labels.dtype).removeprefix('torch.')}. Convert them with "
            ".long(), "
            "or, to predict numbers, load AutoModelForSequenceClassification with num_labels=1."
        )
    labels = labels.long()
    # On a GPU the comparison would wait for the device; there the loss kernel itself stops on such a label.
    if labels.device.type == "cpu" and labels.numel():
        wrong = labels[(labels != -100) & ((labels < 0) | (labels >= count))]
        if wrong.numel():
            raise OptionError(
                f"Label {int(wrong[0])} does not exist: the model has {count} (0 to {count - 1}), and -100 marks what "
                "does not count. "
                "For other labels load the model with num_labels=…."
            )
    return labels


def _require_shape(name: str, labels: Tensor, shape: torch.Size | tuple[int, ...]) -> None:
    if labels.shape != shape:
        raise OptionError(f"`{name}` must have the shape {tuple(shape)}, but has {tuple(labels.shape)}.")


TASKS: dict[str, Task] = {
    "base": Task(title="the bare network", fields=("last_hidden_state", "pooler_output"), outputs=_states, labels=()),
    "causal_lm": Task(
        title="text generation", fields=("loss", "logits"), outputs=_logits, loss=_next_word, scored=_before_words
    ),
    "masked_lm": Task(title="masked words", fields=("loss", "logits"), outputs=_logits, loss=_words, scored=_at_words),
    "seq2seq_lm": Task(title="text from text", fields=("loss", "logits"), outputs=_logits, loss=_words),
    "sequence_classification": Task(
        title="sequence classification or regression",
        fields=("loss", "logits"),
        outputs=_logits,
        loss=_sequence,
        new_head=True,
    ),
    "token_classification": Task(
        title="token classification",
        fields=("loss", "logits"),
        outputs=_logits,
        loss=_words,
        scored=_at_words,
        new_head=True,
    ),
    "question_answering": Task(
        title="question answering",
        fields=("loss", "start_logits", "end_logits"),
        outputs=_span,
        labels=("start_positions", "end_positions"),
        loss=_span_ends,
        new_head=True,
    ),
    "multiple_choice": Task(
        title="multiple choice",
        fields=("loss", "logits"),
        outputs=_logits,
        loss=_one_label,
        new_head=True,
        choices=True,
    ),
    "table_question_answering": Task(
        title="questions on tables",
        fields=("loss", "logits", "logits_aggregation"),
        outputs=_cells,
        labels=("labels", "aggregation_labels", "float_answer", "numeric_values", "numeric_values_scale"),
        loss=_cell_loss,
        new_head=True,
    ),
    "next_sentence": Task(
        title="next sentence prediction",
        fields=("loss", "logits"),
        outputs=_logits,
        labels=("labels", "next_sentence_label"),
        loss=_one_label,
        new_head=True,
    ),
}
