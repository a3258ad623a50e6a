"""The last positions alone: equal to the last of all, whatever the layers, the masks and the cache; and less work."""

from __future__ import annotations

import pytest
import torch
from tiny_stacks import STACKS, close, made, tokens

from plait.errors import ConfigError
from plait.nn.cache import Cache
from plait.nn.packing import Packing
from plait.nn.record import Recorder
from plait.nn.spec import PoolSpec


@pytest.mark.parametrize("padded", ["", "left", "right"])
@pytest.mark.parametrize("last", [1, 2, 9, 12])
@pytest.mark.parametrize("name", STACKS)
@torch.no_grad()
def test_equal_to_the_last_of_all(name: str, last: int, padded: str) -> None:
    stack, valid = made(STACKS[name]).stack, None
    if padded:
        valid = torch.ones(2, 9, dtype=torch.bool)
        valid[1, slice(4) if padded == "left" else slice(5, None)] = False
    found, whole = stack(tokens(), valid=valid, last=last), stack(tokens(), valid=valid)[:, -last:]
    seen = slice(None) if valid is None else valid[:, -last:]  # nobody reads what lies at padding
    assert found.shape == whole.shape
    close(found[seen], whole[seen])


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", [name for name in STACKS if name != "all see all"])
@torch.no_grad()
def test_what_follows_in_a_cache(name: str, padded: bool) -> None:
    model, ids = made(STACKS[name]), tokens()
    valid = torch.ones(2, 9, dtype=torch.bool) if padded else None
    positions = None
    if valid is not None:
        valid[1, :3] = False
        positions = (valid.long().cumsum(dim=1) - 1).clamp(min=0)
    whole = model(ids, valid=valid, positions=positions).scores
    assert whole is not None
    cache, found = Cache(model.stack.depth), []
    for part in (slice(5), slice(5, 8), slice(8, 9)):
        given = [None if full is None else full[:, part] for full in (valid, positions)]
        scores = model(ids[:, part], valid=given[0], positions=given[1], cache=cache, keep=1).scores
        assert scores is not None
        found.append(scores[:, -1])
    assert cache.length == 9
    close(torch.stack(found, dim=1), whole[:, [4, 7, 8]])


@torch.no_grad()
def test_the_last_layer_computes_these_alone() -> None:
    model, rows = made(STACKS["pre-norm"]), []
    for layer in model.stack.layers:
        for part in (layer.attention.query, layer.attention.key, layer.mlp):  # type: ignore[union-attr]
            part.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[1]))  # type: ignore[union-attr]
    output = model(tokens(), keep=1)
    assert rows == [9, 9, 9, 1, 9, 1]
    assert output.states.shape == (2, 1, 16)
    # Recorded states are of all positions, and so is what a pool reads.
    rows.clear()
    record = Recorder()
    close(model(tokens(), keep=1, record=record).states[:, -1:], output.states)
    assert rows == [9] * 6
    assert record.states[-1].shape == (2, 9, 16)
    pooled = made(STACKS["pre-norm"], pool=PoolSpec(where="mean"))(tokens(), keep=1).pooled
    assert pooled is not None
    close(pooled, model.stack(tokens()).mean(dim=1))


def test_gradients_are_those_of_the_last_of_all() -> None:
    stack = made(STACKS["pre-norm"]).stack
    ends = []
    for states in (stack(tokens(), last=2), stack(tokens())[:, -2:]):
        ends.append(torch.autograd.grad(states.pow(2).sum(), list(stack.parameters())))
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # sums of some hundred products


def test_what_contradicts() -> None:
    stack, valid = made(STACKS["pre-norm"]).stack, torch.ones(2, 9, dtype=torch.bool)
    packing = Packing.of(valid)
    for options in ({"record": Recorder()}, {"packing": packing}):
        with pytest.raises(ConfigError) as error:
            stack(packing.pack(tokens()) if "packing" in options else tokens(), last=1, **options)  # type: ignore[arg-type]
        assert str(error.value) == "`last` positions are neither recorded nor packed: give `last` alone"
