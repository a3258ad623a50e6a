"""Masks against a loop over every query and key."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.nn.mask import Mask, Places, allowed, made, plain, weighed
from plait.nn.spec import MaskSpec

masks = st.builds(MaskSpec, causal=st.booleans(), window=st.none() | st.integers(1, 6))
track = st.lists(st.integers(-1, 12), min_size=1, max_size=10)


def brute_force(spec: MaskSpec, queries: list[int], keys: list[int]) -> list[list[bool]]:
    rows = []
    for q in queries:
        row = []
        for k in keys:
            seen = k != -1
            if spec.causal and k > q:
                seen = False
            if spec.window is not None and abs(q - k) >= spec.window:
                seen = False
            row.append(seen or q == -1)
        rows.append(row)
    return rows


@given(masks, track, track)
def test_predicate_equals_brute_force(spec: MaskSpec, queries: list[int], keys: list[int]) -> None:
    made = allowed(spec, torch.tensor([queries]), torch.tensor([keys]))
    assert made[0, 0].tolist() == brute_force(spec, queries, keys)


@given(masks, st.integers(1, 8), st.integers(0, 8))
def test_plain_masks_mean_what_the_predicate_says(spec: MaskSpec, count: int, before: int) -> None:
    """The short cuts (no mask, the kernel's triangle) are taken only where they equal the predicate."""
    keys = list(range(before + count))
    mask = plain(spec, count, len(keys))
    if mask is None:
        return
    expected = brute_force(spec, keys[before:], keys)
    triangle = torch.ones(count, len(keys), dtype=torch.bool).tril()
    meant = triangle if mask.causal else torch.ones(count, len(keys), dtype=torch.bool)
    assert meant.tolist() == expected


def test_short_cuts_are_taken() -> None:
    assert plain(MaskSpec(), 5, 5) == Mask()
    assert plain(MaskSpec(causal=True), 5, 5) == Mask(causal=True)
    assert plain(MaskSpec(causal=True), 1, 900) == Mask()
    assert plain(MaskSpec(causal=True), 2, 3) is None
    assert plain(MaskSpec(causal=True, window=4), 4, 4) == Mask(causal=True)
    assert plain(MaskSpec(causal=True, window=4), 1, 5) is None


def test_weights_of_attention_are_float32_at_least() -> None:
    scores = torch.tensor([[[[0.0, 1e-9]]]], dtype=torch.float64)
    expected = torch.tensor([[[[0.5 - 2.5e-10, 0.5 + 2.5e-10]]]], dtype=torch.float64)
    # What is left out of the series is of order 1e-27, the rounding of order 1e-16.
    torch.testing.assert_close(weighed(scores, Mask()), expected, rtol=0, atol=1e-15)
    assert weighed(scores.bfloat16(), Mask()).dtype == torch.float32


def test_the_last_queries_have_the_last_rows_of_a_mask() -> None:
    order = torch.arange(7)[None]
    for spec in (MaskSpec(), MaskSpec(causal=True), MaskSpec(causal=True, window=3)):
        rows = allowed(spec, order, order)[:, :, -2:]
        counted = made(spec, Places(7, 7, order.device).last(2)).allowed
        assert torch.equal(torch.ones_like(rows) if counted is None else counted, rows)
        explicit = made(spec, Places(7, 7, order.device, order, order).last(2)).allowed
        assert explicit is not None
        assert torch.equal(explicit, rows)
