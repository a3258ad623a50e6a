"""A model that answers questions on tables, complete: its forward, and the loss of cells and operations that are known.

Shapes: B batch, T tokens, R rows and C columns at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from plait.console import logger
from plait.errors import OptionError
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

        Learning from an answer alone, without its cells (`float_answer`), is refused; what serves it alone
        (`numeric_values`, `numeric_values_scale`, `table_mask`) has no effect, and the log says so.
        """
        if float_answer is not None:
            raise OptionError(
                "`float_answer` teaches by an answer whose cells are not known, which is not supported: give `labels` "
                "for the cells and `aggregation_labels` for the operation."
            )
        if any(part is not None for part in (numeric_values, numeric_values_scale, table_mask)) and labels is not None:
            logger("models").debug("numeric_values, numeric_values_scale and table_mask have no effect on this loss.")
        return super().forward(input_ids, attention_mask, labels=labels, aggregation_labels=aggregation_labels, **more)

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
    total = cells.scores.new_zeros(wanted.shape[0])
    if not config.disable_per_token_loss:
        total = _any_cells(cells, wanted, config) if cells.chances is None else _one_column(cells, wanted)
    if cells.operations is not None:
        if config.use_answer_as_supervision:
            raise OptionError(
                "This configuration learns from answers alone (use_answer_as_supervision), which is not supported. "
                "Load it with use_answer_as_supervision=False and give `aggregation_labels`."
            )
        if "aggregation_labels" not in labels:
            raise OptionError("`aggregation_labels` are missing: the model has operations, so the loss needs theirs.")
        known = functional.cross_entropy(cells.operations.float(), labels["aggregation_labels"], reduction="none")
        total = total + config.aggregation_loss_weight * known
    return LossTerms(total.sum(), torch.tensor(float(len(total)), device=total.device))


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
