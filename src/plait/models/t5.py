"""T5 (arXiv:1910.10683): an encoder and a decoder with a bias by distance in place of positions, norms without mean or
shift before each sublayer, and scores that are not divided by the root of a head's width.

Configuration: https://huggingface.co/google-t5/t5-small, and google/t5-v1_1-small for the gated form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plait.errors import ConfigError, nearest
from plait.models import initial
from plait.models.family import Head, coder_layer, multi_head
from plait.models.reader import ACTIVATIONS, Reader
from plait.nn.spec import (
    AttentionSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    MLPSpec,
    NormSpec,
    RelativeBiasSpec,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename, tied

if TYPE_CHECKING:
    from plait.models.config import Config

NAME = "T5"

SPELLINGS = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

DEFAULTS = {
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "relu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-6,
    "num_decoder_layers": None,
    "num_heads": 8,
    "num_layers": 6,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "scale_decoder_outputs": None,
    "use_cache": True,
    "vocab_size": 32128,
}

IGNORED = {
    "dense_act_fn": "said by feed_forward_proj",
    "is_encoder_decoder": "it always is",
    "is_gated_act": "said by feed_forward_proj",
    "n_positions": "the length of the texts it was trained on",
    "scale_decoder_outputs": "the language head reads it",
}


def _mlp(reader: Reader) -> MLPSpec:
    form = reader.value("feed_forward_proj")
    name = str(form).removeprefix("gated-")
    if name not in ACTIVATIONS:
        choices = [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)]
        raise ConfigError(
            f"`feed_forward_proj` must be an activation such as 'relu', or 'gated-' and one, but is {form!r} "
            f"({reader.label}).{nearest(str(form), choices)}"
        )
    # The gated form was trained with the approximation by tanh, and its name does not say so.
    activation = "gelu_tanh" if form == "gated-gelu" else ACTIVATIONS[name]
    return MLPSpec(
        width=reader.integer("d_ff"),
        activation=activation,
        gated=form != name,
        dropout=reader.probability("dropout_rate"),
    )


def _attention(reader: Reader, *, causal: bool) -> AttentionSpec:
    heads, dropout = reader.integer("num_heads"), reader.probability("dropout_rate")
    return replace(multi_head(heads, reader.integer("d_kv"), causal=causal, bias=False, dropout=dropout), scale=1.0)


def _stack(reader: Reader, *, layers: int, decodes: bool) -> StackSpec:
    vocabulary, dropout = reader.integer("vocab_size"), reader.probability("dropout_rate")
    norm = NormSpec(kind="rms", eps=reader.number("layer_norm_epsilon"))
    layer = coder_layer(
        _attention(reader, causal=decodes),
        _mlp(reader),
        SublayerSpec(before=norm, dropout=dropout),
        memory=_attention(reader, causal=False) if decodes else None,
    )
    bias = RelativeBiasSpec(
        buckets=reader.integer("relative_attention_num_buckets"),
        distance=reader.integer("relative_attention_max_distance"),
        bidirectional=not decodes,
    )
    return StackSpec(
        width=reader.integer("d_model"),
        frontend=TextFrontendSpec(vocabulary=vocabulary, dropout=dropout),
        layers=(layer,) * layers,
        norm=norm,
        relative_bias=bias,
        dropout=dropout,
    )


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    layers = reader.integer("num_layers")
    return EncoderDecoder(
        encoder=_stack(reader, layers=layers, decodes=False),
        decoder=_stack(reader, layers=reader.optional_integer("num_decoder_layers") or layers, decodes=True),
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    """Where head and embedding share a weight, what is scored is divided by the root of the width, unless told."""
    shared = reader.flag("tie_word_embeddings")
    scaled = reader.flag("scale_decoder_outputs", default=shared)
    scale = reader.integer("d_model") ** -0.5 if scaled else 1.0
    return LanguageHeadSpec(vocabulary=reader.integer("vocab_size"), tied=shared, scale=scale)


initialise = initial.by_inputs


_PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "output"}
_GATED = {"wi_0": "gate", "wi_1": "up", "wo": "down"}
_PLAIN = {"wi": "up", "wo": "down"}
# The sublayers of a layer in their order: their name, and ours.
_SUBLAYERS = {
    "encoder": {"SelfAttention": "attention", "DenseReluDense": "mlp"},
    "decoder": {"SelfAttention": "attention", "EncDecAttention": "cross", "DenseReluDense": "mlp"},
}


def rules(config: Config) -> Rules:
    """The names of the stacks' weights, those of the MLP as its form is."""
    mlp = _GATED if str(config.feed_forward_proj).startswith("gated-") else _PLAIN
    parts = {"attention": _PROJECTIONS, "cross": _PROJECTIONS, "mlp": mlp}
    side, layers = "{s:encoder|decoder}.", []
    for stack, sublayers in _SUBLAYERS.items():
        for number, (theirs, ours) in enumerate(sublayers.items()):
            block, layer = f"{stack}.block.{{i}}.layer.{number}.", f"{stack}.layers.{{i}}."
            layers.append(rename(block + "layer_norm.weight", f"{layer}around_{ours}.before.weight"))
            layers += [
                rename(f"{block}{theirs}.{t}.weight", f"{layer}{ours}.{o}.weight") for t, o in parts[ours].items()
            ]
    return Rules(
        rename("shared.weight", "encoder.frontend.tokens.weight", also=["encoder.embed_tokens.weight"]),
        tied("decoder.embed_tokens.weight", "decoder.frontend.tokens.weight"),
        rename(
            side + "block.0.layer.0.SelfAttention.relative_attention_bias.weight", side + "relative_bias.table.weight"
        ),
        ignore(
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
            "places in one sequence mean nothing in another; the published code never read it",
        ),
        *layers,
        rename(side + "final_layer_norm.weight", side + "norm.weight"),
    )


RULES = rules


def heads(name: str) -> dict[str, Head]:
    """The heads of a family called `name`."""
    return {
        "base": Head(architecture=f"{name}Model"),
        "seq2seq_lm": Head(
            architecture=f"{name}ForConditionalGeneration",
            spec=_language,
            rules=(tied("lm_head.weight", "head.projection.weight"),),
        ),
    }


HEADS = heads(NAME)
