"""Cached equals uncached, for every way to cut a padded batch into chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_stacks import STACKS, made, tokens

from plait.errors import GenerationError
from plait.nn.cache import Cache, LayerCache

# A layer that sees all before, one that sees three.
MODEL = made(STACKS["a window"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_any_chunks_of_any_left_padding(chunks: list[int], padding: list[int], capacity: int) -> None:
    """Rows padded on the left, fed in chunks, give the scores of each row alone and whole."""
    count = sum(chunks)
    padding = [min(pad, count - 1) for pad in padding]
    ids = tokens(len(padding), count)
    valid = torch.arange(count)[None] >= torch.tensor(padding)[:, None]
    positions = (valid.cumsum(dim=1) - 1).clamp(min=0)
    cache = Cache(2, capacity=capacity)
    pieces, start = [], 0
    with torch.no_grad():
        for chunk in chunks:
            part = slice(start, start + chunk)
            pieces.append(MODEL(ids[:, part], valid=valid[:, part], positions=positions[:, part], cache=cache).scores)
            start += chunk
        for row, pad in enumerate(padding):
            alone = MODEL(ids[row : row + 1, pad:]).scores
            # Two orders of summing some tens of products, scores of order 1 to 10.
            torch.testing.assert_close(torch.cat(pieces, dim=1)[row, pad:], alone[0], rtol=1e-5, atol=2e-5)
    assert cache.length == count


def test_plain_cache_builds_no_positions() -> None:
    cache = Cache(2)
    with torch.no_grad():
        ids = tokens()
        whole = MODEL(ids).scores
        pieces = [MODEL(ids[:, i : i + 1], cache=cache).scores for i in range(9)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=2e-5)
    assert cache.plain


def test_rollback_and_go_on() -> None:
    ids = tokens(1, 8)
    cache = Cache(2)
    with torch.no_grad():
        expected = MODEL(ids).scores
        MODEL(torch.cat((ids[:, :5], torch.tensor([[7, 7, 7]])), dim=1), cache=cache)
        cache.rollback(5)
        assert cache.length == 5
        torch.testing.assert_close(MODEL(ids[:, 5:], cache=cache).scores, expected[:, 5:], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("chunks", [[9], [4, 1, 3, 1], [1] * 9])
def test_gradients_through_steps_are_those_of_the_whole(chunks: list[int]) -> None:
    ids, cache, total = tokens(), Cache(2, capacity=20), torch.zeros(())
    for part in ids.split(chunks, dim=1):
        scores = MODEL(part, cache=cache).scores
        assert scores is not None
        total = total + scores.square().sum()
    whole = MODEL(ids).scores
    assert whole is not None
    weights = list(MODEL.parameters())
    found, expected = torch.autograd.grad(total, weights), torch.autograd.grad(whole.square().sum(), weights)
    for one, other in zip(found, expected, strict=True):
        # Sums of some hundred products, in another order.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    # Whoever goes on without gradients takes none along.
    with torch.no_grad():
        assert not MODEL(ids[:, :1], cache=cache).states.requires_grad


def test_select_rows() -> None:
    ids = tokens(3, 6)
    cache = Cache(2)
    with torch.no_grad():
        MODEL(ids[:, :5], cache=cache)
        cache.select(torch.tensor([2, 0, 2]))
        chosen = ids[[2, 0, 2]]
        expected = MODEL(chosen).scores[:, 5:]
        torch.testing.assert_close(MODEL(chosen[:, 5:], cache=cache).scores, expected, rtol=1e-5, atol=2e-5)


def test_selected_rows_keep_their_room_and_may_leave_the_memory() -> None:
    layer = LayerCache()
    numbers = torch.arange(12.0).view(3, 1, 2, 2)
    layer.append(numbers, -numbers, capacity=50)
    layer.memory = numbers + 100, numbers + 200
    layer.select(torch.tensor([2, 2, 0, 1]))
    assert layer.memory[0].equal(numbers[[2, 2, 0, 1]] + 100)
    layer.select(torch.tensor([3, 0, 1, 2]), memory=False)
    assert layer.memory[1].equal(numbers[[2, 2, 0, 1]] + 200)
    keys, values = layer.append(numbers[[0, 0, 0, 0], :, :1], numbers[[0, 0, 0, 0], :, :1])
    assert keys[:, :, :2].equal(numbers[[1, 2, 2, 0]])
    assert values[:, :, :2].equal(-numbers[[1, 2, 2, 0]])
    assert keys.stride(1) == 50 * 2  # the room for 50 tokens is still there


def test_buffers_grow_by_doubling() -> None:
    """1,000 appended tokens are moved to a larger buffer about log2(1000) = 10 times."""
    cache, moves, buffer = LayerCache(), 0, None
    for _ in range(1000):
        keys, _ = cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        moves += keys.data_ptr() != buffer
        buffer = keys.data_ptr()
    assert moves <= 11
    assert keys.shape == (1, 1, 1000, 2)


def test_capacity_is_allocated_once() -> None:
    cache = LayerCache()
    first, _ = cache.append(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2), capacity=50)
    for _ in range(47):
        keys, _ = cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    assert keys.data_ptr() == first.data_ptr()


def test_errors() -> None:
    cache = Cache(1)
    cache.extend(torch.tensor([[-1, 0]]), tokens=2)
    with pytest.raises(GenerationError, match="the positions of the next ones must be given"):
        cache.extend(None, tokens=1)
    with pytest.raises(GenerationError, match="cannot roll back to 5 tokens: the cache holds 3"):
        cache.rollback(5)
