"""Mixtures of experts against a loop over tokens and experts: numbers, gradients, what computes, what is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import ConfigError
from plait.nn.block import Layer
from plait.nn.build import initialise
from plait.nn.moe import Experts, MoE, load_balance
from plait.nn.spec import (
    AttentionSpec,
    GroupedRouterSpec,
    LayerSpec,
    MLPSpec,
    MoESpec,
    SharedExpertSpec,
    SoftmaxRouterSpec,
    SublayerSpec,
)

# Sums of some ten float32 numbers of about 1, taken in another order, differ by some 1e-7.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
WIDTH = 8
PLAIN = MoESpec(experts=5, active=2, width=6, activation="silu")
SHARED = MLPSpec(width=7, activation="silu", gated=True)
SPECS = [
    PLAIN,
    replace(PLAIN, router=SoftmaxRouterSpec(renormalise=True)),
    replace(PLAIN, active=1, activation="gelu"),
    replace(PLAIN, active=5),
    replace(PLAIN, shared=SharedExpertSpec(mlp=SHARED)),
    replace(
        PLAIN,
        active=3,
        router=SoftmaxRouterSpec(renormalise=True),
        shared=SharedExpertSpec(mlp=SHARED, gated=True),
    ),
    replace(PLAIN, router=GroupedRouterSpec()),
    MoESpec(
        experts=8,
        active=3,
        width=6,
        activation="silu",
        router=GroupedRouterSpec(groups=4, chosen_groups=2, renormalise=True, scale=2.5),
    ),
]


def made(spec: MoESpec, *, seed: int = 0) -> MoE:
    moe = MoE(spec, WIDTH)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return moe


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def _chosen(moe: MoE, token: Tensor) -> tuple[Tensor, list[int]]:
    """The scores of all experts for a token, and the experts that it passes through."""
    spec, router = moe.spec, moe.spec.router
    scores = torch.exp(moe.router.weight @ token)
    if isinstance(router, SoftmaxRouterSpec):
        scores = scores / scores.sum()
        return scores, sorted(range(spec.experts), key=lambda expert: -scores[expert].item())[: spec.active]
    scores = scores / (1 + scores)
    corrected = (scores + moe.router.correction).tolist()
    size = spec.experts // router.groups
    groups = [range(group * size, (group + 1) * size) for group in range(router.groups)]
    groups.sort(key=lambda group: -sum(sorted(corrected[expert] for expert in group)[-2:]))
    allowed = [expert for group in groups[: router.chosen_groups] for expert in group]
    return scores, sorted(allowed, key=lambda expert: -corrected[expert])[: spec.active]


def naive(moe: MoE, x: Tensor) -> Tensor:
    """One token after the other, one expert after the other, as the formula says it."""
    spec, act = moe.spec, {"silu": functional.silu, "gelu": functional.gelu}[moe.spec.activation]
    rows = []
    for token in x.reshape(-1, WIDTH):
        scores, best = _chosen(moe, token)
        total = sum(scores[expert] for expert in best) if spec.router.renormalise else 1.0
        total = total / getattr(spec.router, "scale", 1.0)
        y = torch.zeros(WIDTH)
        for expert in best:
            gate, up, down = (part[expert] for part in (moe.experts.gate, moe.experts.up, moe.experts.down))
            y = y + scores[expert] / total * (down @ (act(gate @ token) * (up @ token)))
        if spec.shared is not None:
            mlp = moe.shared
            shared = mlp.down.weight @ (functional.silu(mlp.gate.weight @ token) * (mlp.up.weight @ token))
            y = y + (shared * torch.sigmoid(moe.shared_gate.weight @ token) if spec.shared.gated else shared)
        rows.append(y)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", [(3, 7), (1, 1), (40,)])
def test_equals_a_loop_over_tokens_and_experts(spec: MoESpec, shape: tuple[int, ...]) -> None:
    moe, x = made(spec), tokens(*shape)
    torch.testing.assert_close(moe(x), naive(moe, x), **CLOSE)
    with torch.no_grad():  # takes the experts in another way, and computes the same
        assert torch.equal(moe(x), moe.requires_grad_(False)(x))
        torch.testing.assert_close(moe(x), naive(moe, x), **CLOSE)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_equal_those_of_the_loop(spec: MoESpec) -> None:
    moe, x, weights = made(spec), tokens(3, 7).requires_grad_(), tokens(3, 7, seed=2)
    places = [x, *(parameter for parameter in moe.parameters() if parameter.requires_grad)]
    ours = torch.autograd.grad((moe(x) * weights).sum(), places)
    theirs = torch.autograd.grad((naive(moe, x) * weights).sum(), places)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 1e-2
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)  # sums over 21 tokens


def test_only_chosen_experts_compute_and_only_on_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    moe, x = made(PLAIN), tokens(9)
    expected, (_, chosen, _) = moe(x), moe.router.route(x)
    counts = chosen.flatten().bincount(minlength=5).tolist()
    seen: list[int] = []
    plain = moe.experts.activation
    monkeypatch.setattr(moe.experts, "activation", lambda y: (seen.append(len(y)), plain(y))[1])
    assert torch.equal(moe(x), expected)
    assert seen == [count for count in counts if count]
    # A single token leaves three experts out: they may hold anything.
    absent = [expert for expert in range(5) if expert not in chosen[0]]
    with torch.no_grad():
        moe.experts.gate[absent], moe.experts.down[absent] = math.nan, math.nan
    torch.testing.assert_close(moe(x[:1]), expected[:1], **CLOSE)
    moe(x[:1]).sum().backward()
    assert moe.experts.up.grad[absent].count_nonzero() == 0
    assert moe.experts.up.grad.isfinite().all()


def test_a_token_does_not_depend_on_its_neighbours() -> None:
    moe, x = made(SPECS[-1]), tokens(3, 7)
    whole = moe(x)
    for row in range(3):
        for column in range(7):
            torch.testing.assert_close(moe(x[row, column]), whole[row, column], **CLOSE)
    assert moe(x[:, :0]).shape == (3, 0, WIDTH)


def test_scores_are_taken_in_float32() -> None:
    moe, x = (
        made(replace(PLAIN, active=3, router=SoftmaxRouterSpec(renormalise=True))).to(torch.bfloat16),
        tokens(50).to(torch.bfloat16),
    )
    factors, chosen, _ = moe.router.route(x)
    assert factors.dtype == torch.float32
    # In bfloat16 the three factors would miss 1 by up to 2^-8; in float32 by a few 2^-24.
    torch.testing.assert_close(factors.sum(dim=-1), torch.ones(50), rtol=0, atol=2**-22)
    scores = functional.linear(x, moe.router.weight).float().softmax(dim=-1)
    torch.testing.assert_close(scores.gather(1, chosen) / scores.gather(1, chosen).sum(1, True), factors, **CLOSE)
    assert (factors.diff(dim=-1) <= 0).all()
    y = moe(x)
    assert y.dtype == torch.bfloat16
    # What the experts give is added in float32 and rounded once: the weighted sum of their outputs to half a last bit.
    alone = [moe.experts(x, [50 if other == expert else 0 for other in range(5)]) for expert in range(5)]
    outputs = torch.stack(alone, dim=1).float()
    expected = (outputs.gather(1, chosen[..., None].expand(-1, -1, WIDTH)) * factors[..., None]).sum(dim=1)
    torch.testing.assert_close(y.float(), expected, rtol=2**-8, atol=2**-10)


def test_more_active_experts_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"`active` must be from 1 to the number of experts \(5\), but is 6"):
        MoE(replace(PLAIN, active=6), WIDTH)
    with pytest.raises(ConfigError, match="but is 0: a token passes through that many of them"):
        MoE(replace(PLAIN, active=0), WIDTH)


def test_initialise_draws_each_expert_as_a_linear_layer() -> None:
    moe = MoE(MoESpec(experts=16, active=2, width=48, activation="silu", shared=SharedExpertSpec(mlp=SHARED)), 80)
    initialise(moe, std=0.02, generator=torch.Generator().manual_seed(0))
    for stacked in (moe.experts.gate, moe.experts.up, moe.experts.down):
        # 61,440 draws: the deviation is known to 0.02 / sqrt(2 * 61,440) = 6e-5, the mean to 8e-5; five of those.
        assert stacked.std().item() == pytest.approx(0.02, abs=3e-4)
        assert stacked.mean().item() == pytest.approx(0, abs=4e-4)
        assert not torch.equal(stacked[0], stacked[1])
    assert moe.router.weight.std().item() == pytest.approx(0.02, rel=0.1)  # 1,280 draws: 2 % each
    assert moe.shared.up.weight.std().item() == pytest.approx(0.02, rel=0.15)  # 560 draws: 3 % each
    initialise(moe, generator=torch.Generator().manual_seed(0))
    # Glorot & Bengio: uniform within sqrt(6 / (48 + 80)), whichever way the projection leads, whatever lies beside it.
    bound = math.sqrt(6 / 128)
    for stacked in (moe.experts.gate, moe.experts.up, moe.experts.down):
        assert 0.999 * bound < stacked.abs().max().item() <= bound
        assert stacked.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_a_layer_has_a_mixture_where_its_spec_says_so() -> None:
    layer = LayerSpec(
        attention=AttentionSpec(heads=2, kv_heads=2, head_dim=4, scale=0.5),
        mlp=PLAIN,
        around_attention=SublayerSpec(),
        around_mlp=SublayerSpec(),
    )
    with torch.device("meta"):
        sparse, dense = Layer(layer, WIDTH), Layer(replace(layer, mlp=SHARED), WIDTH)
    assert isinstance(sparse.mlp, MoE)
    assert not isinstance(dense.mlp, MoE)
    shapes = {name: tuple(parameter.shape) for name, parameter in sparse.mlp.named_parameters()}
    assert shapes == {
        "router.weight": (5, 8),
        "experts.gate": (5, 6, 8),
        "experts.up": (5, 6, 8),
        "experts.down": (5, 8, 6),
    }
    assert all(parameter.is_meta for parameter in sparse.parameters())
    assert isinstance(sparse.mlp.experts, Experts)
    assert isinstance(sparse.mlp.router, nn.Linear)


def test_groups_that_do_not_fit() -> None:
    spec = replace(PLAIN, experts=8, router=GroupedRouterSpec(groups=4, chosen_groups=1))
    MoE(spec, WIDTH)
    with pytest.raises(ConfigError, match=r"1 of 4 groups hold 2 of the 8 experts, but 3 are to be `active`"):
        MoE(replace(spec, active=3), WIDTH)
    with pytest.raises(ConfigError, match=r"`groups` must divide the 8 experts and .* they are 3 and 1"):
        MoE(replace(spec, router=GroupedRouterSpec(groups=3)), WIDTH)
    with pytest.raises(ConfigError, match=r"`chosen_groups` be at most that many, but they are 4 and 5"):
        MoE(replace(spec, router=GroupedRouterSpec(groups=4, chosen_groups=5)), WIDTH)


def test_the_correction_chooses_and_does_not_weigh() -> None:
    spec = replace(PLAIN, active=1, router=GroupedRouterSpec())
    moe, x = made(spec), tokens(9)
    with torch.no_grad():
        moe.router.correction.copy_(torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0]))
    factors, chosen, scores = moe.router.route(x)
    assert chosen.tolist() == [[3]] * 9  # a sigmoid is below 1, so 2 wins
    assert torch.equal(factors[:, 0], scores[:, 3].sigmoid())
    assert not moe.router.correction.requires_grad


def test_the_balance_of_a_hand_made_choice() -> None:
    # Two tokens, three experts, one active. Probabilities of token 0: 1/2, 1/4, 1/4; of token 1: 1/8, 1/8, 3/4.
    scores = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).log()
    # Chosen: half of the tokens expert 0, half expert 2. Mean probabilities: 5/16, 3/16, 1/2.
    expected = 3 * (0.5 * 5 / 16 + 0.5 * 0.5)
    assert load_balance([scores], active=1).item() == pytest.approx(expected, rel=1e-6)
    # The same layer twice changes no mean; padding does not count.
    assert load_balance([scores, scores], active=1).item() == pytest.approx(expected, rel=1e-6)
    alone = load_balance([scores], active=1, valid=torch.tensor([[True], [False]]))
    assert alone.item() == pytest.approx(3 * 0.5, rel=1e-6)
    even = torch.zeros(4, 3)
    even[0, 0] = even[1, 1] = even[2, 2] = even[3, 0] = 1e-3
    assert load_balance([even], active=3).item() == pytest.approx(3, rel=1e-3)  # all chosen: 3 is as even as can be
