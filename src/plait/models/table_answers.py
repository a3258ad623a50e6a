"""Learning to answer from answers alone, complete: which texts need an operation, and how far its result is off.

The answer's number is known, its cells and the operation are not: what the model expects as the result, over all of
them, is compared with it (TAPAS, arXiv:2004.02349 §3). Shapes: B batch, T tokens, A operations: none, sum, average,
count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from plait.errors import OptionError

if TYPE_CHECKING:
    from plait.models.config import Config
    from plait.nn.cells import Cells

_TINY = 1e-10
APPROXIMATIONS = ("ratio", "first_order", "second_order")


def check(labels: Mapping[str, Tensor], config: Config) -> None:
    """Raise OptionError for what is missing, and for settings that are not computed."""
    missing = [name for name in ("float_answer", "numeric_values", "numeric_values_scale") if name not in labels]
    if missing:
        raise OptionError(
            f"This configuration learns from answers alone (use_answer_as_supervision), which needs {missing[0]!r}: "
            "the tokenizer makes the numbers of cells when it is given answer_coordinates, and `float_answer` (B,) is "
            "the number that is the answer, or NaN where it is a text. To learn from cells and operations instead, "
            "load the model with use_answer_as_supervision=False."
        )
    if config.use_gumbel_for_cells or config.use_gumbel_for_aggregation:
        raise OptionError("Drawing cells or operations (use_gumbel_for_…) is not supported. Load it with False.")
    if config.average_approximation_function not in APPROXIMATIONS:
        raise OptionError(
            f"`average_approximation_function` must be one of {', '.join(APPROXIMATIONS)}, but is "
            f"{config.average_approximation_function!r}."
        )
    for name in ("cell_selection_preference", "huber_loss_delta"):
        if config.get(name) is None and not (name == "huber_loss_delta" and config.use_normalized_answer_loss):
            raise OptionError(f"`{name}` is missing from the configuration: learning from answers alone needs it.")


def needs_operation(cells: Cells, labels: Mapping[str, Tensor], config: Config) -> Tensor:
    """(B,) 1 for texts whose answer is a number that an operation makes, 0 where cells are picked as they are.

    A number that also is a cell is picked where the model gives operations `cell_selection_preference` or less.
    """
    assert cells.operations is not None
    operates = cells.operations.float().softmax(dim=-1)[:, 1:].sum(dim=1)
    picked: Tensor = (operates <= config.cell_selection_preference) & (labels["labels"].sum(dim=1) > 0)
    return (~torch.isnan(labels["float_answer"]) & ~picked).float()


def operation_loss(cells: Cells, operates: Tensor, config: Config) -> Tensor:
    """(B,): no operation where cells are picked, any one where they are not."""
    assert cells.operations is not None
    chances = cells.operations.float().log_softmax(dim=-1)
    some = torch.log(chances[:, 1:].exp().sum(dim=1))
    loss = -chances[:, 0] * (1 - operates) - some * operates
    return float(config.aggregation_loss_weight) * loss


def answer_loss(cells: Cells, labels: Mapping[str, Tensor], operates: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """(B,) how far the expected result is from the answer (Huber), and (B,) 0 for texts that are beyond
    `answer_loss_cutoff`, which then teach nothing about operations."""
    expected = _expected(cells, labels, config) * operates
    answer = torch.nan_to_num(labels["float_answer"], nan=0.0) * operates
    delta = config.huber_loss_delta
    if config.use_normalized_answer_loss:
        unit = (torch.maximum(expected.abs(), answer.abs()) + _TINY).detach()
        expected, answer, delta = expected / unit, answer / unit, 1.0
    off = (expected - answer).abs()
    loss = torch.where(off < delta, 0.5 * off.square(), off * delta - 0.5 * delta**2)
    cutoff = config.answer_loss_cutoff
    kept = torch.ones_like(loss) if cutoff is None else (loss <= cutoff).float()
    return float(config.answer_loss_importance) * loss * operates, kept


def _expected(cells: Cells, labels: Mapping[str, Tensor], config: Config) -> Tensor:
    """(B,) the result that the model expects, over what it may pick and do."""
    assert cells.operations is not None
    values, scale = labels["numeric_values"], labels["numeric_values_scale"]
    # Tokens of one cell share its chance; the question and the header have none.
    chance = cells.scores.sigmoid() / scale * cells.cell_tokens
    numbers = torch.nan_to_num(values, nan=0.0)
    count, total = chance.sum(dim=1), (chance * numbers).sum(dim=1)
    others = chance.sum(dim=1, keepdim=True) - chance + 1
    match config.average_approximation_function:
        case "ratio":
            average = total / (count + _TINY)
        case "first_order":
            average = (numbers * chance / others).sum(dim=1)
        case _:
            variance = chance * (1 - chance)
            variance = variance.sum(dim=1, keepdim=True) - variance
            average = (numbers * chance * (variance / others.square() + 1) / others).sum(dim=1)
    odds = functional.softmax(cells.operations.float()[:, 1:] / config.aggregation_temperature, dim=-1)
    return (torch.stack((total, average, count), dim=1) * odds).sum(dim=1)
