"""The convolution beside a layer, and stacks that end in another width: against loops over tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from plait.errors import ConfigError
from plait.nn.block import Convolved
from plait.nn.build import build, initialise
from plait.nn.cache import Cache
from plait.nn.spec import (
    AttentionSpec,
    ConvolutionSpec,
    ConvolvedLayerSpec,
    LanguageHeadSpec,
    LayerSpec,
    LearnedPositions,
    MLPSpec,
    NarrowTokens,
    NormSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)

NORM = NormSpec(kind="layer", eps=1e-3, bias=True)
SPEC = ConvolutionSpec(kernel=5, groups=2, activation="tanh", norm=NORM)
# Sums of ten float32 numbers of about 1, taken in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
PARTS = {
    "attention": AttentionSpec(heads=2, kv_heads=2, head_dim=4, scale=0.5),
    "mlp": MLPSpec(width=9, activation="relu"),
    "around_attention": SublayerSpec(after=NORM),
    "around_mlp": SublayerSpec(after=NORM),
}


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def naive(beside: Convolved, x: Tensor, y: Tensor) -> Tensor:
    """One text (T, D), one token after the other: group by group, what stands up to two places away."""
    weight, bias = beside.convolution.weight, beside.convolution.bias  # (D, D / 2, 5)
    rows = []
    for place in range(len(x)):
        around = bias.clone()
        for step in range(-2, 3):
            if 0 <= place + step < len(x):
                around += torch.cat(
                    [weight[:4, :, step + 2] @ x[place + step, :4], weight[4:, :, step + 2] @ x[place + step, 4:]]
                )
        rows.append(y[place] + torch.tanh(around))
    return beside.norm(torch.stack(rows))


@torch.no_grad()
def test_equals_a_loop_over_tokens_and_padding_is_nothing() -> None:
    beside = drawn(Convolved(SPEC, 8))
    x, y = torch.randn(2, 2, 7, 8, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([[True] * 7, [False, False, True, True, True, True, False]])
    found = beside(x, y, valid)
    torch.testing.assert_close(found[0], naive(beside, x[0], y[0]), **CLOSE)
    torch.testing.assert_close(found[1, 2:6], naive(beside, x[1, 2:6], y[1, 2:6]), **CLOSE)
    torch.testing.assert_close(beside(x, y, None)[0], found[0], **CLOSE)


def test_a_stack_with_a_convolution_beside_its_first_layer() -> None:
    layer = LayerSpec(**PARTS)
    first = ConvolvedLayerSpec(**PARTS, convolution=SPEC)
    spec = Single(stack=StackSpec(width=8, frontend=TextFrontendSpec(vocabulary=20), layers=(first, layer)))
    network = drawn(build(spec, device="cpu"))
    assert not network.stack.packable  # a packed row has neighbours of another text
    tokens = torch.randint(0, 20, (1, 7), generator=torch.Generator().manual_seed(2))
    padded = torch.cat((tokens, tokens[:, :3]), dim=1)
    valid = torch.arange(10)[None] < 7
    with torch.no_grad():
        torch.testing.assert_close(network(padded, valid=valid).states[:, :7], network(tokens).states, **CLOSE)
        with pytest.raises(ConfigError, match="a layer with a convolution keeps no cache"):
            network(tokens, cache=Cache(2))
    with pytest.raises(ConfigError, match="`kernel` must be odd, so that a token has a middle to stand in, but is 4"):
        Convolved(ConvolutionSpec(kernel=4, activation="tanh", norm=NORM), 8)


def test_narrow_tokens_and_a_narrow_end() -> None:
    frontend = TextFrontendSpec(vocabulary=20, narrow=NarrowTokens(width=5), positions=LearnedPositions(count=9))
    stack = StackSpec(width=8, frontend=frontend, layers=(LayerSpec(**PARTS),), norm=NORM, narrow=5)
    network = drawn(build(Single(stack=stack, head=LanguageHeadSpec(vocabulary=20, tied=True)), device="cpu"))
    tokens = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        part = network.stack.frontend
        x = part.tokens.weight[tokens] @ part.projection.weight.T + part.positions.weight[:7]
        torch.testing.assert_close(part(tokens, torch.arange(7)[None]), x, **CLOSE)
        hidden = network(tokens)
        assert hidden.states.shape == (2, 7, 5)
        torch.testing.assert_close(hidden.scores, hidden.states @ part.tokens.weight.T, **CLOSE)
    assert part.projection.bias is None
    assert network.stack.projection.weight.shape == (5, 8)
    assert network.head.projection.weight is part.tokens.weight


def test_an_order_of_layers_that_are_not_there() -> None:
    stack = StackSpec(width=8, frontend=TextFrontendSpec(vocabulary=20), layers=(LayerSpec(**PARTS),), order=(0, 1))
    with pytest.raises(ConfigError, match=r"`order` must name layers from 0 to 0, but is \(0, 1\)"):
        build(Single(stack=stack))


def test_the_convolution_is_drawn_as_a_linear_layer() -> None:
    beside = Convolved(ConvolutionSpec(kernel=3, activation="tanh", norm=NORM), 64)
    initialise(beside, std=0.02, generator=torch.Generator().manual_seed(0))
    # 12,288 draws: the deviation is known to 0.02 / sqrt(2 * 12,288) = 1.3e-4; five of those.
    assert beside.convolution.weight.std().item() == pytest.approx(0.02, abs=6.5e-4)
    assert beside.convolution.bias.count_nonzero() == 0
