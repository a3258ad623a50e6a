"""Queries, keys and values as one product: the numbers of three, and three again as soon as anything is different."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.nn.cache import LayerCache
from plait.nn.joined import joined
from plait.nn.linear import Linear
from plait.nn.mask import Mask
from plait.nn.rope import rotation
from plait.nn.spec import AttentionSpec, MaskSpec, NormSpec, ProjectionBias, RopeSpec

CAUSAL = Mask(causal=True)
WIDTH, ROPE = 32, RopeSpec(theta=100.0, dim=8)
PLAIN = AttentionSpec(heads=4, kv_heads=2, head_dim=8, scale=0.3, mask=MaskSpec(causal=True), rope=ROPE)
KINDS = {
    "rotated": PLAIN,
    "all biased": replace(PLAIN, bias=ProjectionBias(query=True, key=True, value=True)),
    "normed heads": replace(PLAIN, qk_norm=NormSpec(kind="rms", eps=1e-6)),
    "not rotated": replace(PLAIN, rope=None),
    "as many keys": replace(PLAIN, kv_heads=4),
}


def made(spec: AttentionSpec = KINDS["all biased"], dtype: torch.dtype = torch.float32) -> Attention:
    """A layer of random numbers that do not learn."""
    module = Attention(spec, WIDTH)
    draw = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=draw)
    return module.requires_grad_(False).eval().to(dtype)


def given(tokens: int = 7, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, tokens, WIDTH, generator=torch.Generator().manual_seed(5)).to(dtype)


def parts(module: Attention) -> tuple[Linear, Linear, Linear]:
    return module.query, module.key, module.value


def join(module: Attention) -> None:
    """Put the parameters of the three layers behind one another."""
    for leaf in ("weight", "bias"):
        pieces = [getattr(part, leaf) for part in parts(module)]
        if pieces[0] is not None:
            whole = torch.cat([piece.detach() for piece in pieces])
            for part, piece in zip(parts(module), whole.split([len(piece) for piece in pieces]), strict=True):
                setattr(part, leaf, nn.Parameter(piece, requires_grad=getattr(part, leaf).requires_grad))


def attend(module: Attention, x: Tensor, mask: Mask = CAUSAL, **options: Any) -> Tensor:
    turns = rotation(module.spec.rope, torch.arange(x.shape[1])[None]) if module.spec.rope else None
    return module(x, mask, rotation=turns, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_one_product_gives_what_three_give(kind: str, dtype: torch.dtype) -> None:
    apart, together = made(KINDS[kind], dtype), made(KINDS[kind], dtype)
    join(together)
    x = given(dtype=dtype)
    assert joined(parts(apart), x) is None
    expected = torch.cat([part(x) for part in parts(apart)], dim=-1)
    # The same sums of 32 products: at most another order of them.
    close = {torch.float64: 1e-14, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(joined(parts(together), x), expected, rtol=close, atol=close)
    torch.testing.assert_close(attend(together, x), attend(apart, x), rtol=close, atol=close)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_cache_and_for_the_last_positions_alone(kind: str) -> None:
    apart, together, x = made(KINDS[kind]), made(KINDS[kind]), given()
    join(together)
    seen = Mask(allowed=torch.ones(7, 7).tril()[-2:].bool())
    last = attend(together, x, mask=seen, last=2)
    torch.testing.assert_close(last, attend(apart, x)[:, -2:], rtol=1e-5, atol=1e-5)
    caches = LayerCache(), LayerCache()
    for module, cache in zip((apart, together), caches, strict=True):
        attend(module, x, cache=cache)
    for one, other in zip(*(cache.append(x[:, None, :0, :8], x[:, None, :0, :8]) for cache in caches), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_parameters_stay_what_they_were(tmp_path: Any) -> None:
    apart, together = made(), made()
    together.query.weight.requires_grad_(True)
    join(together)
    assert [name for name, _ in together.named_parameters()] == [name for name, _ in apart.named_parameters()]
    assert all(torch.equal(part, apart.get_parameter(name)) for name, part in together.named_parameters())
    assert [name for name, part in together.named_parameters() if part.requires_grad] == ["query.weight"]
    save_file(together.state_dict(), tmp_path / "state.safetensors")  # refuses tensors that share numbers
    assert all(
        torch.equal(part, apart.get_parameter(name)) for name, part in load_file(tmp_path / "state.safetensors").items()
    )


def test_a_change_of_one_layer_is_seen() -> None:
    together, x = made(), given()
    join(together)
    with torch.no_grad():
        together.key.weight.mul_(2)
        together.value.bias.zero_()
    found = joined(parts(together), x)
    assert found is not None
    torch.testing.assert_close(found, torch.cat([part(x) for part in parts(together)], dim=-1), rtol=1e-5, atol=1e-5)
    together.load_state_dict(made().state_dict())
    torch.testing.assert_close(attend(together, x), attend(made(), x), rtol=1e-5, atol=1e-5)


def _replaced(module: Attention) -> None:
    module.key.weight = nn.Parameter(module.key.weight + 1, requires_grad=False)


def _without_bias(module: Attention) -> None:
    module.key.bias = None


def _learning(module: Attention) -> None:
    module.value.bias.requires_grad_(True)


def _watched(module: Attention) -> None:
    module.key.register_forward_hook(lambda layer, inputs, output: output * 2)


def _of_another_kind(module: Attention) -> None:
    class Doubled(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    new = Doubled(WIDTH, module.key.out_features)
    new.load_state_dict(module.key.state_dict())
    module.key = new.requires_grad_(False)


def _cast(module: Attention) -> None:
    module.double()


def _on_meta(module: Attention) -> None:
    module.to("meta")


CHANGES = [_replaced, _without_bias, _learning, _watched, _of_another_kind, _cast, _on_meta]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_different_is_computed_by_itself(change: Any) -> None:
    together, apart = made(), made()
    join(together)
    assert joined(parts(together), given()) is not None
    change(together)
    x = given(dtype=together.query.weight.dtype).to(together.query.weight.device)
    assert joined(parts(together), x) is None
    if change is not _on_meta:
        change(apart)
        torch.testing.assert_close(attend(together, x), attend(apart, x), rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_input_of_frozen_layers_and_every_layer_that_learns() -> None:
    together, apart = made(), made()
    join(together)
    for module in (together, apart):
        x = given().requires_grad_(True)
        attend(module, x).square().sum().backward()
        module.reached = x.grad  # type: ignore[assignment]
        module.requires_grad_(True)
        attend(module, given()).square().sum().backward()
    torch.testing.assert_close(together.reached, apart.reached, rtol=1e-4, atol=1e-5)
    for name, part in apart.named_parameters():
        torch.testing.assert_close(together.get_parameter(name).grad, part.grad, rtol=1e-4, atol=1e-5)


def test_a_copy_gives_the_same_numbers() -> None:
    together = made()
    join(together)
    torch.testing.assert_close(attend(copy.deepcopy(together), given()), attend(made(), given()), rtol=1e-5, atol=1e-5)


def test_neighbours_by_chance_are_no_one_matrix() -> None:
    numbers = torch.zeros(24, WIDTH)
    # Two storages over one block of memory: the second begins where the first ends.
    blocks = [torch.from_numpy(numbers.numpy()[at : at + 12]) for at in (0, 12)]
    layers = [Linear(WIDTH, 12, bias=False) for _ in blocks]
    for layer, block in zip(layers, blocks, strict=True):
        layer.weight = nn.Parameter(block, requires_grad=False)
    assert layers[1].weight.data_ptr() == layers[0].weight.data_ptr() + layers[0].weight.nbytes
    assert joined(layers, given()) is None
