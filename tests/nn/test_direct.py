"""Where products are not written out by hand: every way to differentiate and to trace sees the usual functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from plait.nn.linear import Linear
from plait.nn.mlp import MLP
from plait.nn.norm import Norm
from plait.nn.spec import MLPSpec, NormSpec

PARTS: dict[str, Callable[[], nn.Module]] = {
    "a layer": lambda: Linear(64, 64, bias=False),
    "a layer with a bias": lambda: Linear(64, 64),
    "an MLP": lambda: MLP(MLPSpec(width=96, activation="silu", gated=True), 64),
    "a norm": lambda: Norm(NormSpec(kind="rms", eps=1e-6), 64),
}


def frozen(name: str) -> nn.Module:
    torch.manual_seed(0)
    part = PARTS[name]()
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.3)
    return part.requires_grad_(False)


def few() -> Tensor:
    """So few vectors that a product of them would be turned."""
    return torch.randn(3, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", PARTS)
def test_forward_mode_follows_a_direction(name: str) -> None:
    part, x = frozen(name), few()
    along = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(part(forward_ad.make_dual(x, along))).tangent
    assert found is not None
    # The same from gradients, a row of the Jacobian each.
    jacobian = torch.autograd.functional.jacobian(part, x)
    # Sums of 192 products of order 1.
    torch.testing.assert_close(found, (jacobian * along).sum(dim=(2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PARTS)
def test_tensors_without_numbers_pass(name: str) -> None:
    part = frozen(name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        found = part(mode.from_tensor(few()))
    assert type(found) is not Tensor
    assert found.shape == part(few()).shape


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_traced_graph_computes_other_numbers_as_well(name: str) -> None:
    part = frozen(name)
    traced = torch.jit.trace(part, few())
    torch.testing.assert_close(traced(-2 * few()), part(-2 * few()), rtol=1e-5, atol=1e-5)
