"""T5 (arXiv:1910.10683): an encoder and a decoder with a bias by distance in place of positions, norms without mean or
shift before each sublayer, and scores that are not divided by the root of a head's width.

Configuration: https://huggingface.co/google-t5/t5-small, and google/t5-v1_1-small for the gated form.
"""

from __future__ import annotations

from dataclasses import replace

from plait.errors import ConfigError, nearest
from plait.models import coders, encoders, initial, t5_names
from plait.models.family import Head, coder_layer, multi_head
from plait.models.reader import ACTIVATIONS, Reader
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    MLPSpec,
    NormSpec,
    RelativeBiasSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.weights.rules import tied

NAME = "T5"

SPELLINGS = {
    "head_dim": "d_kv",
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
}

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


def _labels(reader: Reader) -> ClassifierHeadSpec:
    dropout = reader.probability("classifier_dropout", default=0.0)
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=dropout)


RULES = t5_names.rules


def heads(name: str) -> dict[str, Head]:
    """The heads of a family called `name`."""
    return {
        "base": Head(architecture=f"{name}Model"),
        "seq2seq_lm": Head(
            architecture=f"{name}ForConditionalGeneration",
            spec=_language,
            rules=(tied("lm_head.weight", "head.projection.weight"),),
            bare=True,
        ),
        "sequence_classification": coders.classification(name),
        "token_classification": Head(
            architecture=f"{name}ForTokenClassification",
            spec=_labels,
            rules=encoders.CLASSIFIER,
            stack=t5_names.encoder_alone,
            network=lambda reader: Single(stack=spec(reader).encoder),
        ),
        "question_answering": Head(
            architecture=f"{name}ForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN, bare=True
        ),
    }


HEADS = heads(NAME)
