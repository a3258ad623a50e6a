"""Which parameters decay, AdamW against torch's, and optimizers that do not belong to the model."""

from __future__ import annotations

import logging

import pytest
import torch
import transformers
from torch import nn

from plait.errors import OptionError, TrainingError
from plait.train import AdamW, TrainingArguments
from plait.train.optim import check_optimizer, make_optimizer, parameter_groups


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def test_groups_equal_those_of_transformers() -> None:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.BertForSequenceClassification(config)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = parameter_groups(model, 0.1)
    theirs = transformers.Trainer.get_decay_parameter_names(None, model)  # type: ignore[arg-type]
    assert {names[id(p)] for p in decayed["params"]} == {*theirs}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_frozen_parameters_are_left_out() -> None:
    model = net()
    model[0].requires_grad_(False)
    assert [tuple(p.shape) for group in parameter_groups(model, 0.1) for p in group["params"]] == [
        (3, 4),
        (4,),
        (4,),
        (3,),
    ]
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="nothing to train: every parameter of Sequential is frozen"):
        parameter_groups(model, 0.1)


def test_adamw_takes_the_old_names() -> None:
    models = [net(), net()]
    ours = AdamW(
        models[0].parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1, no_deprecation_warning=True
    )
    theirs = torch.optim.AdamW(models[1].parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1)
    for _ in range(3):
        for model, optimizer in zip(models, [ours, theirs], strict=True):
            optimizer.zero_grad()
            model(torch.tensor([1, 2])).square().sum().backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert AdamW(net().parameters()).defaults["eps"] == 1e-6
    with pytest.raises(OptionError, match="correct_bias=False is not available"):
        AdamW(net().parameters(), correct_bias=False)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adamw_torch_fused", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimizers_by_name(name: str, kind: type[torch.optim.Optimizer]) -> None:
    args = TrainingArguments(optim=name, learning_rate=0.1, weight_decay=0.01, adam_epsilon=1e-5)
    optimizer = make_optimizer(net(), args)
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert optimizer.param_groups[0]["lr"] == 0.1
    if kind is torch.optim.AdamW:
        assert optimizer.param_groups[0]["eps"] == 1e-5
        assert optimizer.param_groups[0]["fused"] is (name == "adamw_torch_fused")


def test_an_optimizer_of_another_model(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        TrainingError, match="holds 5 tensors that are no parameters of Sequential. Make the optimizer after"
    ):
        check_optimizer(net(), AdamW(net().parameters()))
    model = net()
    with caplog.at_level(logging.WARNING, "plait.train"):
        check_optimizer(model, AdamW(model[2].parameters()))
    assert caplog.messages == [
        "3 trainable parameters are in no group of the optimizer and stay as they are: 0.weight, 1.weight, 1.bias"
    ]
