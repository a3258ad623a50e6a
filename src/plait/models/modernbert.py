"""ModernBERT (arXiv:2412.13663): an encoder with rotary positions, layers of local and of global attention, gated MLPs
and norms before each sublayer.

Configuration: https://huggingface.co/answerdotai/ModernBERT-base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from plait.errors import ConfigError
from plait.models import encoders, initial
from plait.models.family import Head, multi_head, pre_norm_layer
from plait.models.positions import rotation, sliding_layers
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    PoolSpec,
    RopeSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
    TransformSpec,
)
from plait.weights.rules import Rules, rename, split, tied

NAME = "ModernBert"

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 50281,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "cls",
    "decoder_bias": True,
    "embedding_dropout": 0.0,
    "eos_token_id": 50282,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "intermediate_size": 1152,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "norm_bias": False,
    "norm_eps": 1e-5,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "pad_token_id": 50283,
    "vocab_size": 50368,
}

IGNORED = {
    "initializer_cutoff_factor": "how new weights are drawn",
    "layer_norm_eps": "an older name of norm_eps, which is there as well",
    "max_position_embeddings": "rotary positions have no table, so the network has no limit",
    "position_embedding_type": "nothing is added to its embeddings; positions are rotary",
    "sparse_pred_ignore_index": "which words a loss leaves out; -100 here",
    "sparse_prediction": "scores only words that the loss counts; those scores are the same",
    **dict.fromkeys(["classifier_activation", "classifier_bias", "classifier_pooling"], "the heads read it"),
    "decoder_bias": "the head for masked words reads it",
}


def _norm(reader: Reader) -> NormSpec:
    return NormSpec(kind="layer", eps=reader.number("norm_eps"), bias=reader.flag("norm_bias"))


def _rotations(reader: Reader, *, dim: int) -> dict[bool, RopeSpec]:
    """The rotation of local (True) and of global layers, from one object for each or from the older keys."""
    local, everywhere = reader.number("local_rope_theta", least=1.0), reader.number("global_rope_theta", least=1.0)
    if not isinstance(reader.value("rope_parameters"), Mapping):
        return {True: RopeSpec(theta=local, dim=dim), False: RopeSpec(theta=everywhere, dim=dim)}
    with reader.nested("rope_parameters") as both:
        with both.nested("sliding_attention") as inner:
            turned = rotation(inner, reader, dim=dim, theta=local)
        with both.nested("full_attention") as inner:
            return {True: turned, False: rotation(inner, reader, dim=dim, theta=everywhere)}


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    heads, dim = reader.integer("num_attention_heads"), reader.per_head(even=True)
    count, period = reader.integer("num_hidden_layers"), reader.integer("global_attn_every_n_layers")
    rotations, norm, bias = _rotations(reader, dim=dim), _norm(reader), reader.flag("attention_bias")
    # The number counts both sides, and a distance of half of it is still seen.
    masks = {True: MaskSpec(window=reader.integer("local_attention") // 2 + 1), False: MaskSpec()}
    dropout = reader.probability("attention_dropout")

    def layer(local: bool) -> LayerSpec:
        plain = multi_head(heads, dim, bias=bias, dropout=dropout)
        attention = replace(plain, mask=masks[local], rope=rotations[local])
        mlp = MLPSpec(
            width=reader.integer("intermediate_size"),
            activation=reader.activation("hidden_activation"),
            gated=True,
            bias=reader.flag("mlp_bias"),
            dropout=reader.probability("mlp_dropout"),
        )
        around = SublayerSpec(before=norm, dropout=dropout)
        return replace(pre_norm_layer(norm, attention, mlp), around_attention=around)

    first, *rest = (layer(local) for local in sliding_layers(reader, [index % period != 0 for index in range(count)]))
    # The frontend ends with a norm already.
    first = replace(first, around_attention=SublayerSpec(dropout=dropout))
    vocabulary = reader.integer("vocab_size")
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        norm=norm,
        dropout=reader.probability("embedding_dropout"),
        padding=reader.padding(vocabulary=vocabulary),
    )
    width = reader.integer("hidden_size")
    return Single(stack=StackSpec(width=width, frontend=frontend, layers=(first, *rest), norm=norm))


initialise = initial.cut_off


def _transform(reader: Reader) -> TransformSpec:
    activation, bias = reader.activation("classifier_activation"), reader.flag("classifier_bias")
    return TransformSpec(activation=activation, bias=bias, norm=_norm(reader))


def _language(reader: Reader) -> LanguageHeadSpec:
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        bias=reader.flag("decoder_bias"),
        transform=_transform(reader),
    )


def _classifier(reader: Reader) -> ClassifierHeadSpec:
    labels, dropout = reader.integer("num_labels"), reader.probability("classifier_dropout")
    return ClassifierHeadSpec(labels=labels, transform=_transform(reader), dropout=dropout)


def _span(reader: Reader) -> ClassifierHeadSpec:
    return replace(_classifier(reader), labels=2)


def _pool(reader: Reader) -> PoolSpec:
    where = reader.value("classifier_pooling")
    if where not in ("cls", "mean"):
        raise ConfigError(f"`classifier_pooling` must be cls or mean, but is {where!r} ({reader.label}).")
    return PoolSpec(where="first" if where == "cls" else "mean")


_LAYER = "stack.layers.{i}."
RULES = Rules(
    rename("model.embeddings.tok_embeddings.weight", "stack.frontend.tokens.weight"),
    rename("model.embeddings.norm.{wb}", "stack.frontend.norm.{wb}"),
    rename("model.layers.{i}.attn_norm.{wb}", _LAYER + "around_attention.before.{wb}"),
    split("model.layers.{i}.attn.Wqkv.{wb}", [_LAYER + f"attention.{p}.{{wb}}" for p in ("query", "key", "value")]),
    rename("model.layers.{i}.attn.Wo.{wb}", _LAYER + "attention.output.{wb}"),
    rename("model.layers.{i}.mlp_norm.{wb}", _LAYER + "around_mlp.before.{wb}"),
    split("model.layers.{i}.mlp.Wi.{wb}", [_LAYER + "mlp.gate.{wb}", _LAYER + "mlp.up.{wb}"]),
    rename("model.layers.{i}.mlp.Wo.{wb}", _LAYER + "mlp.down.{wb}"),
    rename("model.final_norm.{wb}", "stack.norm.{wb}"),
    prefixes=("model.",),
)

_TRANSFORM = (rename("head.dense.{wb}", "head.dense.{wb}"), rename("head.norm.{wb}", "head.norm.{wb}"))
_LANGUAGE = (
    *_TRANSFORM,
    tied("decoder.weight", "head.projection.weight"),
    rename("decoder.bias", "head.projection.bias"),
)
_CLASSIFIER = (*_TRANSFORM, rename("classifier.{wb}", "head.projection.{wb}"))

HEADS = {
    "base": Head(architecture="ModernBertModel"),
    "masked_lm": Head(architecture="ModernBertForMaskedLM", spec=_language, rules=_LANGUAGE),
    "sequence_classification": Head(
        architecture="ModernBertForSequenceClassification", pool=_pool, spec=_classifier, rules=_CLASSIFIER
    ),
    "token_classification": Head(architecture="ModernBertForTokenClassification", spec=_classifier, rules=_CLASSIFIER),
    "question_answering": Head(architecture="ModernBertForQuestionAnswering", spec=_span, rules=_CLASSIFIER),
    "multiple_choice": Head(
        architecture="ModernBertForMultipleChoice", pool=_pool, spec=encoders.choice_of(_classifier), rules=_CLASSIFIER
    ),
}
