"""Decoding of quantised blocks: bit for bit what the reference package gives, and one block of each idea by hand."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.weights.dequantise import dequantise
from plait.weights.gguf import TYPES

QUANTISED = {kind.name: kind for kind in TYPES.values() if kind.numbers > 1}


def reference(raw: np.ndarray, name: str) -> np.ndarray:  # type: ignore[type-arg]
    with np.errstate(all="ignore"):  # random float16 scales overflow
        return gguf.quants.dequantize(raw.reshape(-1, QUANTISED[name].size), gguf.GGMLQuantizationType[name]).reshape(
            -1
        )


def assert_same_bits(result: torch.Tensor, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    """Equal bits; where the scale is not a number, not a number either (its payload has no meaning)."""
    mine, theirs = result.reshape(-1).numpy(), expected
    undefined = np.isnan(theirs)
    assert np.array_equal(np.isnan(mine), undefined)
    assert np.array_equal(mine.view(np.int32)[~undefined], theirs.view(np.int32)[~undefined])


def test_the_list_is_complete() -> None:
    assert list(QUANTISED) == ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
    for code, kind in TYPES.items():
        assert gguf.GGMLQuantizationType(code).name == kind.name
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(code)] == (kind.numbers, kind.size)


@pytest.mark.parametrize("name", QUANTISED)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), blocks=st.integers(1, 9))
def test_random_bytes(name: str, seed: int, blocks: int) -> None:
    kind = QUANTISED[name]
    raw = np.random.default_rng(seed).integers(0, 256, blocks * kind.size, dtype=np.uint8)
    result = dequantise(torch.from_numpy(raw), kind, (blocks, kind.numbers))
    assert result.shape == (blocks, kind.numbers)
    assert_same_bits(result, reference(raw, name))


@pytest.mark.parametrize("name", QUANTISED)
def test_more_than_one_chunk(name: str) -> None:
    """Long tensors are decoded in pieces of 2^18 numbers."""
    kind = QUANTISED[name]
    blocks = (1 << 18) // kind.numbers * 2 + 3
    raw = np.random.default_rng(0).integers(0, 256, blocks * kind.size, dtype=np.uint8)
    assert_same_bits(dequantise(torch.from_numpy(raw), kind, (blocks * kind.numbers,)), reference(raw, name))


@pytest.mark.parametrize("name", QUANTISED)
def test_no_numbers(name: str) -> None:
    assert dequantise(torch.empty(0, dtype=torch.uint8), QUANTISED[name], (0, QUANTISED[name].numbers)).numel() == 0


def test_by_hand() -> None:
    """Q4_0: the scale 0.5, then bytes 0x80: low half bytes 0 are the first 16 numbers, high ones 8 the others."""
    raw = torch.cat(
        [torch.tensor([0.5], dtype=torch.float16).view(torch.uint8), torch.full((16,), 0x80, dtype=torch.uint8)]
    )
    assert dequantise(raw, QUANTISED["Q4_0"], (32,)).tolist() == [-4.0] * 16 + [0.0] * 16
    # Q8_0: the scale 2, then -16 … 15.
    raw = torch.cat(
        [
            torch.tensor([2], dtype=torch.float16).view(torch.uint8),
            torch.arange(-16, 16, dtype=torch.int8).view(torch.uint8),
        ]
    )
    assert dequantise(raw, QUANTISED["Q8_0"], (32,)).tolist() == [2.0 * value for value in range(-16, 16)]
