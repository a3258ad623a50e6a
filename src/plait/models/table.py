"""A model that answers questions on tables, complete: its forward, and the loss of its cells and operations.

Shapes: B batch, T tokens, R rows and C columns at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from plait.errors import OptionError
from plait.models import table_answers
from plait.models.model import PretrainedModel
from plait.nn.cells import means
from plait.nn.loss import LossTerms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plait.models.config import Config
    from plait.nn.cells import Cells


class TableModel(PretrainedModel):
    """`PretrainedModel` with what tables have beside: `token_type_ids` (B, T, kinds) and the answer's operation."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        aggregation_labels: Tensor | None = None,
        float_answer: Tensor | None = None,
        numeric_values: Tensor | None = None,
        numeric_values_scale: Tensor | None = None,
        table_mask: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """See `PretrainedModel.forward`. `labels` (B, T) are 1 at tokens of the answer, `aggregation_labels` (B,) the
        number of the operation on its cells.

        Where the configuration has `use_answer_as_supervision`, the operation is not known, but `float_answer` (B,),
        the number that is the answer, NaN for a text; `numeric_values` and `numeric_values_scale` (B, T) are then those
        of the tokenizer. Which tokens are of a cell is known from the segments: `table_mask` is taken and not read.
        """
        answers = {"aggregation_labels": aggregation_labels}
        if labels is not None and self.config.use_answer_as_supervision:
            answers |= {"float_answer": float_answer, "numeric_values": numeric_values}
            answers["numeric_values_scale"] = numeric_values_scale
        elif float_answer is not None:
            raise OptionError(
                "`float_answer` teaches by an answer whose cells and operation are not known: load the model with "
                "use_answer_as_supervision=True, and give `labels` as well."
            )
        return super().forward(input_ids, attention_mask, labels=labels, answers=answers, **more)

    if TYPE_CHECKING:
        __call__ = forward


def cell_loss(outputs: dict[str, Any], labels: Mapping[str, Tensor], config: Config) -> LossTerms:
    """The mean over texts of the loss of their cells, and of their operation where the model has some.

    Source: arXiv:2004.02349 §3. Raises OptionError without `labels`, and for operations that are not told.
    """
    if "labels" not in labels:
        raise OptionError("`aggregation_labels` were given alone: the loss needs `labels` for the cells as well.")
    cells: Cells = outputs["cells"]
    wanted = labels["labels"] * cells.valid.long()
    if wanted.shape != cells.scores.shape:
        raise OptionError(f"`labels` must have the shape {tuple(cells.scores.shape)}, but has {tuple(wanted.shape)}.")
    picked = cells.scores.new_zeros(wanted.shape[0])
    if not config.disable_per_token_loss:
        picked = _any_cells(cells, wanted, config) if cells.chances is None else _one_column(cells, wanted)
    total = picked if cells.operations is None else _with_operations(cells, labels, picked, config)
    return LossTerms(total.sum(), torch.tensor(float(len(total)), device=total.device))


def _with_operations(cells: Cells, labels: Mapping[str, Tensor], picked: Tensor, config: Config) -> Tensor:
    """(B,): the loss of what is picked, and that of what is done with it."""
    assert cells.operations is not None
    if config.use_answer_as_supervision:
        table_answers.check(labels, config)
        operates = table_answers.needs_operation(cells, labels, config)
        off, kept = table_answers.answer_loss(cells, labels, operates, config)
        return picked * (1 - operates) + (table_answers.operation_loss(cells, operates, config) + off) * kept
    if "aggregation_labels" not in labels:
        raise OptionError("`aggregation_labels` are missing: the model has operations, so the loss needs theirs.")
    known = functional.cross_entropy(cells.operations.float(), labels["aggregation_labels"], reduction="none")
    return picked + float(config.aggregation_loss_weight) * known


def _any_cells(cells: Cells, wanted: Tensor, config: Config) -> Tensor:
    """(B,): tokens by themselves, those of the answer with more weight."""
    each = functional.binary_cross_entropy_with_logits(cells.tokens, wanted.float(), reduction="none")
    each = each * torch.where(wanted == 0, 1.0, float(config.positive_label_weight)) * cells.valid
    return each.sum(dim=1) / (cells.valid.sum(dim=1) + 1e-10)


def _one_column(cells: Cells, wanted: Tensor) -> Tensor:
    """(B,): first the column with most of the answer, then the cells in it; no cell at all is column 0."""
    assert cells.chances is not None
    columns = cells.chances.shape[1]
    empty = torch.zeros_like(cells.chances)
    by_column = empty.scatter_add(1, cells.places % columns, wanted.float())
    most, column = by_column.max(dim=1)
    column = torch.where(most == 0, 0, column)
    loss = functional.cross_entropy(cells.chances, column, reduction="none")
    # (B, T) -> (B, R * C)
    answer = torch.zeros_like(cells.there).scatter_reduce(1, cells.places, wanted.float(), reduce="amax")
    scores = means(cells.tokens, cells.places, answer.shape[1], cells.valid)
    within = cells.there * (torch.arange(answer.shape[1], device=column.device)[None] % columns == column[:, None])
    each = functional.binary_cross_entropy_with_logits(scores, answer, reduction="none") * within
    return loss + torch.where(most == 0, 0.0, each.sum(dim=1) / (within.sum(dim=1) + 1e-10))
