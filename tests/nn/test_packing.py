"""Packed rows: the numbers and gradients of padded ones, for every variation of a stack, wherever the padding is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from plait.nn.build import build
from plait.nn.packing import Packing, Run
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    ConvolutionSpec,
    ConvolvedLayerSpec,
    DisentangledSpec,
    LanguageHeadSpec,
    LatentAttentionSpec,
    LayerSpec,
    LearnedPositions,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ParallelLayerSpec,
    PoolSpec,
    ProjectionBias,
    RelativeBiasSpec,
    RelativeVectorsSpec,
    RopeSpec,
    Single,
    SinusoidalPositions,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.nn.stack import Stack
from plait.nn.topology import SingleModel

NORM = NormSpec(kind="rms", eps=1e-5)
CAUSAL = MaskSpec(causal=True)
ATTENTION = AttentionSpec(heads=4, kv_heads=4, head_dim=4, scale=0.5, bias=ProjectionBias(value=True, output=True))
LATENT = LatentAttentionSpec(
    heads=2,
    latent=6,
    plain_dim=3,
    value_dim=5,
    rope=RopeSpec(theta=100.0, dim=4),
    scale=0.4,
    norm=NORM,
    mask=CAUSAL,
)
LAYER = LayerSpec(
    attention=ATTENTION,
    mlp=MLPSpec(width=12, activation="gelu", gated=True),
    around_attention=SublayerSpec(before=NORM),
    around_mlp=SublayerSpec(before=NORM),
)
FRONTEND = TextFrontendSpec(vocabulary=20, segments=2)
ROPE = RopeSpec(theta=100.0, dim=4)


def stack(frontend: TextFrontendSpec = FRONTEND, relative: RelativeBiasSpec | None = None, **changes: Any) -> StackSpec:
    layer = replace(LAYER, attention=replace(ATTENTION, **changes))
    return StackSpec(width=8, frontend=frontend, layers=(layer, layer), norm=NORM, relative_bias=relative)


STACKS: dict[str, StackSpec] = {
    "all keys": stack(),
    "learned positions": stack(replace(FRONTEND, positions=LearnedPositions(count=12, offset=2))),
    "learned positions of tokens": stack(replace(FRONTEND, positions=LearnedPositions(count=9, over="tokens"))),
    "sinusoids": stack(replace(FRONTEND, positions=SinusoidalPositions())),
    "window": stack(mask=MaskSpec(window=3)),
    "causal, rotary, grouped": stack(mask=CAUSAL, rope=ROPE, kv_heads=2, qk_norm=NORM),
    "causal window": stack(mask=MaskSpec(causal=True, window=2), rope=ROPE, kv_heads=1),
    "softcap": stack(mask=CAUSAL, softcap=0.8),
    "relative bias": stack(relative=RelativeBiasSpec(buckets=8, distance=9)),
    "causal relative bias": stack(relative=RelativeBiasSpec(buckets=8, distance=9, bidirectional=False), mask=CAUSAL),
    "parallel layers": replace(
        stack(), layers=(ParallelLayerSpec(attention=replace(ATTENTION, mask=CAUSAL), mlp=LAYER.mlp, norm=NORM),)
    ),
    "repeated layers": replace(stack(), order=(0, 1, 0, 1)),
    "disentangled": replace(
        stack(),
        layers=(replace(LAYER, attention=DisentangledSpec(heads=2, head_dim=4, scale=0.3)),) * 2,
        relative_vectors=RelativeVectorsSpec(reach=4, distance=7, norm=NORM),
    ),
    "latent": replace(stack(), layers=(replace(LAYER, attention=LATENT),)),
    "latent, absorbed": replace(stack(), layers=(replace(LAYER, attention=replace(LATENT, latent=1)),)),
}
HEADS: dict[str, dict[str, Any]] = {
    "words": {"head": LanguageHeadSpec(vocabulary=20, tied=False, bias=True)},
    "a label per token": {"head": ClassifierHeadSpec(labels=3)},
    "first": {"pool": PoolSpec(where="first", activation="tanh"), "head": ClassifierHeadSpec(labels=3)},
    "last": {"pool": PoolSpec(where="last"), "head": ClassifierHeadSpec(labels=3)},
    "mean": {"pool": PoolSpec(where="mean"), "head": ClassifierHeadSpec(labels=3)},
}


def made(stack: StackSpec, head: dict[str, Any]) -> SingleModel:
    model = build(Single(stack=stack, **head), device="cpu")
    assert isinstance(model, SingleModel)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def padded(lengths: list[int], *, left: bool) -> Tensor:
    """Which slots of a batch of these lengths hold tokens, padded to the longest or one more."""
    order = torch.arange(max(lengths) + 1)
    if left:
        order = order.flip(0)
    return order < torch.tensor(lengths)[:, None]


def numbers(model: SingleModel, valid: Tensor, *, packed: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """States and scores of random tokens, and the gradients of a random sum of those that belong to tokens."""
    torch.manual_seed(1)
    tokens, segments = torch.randint(0, 20, valid.shape), torch.randint(0, 2, valid.shape)
    packing = Packing.of(valid) if packed else None
    hidden = model(tokens, segments=segments, valid=valid, packing=packing)
    assert hidden.scores is not None
    of_tokens = [x * valid[..., None] if x.dim() == 3 else x for x in (hidden.states, hidden.scores)]
    torch.manual_seed(2)
    model.zero_grad()
    sum((x * torch.randn_like(x)).sum() for x in of_tokens).backward()  # type: ignore[union-attr]
    gradients = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    return of_tokens[0].detach(), of_tokens[1].detach(), gradients


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("spec", STACKS.values(), ids=STACKS.keys())
@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=6), left=st.booleans())
def test_packed_equals_padded(spec: StackSpec, head: dict[str, Any], lengths: list[int], left: bool) -> None:
    model, valid = made(spec, head), padded(lengths, left=left)
    *expected, slopes = numbers(model, valid, packed=False)
    *found, gradients = numbers(model, valid, packed=True)
    # States of order 1 and sums of some tens of products in another order. Gradients are sums over up to 48 tokens.
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, slope in slopes.items():
        # A text of one token needs no query: alone it gives none a gradient, which with padding is zero.
        gradient = gradients.get(name, torch.zeros_like(slope))
        torch.testing.assert_close(gradient, slope, rtol=1e-4, atol=1e-5 * max(1.0, float(slope.abs().max())))


def test_zero_at_padding() -> None:
    model, valid = made(STACKS["all keys"], HEADS["words"]), padded([3, 1, 5], left=False)
    hidden = model(torch.randint(0, 20, valid.shape), valid=valid, packing=Packing.of(valid))
    assert hidden.scores is not None
    assert (hidden.states.shape, hidden.scores.shape) == ((3, 6, 8), (3, 6, 20))
    for x in (hidden.states, hidden.scores):
        assert x[~valid].abs().max() == 0.0
        assert x[valid].abs().amin(dim=-1).max() > 0.0


def test_embeddings_in_place_of_ids_and_their_gradient() -> None:
    model, valid = made(STACKS["causal, rotary, grouped"], HEADS["words"]), padded([4, 7, 2], left=True)
    given_, gradients = torch.randn(3, 8, 8), []
    for packing in (None, Packing.of(valid)):
        embeddings = given_.clone().requires_grad_()
        scores = model(embeddings=embeddings, valid=valid, packing=packing).scores
        assert scores is not None
        scores[valid].square().sum().backward()
        assert embeddings.grad is not None
        gradients.append(embeddings.grad[valid])
    # Sums over 7 tokens and 20 scores of order 1 in another order, relative to the largest.
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * float(gradients[0].abs().max()))


def test_the_last_scores_alone() -> None:
    model, valid = made(STACKS["causal, rotary, grouped"], HEADS["words"]), padded([4, 7, 2], left=True)
    tokens = torch.randint(0, 20, valid.shape)
    whole, last = (model(tokens, valid=valid, packing=Packing.of(valid), keep=keep).scores for keep in (None, 1))
    assert whole is not None
    assert last is not None
    torch.testing.assert_close(last, whole[:, -1:], rtol=1e-5, atol=1e-5)


def test_the_packed_order_and_back() -> None:
    valid = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    packing = Packing.of(valid)
    assert packing is not None
    assert packing.count == 11
    assert packing.runs == (Run(rows=2, length=2), Run(rows=1, length=3), Run(rows=1, length=4))
    assert packing.slots.tolist() == [[2, 3, 0, 1, 0, 1, 2, 0, 1, 2, 3]]
    assert packing.order.tolist() == [[0, 1, 0, 1, 0, 1, 2, 0, 1, 2, 3]]
    x = torch.arange(20).view(5, 4)
    assert packing.pack(x).tolist() == [[6, 7, 16, 17, 0, 1, 2, 12, 13, 14, 15]]
    assert torch.equal(packing.unpack(packing.pack(x)), x * valid)


def test_runs_are_views_that_join_again() -> None:
    packing = Packing.of(padded([2, 2, 3], left=False))
    assert packing is not None
    x = torch.randn(1, 7, 2, 5).transpose(1, 2)  # (1, H, N, D)
    parts = packing.split(x)
    assert [tuple(part.shape) for part in parts] == [(2, 2, 2, 5), (1, 2, 3, 5)]
    assert all(part.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for part in parts)
    assert torch.equal(parts[0][1, :, 0], x[0, :, 2])
    assert torch.equal(packing.join(parts), x.transpose(1, 2).flatten(2))


def test_padding_between_tokens_is_not_packed() -> None:
    assert Packing.of(torch.tensor([[1, 1, 1], [1, 0, 1]])) is None
    assert Packing.of(torch.tensor([[1, 1, 1], [0, 1, 0]])) is not None
    assert Packing.of(torch.zeros(2, 3)) is None


def test_when_packing_pays() -> None:
    for count, pays in ((3, True), (28, True), (29, False), (32, False)):
        assert Packing.pays((torch.arange(32) < count).view(2, 16)) is pays
    # Elsewhere a kernel for each run costs more than padding, and to look at the mask would wait for the device.
    assert not Packing.pays(torch.zeros(2, 16, device="meta"))


def test_which_stacks_pack() -> None:
    assert Stack(STACKS["relative bias"]).packable
    attention = DisentangledSpec(heads=2, head_dim=4, scale=0.5)
    convolution = ConvolutionSpec(kernel=3, activation="tanh", norm=NORM)
    layer = ConvolvedLayerSpec(**{**vars(LAYER), "attention": attention, "convolution": convolution})
    spec = replace(STACKS["all keys"], layers=(layer,), relative_vectors=RelativeVectorsSpec(reach=4))
    assert not Stack(spec).packable
    crossing = replace(LAYER, cross=ATTENTION, around_cross=LAYER.around_mlp)
    assert not Stack(replace(STACKS["all keys"], layers=(crossing,))).packable


def test_a_text_that_is_short_enough_passes_however_far_its_batch_is_padded() -> None:
    spec = stack(replace(FRONTEND, positions=LearnedPositions(count=5)))
    model, valid = made(spec, HEADS["words"]), padded([2, 5], left=False)
    assert valid.shape[1] == 6
    tokens = torch.randint(0, 20, valid.shape)
    alone = model(tokens[:, :5], valid=valid[:, :5]).states
    packed = model(tokens, valid=valid, packing=Packing.of(valid)).states
    torch.testing.assert_close(packed[valid], alone[valid[:, :5]], rtol=1e-5, atol=1e-5)
