"""DeBERTa 2 and 3 (arXiv:2006.03654, arXiv:2111.09543): BERT whose scores know distances, from vectors of their own.

Configuration: https://huggingface.co/microsoft/deberta-v3-base. The first layer of deberta-v2-xlarge has a convolution
beside it.
"""

from __future__ import annotations

from dataclasses import fields, replace

from plait.errors import ConfigError
from plait.models import bert, encoders
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    ConvolutionSpec,
    ConvolvedLayerSpec,
    DisentangledSpec,
    LanguageHeadSpec,
    LayerSpec,
    PoolSpec,
    RelativeVectorsSpec,
    Single,
    TransformSpec,
)
from plait.weights.rules import ignore, rename, tied

NAME = "DebertaV2"

_ABSENT = ("classifier_dropout", "position_embedding_type", "use_cache")
# What is absent is another network, which is refused.
DEFAULTS = {
    **{key: value for key, value in bert.DEFAULTS.items() if key not in _ABSENT},
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "num_attention_heads": 24,
    "num_hidden_layers": 24,
    "pooler_dropout": 0.0,
    "pooler_hidden_act": "gelu",
    "position_biased_input": True,
    "relative_attention": False,
    "share_att_key": False,
    "type_vocab_size": 0,
    "vocab_size": 128100,
}

