"""Layers that run again and again with the same weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.record import Recorder
from plait.nn.spec import (
    AttentionSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.nn.topology import SingleModel

AROUND = SublayerSpec(before=NormSpec(kind="rms", eps=1e-6))
LAYER = LayerSpec(
    attention=AttentionSpec(heads=2, kv_heads=2, head_dim=4, scale=0.5, mask=MaskSpec(causal=True)),
    mlp=MLPSpec(width=8, activation="relu"),
    around_attention=AROUND,
    around_mlp=AROUND,
)
FRONTEND = TextFrontendSpec(vocabulary=20)


def made(stack: StackSpec) -> SingleModel:
    model = build(Single(stack=stack), device="cpu")
    assert isinstance(model, SingleModel)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_repeated_layers_are_layers_with_equal_weights() -> None:
    spec = StackSpec(width=8, frontend=FRONTEND, layers=(LAYER, LAYER), order=(0, 1) * 3)
    repeated = made(spec)
    written_out = made(replace(spec, layers=(LAYER,) * 6, order=None))
    state = repeated.state_dict()
    for name, parameter in written_out.named_parameters():
        # layer 5 of six is layer 1 of two
        parts = name.split(".")
        if parts[1] == "layers":
            parts[2] = str(int(parts[2]) % 2)
        parameter.data = state[".".join(parts)]
    tokens, one, six = torch.randint(0, 20, (2, 7)), Recorder(), Recorder()
    with torch.no_grad():
        assert torch.equal(repeated(tokens, record=one).states, written_out(tokens, record=six).states)
    assert [name for name, _ in one.sublayers] == [name for name, _ in six.sublayers]
    assert all(torch.equal(a, b) for a, b in zip(one.states, six.states, strict=True))
    assert len(one.states) == 7
    assert repeated.stack.depth == written_out.stack.depth == 6


def test_each_pass_has_a_cache_of_its_own() -> None:
    model = made(StackSpec(width=8, frontend=FRONTEND, layers=(LAYER,), order=(0,) * 3))
    tokens, cache = torch.randint(0, 20, (2, 7)), Cache(model.stack.depth)
    with torch.no_grad():
        parts = [model(part, cache=cache).states for part in tokens.split([3, 1, 3], dim=1)]
        # Sums of a few values of order 1 in another order.
        torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens).states, rtol=1e-5, atol=1e-5)
