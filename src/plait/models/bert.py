"""BERT (arXiv:1810.04805): an encoder with learned positions, two segments and norms behind each sublayer.

Configuration: https://huggingface.co/google-bert/bert-base-uncased. With `is_decoder` the same layers are causal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from plait.errors import ConfigError
from plait.models.family import Head, post_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    HeadSpec,
    LanguageHeadSpec,
    LearnedPositions,
    MaskSpec,
    MLPSpec,
    NarrowTables,
    NormSpec,
    PoolSpec,
    ProjectionBias,
    Single,
    StackSpec,
    TextFrontendSpec,
    TransformSpec,
)
from plait.weights.rules import Rule, Rules, ignore, rename, tied

NAME = "Bert"

DEFAULTS = {
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 30522,
}

IGNORED = {"vocab_size_or_config_json_file": "an old name of vocab_size"} | dict.fromkeys(
    [
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ],
    "describes the pooler of the original TensorFlow code, which is the one built here",
)


def norm_spec(reader: Reader) -> NormSpec:
    """The one norm of the family."""
    return NormSpec(kind="layer", eps=reader.number("layer_norm_eps"), bias=True)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    return encoder(reader, positions=LearnedPositions(count=reader.integer("max_position_embeddings")))


def encoder(reader: Reader, *, positions: LearnedPositions | None, embedding: int | None = None) -> Single:
    """The stack that BERT and its relatives share.

    They differ by how `positions` are counted and by the width `embedding` of the tables, None for the stack's.
    """
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    if width % heads:
        raise ConfigError(
            f"`hidden_size` must be a multiple of `num_attention_heads` ({heads}), but is {width} ({reader.label})."
        )
    reader.only("position_embedding_type", "absolute", reason="relative keys are another attention")
    reader.only("add_cross_attention", False, reason="its decoder attends to itself alone")
    norm, vocabulary = norm_spec(reader), reader.integer("vocab_size")
    dropout = reader.probability("hidden_dropout_prob")
    layer = post_norm_layer(
        norm,
        AttentionSpec(
            heads=heads,
            kv_heads=heads,
            head_dim=width // heads,
            scale=(width // heads) ** -0.5,
            mask=MaskSpec(causal=reader.flag("is_decoder")),
            bias=ProjectionBias(query=True, key=True, value=True, output=True),
            dropout=reader.probability("attention_probs_dropout_prob"),
        ),
        MLPSpec(width=reader.integer("intermediate_size"), activation=reader.activation("hidden_act"), bias=True),
        dropout=dropout,
    )
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        narrow=None if embedding is None else NarrowTables(width=embedding),
        positions=positions,
        segments=reader.optional_integer("type_vocab_size", least=0) or None,
        norm=norm,
        dropout=dropout,
        padding=reader.padding(vocabulary=vocabulary),
    )
    return Single(
        stack=StackSpec(width=width, frontend=frontend, layers=(layer,) * reader.integer("num_hidden_layers"))
    )


def language(reader: Reader) -> LanguageHeadSpec:
    """Scores over the vocabulary, behind a dense layer, the activation of the layers and a norm."""
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        bias=True,
        transform=TransformSpec(activation=reader.activation("hidden_act"), norm=norm_spec(reader)),
    )


def causal_language(reader: Reader) -> LanguageHeadSpec:
    """The same scores, of a decoder. Raises ConfigError for an encoder."""
    if not reader.flag("is_decoder"):
        raise ConfigError(
            f"Every token of this {reader.family} sees those behind it ({reader.label}). To make it generate, pass "
            "is_decoder=True."
        )
    return language(reader)


def classifier(reader: Reader) -> ClassifierHeadSpec:
    """Scores over labels."""
    dropout = "hidden_dropout_prob" if reader.value("classifier_dropout") is None else "classifier_dropout"
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability(dropout))


def choice(reader: Reader) -> ClassifierHeadSpec:
    """One score of a text: how well it fits."""
    return ClassifierHeadSpec(labels=1, dropout=classifier(reader).dropout)


NAMES = {
    "embeddings.word_embeddings.weight": "stack.frontend.tokens.weight",
    "embeddings.position_embeddings.weight": "stack.frontend.positions.weight",
    "embeddings.token_type_embeddings.weight": "stack.frontend.segments.weight",
    "embeddings.LayerNorm.{wb}": "stack.frontend.norm.{wb}",
    "encoder.layer.{i}.attention.self.{p:query|key|value}.{wb}": "stack.layers.{i}.attention.{p}.{wb}",
    "encoder.layer.{i}.attention.output.dense.{wb}": "stack.layers.{i}.attention.output.{wb}",
    "encoder.layer.{i}.attention.output.LayerNorm.{wb}": "stack.layers.{i}.around_attention.after.{wb}",
    "encoder.layer.{i}.intermediate.dense.{wb}": "stack.layers.{i}.mlp.up.{wb}",
    "encoder.layer.{i}.output.dense.{wb}": "stack.layers.{i}.mlp.down.{wb}",
    "encoder.layer.{i}.output.LayerNorm.{wb}": "stack.layers.{i}.around_mlp.after.{wb}",
}


def names(table: Mapping[str, str], *more: Rule, prefix: str) -> Rules:
    """The stack's weights, whose names begin with `prefix`, or without it."""
    return Rules(
        *(rename(prefix + theirs, ours) for theirs, ours in table.items()),
        *more,
        ignore(prefix + "embeddings.position_ids", "counted, not learned"),
        prefixes=(prefix,),
        old={"gamma": "weight", "beta": "bias"},
    )


