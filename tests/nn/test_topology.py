"""The original encoder-decoder against PyTorch's own nn.Transformer, whole and token by token."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from plait.errors import ConfigError
from plait.nn.build import build
from plait.nn.cache import Cache
from plait.nn.spec import (
    AttentionSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ProjectionBias,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.nn.topology import EncoderDecoderModel

WIDTH, HEADS, VOCABULARY = 16, 4, 20
NORM = NormSpec(kind="layer", eps=1e-5, bias=True)


def attention(causal: bool) -> AttentionSpec:
    bias = ProjectionBias(query=True, key=True, value=True, output=True)
    return AttentionSpec(heads=HEADS, kv_heads=HEADS, head_dim=4, scale=0.5, bias=bias, mask=MaskSpec(causal=causal))


def stack(causal: bool) -> StackSpec:
    around = SublayerSpec(after=NORM)
    layer = LayerSpec(
        attention=attention(causal),
        mlp=MLPSpec(width=24, activation="relu", bias=True),
        around_attention=around,
        around_mlp=around,
        cross=attention(False) if causal else None,
        around_cross=around if causal else None,
    )
    return StackSpec(
        width=WIDTH, frontend=TextFrontendSpec(vocabulary=VOCABULARY, scale=2.0), layers=(layer, layer), norm=NORM
    )


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    weights, biases = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        getattr(ours, name).weight, getattr(ours, name).bias = (
            nn.Parameter(weight.detach()),
            nn.Parameter(bias.detach()),
        )
    ours.output.weight, ours.output.bias = theirs.out_proj.weight, theirs.out_proj.bias


def copied(theirs: nn.Transformer) -> EncoderDecoderModel:
    spec = EncoderDecoder(
        encoder=stack(False), decoder=stack(True), head=LanguageHeadSpec(vocabulary=VOCABULARY, tied=True)
    )
    ours = build(spec, device="cpu")
    assert isinstance(ours, EncoderDecoderModel)
    nn.init.normal_(ours.encoder.frontend.tokens.weight)
    for mine, reference in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        mine.norm.weight, mine.norm.bias = reference.norm.weight, reference.norm.bias
        for layer, other in zip(mine.layers, reference.layers, strict=True):
            copy_attention(layer.attention, other.self_attn)
            layer.mlp.up.weight, layer.mlp.up.bias = other.linear1.weight, other.linear1.bias
            layer.mlp.down.weight, layer.mlp.down.bias = other.linear2.weight, other.linear2.bias
            norms = [(layer.around_attention, other.norm1), (layer.around_mlp, other.norm2)]
            if layer.cross is not None:
                copy_attention(layer.cross, other.multihead_attn)
                norms = [(layer.around_attention, other.norm1), (layer.around_cross, other.norm2)]
                norms += [(layer.around_mlp, other.norm3)]
            for slot, norm in norms:
                slot.after.weight, slot.after.bias = norm.weight, norm.bias
    return ours.eval()


def test_equals_the_reference_whole_and_cached() -> None:
    torch.manual_seed(1)
    theirs = nn.Transformer(WIDTH, HEADS, 2, 2, 24, batch_first=True).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.4)
    ours = copied(theirs)
    source, target = torch.randint(0, VOCABULARY, (3, 7)), torch.randint(0, VOCABULARY, (3, 5))
    valid = torch.arange(7)[None] < torch.tensor([[7], [4], [1]])
    embed = ours.encoder.frontend.tokens
    with torch.no_grad():
        states = theirs(
            2 * embed(source),
            2 * embed(target),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
            src_key_padding_mask=~valid,
            memory_key_padding_mask=~valid,
        )
        expected = states @ embed.weight.T
        whole = ours(source, target, valid=valid)
        assert whole.scores is not None
        # Two orders of float32 summation on scores of order 10.
        torch.testing.assert_close(whole.scores, expected, rtol=1e-5, atol=5e-5)
        cache, pieces = Cache(2), []
        for step in range(5):
            one = ours(None, target[:, step : step + 1], valid=valid, memory=whole.memory, cache=cache, keep=1)
            pieces.append(one.scores)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-5, atol=5e-5)


def test_one_embedding_is_shared_three_times() -> None:
    model = copied(nn.Transformer(WIDTH, HEADS, 2, 2, 24, batch_first=True))
    table = model.encoder.frontend.tokens.weight
    assert model.decoder.frontend.tokens.weight is table
    assert model.head.projection.weight is table
    assert sum(parameter is table for parameter in model.parameters()) == 1


def test_two_stacks_that_do_not_fit() -> None:
    encoder, decoder = stack(False), stack(True)
    with pytest.raises(ConfigError, match="encoder and decoder must have one `width`, but have 20 and 16"):
        build(EncoderDecoder(encoder=dataclasses.replace(encoder, width=20), decoder=decoder))
    words = dataclasses.replace(encoder, frontend=dataclasses.replace(encoder.frontend, vocabulary=21))
    with pytest.raises(ConfigError, match=r"when they are `shared`, but have \(21, 16\) and \(20, 16\)"):
        build(EncoderDecoder(encoder=words, decoder=decoder))
    assert build(EncoderDecoder(encoder=words, decoder=decoder, shared=False)) is not None
    cross = dataclasses.replace(decoder.layers[0], cross=attention(True))
    with pytest.raises(ConfigError, match="`cross` must have neither a mask nor rotary positions"):
        build(EncoderDecoder(encoder=encoder, decoder=dataclasses.replace(decoder, layers=(cross,))))
