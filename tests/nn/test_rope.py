"""Rotary positions: the frequencies against the reference library, the rotation against complex numbers."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from plait.nn.rope import frequencies, rotate, rotation
from plait.nn.spec import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

CASES: list[tuple[dict[str, object], RopeScaling]] = [
    ({"rope_type": "linear", "factor": 3.0}, LinearScaling(factor=3.0)),
    (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        Llama3Scaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=64),
    ),
    (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        YarnScaling(factor=4.0, original_positions=64, attention_factor=0.1 * math.log(4.0) + 1.0),
    ),
    (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "truncate": False},
        YarnScaling(factor=4.0, original_positions=64, attention_factor=0.1 * math.log(4.0) + 1.0, truncate=False),
    ),
]


@pytest.mark.parametrize(("parameters", "scaling"), CASES, ids=lambda case: str(case)[:24])
def test_scaled_frequencies_equal_the_reference(parameters: dict[str, object], scaling: RopeScaling) -> None:
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters={"rope_theta": 5000.0, **parameters},
    )
    expected, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    ours, ours_factor = frequencies(RopeSpec(theta=5000.0, dim=64, scaling=scaling))
    # Both are float32 evaluations of one formula in another order of operations.
    torch.testing.assert_close(ours, expected, rtol=2e-6, atol=0)
    assert ours_factor == pytest.approx(factor, rel=1e-9)


def test_plain_frequencies() -> None:
    per_position, factor = frequencies(RopeSpec(theta=100.0, dim=4))
    assert per_position.tolist() == pytest.approx([1.0, 0.1])
    assert factor == 1.0


def test_rotation_is_multiplication_by_a_complex_number() -> None:
    """Pair (i, i + R/2) at position p is multiplied by exp(1j * p * frequency); dimensions behind R stay."""
    spec = RopeSpec(theta=50.0, dim=4)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64).float()
    positions = torch.tensor([[0, 1, 2, 7, 300], [3, 3, 4, 9, 11]])
    turned = rotate(x, rotation(spec, positions))
    for batch, head, token in [(0, 0, 0), (0, 2, 4), (1, 1, 3)]:
        for pair in range(2):
            angle = int(positions[batch, token]) * 50.0 ** (-2 * pair / 4)
            before = complex(float(x[batch, head, token, pair]), float(x[batch, head, token, pair + 2]))
            after = before * cmath.exp(1j * angle)
            # An angle of 300 radians carries 300 * 2^-24 = 2e-5 of float32 rounding.
            assert turned[batch, head, token, pair].item() == pytest.approx(after.real, abs=1e-4)
            assert turned[batch, head, token, pair + 2].item() == pytest.approx(after.imag, abs=1e-4)
    assert torch.equal(turned[..., 4:], x[..., 4:])


def test_neighbours_turn_as_halves_do() -> None:
    """Interleaved pairs are the same rotation of the same pairs, which lie elsewhere."""
    halves, neighbours = RopeSpec(theta=50.0, dim=4), RopeSpec(theta=50.0, dim=4, interleaved=True)
    x, positions = torch.randn(2, 3, 5, 6), torch.tensor([[0, 1, 2, 7, 30]])
    order = [0, 2, 1, 3, 4, 5]  # of halves, in places of neighbours; its own inverse
    expected = rotate(x[..., order], rotation(halves, positions))[..., order]
    assert torch.equal(rotate(x, rotation(neighbours, positions)), expected)


LONG = LongRopeScaling(
    short_factors=tuple(1 + index / 8 for index in range(32)),
    long_factors=tuple(1.0 + index for index in range(32)),
    original_positions=64,
    attention_factor=math.sqrt(1 + math.log(4) / math.log(64)),
)


@pytest.mark.parametrize(("length", "seen"), [(1, None), (64, 64), (65, 65)])
def test_a_factor_for_each_frequency_equals_the_reference(length: int, seen: int | None) -> None:
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 5000.0,
            "original_max_position_embeddings": 64,
            "short_factor": list(LONG.short_factors),
            "long_factor": list(LONG.long_factors),
        },
    )
    expected, factor = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"), seq_len=seen)
    spec = RopeSpec(theta=5000.0, dim=64, scaling=LONG)
    ours, ours_factor = frequencies(spec, length=length)
    torch.testing.assert_close(ours, expected, rtol=2e-6, atol=0)
    assert ours_factor == pytest.approx(factor, rel=1e-9)
    # The tables find the length themselves: it is one more than the highest position.
    cosine = rotation(spec, torch.tensor([[length - 1]])).cosine
    torch.testing.assert_close(cosine[0, 0, 0, :32], ((length - 1) * ours).cos() * factor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 64, 65, 200])
@pytest.mark.parametrize("dim", [2, 64])
def test_a_theta_for_the_length_equals_the_reference(length: int, dim: int) -> None:
    parameters = {"rope_type": "dynamic", "rope_theta": 5000.0, "factor": 3.0}
    config = LlamaConfig(
        hidden_size=4 * dim, num_attention_heads=4, max_position_embeddings=64, rope_parameters=parameters
    )
    spec = RopeSpec(theta=5000.0, dim=dim, scaling=DynamicScaling(factor=3.0, original_positions=64))
    ours, factor = frequencies(spec, length=length)
    if dim > 2:  # the reference divides by zero where a single pair turns, at any theta once per radian
        expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, torch.device("cpu"), seq_len=length)
        torch.testing.assert_close(ours, expected, rtol=2e-6, atol=0)
    else:
        assert ours.tolist() == [1.0]
    assert factor == 1.0
    assert torch.equal(ours, frequencies(RopeSpec(theta=5000.0, dim=dim))[0]) == (length <= 64 or dim == 2)
    # The tables find the length themselves.
    cosine = rotation(spec, torch.tensor([[length - 1]])).cosine
    torch.testing.assert_close(cosine[0, 0, 0, : dim // 2], ((length - 1) * ours).cos(), rtol=0, atol=1e-6)


def test_scores_depend_on_distance_alone() -> None:
    spec = RopeSpec(theta=1e4, dim=8)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i: int, j: int) -> float:
        at = [rotate(v, rotation(spec, torch.tensor([[p]]))) for v, p in ((q, i), (k, j))]
        return float((at[0] * at[1]).sum())

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-3)


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients_turn_back(interleaved: bool) -> None:
    # A rotation keeps lengths: its gradient is the rotation by the opposite angle.
    spec = RopeSpec(theta=100.0, dim=6, interleaved=interleaved)
    x = torch.randn(2, 3, 4, 8, requires_grad=True)
    slopes = torch.randn(2, 3, 4, 8)
    there, back = (rotation(spec, sign * torch.tensor([[5, 0, 7, 2]])) for sign in (1, -1))
    (found,) = torch.autograd.grad((rotate(x, there) * slopes).sum(), x)
    torch.testing.assert_close(found, rotate(slopes, back), rtol=1e-5, atol=1e-6)


def test_tables_stay_float32_for_half_precision_inputs() -> None:
    """At position 40,001 bfloat16 positions would collapse onto 39,936: the table must not go through bfloat16."""
    spec = RopeSpec(theta=1e4, dim=2)
    turned = rotate(torch.tensor([[[[1.0, 0.0]]]], dtype=torch.bfloat16), rotation(spec, torch.tensor([[40_001]])))
    assert turned.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits, so the result is within 2^-8 of the true cosine and sine.
    assert turned.flatten().tolist() == pytest.approx([math.cos(40_001), math.sin(40_001)], abs=2**-8)


@pytest.mark.parametrize("interleaved", [False, True])
def test_float64_keeps_its_digits(interleaved: bool) -> None:
    tables = rotation(RopeSpec(theta=100.0, dim=8, interleaved=interleaved), torch.arange(5)[None])
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = rotate(x, tables)
    # A rotation keeps lengths; the tables are of float32, each to 2^-24.
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    # Linear to the last digit of float64, which float32 in between would not be.
    torch.testing.assert_close(
        rotate(x + 1e-9 * x.flip(0), tables) - found, 1e-9 * rotate(x.flip(0), tables), rtol=0, atol=1e-14
    )
    given = x[:, :1, :2].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda part: rotate(part, rotation(RopeSpec(theta=100.0, dim=8), torch.arange(2)[None])), given
    )