RULES = names(NAMES, prefix="bert.")

_PREDICTIONS = (
    rename("cls.predictions.transform.dense.{wb}", "head.dense.{wb}"),
    rename("cls.predictions.transform.LayerNorm.{wb}", "head.norm.{wb}"),
    tied("cls.predictions.decoder.weight", "head.projection.weight"),
    rename("cls.predictions.bias", "head.projection.bias", copies=["cls.predictions.decoder.bias"]),
)
_CLASSIFIER = (rename("classifier.{wb}", "head.projection.{wb}"),)
_SPAN = (rename("qa_outputs.{wb}", "head.projection.{wb}"),)
_NEXT = (rename("cls.seq_relationship.{wb}", "head.projection.{wb}"),)


def _pooled(name: str, rules: tuple[Rule, ...] = (), spec: Callable[[Reader], HeadSpec] | None = None) -> Head:
    """A head behind BERT's pooler: a dense layer with tanh on the first token."""
    pooler = rename("bert.pooler.dense.{wb}", "pool.dense.{wb}")
    return Head(architecture=name, pool=PoolSpec(where="first", activation="tanh"), spec=spec, rules=(pooler, *rules))


def two(reader: Reader) -> ClassifierHeadSpec:
    """Two scores: an answer begins and ends at a token, or a text follows another and does not."""
    return ClassifierHeadSpec(labels=2)


HEADS = {
    "base": _pooled("BertModel"),
    "masked_lm": Head(architecture="BertForMaskedLM", spec=language, rules=_PREDICTIONS),
    "causal_lm": Head(architecture="BertLMHeadModel", spec=causal_language, rules=_PREDICTIONS),
    "sequence_classification": _pooled("BertForSequenceClassification", _CLASSIFIER, classifier),
    "token_classification": Head(architecture="BertForTokenClassification", spec=classifier, rules=_CLASSIFIER),
    "question_answering": Head(architecture="BertForQuestionAnswering", spec=two, rules=_SPAN),
    "multiple_choice": _pooled("BertForMultipleChoice", _CLASSIFIER, choice),
    "next_sentence": _pooled("BertForNextSentencePrediction", _NEXT, two),
}
