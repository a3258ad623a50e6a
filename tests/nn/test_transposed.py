"""What is held of a matrix gives the same gradients, and is never used, copied or saved once it is another matrix's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from plait.nn import product as product_module
from plait.nn.product import product
from plait.nn.transposed import held, hold, release

OUTPUTS, INPUTS, VECTORS = 96, 48, 14
has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = [torch.float32, *([torch.bfloat16] if has_bfloat16 else [])]


def matrix(dtype: torch.dtype = torch.float32) -> nn.Parameter:
    draw = torch.Generator().manual_seed(2)
    return nn.Parameter(torch.randn(OUTPUTS, INPUTS, generator=draw).to(dtype), requires_grad=False)


def vectors(dtype: torch.dtype = torch.float32, *, rows: bool = False) -> Tensor:
    """(I, N), along memory in columns or in rows."""
    x = torch.randn(INPUTS, VECTORS, generator=torch.Generator().manual_seed(4)).to(dtype)
    return (x.t().contiguous().t() if rows else x).requires_grad_()


def slope(weight: Tensor, x: Tensor, bias: Tensor | None = None, *, like: Tensor | None = None) -> Tensor:
    """The gradient of `weight @ x`, weighed by fixed numbers (O, N) or by `like`."""
    if like is None:
        like = torch.randn(OUTPUTS, VECTORS, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    (found,) = torch.autograd.grad((product(weight, bias, x).double() * like).sum(), x)
    return found


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_gradients_in_the_same_layout(dtype: torch.dtype, biased: bool, rows: bool) -> None:
    weight, x = matrix(dtype), vectors(dtype, rows=rows)
    bias = torch.ones(OUTPUTS, dtype=dtype) if biased else None
    plain = slope(weight, x, bias)
    hold(weight)
    assert torch.equal(held(weight), weight.t())
    found = slope(weight, x, bias)
    assert found.dtype == dtype
    assert found.stride() == plain.stride() == x.stride()
    like = torch.randn(OUTPUTS, VECTORS, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    exact = weight.double().t() @ like.to(dtype).double()
    # Sums of 96 products in float32, rounded to 8 bits in bfloat16: by up to 2^-9 each, half of that in the mean.
    bound = 1e-6 if dtype == torch.float32 else 2**-9
    for gradient in (found, plain):
        relative = float((gradient.double() - exact).norm() / exact.norm())
        assert relative < bound, relative


def test_it_is_what_gradients_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = matrix(), vectors()
    seen: list[tuple[int, ...]] = []
    usual = product_module._turned
    monkeypatch.setattr(product_module, "_turned", lambda *given: seen.append(tuple(given[1].shape)) or usual(*given))
    slope(weight, x)
    assert seen == [(OUTPUTS, INPUTS)]
    hold(weight)
    slope(weight, x)
    assert seen == [(OUTPUTS, INPUTS)] * 2 + [(INPUTS, OUTPUTS)]


def test_a_gradient_that_is_one_number_everywhere() -> None:
    weight, x = matrix(), vectors()
    hold(weight)
    (found,) = torch.autograd.grad(product(weight, None, x).sum(), x)  # its gradient is one number, expanded
    expected = weight.double().sum(0)[:, None].expand(-1, VECTORS)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_gradients() -> None:
    weight, x = matrix(), vectors()
    hold(weight)
    (first,) = torch.autograd.grad(product(weight, None, x).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    exact, y = weight.double(), x.detach().double().requires_grad_()
    (first,) = torch.autograd.grad((exact @ y).pow(3).sum(), y, create_graph=True)
    (expected,) = torch.autograd.grad(first.sum(), y)
    # Four products of float32 numbers up to some thousands
    assert float((second.double() - expected).norm() / expected.norm()) < 1e-5


def _cast_and_back(weight: nn.Parameter) -> None:
    # float32 lies where it lay before, if the memory that was let go of is taken again, and has fewer digits.
    weight.data = weight.data.bfloat16()
    weight.data = weight.data.float()


def _filled(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.copy_(torch.ones_like(weight))


CHANGES: dict[str, Callable[[nn.Parameter], object]] = {
    "filled": _filled,
    "scaled in place": lambda weight: weight.mul_(2),
    "bound to other numbers": lambda weight: setattr(weight, "data", 2 * weight.data),
    "cast and back": _cast_and_back,
    "the first half twice": lambda weight: setattr(weight, "data", weight.data[:48].repeat(2, 1)),
    "another view": lambda weight: setattr(weight, "data", weight.data.view(INPUTS, OUTPUTS).t()),
    "loaded": lambda weight: nn.Module.load_state_dict(_owner(weight), {"weight": torch.ones(OUTPUTS, INPUTS)}),
    "trained": lambda weight: _trained(weight),
}


def _owner(weight: nn.Parameter) -> nn.Module:
    owner = nn.Module()
    owner.register_parameter("weight", weight)
    return owner


def _trained(weight: nn.Parameter) -> None:
    weight.requires_grad_()
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.5).step()
    weight.requires_grad_(False)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_of_changed_numbers_nothing_is_held(change: Callable[[nn.Parameter], object]) -> None:
    weight, x = matrix(), vectors()
    hold(weight)
    slope(weight, x)
    before = weight.clone()
    change(weight)
    assert not torch.equal(weight, before)
    like = torch.ones(OUTPUTS, VECTORS, dtype=torch.float64)
    found = slope(weight, x, like=like)
    torch.testing.assert_close(found.double(), weight.double().t() @ like, rtol=1e-5, atol=1e-5)
    assert held(weight) is None
    assert not vars(weight), "the memory is given back"
    hold(weight)
    assert torch.equal(held(weight), weight.t())


def test_a_change_between_forward_and_backward_is_an_error_as_without() -> None:
    weight, x = matrix(), vectors()
    hold(weight)
    y = product(weight, None, x).sum()
    weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_another_parameter_of_the_same_numbers_has_none() -> None:
    weight = matrix()
    hold(weight)
    assert held(nn.Parameter(weight.detach(), requires_grad=False)) is None
    assert held(weight.detach()) is None
    assert held(weight) is not None


def test_what_does_not_change_a_matrix_keeps_it() -> None:
    weight = matrix()
    hold(weight)
    first = held(weight)
    hold(weight)
    _owner(weight).to("cpu", torch.float32).requires_grad_(True).requires_grad_(False)
    assert held(weight) is first


def test_released() -> None:
    weight = matrix()
    release(weight)
    hold(weight)
    release(weight)
    assert held(weight) is None
    assert not vars(weight)


def test_copies_and_files_hold_nothing(tmp_path: Path) -> None:
    weight = matrix()
    owner = _owner(weight)
    sizes = []
    for number in range(2):
        torch.save(owner.state_dict(), tmp_path / f"state{number}")
        torch.save([weight], tmp_path / f"whole{number}")
        sizes.append([(tmp_path / f"state{number}").stat().st_size, (tmp_path / f"whole{number}").stat().st_size])
        hold(weight)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] < sizes[0][1] + 1000  # what stands for it is no numbers: the matrix has 18432 bytes
    (read,) = torch.load(tmp_path / "whole1", weights_only=True)
    assert torch.equal(read, weight)
    for other in (read, copy.deepcopy(owner).weight):
        assert held(other) is None
        hold(other)
        assert torch.equal(held(other), weight.t())