IGNORED = {
    **dict.fromkeys(["cls_dropout", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size"], "the heads read it"),
    "legacy": "under which names the head for masked words is kept; that head reads it",
    "max_position_embeddings": "places have no table; distances reach so far where max_relative_positions is -1",
}


def _attention_kinds(reader: Reader) -> None:
    """Refuse what versions 2 and 3 as published do not do."""
    reader.only("relative_attention", True, reason="distances are all that is known of places")
    reader.only("position_biased_input", False, reason="places are not added to what is read")
    reader.only("share_att_key", True, reason="distances pass through the projections of the tokens")
    reader.only("embedding_size", reader.integer("hidden_size"), reason="token vectors have the width of the layers")
    reader.only("attention_head_size", reader.per_head(), reason="heads share the width")
    kinds = reader.value("pos_att_type") or ()
    kinds = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    if sorted(str(kind).strip() for kind in kinds) != ["c2p", "p2c"]:
        raise ConfigError(
            f"`pos_att_type` must name c2p and p2c, the two scores of distances, but is "
            f"{reader.value('pos_att_type')!r} ({reader.label})."
        )


def _vectors(reader: Reader) -> RelativeVectorsSpec:
    reach = reader.integer("max_relative_positions", least=-1)
    reach = reach if reach > 0 else reader.integer("max_position_embeddings")
    buckets = -1 if reader.value("position_buckets") is None else reader.integer("position_buckets", least=-1)
    kinds = str(reader.value("norm_rel_ebd") or "none")
    norm = encoders.norm_spec(reader) if "layer_norm" in kinds.lower() else None
    if buckets > 0:
        return RelativeVectorsSpec(reach=buckets, distance=reach, norm=norm)
    return RelativeVectorsSpec(reach=reach, norm=norm)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    _attention_kinds(reader)
    reader.only("is_decoder", False, reason="it was never trained to write")
    stack = encoders.encoder(reader, positions=None).stack
    layer = stack.layers[0]
    assert isinstance(layer, LayerSpec)
    assert isinstance(layer.attention, AttentionSpec)
    attention = DisentangledSpec(
        heads=layer.attention.heads,
        head_dim=layer.attention.head_dim,
        scale=(3 * layer.attention.head_dim) ** -0.5,  # of three scores
        dropout=layer.attention.dropout,
        position_dropout=layer.around_attention.dropout,
    )
    layer = replace(layer, attention=attention)
    first = _convolved(reader, layer) if reader.value("conv_kernel_size") else layer
    layers = (first, *(layer,) * (len(stack.layers) - 1))
    return Single(stack=replace(stack, layers=layers, relative_vectors=_vectors(reader)))


def _convolved(reader: Reader, layer: LayerSpec) -> ConvolvedLayerSpec:
    """The layer with the convolution that the configuration describes beside it."""
    kernel, groups = reader.integer("conv_kernel_size"), reader.optional_integer("conv_groups") or 1
    if kernel % 2 == 0 or reader.integer("hidden_size") % groups:
        raise ConfigError(
            f"`conv_kernel_size` must be odd and `conv_groups` divide `hidden_size`, but they are {kernel} and "
            f"{groups} ({reader.label})."
        )
    convolution = ConvolutionSpec(
        kernel=kernel,
        groups=groups,
        activation="tanh" if reader.value("conv_act") is None else reader.activation("conv_act"),
        norm=encoders.norm_spec(reader),
        dropout=layer.around_mlp.dropout,
    )
    parts = {field.name: getattr(layer, field.name) for field in fields(layer)}
    return ConvolvedLayerSpec(**parts, convolution=convolution)


def _language(reader: Reader) -> LanguageHeadSpec:
    reader.only("legacy", True, reason="the head for masked words has a dense layer, a norm and a tied projection")
    return encoders.language(reader)


def _whole(reader: Reader) -> ClassifierHeadSpec:
    reader.only("pooler_hidden_size", reader.integer("hidden_size"), reason="what is pooled keeps its width")
    activation, first = reader.activation("pooler_hidden_act"), reader.probability("pooler_dropout")
    dropout = "hidden_dropout_prob" if reader.value("cls_dropout") is None else "cls_dropout"
    return ClassifierHeadSpec(
        labels=reader.integer("num_labels"),
        transform=TransformSpec(activation=activation, dropout=first),
        dropout=reader.probability(dropout),
    )


def _tokens(reader: Reader) -> ClassifierHeadSpec:
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability("hidden_dropout_prob"))


_ATTENTION = "encoder.layer.{i}.attention.self."
RULES = encoders.names(
    {
        **{ours: theirs for ours, theirs in encoders.NAMES.items() if "self" not in ours and "position" not in ours},
        _ATTENTION + "{p:query|key|value}_proj.{wb}": "stack.layers.{i}.attention.{p}.{wb}",
        "encoder.rel_embeddings.weight": "stack.relative_vectors.table.weight",
        "encoder.LayerNorm.{wb}": "stack.relative_vectors.norm.{wb}",
        "encoder.conv.conv.{wb}": "stack.layers.0.beside.convolution.{wb}",
        "encoder.conv.LayerNorm.{wb}": "stack.layers.0.beside.norm.{wb}",
    },
    ignore("deberta.embeddings.position_embeddings.weight", "a table that nothing is read from"),
    ignore("mask_predictions.{rest}", "finds replaced tokens: the head of its training"),
    prefix="deberta.",
)

_LANGUAGE = (
    rename("cls.predictions.transform.dense.{wb}", "head.dense.{wb}", also=["lm_predictions.lm_head.dense.{wb}"]),
    rename(
        "cls.predictions.transform.LayerNorm.{wb}", "head.norm.{wb}", also=["lm_predictions.lm_head.LayerNorm.{wb}"]
    ),
    tied("cls.predictions.decoder.weight", "head.projection.weight"),
    rename(
        "cls.predictions.bias",
        "head.projection.bias",
        also=["lm_predictions.lm_head.bias"],
        copies=["cls.predictions.decoder.bias"],
    ),
)
_WHOLE = (rename("pooler.dense.{wb}", "head.dense.{wb}"), *encoders.CLASSIFIER)
_FIRST = PoolSpec(where="first")

HEADS = {
    "base": Head(architecture="DebertaV2Model"),
    "masked_lm": Head(architecture="DebertaV2ForMaskedLM", spec=_language, rules=_LANGUAGE),
    "sequence_classification": Head(
        architecture="DebertaV2ForSequenceClassification", pool=_FIRST, spec=_whole, rules=_WHOLE
    ),
    "token_classification": Head(
        architecture="DebertaV2ForTokenClassification", spec=_tokens, rules=encoders.CLASSIFIER
    ),
    "question_answering": Head(architecture="DebertaV2ForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
    "multiple_choice": Head(
        architecture="DebertaV2ForMultipleChoice", pool=_FIRST, spec=encoders.choice_of(_whole), rules=_WHOLE
    ),
}
