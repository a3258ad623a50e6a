"""TAPAS against the reference library: states, cells, operations and losses, and the files both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from plait.errors import ConfigError, OptionError
from plait.models import auto

# float32 rounds at 6e-8 of a value; three layers of sums of 32 to 64 such values differ by some 1e-7 of the largest.
TOLERANCE = 1e-5
ROWS, TOKENS = 3, 24
SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 12,  # fewer than the tokens: positions begin anew in each cell, and end at the last
    "type_vocab_sizes": [3, 8, 8, 2, 8, 8, 10],
    "layer_norm_eps": 1e-3,
    "max_num_rows": 6,
    "max_num_columns": 5,
    "num_labels": 3,
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "operations": {"num_aggregation_labels": 4, "aggregation_loss_weight": 0.7},
    "any cells": {"select_one_column": False, "num_aggregation_labels": 4, "positive_label_weight": 3.0},
    "averaged": {"select_one_column": False, "average_logits_per_cell": True},
    "no column, cold": {"allow_empty_column_selection": True, "temperature": 0.7},
    "few rows and columns": {"max_num_rows": 2, "max_num_columns": 3},
    "positions go on": {"reset_position_index_per_cell": False, "max_position_embeddings": 40},
    "operations alone": {"num_aggregation_labels": 3, "disable_per_token_loss": True},
}
CLASSES = {
    "base": ("TapasModel", "AutoModel"),
    "masked_lm": ("TapasForMaskedLM", "AutoModelForMaskedLM"),
    "sequence_classification": ("TapasForSequenceClassification", "AutoModelForSequenceClassification"),
    "table_question_answering": ("TapasForQuestionAnswering", "AutoModelForTableQuestionAnswering"),
}


def both(folder: Path, task: str = "table_question_answering", **values: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs = getattr(transformers, CLASSES[task][0])(transformers.TapasConfig(**{**SIZES, **values})).eval()
    with torch.no_grad():
        for name, part in theirs.named_parameters():
            # Weights of norms around 1, or nothing of the text would be left behind three layers.
            part.normal_(mean=1.0 if name.endswith("LayerNorm.weight") else 0.0, std=0.2)
    theirs.save_pretrained(folder)
    return getattr(auto, CLASSES[task][1]).from_pretrained(folder), theirs


def table(*, padded: bool = True) -> dict[str, Tensor]:
    """Questions of 6 tokens, and tables of 4 columns with cells of two tokens, whose first row is the header."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 53, (ROWS, TOKENS), generator=generator)
    kinds = torch.zeros(ROWS, TOKENS, 7, dtype=torch.long)
    cells = torch.arange(TOKENS - 6)
    kinds[:, 6:, 0], kinds[:, 6:, 1], kinds[:, 6:, 2] = 1, cells // 2 % 4 + 1, cells // 8
    kinds[:, 6:, 3:] = torch.randint(0, 2, (ROWS, TOKENS - 6, 4), generator=generator)
    mask = torch.ones(ROWS, TOKENS, dtype=torch.long)
    if padded:
        mask[1, 18:] = 0
        kinds[1, 18:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def difference(mine: Tensor, other: Tensor) -> float:
    """The largest, relative to numbers above 1: what shall not be chosen is 10000 lower, where float32 has 3 digits
    behind the point."""
    return float(((mine - other).abs() / other.abs().clamp(min=1)).max())


def answers(inputs: dict[str, Tensor], operations: int) -> dict[str, Tensor]:
    kinds = inputs["token_type_ids"]
    labels = ((kinds[..., 1] == 2) & (kinds[..., 2] > 0)).long()
    labels[2] = 0  # no cell at all
    return {"labels": labels} | ({"aggregation_labels": torch.tensor([0, 2, 1])} if operations else {})


@pytest.mark.parametrize("case", CASES)
def test_cells_operations_losses_and_gradients(case: str, tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, **CASES[case])
    inputs = table()
    given = answers(inputs, CASES[case].get("num_aggregation_labels", 0))
    mine = ours(**inputs, **given)
    losses = []
    # Each text alone: the reference averages padding into the cell of the question, so its numbers depend on it.
    for row in range(ROWS):
        seen = inputs["attention_mask"][row].bool()
        alone = {name: value[row : row + 1, seen] for name, value in inputs.items()}
        alone |= {name: value[row : row + 1] for name, value in given.items()}
        alone["labels"] = given["labels"][row : row + 1, seen]
        if "select_one_column" in CASES[case]:
            alone["labels"] = alone["labels"].float()  # the reference wants them so there, and whole otherwise
        other = theirs(**alone)
        assert difference(mine.logits[row : row + 1, seen].detach(), other.logits.detach()) <= TOLERANCE
        assert ("logits_aggregation" in mine) == (other.logits_aggregation is not None)
        if other.logits_aggregation is not None:
            found = mine.logits_aggregation[row : row + 1].detach()
            assert difference(found, other.logits_aggregation.detach()) <= TOLERANCE
        losses.append(other.loss)
    expected_loss = torch.stack(losses).mean()
    assert difference(mine.loss.detach(), expected_loss.detach()) <= TOLERANCE
    # The gradient of the embedding passed through everything.
    (gradient,) = torch.autograd.grad(mine.loss, [ours.get_input_embeddings().weight], retain_graph=True)
    (expected,) = torch.autograd.grad(expected_loss, [theirs.get_input_embeddings().weight])
    assert float((gradient - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-3
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, mine.logits)  # the answer does not depend on being known
        if "select_one_column" not in CASES[case]:  # where it is False, the reference cannot do without labels
            whole = table(padded=False)
            assert difference(ours(**whole).logits, theirs(**whole).logits) <= TOLERANCE
    part = {name: value[:1] for name, value in {**inputs, **given}.items()}
    rest = {name: value[1:] for name, value in {**inputs, **given}.items()}
    terms = [ours(**each).loss_terms for each in (part, rest)]
    split = float(sum(each.total.detach() for each in terms) / sum(each.count for each in terms))
    assert split == pytest.approx(float(mine.loss.detach()), rel=1e-6)


WEAK = {"num_aggregation_labels": 4, "use_answer_as_supervision": True, "cell_selection_preference": 0.75}
WEAK |= {"huber_loss_delta": 1.5, "answer_loss_importance": 0.6, "aggregation_temperature": 0.8}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"average_approximation_function": "first_order", "cell_selection_preference": 0.0},
        {"average_approximation_function": "second_order", "answer_loss_cutoff": 3.0, "cell_selection_preference": 0.0},
        {"use_normalized_answer_loss": True, "cell_selection_preference": 0.0},
        {"select_one_column": False, "average_logits_per_cell": True, "cell_selection_preference": 0.0},
        {"disable_per_token_loss": True, "cell_selection_preference": 1.0},
    ],
)
def test_learning_from_answers_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, **{**WEAK, **changes})
    inputs = table(padded=False)
    generator = torch.Generator().manual_seed(4)
    cells = inputs["token_type_ids"][..., 2] > 0
    numbers = torch.randint(0, 9, (ROWS, TOKENS), generator=generator).float()
    numbers = numbers.masked_fill(~cells | (numbers == 4), float("nan"))
    given = {
        "labels": answers(inputs, 0)["labels"],
        "float_answer": torch.tensor([7.0, float("nan"), 3.0]),
        "numeric_values": numbers,
        "numeric_values_scale": torch.where(cells, 2.0, 1.0),
    }
    loose = {**given, "labels": given["labels"].float()} if "select_one_column" in changes else given
    mine, other = ours(**inputs, **given), theirs(**inputs, **loose)
    assert difference(mine.loss.detach(), other.loss.detach()) <= TOLERANCE
    assert difference(mine.logits.detach(), other.logits.detach()) <= TOLERANCE
    (gradient,) = torch.autograd.grad(mine.loss, [ours.get_input_embeddings().weight])
    (expected,) = torch.autograd.grad(other.loss, [theirs.get_input_embeddings().weight])
    assert float((gradient - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-3


@pytest.mark.parametrize("task", ["base", "masked_lm", "sequence_classification"])
def test_states_and_other_heads(task: str, tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, task)
    inputs = table()
    with torch.no_grad():
        mine = ours(**inputs, output_hidden_states=True, output_attentions=True)
        other = theirs(**inputs, output_hidden_states=True, output_attentions=True)
    seen = inputs["attention_mask"].bool()
    for field in ("last_hidden_state", "pooler_output", "logits"):
        if field in other:
            whole = other[field].shape[:2] != seen.shape
            a, b = (mine[field], other[field]) if whole else (mine[field][seen], other[field][seen])
            assert difference(a, b) <= TOLERANCE
    pairs = zip((*mine.hidden_states, *mine.attentions), (*other.hidden_states, *other.attentions), strict=True)
    for a, b in pairs:
        if a.dim() == 3:
            assert difference(a[seen], b[seen]) <= TOLERANCE
        else:  # (B, H, T, S): rows of padding are never read
            assert difference(a.transpose(1, 2)[seen], b.transpose(1, 2)[seen]) <= TOLERANCE


@pytest.mark.parametrize("task", CLASSES)
def test_saved_by_plait_loads_in_the_reference(task: str, tmp_path: Path) -> None:
    ours, theirs = both(tmp_path / "theirs", task, num_aggregation_labels=4)
    ours.save_pretrained(tmp_path / "ours")
    loaded, report = getattr(transformers, CLASSES[task][0]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    for name, value in theirs.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("kind", range(7))
def test_every_kind_of_segment_matters(kind: int, tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, "base")
    inputs = table(padded=False)
    changed = inputs["token_type_ids"].clone()
    changed[:, 8, kind] = (changed[:, 8, kind] + 1) % 2
    with torch.no_grad():
        before = ours(**inputs).last_hidden_state
        after = ours(**{**inputs, "token_type_ids": changed}).last_hidden_state
        expected = theirs(**{**inputs, "token_type_ids": changed}).last_hidden_state
    assert difference(after, expected) <= TOLERANCE
    assert difference(before, after) > 1000 * TOLERANCE


def test_inputs_that_contradict_the_model(tmp_path: Path) -> None:
    ours, _ = both(tmp_path, num_aggregation_labels=4)
    inputs = table()
    with pytest.raises(OptionError, match=r"`token_type_ids` must have the shape \(B, T, 7\), an id of every kind"):
        ours(inputs["input_ids"], token_type_ids=inputs["token_type_ids"][..., 0])
    many = inputs["token_type_ids"].clone()
    many[0, 9, 2] = 8
    with pytest.raises(
        OptionError, match="hold 8 as kind 2, of which this model has 8: 0 to 7. Make the table smaller"
    ):
        ours(inputs["input_ids"], token_type_ids=many)
    with pytest.raises(OptionError, match="`aggregation_labels` are missing: the model has operations"):
        ours(**inputs, labels=answers(inputs, 0)["labels"])
    with pytest.raises(OptionError, match="`aggregation_labels` were given alone"):
        ours(**inputs, aggregation_labels=torch.tensor([0, 1, 2]))
    with pytest.raises(
        OptionError, match="`float_answer` teaches by an answer whose cells and operation are not known"
    ):
        ours(**inputs, float_answer=torch.zeros(3))
    weak, _ = both(tmp_path / "weak", num_aggregation_labels=4, use_answer_as_supervision=True)
    with pytest.raises(
        OptionError, match=r"learns from answers alone \(use_answer_as_supervision\), which needs 'float_"
    ):
        weak(**inputs, **answers(inputs, 4))
    numbers = {name: torch.ones(ROWS, TOKENS) for name in ("numeric_values", "numeric_values_scale")}
    alone = {**inputs, "labels": answers(inputs, 0)["labels"], "float_answer": torch.ones(ROWS), **numbers}
    with pytest.raises(OptionError, match="`cell_selection_preference` is missing from the configuration"):
        weak(**alone)
    drawn, _ = both(tmp_path / "drawn", **WEAK, use_gumbel_for_cells=True)
    with pytest.raises(OptionError, match="Drawing cells or operations"):
        drawn(**alone)
    third, _ = both(tmp_path / "third", **WEAK, average_approximation_function="third_order")
    with pytest.raises(OptionError, match="must be one of ratio, first_order, second_order, but is 'third_order'"):
        third(**alone)
    with pytest.raises(ConfigError, match="`type_vocab_sizes` must be a list of at least three numbers"):
        auto.AutoModel.from_config({"model_type": "tapas", "type_vocab_sizes": [3, 4]})


def test_new_heads_may_begin_at_zero() -> None:
    config = {"model_type": "tapas", **SIZES}
    made = auto.AutoModelForTableQuestionAnswering.from_config(config, init_cell_selection_weights_to_zero=True)
    assert float(made.network.head.cells.weight.abs().sum()) == 0
    drawn = auto.AutoModelForTableQuestionAnswering.from_config(
        {**config, "hidden_size": 512, "initializer_range": 0.1}
    )
    # 512 draws of N(0, 0.1): within 4 standard errors of the deviation, 0.1 / √1024.
    assert float(drawn.network.head.columns.weight.std()) == pytest.approx(0.1, abs=4 * 0.1 / 1024**0.5)
    assert float(drawn.network.head.columns.bias) == 0
