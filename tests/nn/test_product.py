"""Turned products: equal to the usual ones, with gradients, and only where nothing else is to be done."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.nn import mlp as mlp_module
from plait.nn.linear import Linear, bare
from plait.nn.mlp import MLP
from plait.nn.product import columns, few, product
from plait.nn.spec import Activation, MLPSpec

ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh")
WIDTH, INNER, ROWS = 48, 112, 14
WAYS = [(True, True), (True, False), (False, True), (False, False)]
has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = [torch.float32, *([torch.bfloat16] if has_bfloat16 else [])]


def made(activation: Activation = "silu", *, gated: bool = True, bias: bool = False, dropout: float = 0.0) -> MLP:
    """An MLP of random numbers that do not learn."""
    module = MLP(MLPSpec(width=INNER, activation=activation, gated=gated, bias=bias, dropout=dropout), WIDTH)
    draw = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=draw)
    return module.requires_grad_(False).eval()


def given(rows: int = ROWS, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, rows, WIDTH, generator=torch.Generator().manual_seed(5)).to(dtype)


def usual(module: MLP, x: Tensor) -> Tensor:
    """The same by the definition, in the dtype of `x`."""
    up, down = ((part.weight, part.bias) for part in (module.up, module.down))
    parts = [[None if part is None else part.to(x.dtype) for part in pair] for pair in (up, down)]
    y = functional.linear(x, *parts[0])
    if module.gate is None:
        y = module.activation(y)
    else:
        bias = None if module.gate.bias is None else module.gate.bias.to(x.dtype)
        y = module.activation(functional.linear(x, module.gate.weight.to(x.dtype), bias)) * y
    return functional.linear(y, *parts[1])


def turns(module: MLP, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the products of a forward are turned."""
    seen = []
    monkeypatch.setattr(mlp_module, "product", lambda *given: seen.append(1) or product(*given))
    module(x)
    monkeypatch.undo()
    return bool(seen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("gated", "bias"), WAYS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_turned_mlp_is_the_usual_one(activation: Activation, gated: bool, bias: bool, dtype: torch.dtype) -> None:
    module, x = made(activation, gated=gated, bias=bias).to(dtype), given(dtype=dtype)
    with torch.no_grad():
        assert few(x, module.up.weight, most=WIDTH // 3)
        found, exact, plain = module(x), usual(module, x.double()), usual(module, x)
    if dtype == torch.float32:
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
        return
    # Roundings to 8 bits at the same places or fewer: no farther from the exact numbers than the usual product, but for
    # luck, of which a quarter is plenty in the mean of 672 numbers.
    errors = [float((y.double() - exact).abs().mean()) for y in (found, plain)]
    assert errors[0] <= 1.25 * errors[1] + 1e-6, errors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("gated", "bias"), WAYS)
def test_gradients_of_what_goes_in(
    gated: bool, bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = made(gated=gated, bias=bias).to(dtype), given(dtype=dtype).requires_grad_()
    assert turns(module, x, monkeypatch)
    weights = torch.randn(1, ROWS, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    (found,) = torch.autograd.grad((module(x).double() * weights).sum(), x)
    exact_x = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad((usual(module, exact_x) * weights).sum(), exact_x)
    assert found.dtype == dtype
    # bfloat16 rounds about ten times on the way, each by up to 2^-9 of numbers that then add up.
    relative = float((found.double() - exact).norm() / exact.norm())
    assert relative < (1e-6 if dtype == torch.float32 else 2e-2), relative


def test_gradients_of_gradients() -> None:
    module, x = made("tanh"), given().requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    seconds = []
    for y, start in ((module(x), x), (usual(module, exact_x), exact_x)):
        (slope,) = torch.autograd.grad(y.pow(2).sum(), start, create_graph=True)
        seconds.append(torch.autograd.grad(slope.pow(2).sum(), start)[0].double())
    # Products of a few hundred numbers in float32, four deep: seven digits, of which sums take two.
    relative = float((seconds[0] - seconds[1]).norm() / seconds[1].norm())
    assert relative < 1e-5, relative


def test_gradients_by_torch_func() -> None:
    module, x = made("tanh"), given(3)
    jacobian = torch.func.jacrev(module)(x)
    rows = [torch.autograd.functional.vjp(module, x, row)[1] for row in torch.eye(x.numel()).view(-1, *x.shape)]
    torch.testing.assert_close(jacobian.flatten(0, 2), torch.stack(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2, 16, 17, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_rows(rows: int, dtype: torch.dtype) -> None:
    module, x = made().to(dtype), given(rows, dtype)
    with torch.no_grad():
        found, exact = module(x), usual(module, x.double())
    assert found.shape == x.shape
    assert found.is_contiguous()
    # Numbers up to 10 in 8 bits, the same bound as between two bfloat16 products.
    close = 1e-5 if dtype == torch.float32 else 4e-2
    torch.testing.assert_close(found.double(), exact, rtol=close, atol=close)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_alone(bias: bool, dtype: torch.dtype) -> None:
    layer = Linear(24, 96, bias=bias).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = functional.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    with torch.no_grad():
        assert few(x, layer.weight, most=6)
        found = layer(x)
    assert found.shape == (2, 3, 96)
    assert found.is_contiguous()
    close = 1e-5 if dtype == torch.float32 else 2e-2  # one rounding of numbers up to 4
    torch.testing.assert_close(found.double(), exact, rtol=close, atol=close)


def test_matrices_that_learn_get_their_gradient() -> None:
    module, x = made().requires_grad_(), given()
    module(x).square().sum().backward()
    found = module.up.weight.grad
    assert found is not None
    module.zero_grad()
    usual(module, x).square().sum().backward()
    torch.testing.assert_close(found, module.up.weight.grad, rtol=1e-5, atol=1e-4)


def test_who_watches_a_layer_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made(), given()
    assert turns(module, x, monkeypatch)
    assert bare(module.up)
    seen: list[tuple[int, ...]] = []
    handle = module.up.register_forward_hook(lambda _, __, y: seen.append(tuple(y.shape)))
    assert not bare(module.up)
    assert not turns(module, x, monkeypatch)
    assert seen == [(1, ROWS, INNER)]
    handle.remove()
    assert turns(module, x, monkeypatch)


def test_another_layer_in_place_of_one_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    module, x = made(), given()
    expected = usual(module, x)
    other = Doubled(INNER, WIDTH, bias=False)
    other.load_state_dict(module.down.state_dict())
    module.down = other.requires_grad_(False)
    assert not turns(module, x, monkeypatch)
    torch.testing.assert_close(module(x), 2 * expected, rtol=1e-5, atol=1e-5)


def test_where_products_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    x = given()
    assert not turns(made(dropout=0.5).train(), x, monkeypatch)
    assert not turns(made(), given(WIDTH // 3 + 1), monkeypatch)
    assert not turns(made().double(), x.double(), monkeypatch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not turns(made(), x, monkeypatch)
    module = made()
    changed = {name: part * 2 for name, part in module.named_parameters()}
    torch.testing.assert_close(  # tensors that stand in for parameters, perhaps of a class of their own
        torch.func.functional_call(module, changed, (x,)), _with(changed, x), rtol=1e-5, atol=1e-5
    )


def _with(parameters: dict[str, Any], x: Tensor) -> Tensor:
    module = made()
    module.load_state_dict(parameters)
    return usual(module, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_matrix_that_begins_within_a_line_of_the_cache_is_turned_for_fewer_rows(dtype: torch.dtype) -> None:
    numbers = torch.zeros(96 * 32 + 64, dtype=dtype)
    begin = next(at for at in range(32) if numbers[at:].data_ptr() % 64 == 0)
    aligned, shifted = (
        nn.Parameter(numbers[at : at + 96 * 32].view(96, 32), requires_grad=False) for at in (begin, begin + 8)
    )
    found = [few(torch.zeros(rows, 32, dtype=dtype), shifted, most=200) for rows in (10, 128, 129, 200, 201)]
    # Only bfloat16 is read in tiles of 64 bytes.
    assert found == [True, True, *([dtype != torch.bfloat16] * 2), False]
    assert [few(torch.zeros(rows, 32, dtype=dtype), aligned, most=200) for rows in (200, 201)] == [True, False]
    assert columns(torch.zeros(2, 5, 24)).shape == (24, 10)


@pytest.mark.parametrize("rows", [3, ROWS, 200])
def test_a_bias_that_learns_beside_a_frozen_matrix_gets_its_gradient(rows: int) -> None:
    layer = Linear(64, 64 * 16).requires_grad_(False)
    nn.init.normal_(layer.weight)
    nn.init.zeros_(layer.bias).requires_grad_(True)
    layer(torch.ones(rows, 64)).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full_like(layer.bias, float(rows)))
    assert layer.weight.grad is None
    found, expected = made(bias=True), made(bias=True)
    for module in (found, expected):
        for part in (module.gate, module.up, module.down):
            part.bias.requires_grad_(True)
    x = given(rows)
    found(x).square().sum().backward()
    usual(expected, x).square().sum().backward()
    # Sums of some hundred products of float32 in another order.
    for name in ("gate", "up", "down"):
        grads = [getattr(module, name).bias.grad for module in (found, expected)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_whoever_watches_all_modules_or_has_replaced_a_forward_sees_every_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, x, seen = made(), given(), []
    assert turns(module, x, monkeypatch)
    handle = nn.modules.module.register_module_forward_hook(lambda layer, *given: seen.append(layer))
    try:
        assert not bare(module.up)
        module(x)
    finally:
        handle.remove()
    assert {id(layer) for layer in seen} >= {id(module.up), id(module.gate), id(module.down)}
    before, calls = module.up.forward, []
    module.up.forward = lambda y: calls.append(y.shape) or before(y)  # type: ignore[method-assign,func-returns-value]
    assert not bare(module.up)
    module(x)
    assert calls == [x.shape]
