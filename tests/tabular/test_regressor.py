"""FrozenRegressor computes head(backbone(adapter(x))), and only the adapter and the head learn."""

from __future__ import annotations

import pytest
import torch
from stand_in import Doubling
from torch import nn

from plait.errors import ConfigError, DataError
from plait.tabular import FrozenRegressor
from plait.tabular.regressor import fingerprint


def regressor(**options: object) -> FrozenRegressor:
    """adapter: x -> (x0, x1, x0 + x1); backbone: × 2; head: the sum plus 1. So f(x) = 4 (x0 + x1) + 1."""
    model = FrozenRegressor(Doubling(**options), 2)
    model.load_trained_state(
        {
            "adapter.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
            "adapter.bias": torch.zeros(3),
            "head.weight": torch.ones(1, 3),
            "head.bias": torch.ones(1),
        }
    )
    return model


def test_values_and_loss_by_hand() -> None:
    output = regressor()(torch.tensor([[1.0, 2.0], [0.5, -1.0]]), labels=torch.tensor([12.0, 0.0]))
    assert output.logits.tolist() == [13.0, -1.0]
    assert output.loss_terms.total.item() == 2.0  # (13 - 12)² + (-1 - 0)²
    assert output.loss_terms.count.item() == 2.0
    assert output.loss.item() == 1.0


def test_without_labels_there_is_no_loss() -> None:
    output = regressor()(torch.zeros(1, 2))
    assert output.logits.tolist() == [1.0]
    assert output.loss is None


def test_only_adapter_and_head_learn_and_the_backbone_never_drops() -> None:
    model = regressor()
    model.train()
    assert model.training
    assert not model.backbone.training
    assert not model.backbone.dropout.training
    loss = model(torch.tensor([[1.0, 2.0]]), labels=torch.tensor([12.0])).loss
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"adapter.weight", "adapter.bias", "head.weight", "head.bias"} == set(model.trained_state())
    # d loss / d head.bias = 2 (13 - 12); through the backbone, d loss / d adapter.bias = 2 · 2 · 1 for each of three.
    assert model.head.bias.grad.tolist() == [2.0]
    assert model.adapter.bias.grad.tolist() == [4.0, 4.0, 4.0]


def test_several_targets_keep_their_columns() -> None:
    model = FrozenRegressor(Doubling(), 2, targets=2)
    with torch.no_grad():
        model.adapter.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model.adapter.bias.zero_()
        model.head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        model.head.bias.zero_()
    output = model(torch.tensor([[1.0, 5.0]]), labels=torch.tensor([[2.0, 7.0]]))
    assert output.logits.tolist() == [[2.0, 10.0]]
    assert output.loss_terms.total.item() == 9.0
    assert output.loss_terms.count.item() == 2.0


def test_head_and_loss_are_float32_around_a_bfloat16_backbone() -> None:
    model = regressor(dtype=torch.bfloat16)
    with torch.no_grad():
        model.head.bias.fill_(1234.5)  # 1232 in bfloat16
    output = model(torch.zeros(1, 2), labels=torch.tensor([1237.5]))
    assert output.logits.dtype == torch.float32
    assert output.logits.item() == 1234.5
    assert output.loss.item() == 9.0


def test_shapes_that_would_broadcast_are_refused() -> None:
    model = regressor()
    with pytest.raises(DataError, match=r"labels have the shape \(4, 1\), predictions \(4,\)"):
        model(torch.zeros(4, 2), labels=torch.zeros(4, 1))
    with pytest.raises(DataError, match=r"input_features must be \(rows, 2\), not \(4, 3\)"):
        model(torch.zeros(4, 3))


def test_a_backbone_of_unknown_width_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="the width of Identity is unknown: it has no config.hidden_size; pass width="
    ):
        FrozenRegressor(nn.Identity(), 2)
    assert FrozenRegressor(nn.Identity(), 2, width=5).adapter.out_features == 5


def test_the_fingerprint_sees_every_bit_and_no_name_is_free() -> None:
    assert fingerprint(Doubling()) == fingerprint(Doubling())
    assert fingerprint(Doubling()) != fingerprint(Doubling(scale=2.0000002))
    assert fingerprint(Doubling()) != fingerprint(Doubling(dtype=torch.bfloat16))
    assert fingerprint(nn.Linear(2, 2).requires_grad_(False)) != fingerprint(nn.Linear(2, 2))
