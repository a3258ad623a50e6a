"""Positions counted over tokens, and biases by distance, against counting by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plait.errors import ConfigError
from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.position import RelativeBias, RelativeVectors, bucket, place
from plait.nn.record import Recorder
from plait.nn.spec import (
    AttentionSpec,
    DisentangledSpec,
    LayerSpec,
    LearnedPositions,
    MaskSpec,
    MLPSpec,
    NormSpec,
    RelativeBiasSpec,
    RelativeVectorsSpec,
    Single,
    StackSpec,
    SublayerSpec,
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


def of_distance(distance: int, *, buckets: int, far: int) -> set[int]:
    """The bucket of a distance by the definition, or two where it lies on an end of one and float32 may round."""
    exact = buckets // 2
    if distance < exact:
        return {distance}
    place = exact + math.log(distance / exact) / math.log(far / exact) * (buckets - exact)
    return {min(int(place + error), buckets - 1) for error in (-1e-5, 1e-5)}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (32, 20), (8, 9), (12, 50), (4, 1000)])
def test_buckets(buckets: int, far: int, bidirectional: bool) -> None:
    spec = RelativeBiasSpec(buckets=buckets, distance=far, bidirectional=bidirectional)
    steps = range(-1100, 1100)
    side = buckets // 2 if bidirectional else buckets
    for step, found in zip(steps, bucket(spec, torch.tensor(steps)).tolist(), strict=True):
        if not bidirectional:
            expected = of_distance(max(-step, 0), buckets=side, far=far)
        else:
            expected = {place + side * (step > 0) for place in of_distance(abs(step), buckets=side, far=far)}
        assert found in expected, step
    found = bucket(spec, torch.tensor([-far, -far - 1, -(10**6)]))
    assert found.tolist() == [side - 1] * 3


def biased(*, causal: bool, kv_heads: int, heads: int = 4) -> SingleModel:
    torch.manual_seed(0)
    norm = SublayerSpec(before=NormSpec(kind="rms", eps=1e-6))
    layer = LayerSpec(
        attention=AttentionSpec(heads=heads, kv_heads=kv_heads, head_dim=4, scale=1.0, mask=MaskSpec(causal=causal)),
        mlp=MLPSpec(width=8, activation="relu"),
        around_attention=norm,
        around_mlp=norm,
    )
    bias = RelativeBiasSpec(buckets=8, distance=10, bidirectional=not causal)
    stack = StackSpec(width=8, frontend=TextFrontendSpec(vocabulary=20), layers=(layer, layer), relative_bias=bias)
    model = build(Single(stack=stack), device="cpu")
    assert isinstance(model, SingleModel)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def by_hand(model: SingleModel, tokens: list[int]) -> torch.Tensor:
    """The states (T, D) of one text without padding, its biases looked up one by one."""
    stack = model.stack
    assert stack.relative_bias is not None
    x, spec = stack.frontend.tokens.weight[tokens], stack.spec.layers[0].attention
    count, table = len(tokens), stack.relative_bias.table.weight
    for layer in stack.layers:
        y, attention = layer.around_attention.before(x), layer.attention
        query = attention.query(y).view(count, spec.heads, 4)
        key = attention.key(y).view(count, spec.kv_heads, 4)
        value = attention.value(y).view(count, spec.kv_heads, 4)
        mixed = torch.zeros(count, spec.heads, 4)
        for head in range(spec.heads):
            group = head // (spec.heads // spec.kv_heads)
            for i in range(count):
                seen = range(i + 1) if spec.mask.causal else range(count)
                places = bucket(stack.relative_bias.spec, torch.tensor([j - i for j in seen]))
                scores = torch.stack([query[i, head] @ key[j, group] for j in seen]) + table[places, head]
                mixed[i, head] = scores.softmax(dim=0) @ value[: len(seen), group]
        x = x + attention.output(mixed.flatten(1))
        x = x + layer.mlp(layer.around_mlp.before(x))
    return x


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_a_bias_by_distance(causal: bool, kv_heads: int) -> None:
    """Plain, padded on the left, with the weights recorded, and in two calls with a cache: each as by hand."""
    model, tokens = biased(causal=causal, kv_heads=kv_heads), [3, 7, 1, 12, 5, 9, 2, 8, 4, 6, 11, 10, 13]
    with torch.no_grad():
        expected = by_hand(model, tokens)
        ids = torch.tensor([tokens])
        # Sums of a dozen values of order 1 in another order.
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(model(ids).states[0], expected, **close)
        recorder = Recorder(attentions=True)
        torch.testing.assert_close(model(ids, record=recorder).states[0], expected, **close)
        padded, valid = torch.cat((torch.zeros(1, 3).long(), ids), dim=1), torch.arange(16)[None] >= 3
        torch.testing.assert_close(model(padded, valid=valid).states[0, 3:], expected, **close)
        if causal:
            cache = Cache(2)
            parts = [model(part, cache=cache).states for part in ids.split([6, 1, 5, 1], dim=1)]
            torch.testing.assert_close(torch.cat(parts, dim=1)[0], expected, **close)


def test_what_a_bias_by_distance_needs() -> None:
    with pytest.raises(ConfigError, match="must be an even number of at least 4, but is 7"):
        RelativeBias(RelativeBiasSpec(buckets=7, distance=9), 2)
    with pytest.raises(ConfigError, match="must be at least 2, but is 1"):
        RelativeBias(RelativeBiasSpec(buckets=1, distance=9, bidirectional=False), 2)
    with pytest.raises(ConfigError, match="exceed the 4 distances with a bucket of their own, but is 4"):
        RelativeBias(RelativeBiasSpec(buckets=16, distance=4), 2)
    spec = biased(causal=False, kv_heads=2).spec.stack
    wider = replace(spec.layers[0], attention=replace(spec.layers[0].attention, heads=2))
    with pytest.raises(ConfigError, match=r"same number of heads, but have \[2, 4\]"):
        build(Single(stack=replace(spec, layers=(spec.layers[0], wider))))


@pytest.mark.parametrize(("reach", "distance"), [(256, 512), (8, 40), (8, 6), (2, 9), (16, None), (1, None)])
def test_places_of_distances(reach: int, distance: int | None) -> None:
    """One by one: near distances themselves, far ones by logarithm, rounded up; beyond the table, its ends."""
    steps = list(range(-700, 701))
    found = place(RelativeVectorsSpec(reach=reach, distance=distance), torch.tensor(steps)).tolist()
    near = reach // 2
    for step, row in zip(steps, found, strict=True):
        far, sign = abs(step), 1 if step > 0 else -1
        expected = {far}
        if distance is not None and far > near:
            exact = math.log(far / near) / math.log((distance - 1) / near) * (near - 1)
            # float32 may round to the other side of a whole number.
            expected = {math.ceil(exact + error) + near for error in (-1e-5, 1e-5)}
        assert row in {min(max(reach + sign * steps, 0), 2 * reach - 1) for steps in expected}, step


def disentangled(**vectors: int | None) -> SingleModel:
    torch.manual_seed(0)
    norm = NormSpec(kind="layer", eps=1e-6, bias=True)
    layer = LayerSpec(
        attention=DisentangledSpec(heads=2, head_dim=4, scale=0.3),
        mlp=MLPSpec(width=8, activation="relu"),
        around_attention=SublayerSpec(after=norm),
        around_mlp=SublayerSpec(after=norm),
    )
    stack = StackSpec(
        width=8,
        frontend=TextFrontendSpec(vocabulary=20),
        layers=(layer, layer),
        relative_vectors=RelativeVectorsSpec(**vectors, norm=norm),  # type: ignore[arg-type]
    )
    model = build(Single(stack=stack), device="cpu")
    assert isinstance(model, SingleModel)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def disentangled_by_hand(model: SingleModel, tokens: list[int]) -> torch.Tensor:
    """The states (T, D) of one text without padding, each score a sum of three products."""
    stack, count = model.stack, len(tokens)
    relative = stack.relative_vectors
    assert relative is not None
    assert relative.norm is not None
    x, vectors = stack.frontend.tokens.weight[tokens], relative.norm(relative.table.weight)
    for layer in stack.layers:
        attention = layer.attention
        query, key, value = (part(x).view(count, 2, 4) for part in (attention.query, attention.key, attention.value))
        as_key, as_query = (part(vectors).view(-1, 2, 4) for part in (attention.key, attention.query))
        mixed = torch.zeros(count, 2, 4)
        for head in range(2):
            for i in range(count):
                scores = []
                for j in range(count):
                    row = int(place(relative.spec, torch.tensor(i - j)))
                    q, k = query[i, head], key[j, head]
                    scores.append(0.3 * (q @ k + q @ as_key[row, head] + as_query[row, head] @ k))
                mixed[i, head] = torch.stack(scores).softmax(dim=0) @ value[:, head]
        x = layer.around_attention.after(x + attention.output(mixed.flatten(1)))
        x = layer.around_mlp.after(x + layer.mlp(x))
    return x


@pytest.mark.parametrize("vectors", [{"reach": 6, "distance": 20}, {"reach": 5}, {"reach": 40}])
def test_disentangled_attention(vectors: dict[str, int]) -> None:
    """Plain, padded on the left, and with the weights recorded: each as by hand."""
    model, tokens = disentangled(**vectors), [3, 7, 1, 12, 5, 9, 2, 8, 4, 6, 11, 10, 13]
    with torch.no_grad():
        expected, ids = disentangled_by_hand(model, tokens), torch.tensor([tokens])
        # Sums of a dozen values of order 1 in another order.
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(model(ids).states[0], expected, **close)
        recorder = Recorder(attentions=True)
        torch.testing.assert_close(model(ids, record=recorder).states[0], expected, **close)
        assert recorder.attentions is not None
        torch.testing.assert_close(recorder.attentions[1].sum(dim=3), torch.ones(1, 2, 13))
        padded, valid = torch.cat((torch.zeros(1, 3).long(), ids), dim=1), torch.arange(16)[None] >= 3
        torch.testing.assert_close(model(padded, valid=valid).states[0, 3:], expected, **close)
        torch.testing.assert_close(model(ids[:, :1]).states[0], disentangled_by_hand(model, tokens[:1]), **close)


def test_what_disentangled_attention_needs() -> None:
    with pytest.raises(ConfigError, match="exceed half of it by two or more, but they are 8 and 5"):
        RelativeVectors(RelativeVectorsSpec(reach=8, distance=5), 2)
    model = disentangled(reach=6)
    with pytest.raises(ConfigError, match="keeps no cache"):
        model(torch.tensor([[3]]), cache=Cache(2))
    spec = model.spec.stack
    for wrong in (
        replace(spec, relative_vectors=None),
        replace(spec, layers=biased(causal=False, kv_heads=2).spec.stack.layers),
    ):
        with pytest.raises(ConfigError, match="need each other: give the stack both, or neither"):
            build(Single(stack=wrong))
