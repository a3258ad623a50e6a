"""The original Transformer (arXiv:1706.03762): an encoder and a decoder with fixed sinusoidal positions, norms behind
each sublayer, and one matrix for both embeddings and the scores of the next word.

Nobody publishes its checkpoints under this name: it is here to be trained from scratch. The defaults are the paper's
base model; projections of attention have no bias, as in its formulas.
"""

from __future__ import annotations

from plait.models import initial
from plait.models.family import Head, coder_layer, multi_head
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    MLPSpec,
    NormSpec,
    SinusoidalPositions,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, rename, tied

NAME = "Transformer"

DEFAULTS = {
    "attention_probs_dropout_prob": 0.0,
    "bos_token_id": 1,
    "decoder_start_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "is_encoder_decoder": True,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 8,
    "num_decoder_layers": 6,
    "num_encoder_layers": 6,
    "pad_token_id": 0,
    "use_cache": True,
    "vocab_size": 37000,
}

IGNORED = {"is_encoder_decoder": "it always is"}


def _attention(reader: Reader, *, causal: bool) -> AttentionSpec:
    heads, dropout = reader.integer("num_attention_heads"), reader.probability("attention_probs_dropout_prob")
    return multi_head(heads, reader.per_head(), causal=causal, bias=False, dropout=dropout)


def _stack(reader: Reader, *, layers: str, decodes: bool) -> StackSpec:
    width, vocabulary = reader.integer("hidden_size"), reader.integer("vocab_size")
    dropout = reader.probability("hidden_dropout_prob")
    norm = NormSpec(kind="layer", eps=reader.number("layer_norm_eps"), bias=True)
    layer = coder_layer(
        _attention(reader, causal=decodes),
        MLPSpec(width=reader.integer("intermediate_size"), activation=reader.activation("hidden_act"), bias=True),
        SublayerSpec(after=norm, dropout=dropout),
        memory=_attention(reader, causal=False) if decodes else None,
    )
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        positions=SinusoidalPositions(),
        scale=width**0.5,
        dropout=dropout,
        padding=reader.padding(vocabulary=vocabulary),
    )
    return StackSpec(width=width, frontend=frontend, layers=(layer,) * reader.integer(layers))


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    return EncoderDecoder(
        encoder=_stack(reader, layers="num_encoder_layers", decodes=False),
        decoder=_stack(reader, layers="num_decoder_layers", decodes=True),
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    return LanguageHeadSpec(vocabulary=reader.integer("vocab_size"), tied=reader.flag("tie_word_embeddings"))


initialise = initial.glorot


_STACK = "{s:encoder|decoder}."
_LAYER = _STACK + "layers.{i}."
_EMBEDDING = "encoder.frontend.tokens.weight"

# Files hold the network's own names: no other library has published any.
RULES = Rules(
    rename("embedding.weight", _EMBEDDING),
    tied("decoder.embedding.weight", "decoder.frontend.tokens.weight"),
    *(
        rename(_LAYER + name, _LAYER + name)
        for name in (
            "attention.{p:query|key|value|output}.weight",
            "mlp.{p:up|down}.{wb}",
            "around_{p:attention|mlp}.after.{wb}",
        )
    ),
    *(
        rename("decoder.layers.{i}." + name, "decoder.layers.{i}." + name)
        for name in ("cross.{p:query|key|value|output}.weight", "around_cross.after.{wb}")
    ),
)

HEADS = {
    "base": Head(architecture="TransformerModel"),
    "seq2seq_lm": Head(
        architecture="TransformerForSeq2SeqLM",
        spec=_language,
        rules=(tied("head.weight", "head.projection.weight"),),
    ),
}
