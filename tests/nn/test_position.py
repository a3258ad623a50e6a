"""Positions counted over tokens against counting by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plait.errors import ConfigError
from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.spec import (
    LearnedPositions,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.nn.topology import SingleModel


def table(positions: LearnedPositions) -> SingleModel:
    """A stack without layers, whose token vectors are zero: its states are the rows of the table of positions."""
    model = build(
        Single(stack=StackSpec(width=4, frontend=TextFrontendSpec(vocabulary=2, positions=positions), layers=())),
        device="cpu",
    )
    assert isinstance(model, SingleModel)
    nn.init.zeros_(model.stack.frontend.tokens.weight)
    assert model.stack.frontend.positions is not None
    nn.init.normal_(model.stack.frontend.positions.weight)
    return model.eval()


TABLE = table(LearnedPositions(count=15, offset=3, over="tokens"))
ROWS = st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(1, 12))
def test_positions_are_counted_over_the_tokens(rows: list[list[bool]], cut: int) -> None:
    """Whole, and in two calls with a cache in between: the nth token of a row has the row offset + n of the table."""
    valid, tokens = torch.tensor(rows), torch.zeros(len(rows), 12, dtype=torch.long)
    assert TABLE.stack.frontend.positions is not None
    weight = TABLE.stack.frontend.positions.weight
    with torch.no_grad():
        whole = TABLE(tokens, valid=valid).states
        cache = Cache(0)
        parts = [TABLE(tokens[:, :cut], valid=valid[:, :cut], cache=cache).states]
        if cut < 12:
            parts.append(TABLE(tokens[:, cut:], valid=valid[:, cut:], cache=cache).states)
    for row, seen in enumerate(rows):
        count = 0
        for slot, is_token in enumerate(seen):
            if is_token:
                assert torch.equal(whole[row, slot], weight[3 + count])
                assert torch.equal(torch.cat(parts, dim=1)[row, slot], weight[3 + count])
                count += 1


def test_without_padding_and_with_positions_given() -> None:
    tokens = torch.zeros(1, 4, dtype=torch.long)
    assert TABLE.stack.frontend.positions is not None
    weight = TABLE.stack.frontend.positions.weight
    assert torch.equal(TABLE(tokens).states[0], weight[3:7])
    given_ = torch.tensor([[5, 0, 11, 2]])
    assert torch.equal(TABLE(tokens, positions=given_).states[0], weight[[8, 3, 14, 5]])
    slots = table(LearnedPositions(count=9, offset=2))
    assert slots.stack.frontend.positions is not None
    padded = slots(tokens, valid=torch.tensor([[False, False, True, True]])).states
    assert torch.equal(padded[0], slots.stack.frontend.positions.weight[2:6])


def test_only_tokens_fill_the_table() -> None:
    """12 rows are left behind the offset: 12 tokens fit whatever padding there is, 13 do not."""
    tokens, valid = torch.zeros(1, 20, dtype=torch.long), torch.arange(20)[None] >= 8
    assert TABLE(tokens, valid=valid).states.isfinite().all()
    with pytest.raises(ConfigError, match=r"position 12 does not exist.*0 to 11\. Cut the text to 12 tokens"):
        TABLE(tokens, valid=torch.arange(20)[None] >= 7)
    with pytest.raises(ConfigError, match="position 19 does not exist"):
        TABLE(tokens)
