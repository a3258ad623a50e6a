"""TAPAS (arXiv:2004.02349): BERT on a question and a table, whose tokens know their column, row and rank.

Configuration: https://huggingface.co/google/tapas-base-finetuned-wtq. Positions begin anew in each cell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plait.errors import ConfigError
from plait.models import bert, encoders
from plait.models.config import Config
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import CellHeadSpec, ClassifierHeadSpec, LearnedPositions, PoolSpec, Single
from plait.nn.spec.table import Pick
from plait.weights.rules import Rule, Rules, concat, rename

if TYPE_CHECKING:
    from torch import nn

NAME = "Tapas"

DEFAULTS: Mapping[str, Any] = {
    **{key: value for key, value in bert.DEFAULTS.items() if key not in ("classifier_dropout", "type_vocab_size")},
    "aggregation_labels": None,
    "aggregation_loss_weight": 1.0,
    "aggregation_temperature": 1.0,
    "allow_empty_column_selection": False,
    "answer_loss_cutoff": None,
    "answer_loss_importance": 1.0,
    "average_approximation_function": "ratio",
    "average_logits_per_cell": False,
    "cell_selection_preference": None,
    "disable_per_token_loss": False,
    "huber_loss_delta": None,
    "init_cell_selection_weights_to_zero": False,
    "max_num_columns": 32,
    "max_num_rows": 64,
    "max_position_embeddings": 1024,
    "no_aggregation_label_index": None,
    "num_aggregation_labels": 0,
    "positive_label_weight": 10.0,
    "reset_position_index_per_cell": True,
    "select_one_column": True,
    "temperature": 1.0,
    "type_vocab_sizes": (3, 256, 256, 2, 256, 256, 10),
    "use_answer_as_supervision": None,
    "use_gumbel_for_aggregation": False,
    "use_gumbel_for_cells": False,
    "use_normalized_answer_loss": False,
}
IGNORED = (
    dict(bert.IGNORED)
    | {"init_cell_selection_weights_to_zero": "how a new head is drawn"}
    | dict.fromkeys(
        ["aggregation_labels", "no_aggregation_label_index"], "names of operations, for whoever reads the answer"
    )
    | dict.fromkeys(
        [
            *("aggregation_loss_weight", "disable_per_token_loss", "positive_label_weight"),
            *("aggregation_temperature", "answer_loss_cutoff", "answer_loss_importance", "huber_loss_delta"),
            *("average_approximation_function", "cell_selection_preference", "use_normalized_answer_loss"),
            *("use_gumbel_for_aggregation", "use_gumbel_for_cells", "use_answer_as_supervision"),
        ],
        "part of the loss, not of the network",
    )
)


def _kinds(values: Any, label: str) -> tuple[int, ...]:
    """How many ids each kind of segment has."""
    right = isinstance(values, list | tuple) and len(values) >= 3 and all(isinstance(n, int) and n > 0 for n in values)
    if not right:
        raise ConfigError(
            f"`type_vocab_sizes` must be a list of at least three numbers of ids (segments, columns, rows), but is "
            f"{values!r} ({label})."
        )
    return tuple(values)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    anew = reader.flag("reset_position_index_per_cell")
    positions = LearnedPositions(count=reader.integer("max_position_embeddings"), over="cells" if anew else "slots")
    kinds = _kinds(reader.value("type_vocab_sizes"), reader.label)
    # The published files have the list under both names.
    reader.only("type_vocab_size", list(kinds), reason="the sizes are those of `type_vocab_sizes`")
    reader.only("softmax_temperature", 1.0, reason="`temperature` alone divides the scores")
    cells(reader)  # every checkpoint has these keys, whatever its head
    return encoders.encoder(reader, positions=positions, segments=kinds)


def cells(reader: Reader) -> CellHeadSpec:
    """Scores of cells, columns and operations."""
    column: Pick = "column_or_none" if reader.flag("allow_empty_column_selection") else "column"
    anywhere: Pick = "cells" if reader.flag("average_logits_per_cell") else "tokens"
    return CellHeadSpec(
        rows=reader.integer("max_num_rows"),
        columns=reader.integer("max_num_columns"),
        operations=reader.integer("num_aggregation_labels", least=0),
        temperature=reader.number("temperature", least=1e-6),
        pick=column if reader.flag("select_one_column") else anywhere,
        dropout=reader.probability("hidden_dropout_prob"),
    )


def classifier(reader: Reader) -> ClassifierHeadSpec:
    """Whether the table says so."""
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability("hidden_dropout_prob"))


def rules(config: Config) -> Rules:
    """The names of the stack's weights; the tables of segments are one here."""
    sizes = _kinds(config.type_vocab_sizes, config.label)
    table = {
        theirs: ours for theirs, ours in encoders.NAMES.items() if theirs != "embeddings.token_type_embeddings.weight"
    }
    tables = [f"tapas.embeddings.token_type_embeddings_{kind}.weight" for kind in range(len(sizes))]
    joined = concat(tables, "stack.frontend.segments.weight", sizes=sizes)
    return encoders.names(table, joined, prefix="tapas.")


RULES = rules


def initialise(module: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """As BERT; the scores of cells and columns begin at 0 where the configuration says so."""
    from torch import nn

    from plait.nn.build import initialise as draw
    from plait.nn.cells import Score

    draw(module, std=float(config.initializer_range), only=only)
    if config.init_cell_selection_weights_to_zero:
        for part in module.modules():
            if isinstance(part, Score) and (only is None or part in only):
                nn.init.zeros_(part.weight)


_CELLS = (
    rename("output_weights", "head.cells.weight"),
    rename("output_bias", "head.cells.bias"),
    rename("column_output_weights", "head.columns.weight"),
    rename("column_output_bias", "head.columns.bias"),
    rename("aggregation_classifier.{wb}", "head.operations.{wb}"),
)


def _pooled(name: str, rules: tuple[Rule, ...] = (), spec: Any = None) -> Head:
    """A head behind the pooler: a dense layer with tanh on the first token."""
    pooler = rename("tapas.pooler.dense.{wb}", "pool.dense.{wb}")
    return Head(architecture=name, pool=PoolSpec(where="first", activation="tanh"), spec=spec, rules=(pooler, *rules))


HEADS = {
    "base": _pooled("TapasModel"),
    "masked_lm": replace(bert.HEADS["masked_lm"], architecture="TapasForMaskedLM"),
    "sequence_classification": _pooled("TapasForSequenceClassification", encoders.CLASSIFIER, classifier),
    "table_question_answering": _pooled("TapasForQuestionAnswering", _CELLS, cells),
}
