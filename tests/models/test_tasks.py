"""Losses of the tasks: what the labels may be, what they mean, and in which dtype they are compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plait.errors import ConfigError, OptionError
from plait.models.auto import AutoModelForSequenceClassification
from plait.models.config import Config
from plait.models.tasks import TASKS, problem_type
from plait.nn.loss import LossTerms


def loss_of(task: str, outputs: dict[str, Tensor], labels: dict[str, Tensor], **values: Any) -> LossTerms:
    loss = TASKS[task].loss
    assert loss is not None
    return loss(outputs, labels, Config({"model_type": "bert", **values}))


def sequence(logits: Any, labels: Any, **values: Any) -> LossTerms:
    logits = torch.as_tensor(logits, dtype=torch.float32)
    values.setdefault("num_labels", logits.shape[1])
    return loss_of("sequence_classification", {"logits": logits}, {"labels": torch.as_tensor(labels)}, **values)


@pytest.mark.parametrize(
    "labels",
    [[1.0, 4.0], [[1.0], [4.0]], [1, 4], torch.tensor([1.0, 4.0], dtype=torch.float64), torch.tensor([1, 4]).int()],
)
def test_one_label_is_regression_whatever_the_dtype_of_the_target(labels: Any) -> None:
    terms = sequence([[2.0], [2.0]], labels)
    assert (float(terms.total), float(terms.count)) == (5.0, 2.0)  # 1² + 2²
    assert terms.total.dtype == torch.float32


def test_three_numbers_per_row() -> None:
    terms = sequence(torch.zeros(2, 3), [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], problem_type="regression")
    assert (float(terms.total), float(terms.count)) == (15.0, 6.0)


def test_a_bfloat16_model_sees_the_target_as_it_is() -> None:
    """In bfloat16 both targets would read 1240, and the loss 0."""
    logits = torch.tensor([[1240.0], [1240.0]], dtype=torch.bfloat16)
    terms = loss_of(
        "sequence_classification", {"logits": logits}, {"labels": torch.tensor([1234.5, 1237.5])}, num_labels=1
    )
    assert float(terms.mean()) == (5.5**2 + 2.5**2) / 2


def test_classes() -> None:
    terms = sequence([[0.0, math.log(3.0)], [0.0, 0.0]], [1, 0])
    assert float(terms.total) == pytest.approx(-math.log(0.75) - math.log(0.5), rel=1e-6)  # float32
    column = sequence([[0.0, math.log(3.0)], [0.0, 0.0]], [[1], [0]])
    assert torch.equal(terms.total, column.total)


def test_several_yes_or_no_answers() -> None:
    terms = sequence([[0.0, math.log(3.0)]], [[1, 1]], problem_type="multi_label_classification")
    assert float(terms.total) == pytest.approx(-math.log(0.5) - math.log(0.75), rel=1e-6)
    assert float(terms.count) == 2


@pytest.mark.parametrize("labels", [[0.5, 1.0], [[0.0, 1.0], [1.0, 0.0]], [[0, 1], [1, 0]]])
def test_ambiguous_labels_are_refused_with_the_remedy(labels: Any) -> None:
    with pytest.raises(OptionError) as caught:
        sequence(torch.zeros(2, 2), labels)
    assert "num_labels=2 could be several numbers or several yes/no answers. Say which when loading the model: " in str(
        caught.value
    )
    assert str(caught.value).endswith("problem_type='regression' or problem_type='multi_label_classification'.")


def test_the_loss_leaves_the_configuration_alone() -> None:
    config = Config(model_type="bert", num_labels=1)
    assert problem_type(config, torch.zeros(2)) == "regression"
    assert config.problem_type is None


@pytest.mark.parametrize(
    ("labels", "values", "text"),
    [
        ([0, 2], {}, "Label 2 does not exist: the model has 2 (0 to 1), and -100 marks what does not count."),
        ([0, -1], {}, "Label -1 does not exist"),
        ([0, 1, 1], {}, "`labels` must have the shape (2,), but has (3,)."),
        ([[1.0, 2.0, 3.0]] * 2, {"problem_type": "regression"}, "`labels` must have the shape (2, 2), but has (2, 3)."),
        (
            [0.0, 1.0],
            {"problem_type": "single_label_classification"},
            "Labels must be whole numbers, but are float32. Convert them with .long(), or, to predict numbers, load "
            "AutoModelForSequenceClassification with num_labels=1.",
        ),
    ],
)
def test_labels_that_do_not_fit(labels: Any, values: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        sequence(torch.zeros(2, 2), labels, **values)
    assert text in str(caught.value)


def test_words_are_scored_against_the_next() -> None:
    logits = torch.zeros(1, 3, 5)
    logits[0, 0, 4] = 100.0  # sure of word 4 behind the first
    logits[0, 1, 2] = 100.0
    labels = torch.tensor([[0, 4, 2]])
    assert float(loss_of("causal_lm", {"logits": logits}, {"labels": labels}).total) == 0.0
    assert float(loss_of("masked_lm", {"logits": logits}, {"labels": labels}).total) > 100.0
    one = loss_of("causal_lm", {"logits": logits[:, :1]}, {"labels": labels[:, :1]})
    assert (float(one.total), float(one.count), float(one.mean())) == (0.0, 0.0, 0.0)


def test_both_ends_of_an_answer_count() -> None:
    outputs = {"start_logits": torch.zeros(2, 4), "end_logits": torch.zeros(2, 8)}
    labels = {"start_positions": torch.tensor([1, 4]), "end_positions": torch.tensor([[1], [7]])}
    terms = loss_of("question_answering", outputs, labels)
    # One start lies outside the text; ln 4 for the other, ln 8 for both ends.
    assert float(terms.count) == 3
    assert float(terms.total) == pytest.approx(math.log(4) + 2 * math.log(8), rel=1e-6)


def test_next_sentence_takes_either_name() -> None:
    outputs = {"logits": torch.tensor([[0.0, math.log(3.0)]])}
    for name in ("labels", "next_sentence_label"):
        assert float(loss_of("next_sentence", outputs, {name: torch.tensor([1])}).total) == pytest.approx(
            math.log(4 / 3)
        )


def test_regression_end_to_end_and_saved(tmp_path: Path) -> None:
    tiny = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 9, "intermediate_size": 8}
    config = Config(model_type="bert", num_labels=3, problem_type="regression", **tiny)
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (again.config.problem_type, again.config.num_labels) == ("regression", 3)
    output = again(torch.ones(2, 3).long(), labels=torch.ones(2, 3))
    assert float(output.loss.detach()) == pytest.approx(float((output.logits - 1).square().mean().detach()), rel=1e-6)
    with pytest.raises(ConfigError, match="Set num_labels=2 for a choice of two"):
        AutoModelForSequenceClassification.from_pretrained(
            tmp_path, num_labels=1, problem_type="single_label_classification"
        )
