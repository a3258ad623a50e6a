"""Attention against three nested loops, on every path: fused, explicit, one query, one token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.attention import Attention
from plait.nn.build import initialise
from plait.nn.cache import LayerCache
from plait.nn.mask import Mask
from plait.nn.rope import rotate, rotation
from plait.nn.spec import AttentionSpec, NormSpec, ProjectionBias, RopeSpec

WIDTH = 12
ALL = ProjectionBias(query=True, key=True, value=True, output=True)


def made(**changes: object) -> Attention:
    fields = {"heads": 6, "kv_heads": 2, "head_dim": 4, "scale": 0.4, "bias": ALL} | changes
    attention = Attention(AttentionSpec(**fields), WIDTH)  # type: ignore[arg-type]
    initialise(attention, std=0.5)
    for name, parameter in attention.named_parameters():
        if "bias" in name or "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return attention.eval()


def by_loops(attention: Attention, x: Tensor, seen: Tensor | None, positions: Tensor | None = None) -> Tensor:
    """One score at a time, straight from the formula; `seen` (T, S)."""
    spec = attention.spec
    q = attention.query(x).view(*x.shape[:2], spec.heads, spec.head_dim)
    k = attention.key(x).view(*x.shape[:2], spec.kv_heads, spec.head_dim)
    v = attention.value(x).view(*x.shape[:2], spec.kv_heads, spec.head_dim)
    if attention.query_norm is not None and attention.key_norm is not None:
        q, k = attention.query_norm(q), attention.key_norm(k)
    if spec.rope is not None and positions is not None:
        tables = rotation(spec.rope, positions)
        q, k = rotate(q.transpose(1, 2), tables).transpose(1, 2), rotate(k.transpose(1, 2), tables).transpose(1, 2)
    out = torch.zeros_like(q)
    for b in range(x.shape[0]):
        for h in range(spec.heads):
            group = h * spec.kv_heads // spec.heads
            for t in range(x.shape[1]):
                scores = []
                for s in range(x.shape[1]):
                    score = spec.scale * float(q[b, t, h] @ k[b, s, group])
                    if spec.softcap:
                        score = spec.softcap * math.tanh(score / spec.softcap)
                    scores.append(score if seen is None or seen[t, s] else -math.inf)
                weights = torch.tensor(scores).softmax(dim=0)
                out[b, t, h] = (weights[:, None] * v[b, :, group]).sum(dim=0)
    return attention.output(out.flatten(2))


# Sums of some tens of float32 products of order one: a few 1e-6.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}

VARIATIONS: dict[str, dict[str, object]] = {
    "grouped": {},
    "one head of keys": {"kv_heads": 1},
    "as many keys as queries": {"kv_heads": 6},
    "no bias": {"bias": ProjectionBias()},
    "query and key norm": {"qk_norm": NormSpec(kind="rms", eps=1e-6)},
    "softcap": {"softcap": 0.7},
    "rotary": {"rope": RopeSpec(theta=100.0, dim=4)},
}


@pytest.mark.parametrize("changes", VARIATIONS.values(), ids=VARIATIONS.keys())
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_equals_loops(changes: dict[str, object], causal: bool, recorded: bool) -> None:
    attention = made(**changes)
    x = torch.randn(2, 5, WIDTH)
    positions = torch.tensor([[2, 3, 4, 5, 6]])
    rope = attention.spec.rope
    weights: list[Tensor] | None = [] if recorded else None
    with torch.no_grad():
        ours = attention(x, Mask(causal=causal), rotation=rotation(rope, positions) if rope else None, weights=weights)
        expected = by_loops(attention, x, torch.ones(5, 5).tril().bool() if causal else None, positions)
    torch.testing.assert_close(ours, expected, **CLOSE)
    if weights is not None:
        torch.testing.assert_close(weights[0].sum(dim=-1), torch.ones(2, 6, 5), **CLOSE)
        assert weights[0].triu(1).count_nonzero() == (0 if causal else 2 * 6 * 10)


def test_a_made_mask_equals_loops() -> None:
    attention = made()
    x = torch.randn(2, 5, WIDTH)
    seen = torch.rand(5, 5) > 0.4
    seen[:, 0] = True
    with torch.no_grad():
        ours = attention(x, Mask(allowed=seen[None, None]))
        torch.testing.assert_close(ours, by_loops(attention, x, seen), **CLOSE)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_one_query_after_a_cache_equals_the_last_of_all(kv_heads: int) -> None:
    attention = made(kv_heads=kv_heads)
    x = torch.randn(2, 5, WIDTH)
    cache = LayerCache()
    with torch.no_grad():
        whole = attention(x, Mask(causal=True))
        attention(x[:, :4], Mask(causal=True), cache=cache)
        last = attention(x[:, 4:], Mask(), cache=cache)
    torch.testing.assert_close(last, whole[:, 4:], **CLOSE)


@pytest.mark.parametrize("changes", VARIATIONS.values(), ids=VARIATIONS.keys())
def test_one_token_alone_takes_the_value_path(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """No query, key, rotation or softmax is computed, and numbers and gradients are the same as with all of them."""
    attention, rope = made(**changes), RopeSpec(theta=100.0, dim=4)
    x, weights, slopes = torch.randn(3, 1, WIDTH, requires_grad=True), [], []  # type: ignore[var-annotated]
    tables = rotation(rope, torch.full((1, 1), 7)) if attention.spec.rope else None
    long_way = attention(x, Mask(causal=True), weights=weights, rotation=tables)
    slopes += torch.autograd.grad(long_way.sin().sum(), x)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", None)
    monkeypatch.setattr(attention.query, "forward", None)
    monkeypatch.setattr(attention.key, "forward", None)
    short_way = attention(x, Mask(causal=True))
    slopes += torch.autograd.grad(short_way.sin().sum(), x)
    assert torch.equal(weights[0], torch.ones(3, 6, 1, 1))
    # The weight is 1 to the last bit, so only the order of adding up may differ.
    torch.testing.assert_close(short_way, long_way, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)


def test_which_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    kernel = functional.scaled_dot_product_attention

    def counted(*args: Tensor, **options: object) -> Tensor:
        calls.append(bool(options["is_causal"]))
        return kernel(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    x = torch.randn(1, 3, WIDTH)
    made()(x, Mask(causal=True))
    assert calls == [True]
    made(softcap=5.0)(x, Mask(causal=True))
    made()(x, Mask(causal=True), weights=[])
    assert calls == [True]


def test_dropout_acts_in_training_alone() -> None:
    attention = made(dropout=0.5)
    x = torch.randn(1, 8, WIDTH)
    assert torch.equal(attention(x, Mask()), attention(x, Mask()))
    attention.train()
    assert not torch.equal(attention(x, Mask()), attention(x, Mask()))
    # One token is no short cut then: dropping the one weight drops the value.
    outputs = torch.stack([attention(x[:, :1], Mask()) for _ in range(40)])
    assert torch.unique(outputs.round(decimals=4), dim=0).shape[0] > 1


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match=r"`heads` must be a multiple of `kv_heads` \(4\), but is 6"):
        made(kv_heads=4)
