"""Matrices of few bits: how far they may be off, and that kernels and plain arithmetic see the same matrix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from plait.errors import OptionError
from plait.weights import quantise
from plait.weights.quantise import GROUP, Int4, Int8, Matrix, QuantisedLinear, check_kind, quantised

# Whole blocks of the kernel, parts of blocks, fewer than one, and rows of an odd number of groups.
SHAPES = [(128, 64), (192, 96), (48, 32), (7, 160), (130, 64)]


def drawn(shape: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    # Rows of very different size, an offset in some groups, a row of zeros and one of equal numbers.
    weight = torch.randn(shape, generator=generator) * torch.logspace(-3, 2, shape[0])[:, None]
    weight[:, :GROUP] += weight[:, :1]
    weight[1], weight[2] = 0.0, 0.25
    return weight


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_off_by_half_a_step(shape: tuple[int, int]) -> None:
    weight = drawn(shape)
    matrix = Int8(weight)
    dense = matrix.dense(torch.float32)
    steps = weight.abs().amax(dim=1) / 127
    # Rounding to the nearest number; the step itself is rounded up to a bfloat16, at most 2^-7 of it.
    assert ((dense - weight).abs() <= 0.5 * (1 + 2**-7) * steps[:, None]).all()
    assert int(matrix.numbers.abs().max()) == 127
    assert dense[1].abs().max() == 0.0


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_is_off_by_half_a_step(shape: tuple[int, int]) -> None:
    weight = drawn(shape)
    dense = Int4(weight).dense(torch.float32)
    groups = weight.view(shape[0], -1, GROUP)
    steps = (groups.amax(dim=2) - groups.amin(dim=2)) / 15
    # Half a step, itself rounded up by at most 2^-7, and where the offset is rounded to a bfloat16 and the outermost
    # number therefore cut off, 2^-8 of the offset.
    bound = 0.5 * (1 + 2**-7) * steps + 2**-8 * groups.abs().amax(dim=2)
    assert ((dense - weight).abs().view_as(groups) <= bound[..., None]).all()
    assert dense[1].abs().max() == 0.0


def test_numbers_that_fit_are_kept_exactly() -> None:
    whole = torch.randint(-127, 128, (16, 64), generator=torch.Generator().manual_seed(0)).float()
    whole[:, 0] = 127
    assert torch.equal(Int8(whole * 0.5).dense(torch.float32), whole * 0.5)
    levels = torch.randint(0, 16, (64, 64), generator=torch.Generator().manual_seed(0)).float()
    levels[:, ::GROUP], levels[:, 1::GROUP] = 0, 15
    assert torch.equal(Int4(levels * 0.5 - 3).dense(torch.float32), levels * 0.5 - 3)


@pytest.mark.parametrize("kind", [Int8, Int4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_few_and_many_rows(kind: type[Matrix], shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = kind(drawn(shape))
    x = torch.randn(matrix.few + 1, shape[1], generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = x.double() @ matrix.dense(torch.float32).double().T
    size = x.double().abs() @ matrix.dense(torch.float32).double().abs().T
    # Many rows: float32 sums of a hundred products, or operands and results rounded to bfloat16 (2^-9 each).
    loose = 2**-9
    for rows, precision in ((slice(None), 1e-6 if dtype is torch.float32 else 3 * loose), (slice(3), 3 * loose)):
        error = (matrix(x[rows]).double() - exact[rows]).abs()
        assert (error <= precision * size[rows] + 1e-12).all()
        assert matrix(x[rows]).dtype == dtype


@pytest.mark.parametrize("kind", [Int8, Int4])
def test_float16_neither_overflows_nor_loses_small_factors(kind: type[Matrix]) -> None:
    """Products of order 30 whose whole-number sums are beyond 65504, by factors of 7e-6, which float16 holds badly."""
    generator = torch.Generator().manual_seed(3)
    matrix = kind(torch.randn(64, 128, generator=generator) * 3e-4)
    x = torch.randn(matrix.few + 1, 128, generator=generator) * 1e4
    exact = x.half().double() @ matrix.dense(torch.float64).T
    assert float((exact / 7e-6).abs().max()) > 65504 > float(exact.abs().max())
    # Matrix and result are rounded to float16, 2^-11 each, or 6e-8 where numbers are small: 2e-4 of the largest here.
    size = x.double().abs() @ matrix.dense(torch.float64).abs().T
    assert ((matrix(x.half()).double() - exact).abs() <= 2**-10 * size).all()


@pytest.mark.parametrize("width", [12, 24, 40, 44, 16, 48])
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_rows_that_the_kernel_would_read_beyond(rows: int, width: int) -> None:
    """The kernel of int8 takes rows of a multiple of 16; with others it would read memory that is not theirs."""
    matrix = Int8(torch.randn(32, width, generator=torch.Generator().manual_seed(0)))
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(1)).bfloat16()
    expected = functional.linear(x.float(), matrix.dense(torch.float32))
    # Inputs and factors have 8 bits; the sums are rounded once more.
    torch.testing.assert_close(matrix(x).float(), expected, rtol=2**-6, atol=2**-6 * float(expected.abs().max()))
    assert (matrix.few_rows(x) is None) == (width % 16 != 0)


@pytest.mark.parametrize("kind", [Int8, Int4])
def test_shapes_of_inputs(kind: type[Matrix]) -> None:
    matrix, x = kind(drawn((128, 64))), torch.randn(2, 3, 64)
    assert torch.equal(matrix(x), matrix(x.flatten(0, 1)).view(2, 3, 128))
    assert matrix(x[:0]).shape == (0, 3, 128)


def test_int4_without_a_kernel_is_the_same_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = drawn((128, 96))
    with_kernel = Int4(weight)
    monkeypatch.setattr(quantise, "_block", lambda: None)
    without = Int4(weight)
    assert (with_kernel.order is None, without.order is None) == (False, True)
    assert torch.equal(with_kernel.dense(torch.float32), without.dense(torch.float32))
    assert without.few_rows(torch.ones(1, 96, dtype=torch.bfloat16)) is None
    x = torch.randn(2, 96)
    torch.testing.assert_close(without(x), functional.linear(x, without.dense(torch.float32)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [Int8, Int4])
def test_gradients_reach_what_is_multiplied(kind: type[Matrix]) -> None:
    matrix, x = kind(drawn((128, 64))), torch.randn(3, 64, requires_grad=True)
    matrix(x).sum().backward()
    # Sums of 128 numbers up to 300.
    torch.testing.assert_close(x.grad, matrix.dense(torch.float32).sum(dim=0).expand(3, 64), rtol=1e-4, atol=1e-2)
    assert list(matrix.parameters()) == []


def test_bytes() -> None:
    weight = drawn((128, 64))
    sizes = [sum(part.nbytes for part in kind(weight).buffers()) for kind in (Int8, Int4)]
    # A byte each and 2 for every row; half a byte each and 4 for every group.
    assert sizes == [128 * 64 + 2 * 128, 128 * 64 // 2 + 4 * 128 * 2]


@pytest.mark.parametrize("kind", [Int8, Int4])
def test_a_model_of_another_dtype_has_the_same_matrix(kind: type[Matrix]) -> None:
    model, x = nn.Sequential(kind(drawn((128, 64)))), torch.randn(100, 64)
    before = model[0].dense(torch.float32)  # type: ignore[operator]
    model.to(torch.float16).float()
    assert torch.equal(model[0].dense(torch.float32), before)  # type: ignore[operator]
    assert model(x[:1].bfloat16()).dtype == torch.bfloat16


def test_a_linear_layer() -> None:
    linear, x = nn.Linear(64, 128), torch.randn(100, 64)
    quantised_ = QuantisedLinear(linear, "int8")
    assert quantised_.matrix is not None
    expected = functional.linear(x, quantised_.matrix.dense(torch.float32), linear.bias)
    # The factors multiply the sums in place of the products: the last bits differ.
    torch.testing.assert_close(quantised_(x), expected, rtol=1e-5, atol=1e-5)
    assert quantised_.bias is linear.bias
    assert QuantisedLinear(nn.Linear(64, 128, bias=False), "int4").bias is None


def test_a_linear_layer_on_meta_waits_for_its_numbers() -> None:
    with torch.device("meta"):
        layer = QuantisedLinear(nn.Linear(64, 128, bias=False), "int4")
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert not layer.receive("bias", torch.zeros(128))
    assert layer.receive("weight", drawn((128, 64)))
    assert list(layer.parameters()) == []
    x = torch.randn(2, 64)
    assert torch.equal(layer(x), Int4(drawn((128, 64)))(x))


def test_rows_that_are_no_whole_groups_become_int8() -> None:
    assert isinstance(quantised(torch.randn(8, 48), "int4"), Int8)
    assert isinstance(quantised(torch.randn(8, 64), "int4"), Int4)
    with pytest.raises(OptionError) as error:
        Int4(torch.randn(8, 48))
    assert str(error.value) == "int4 groups 32 neighbours of a row, but the matrix has rows of 48."


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(OptionError) as error:
        check_kind("int-4")
    assert str(error.value) == "quantize must be one of int8, int4, but is 'int-4'. Did you mean 'int4'?"
