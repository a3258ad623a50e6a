"""Tiny stacks of every wiring with random weights, complete for tests that compare two ways through one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from plait.nn.build import build
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


def made(spec: StackSpec, *, pool: PoolSpec | None = None) -> SingleModel:
    """A language model of the stack, in evaluation mode."""
    head = LanguageHeadSpec(vocabulary=spec.frontend.vocabulary, tied=False)
    model = build(Single(stack=spec, head=head, pool=pool), device="cpu")
    assert isinstance(model, SingleModel)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def tokens(rows: int = 2, count: int = 9) -> Tensor:
    """Ids that every stack here knows, the same each time."""
    return torch.randint(0, 20, (rows, count), generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    """Raise AssertionError where the two differ by more than rounding."""
    # Sums of a few dozen float32 values of order 1, in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
