"""Norms, MLP, frontend, norm slots, heads: each against its formula."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.block import Around, Context, ParallelLayer
from plait.nn.build import build, initialise
from plait.nn.frontend import TextFrontend, sinusoids
from plait.nn.heads import ClassifierHead, LanguageHead, Pool
from plait.nn.mask import Mask
from plait.nn.mlp import MLP, activation
from plait.nn.norm import Norm
from plait.nn.record import Recorder
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    LanguageHeadSpec,
    LearnedPositions,
    MaskSpec,
    MLPSpec,
    NarrowTables,
    NormSpec,
    ParallelLayerSpec,
    PoolSpec,
    Single,
    SinusoidalPositions,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
    TransformSpec,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def randomise(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def test_layer_norm() -> None:
    norm = Norm(NormSpec(kind="layer", eps=0.1, bias=True), 5)
    randomise(norm)
    x = torch.randn(3, 5)
    centred = x - x.mean(dim=1, keepdim=True)
    expected = centred / (centred.square().mean(dim=1, keepdim=True) + 0.1).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected, **CLOSE)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("bias", [False, True])
def test_rms_norm(offset: float, bias: bool) -> None:
    norm = Norm(NormSpec(kind="rms", eps=0.1, offset=offset, bias=bias), 5)
    randomise(norm)
    x = torch.randn(3, 5)
    expected = x / (x.square().mean(dim=1, keepdim=True) + 0.1).sqrt() * (offset + norm.weight)
    torch.testing.assert_close(norm(x), expected + norm.bias if norm.bias is not None else expected, **CLOSE)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_norm_that_does_not_learn(dtype: torch.dtype, offset: float) -> None:
    norm = randomise(Norm(NormSpec(kind="rms", eps=0.1, offset=offset), 40)).to(dtype)
    x = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    exact_x, weight = x.detach().double().requires_grad_(), norm.weight.detach().double()
    exact = exact_x / (exact_x.square().mean(dim=-1, keepdim=True) + 0.1).sqrt() * (weight + offset)
    learning = norm(x)  # by the usual kernels
    norm.requires_grad_(False)
    found = norm(x)
    with torch.no_grad():
        assert torch.equal(norm(x), found)
    # Numbers up to 4, of which bfloat16 rounds the last alone: both ways end in the same number or its neighbour.
    close = {torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=4 * close)
    torch.testing.assert_close(found, learning, rtol=close, atol=close)
    slopes = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = [
        torch.autograd.grad((y.double() * slopes).sum(), start, create_graph=dtype == torch.float64)[0]
        for y, start in ((found, x), (exact, exact_x))
    ]
    assert ends[0].dtype == dtype
    torch.testing.assert_close(ends[0].double(), ends[1], rtol=0, atol=4 * close)
    if dtype == torch.float64:
        seconds = [
            torch.autograd.grad(end.pow(3).sum(), start)[0] for end, start in zip(ends, (x, exact_x), strict=True)
        ]
        torch.testing.assert_close(seconds[0], seconds[1], rtol=1e-9, atol=1e-9)


def test_norm_statistics_are_float32_in_bfloat16() -> None:
    """300 ones have a mean square of 1; summed in bfloat16 they would stop at 256."""
    norm = Norm(NormSpec(kind="rms", eps=1e-6), 300).to(torch.bfloat16)
    norm.initialise()
    assert torch.equal(norm(torch.ones(1, 300, dtype=torch.bfloat16)), torch.ones(1, 300, dtype=torch.bfloat16))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_float32_norm_takes_what_autocast_gives(kind: Literal["layer", "rms"]) -> None:
    norm = Norm(NormSpec(kind=kind, eps=1e-6, bias=True), 5)
    randomise(norm)
    x = torch.randn(3, 5).bfloat16().requires_grad_()
    y = norm(x)
    # Computed in float32, and rounded to 8 bits at most twice.
    torch.testing.assert_close(y.float(), norm(x.float()), rtol=2**-7, atol=2**-7)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_an_offset_is_added_in_float32() -> None:
    """In bfloat16 1 + 0.003 is 1, and sqrt(2) * 1 rounds to 1.4141; sqrt(2) * 1.003 = 1.4185 rounds to 1.4219."""
    norm = Norm(NormSpec(kind="rms", eps=0.0, offset=1.0), 2).to(torch.bfloat16)
    nn.init.constant_(norm.weight, 0.003)
    y = norm(torch.tensor([1.0, 0.0], dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert y[0] == 1.421875


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_new_norm_changes_nothing_but_the_scale(offset: float) -> None:
    norm = Norm(NormSpec(kind="rms", eps=0.0, offset=offset), 4)
    norm.initialise()
    x = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    torch.testing.assert_close(norm(x), x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gelu", 0.5 * 1.5 * (1 + math.erf(1.5 / math.sqrt(2)))),
        ("gelu_tanh", 0.75 * (1 + math.tanh(math.sqrt(2 / math.pi) * (1.5 + 0.044715 * 1.5**3)))),
        ("quick_gelu", 1.5 / (1 + math.exp(-1.702 * 1.5))),
        ("relu", 1.5),
        ("silu", 1.5 / (1 + math.exp(-1.5))),
        ("tanh", math.tanh(1.5)),
    ],
)
def test_activations(name: str, expected: float) -> None:
    function = activation(name)  # type: ignore[arg-type]
    assert function(torch.tensor(1.5)).item() == pytest.approx(expected, rel=1e-6)
    assert function(torch.tensor(0.0)).item() == 0.0


@pytest.mark.parametrize("gated", [False, True])
def test_mlp(gated: bool) -> None:
    mlp = MLP(MLPSpec(width=7, activation="silu", gated=gated, bias=True), 5)
    randomise(mlp)
    x = torch.randn(2, 3, 5)
    up = x @ mlp.up.weight.T + mlp.up.bias
    hidden = functional.silu(up)
    if mlp.gate is not None:
        hidden = functional.silu(x @ mlp.gate.weight.T + mlp.gate.bias) * up
    torch.testing.assert_close(mlp(x), hidden @ mlp.down.weight.T + mlp.down.bias, **CLOSE)


def test_what_an_mlp_drops() -> None:
    """What goes into the last layer: with all of it dropped, the bias alone is left."""
    mlp = MLP(MLPSpec(width=7, activation="silu", bias=True, dropout=1.0), 5)
    randomise(mlp)
    x = torch.randn(2, 3, 5)
    assert not torch.equal(mlp(x), mlp.down.bias.expand(2, 3, 5))
    assert torch.equal(mlp.train()(x), mlp.down.bias.expand(2, 3, 5))


def test_slots_around_a_sublayer() -> None:
    """after(x + branch(f(before(x)))), each slot with weights of its own."""
    norm = NormSpec(kind="rms", eps=0.1)
    around = Around(SublayerSpec(before=norm, branch=norm, after=norm), 4)
    randomise(around)
    assert around.before is not None
    assert around.branch is not None
    assert around.after is not None
    x = torch.randn(1, 2, 4)
    expected = around.after(x + around.branch(3 * around.before(x)))
    torch.testing.assert_close(around(x, lambda y: 3 * y), expected)
    torch.testing.assert_close(Around(SublayerSpec(), 4)(x, lambda y: 3 * y), 4 * x)


@pytest.mark.parametrize("own_norm", [False, True])
def test_parallel_layer(own_norm: bool) -> None:
    """x + attention(norm(x)) + mlp(norm(x)): the MLP does not see what attention adds."""
    norm = NormSpec(kind="layer", eps=0.1, bias=True)
    spec = ParallelLayerSpec(
        attention=AttentionSpec(heads=2, kv_heads=2, head_dim=4, scale=0.5, mask=MaskSpec(causal=True)),
        mlp=MLPSpec(width=6, activation="gelu", bias=True),
        norm=norm,
        mlp_norm=norm if own_norm else None,
        dropout=0.5,
    )
    layer = ParallelLayer(spec, 4)
    randomise(layer)
    x, mask = torch.randn(2, 3, 4), Mask(causal=True)
    context = Context(masks={spec.attention.mask: mask}, rotations={})
    record = Recorder()
    record.states.append(x)
    attended, seen = layer.attention(layer.norm(x), mask), (layer.mlp_norm or layer.norm)(x)
    torch.testing.assert_close(layer(x, context, record=record), x + attended + layer.mlp(seen))
    assert [name for name, _ in record.sublayers] == ["layers.0.attention", "layers.0.mlp"]
    torch.testing.assert_close(record.sublayers[0][1], attended)
    layer.train()
    assert not torch.equal(layer(x, context), layer(x, context))


def test_sinusoids() -> None:
    table = sinusoids(torch.tensor([[0, 5]]), 6)
    expected = [f(5 / 10000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    assert table[0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table[0, 1].tolist() == pytest.approx(expected, abs=1e-6)
    assert sinusoids(torch.tensor([[3]]), 5).shape == (1, 1, 5)


def test_frontend_adds_its_parts() -> None:
    spec = TextFrontendSpec(
        vocabulary=9, positions=LearnedPositions(count=6), segments=2, scale=3.0, norm=NormSpec(kind="rms", eps=0.1)
    )
    frontend = TextFrontend(spec, 4)
    randomise(frontend)
    assert frontend.norm is not None
    assert frontend.positions is not None
    assert frontend.segments is not None
    tokens, where = torch.tensor([[3, 8]]), torch.tensor([[1, 5]])
    segments = torch.tensor([[0, 1]])
    plain = 3 * frontend.tokens.weight[[3, 8]] + frontend.positions.weight[[1, 5]]
    torch.testing.assert_close(frontend(tokens, where)[0], frontend.norm(plain + frontend.segments.weight[[0, 0]]))
    expected = frontend.norm(plain + frontend.segments.weight[[0, 1]])
    torch.testing.assert_close(frontend(tokens, where, segments=segments)[0], expected)
    given = frontend(None, where, embeddings=3 * frontend.tokens(tokens), segments=segments)[0]
    torch.testing.assert_close(given, expected)


def test_frontend_of_another_width() -> None:
    spec = TextFrontendSpec(
        vocabulary=9,
        narrow=NarrowTables(width=3),
        positions=LearnedPositions(count=6),
        norm=NormSpec(kind="rms", eps=0.1),
    )
    frontend = TextFrontend(spec, 4)
    randomise(frontend)
    assert frontend.norm is not None
    assert frontend.positions is not None
    assert frontend.projection is not None
    inner = frontend.norm(frontend.tokens.weight[[3, 8]] + frontend.positions.weight[[1, 5]])
    expected = inner @ frontend.projection.weight.T + frontend.projection.bias
    torch.testing.assert_close(frontend(torch.tensor([[3, 8]]), torch.tensor([[1, 5]]))[0], expected, **CLOSE)


def test_frontend_with_sinusoids() -> None:
    frontend = TextFrontend(TextFrontendSpec(vocabulary=9, positions=SinusoidalPositions()), 4)
    randomise(frontend)
    where = torch.tensor([[2, 7]])
    expected = frontend.tokens.weight[[1, 1]] + sinusoids(where, 4)[0]
    torch.testing.assert_close(frontend(torch.tensor([[1, 1]]), where)[0], expected)


def test_segments_without_an_embedding_for_them() -> None:
    frontend = TextFrontend(TextFrontendSpec(vocabulary=9), 4)
    one = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(ConfigError, match="this model has no segment embedding"):
        frontend(one, one, segments=one)


def short(positions: int) -> nn.Module:
    frontend = TextFrontendSpec(vocabulary=9, positions=LearnedPositions(count=positions))
    return build(Single(stack=StackSpec(width=4, frontend=frontend, layers=())), device="cpu")


def test_a_text_longer_than_the_positions() -> None:
    with pytest.raises(ConfigError, match=r"position 6 does not exist.*0 to 5.*Cut the text to 6 tokens"):
        short(6)(torch.zeros(1, 7, dtype=torch.long))
    with pytest.raises(ConfigError, match="position 11 does not exist"):
        short(6)(torch.zeros(1, 1, dtype=torch.long), positions=torch.tensor([[11]]))


def test_tokens_or_embeddings() -> None:
    for given in ({}, {"tokens": torch.zeros(1, 1, dtype=torch.long), "embeddings": torch.zeros(1, 1, 4)}):
        with pytest.raises(ConfigError, match="either token ids or embeddings, and not both"):
            short(6)(**given)


VALID = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()


@pytest.mark.parametrize(("where", "picked"), [("first", [1, 0, 3]), ("last", [2, 3, 3])])
def test_pool_follows_the_valid_tokens(where: str, picked: list[int]) -> None:
    x = torch.randn(3, 4, 5)
    pool = Pool(PoolSpec(where=where), 5)  # type: ignore[arg-type]
    assert torch.equal(pool(x, VALID), x[[0, 1, 2], picked])
    assert torch.equal(pool(x), x[:, 0 if where == "first" else -1])


def test_mean_pool() -> None:
    x = torch.randn(3, 4, 5)
    pool = Pool(PoolSpec(where="mean"), 5)
    torch.testing.assert_close(pool(x, VALID)[0], x[0, 1:3].mean(dim=0))
    torch.testing.assert_close(pool(x), x.mean(dim=1))


@pytest.mark.parametrize("where", ["first", "last", "mean"])
def test_a_text_without_a_token_has_no_vector(where: Literal["first", "last", "mean"]) -> None:
    for valid in (None, torch.ones(2, 0, dtype=torch.bool)):
        with pytest.raises(ConfigError) as error:
            Pool(PoolSpec(where=where), 5)(torch.zeros(2, 0, 5), valid)
        text = "a text without any token has no vector: leave empty texts out, or give them one token"
        assert str(error.value) == text


def test_pool_with_a_dense_layer() -> None:
    pool = Pool(PoolSpec(where="first", activation="tanh"), 5)
    randomise(pool)
    assert pool.dense is not None
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(pool(x), torch.tanh(x[:, 0] @ pool.dense.weight.T + pool.dense.bias), **CLOSE)


def test_language_head() -> None:
    transform = TransformSpec(activation="gelu", norm=NormSpec(kind="rms", eps=0.1))
    spec = LanguageHeadSpec(vocabulary=9, tied=False, bias=True, transform=transform, softcap=2.0)
    head = LanguageHead(spec, 5)
    randomise(head)
    assert head.dense is not None
    assert head.norm is not None
    x = torch.randn(1, 3, 5)
    hidden = head.norm(functional.gelu(x @ head.dense.weight.T + head.dense.bias))
    scores = hidden @ head.projection.weight.T + head.projection.bias
    torch.testing.assert_close(head(x), 2 * torch.tanh(scores / 2), **CLOSE)


def test_a_language_head_leads_to_the_width_of_the_embedding() -> None:
    transform = TransformSpec(activation="tanh", bias=False)
    head = LanguageHead(LanguageHeadSpec(vocabulary=9, tied=True, transform=transform), 5, embedding=3)
    randomise(head)
    assert head.dense is not None
    assert head.dense.bias is None
    x = torch.randn(1, 3, 5)
    torch.testing.assert_close(head(x), torch.tanh(x @ head.dense.weight.T) @ head.projection.weight.T, **CLOSE)
    with pytest.raises(ConfigError, match=r"stack's width \(5\).* a width of 3: add a TransformSpec"):
        LanguageHead(LanguageHeadSpec(vocabulary=9, tied=True), 5, embedding=3)


def test_classifier_head_with_a_transform() -> None:
    transform = TransformSpec(activation="relu", norm=NormSpec(kind="rms", eps=0.1), dropout=0.5)
    head = ClassifierHead(ClassifierHeadSpec(labels=3, transform=transform), 5)
    randomise(head)
    assert head.dense is not None
    assert head.norm is not None
    x = torch.randn(2, 5)
    hidden = head.norm((x @ head.dense.weight.T + head.dense.bias).relu())
    torch.testing.assert_close(head(x), hidden @ head.projection.weight.T + head.projection.bias, **CLOSE)
    head.train()
    assert not torch.equal(head(x), head(x))


def test_classifier_head() -> None:
    head = ClassifierHead(ClassifierHeadSpec(labels=3, dropout=0.5), 5)
    randomise(head)
    x = torch.randn(2, 5)
    torch.testing.assert_close(head(x), x @ head.projection.weight.T + head.projection.bias, **CLOSE)
    head.train()
    assert not torch.equal(head(x), head(x))


def test_initialise_draws_the_deviation_asked_for() -> None:
    frontend = TextFrontendSpec(vocabulary=2000, padding=7)
    spec = Single(
        stack=StackSpec(width=64, frontend=frontend, layers=(), norm=NormSpec(kind="layer", eps=1e-5, bias=True)),
        pool=PoolSpec(where="first", activation="tanh"),
        head=LanguageHeadSpec(vocabulary=2000, tied=True),
    )
    model = build(spec, device="cpu")
    initialise(model, std=0.02, generator=torch.Generator().manual_seed(0))
    table = model.stack.frontend.tokens.weight.detach()
    # 128,000 draws: the deviation is known to 0.02 / sqrt(2 * 128,000) = 4e-5; five of those.
    assert table.std().item() == pytest.approx(0.02, abs=2e-4)
    assert table.mean().item() == pytest.approx(0, abs=3e-4)
    assert table[7].count_nonzero() == 0
    assert model.head.projection.weight is model.stack.frontend.tokens.weight
    assert model.pool.dense.bias.count_nonzero() == 0
    assert torch.equal(model.stack.norm.weight, torch.ones(64))
    initialise(model, generator=torch.Generator().manual_seed(0))
    assert table.std().item() == pytest.approx(64**-0.5, rel=0.01)
    # Glorot & Bengio: uniform within sqrt(6 / (64 + 64)), whose deviation is that over sqrt(3).
    assert model.pool.dense.weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.02)


def test_meta_is_the_default() -> None:
    spec = Single(stack=StackSpec(width=64, frontend=TextFrontendSpec(vocabulary=10**9), layers=()))
    model = build(spec)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.stack.frontend.tokens.weight.numel() == 64 * 10**9


def test_building_draws_nothing_and_loads_no_compiler() -> None:
    """PyTorch's initialisers cost more than a second on "meta"; building must not reach them."""
    code = """
import sys
from plait.nn.build import build
from plait.nn.spec import *
head = LanguageHeadSpec(vocabulary=9, tied=False, bias=True)
attention = AttentionSpec(heads=1, kv_heads=1, head_dim=4, scale=1.0)
layer = LayerSpec(
    attention=attention,
    mlp=MLPSpec(width=4, activation="gelu"),
    around_attention=SublayerSpec(),
    around_mlp=SublayerSpec(),
)
build(Single(stack=StackSpec(width=4, frontend=TextFrontendSpec(vocabulary=9), layers=(layer,)), head=head))
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
