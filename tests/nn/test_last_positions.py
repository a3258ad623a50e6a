"""The last positions alone: equal to the last of all, whatever the layers, the masks and the cache; and less work."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from plait.errors import ConfigError
from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.packing import Packing
from plait.nn.record import Recorder
from plait.nn.spec import (
    AttentionSpec,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ParallelLayerSpec,
    PoolSpec,
    RelativeBiasSpec,
    RopeSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.nn.topology import SingleModel

NORM = NormSpec(kind="rms", eps=1e-6)
ATTENTION = AttentionSpec(
    heads=4, kv_heads=2, head_dim=4, scale=0.5, mask=MaskSpec(causal=True), rope=RopeSpec(theta=100.0, dim=4)
)
MLP = MLPSpec(width=24, activation="silu", gated=True)
LAYER = LayerSpec(
    attention=ATTENTION, mlp=MLP, around_attention=SublayerSpec(before=NORM), around_mlp=SublayerSpec(before=NORM)
)
WINDOW = replace(LAYER, attention=replace(ATTENTION, mask=MaskSpec(causal=True, window=3)))
POST = replace(LAYER, around_attention=SublayerSpec(after=NORM), around_mlp=SublayerSpec(after=NORM))
SIDE = ParallelLayerSpec(attention=ATTENTION, mlp=MLP, norm=NORM)
FRONTEND = TextFrontendSpec(vocabulary=20)
STACKS = {
    "pre-norm": StackSpec(width=16, frontend=FRONTEND, layers=(LAYER, LAYER), norm=NORM),
    "a window": StackSpec(width=16, frontend=FRONTEND, layers=(LAYER, WINDOW), norm=NORM),
    "post-norm": StackSpec(width=16, frontend=FRONTEND, layers=(POST, POST)),
    "a softcap": StackSpec(
        width=16, frontend=FRONTEND, layers=(LAYER, replace(LAYER, attention=replace(ATTENTION, softcap=2.0)))
    ),
    "a bias": StackSpec(
        width=16,
        frontend=FRONTEND,
        layers=(replace(LAYER, attention=replace(ATTENTION, rope=None)),) * 2,
        relative_bias=RelativeBiasSpec(buckets=8, distance=16, bidirectional=False),
    ),
    "all see all": StackSpec(
        width=16, frontend=FRONTEND, layers=(replace(LAYER, attention=replace(ATTENTION, mask=MaskSpec())),) * 2
    ),
    "in parallel": StackSpec(width=16, frontend=FRONTEND, layers=(SIDE, SIDE)),
    "one layer twice": StackSpec(width=16, frontend=FRONTEND, layers=(LAYER,), order=(0, 0), norm=NORM),
    "no layers": StackSpec(width=16, frontend=FRONTEND, layers=(), norm=NORM),
}


def made(spec: StackSpec, **more: object) -> SingleModel:
    model = build(Single(stack=spec, head=LanguageHeadSpec(vocabulary=20, tied=False), **more), device="cpu")  # type: ignore[arg-type]
    assert isinstance(model, SingleModel)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def tokens(rows: int = 2, count: int = 9) -> Tensor:
    return torch.randint(0, 20, (rows, count), generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    # Sums of a few dozen float32 values of order 1, in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", ["", "left", "right"])
@pytest.mark.parametrize("last", [1, 2, 9, 12])
@pytest.mark.parametrize("name", STACKS)
@torch.no_grad()
def test_equal_to_the_last_of_all(name: str, last: int, padded: str) -> None:
    stack, valid = made(STACKS[name]).stack, None
    if padded:
        valid = torch.ones(2, 9, dtype=torch.bool)
        valid[1, slice(4) if padded == "left" else slice(5, None)] = False
    found, whole = stack(tokens(), valid=valid, last=last), stack(tokens(), valid=valid)[:, -last:]
    seen = slice(None) if valid is None else valid[:, -last:]  # nobody reads what lies at padding
    assert found.shape == whole.shape
    close(found[seen], whole[seen])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", [name for name in STACKS if name != "all see all"])
@torch.no_grad()
def test_what_follows_in_a_cache(name: str, padded: bool) -> None:
    model, ids = made(STACKS[name]), tokens()
    valid = torch.ones(2, 9, dtype=torch.bool) if padded else None
    positions = None
    if valid is not None:
        valid[1, :3] = False
        positions = (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    whole = model(ids, valid=valid, positions=positions).scores
    assert whole is not None
    cache, found = Cache(model.stack.depth), []
    for part in (slice(5), slice(5, 8), slice(8, 9)):
        given = [None if full is None else full[:, part] for full in (valid, positions)]
        scores = model(ids[:, part], valid=given[0], positions=given[1], cache=cache, keep=1).scores
        assert scores is not None
        found.append(scores[:, -1])
    assert cache.length == 9
    close(torch.stack(found, dim=1), whole[:, [4, 7, 8]])


@torch.no_grad()
def test_the_last_layer_computes_these_alone() -> None:
    model, rows = made(STACKS["pre-norm"]), []
    for layer in model.stack.layers:
        for part in (layer.attention.query, layer.attention.key, layer.mlp):  # type: ignore[union-attr]
            part.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[1]))  # type: ignore[union-attr]
    output = model(tokens(), keep=1)
    assert rows == [9, 9, 9, 1, 9, 1]
    assert output.states.shape == (2, 1, 16)
    # Recorded states are of all positions, and so is what a pool reads.
    rows.clear()
    record = Recorder()
    close(model(tokens(), keep=1, record=record).states[:, -1:], output.states)
    assert rows == [9] * 6
    assert record.states[-1].shape == (2, 9, 16)
    pooled = made(STACKS["pre-norm"], pool=PoolSpec(where="mean"))(tokens(), keep=1).pooled
    assert pooled is not None
    close(pooled, model.stack(tokens()).mean(dim=1))


def test_gradients_are_those_of_the_last_of_all() -> None:
    stack = made(STACKS["pre-norm"]).stack
    ends = []
    for states in (stack(tokens(), last=2), stack(tokens())[:, -2:]):
        ends.append(torch.autograd.grad(states.pow(2).sum(), list(stack.parameters())))
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # sums of some hundred products


def test_what_contradicts() -> None:
    stack, valid = made(STACKS["pre-norm"]).stack, torch.ones(2, 9, dtype=torch.bool)
    packing = Packing.of(valid)
    for options in ({"record": Recorder()}, {"packing": packing}):
        with pytest.raises(ConfigError) as error:
            stack(packing.pack(tokens()) if "packing" in options else tokens(), last=1, **options)  # type: ignore[arg-type]
        assert str(error.value) == "`last` positions are neither recorded nor packed: give `last` alone"
