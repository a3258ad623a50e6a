"""What families of encoders share, complete: the stack of BERT and its relatives, their heads and names.

They differ by how positions are counted and by the width of their tables, and each puts its own parts around or in
place of these. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from plait.errors import ConfigError
from plait.models.family import multi_head, post_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    Activation,
    ClassifierHeadSpec,
    LanguageHeadSpec,
    LearnedPositions,
    MLPSpec,
    NarrowTables,
    NormSpec,
    Single,
    StackSpec,
    TextFrontendSpec,
    TransformSpec,
)
from plait.weights.rules import Rule, Rules, ignore, rename


def norm_spec(reader: Reader) -> NormSpec:
    """The one norm of the family."""
    return NormSpec(kind="layer", eps=reader.number("layer_norm_eps"), bias=True)


def encoder(
    reader: Reader,
    *,
    positions: LearnedPositions | None,
    embedding: int | None = None,
    segments: tuple[int, ...] | None = None,
) -> Single:
    """The stack that BERT and its relatives share.

    They differ by how `positions` are counted, by the width `embedding` of the tables, None for the stack's, and by the
    kinds of `segments`, None for one.
    """
    dim = reader.per_head()
    reader.only("position_embedding_type", "absolute", reason="relative keys are another attention")
    reader.only("add_cross_attention", False, reason="its decoder attends to itself alone")
    norm, vocabulary = norm_spec(reader), reader.integer("vocab_size")
    dropout = reader.probability("hidden_dropout_prob")
    layer = post_norm_layer(
        norm,
        multi_head(
            reader.integer("num_attention_heads"),
            dim,
            causal=reader.flag("is_decoder"),
            dropout=reader.probability("attention_probs_dropout_prob"),
        ),
        MLPSpec(width=reader.integer("intermediate_size"), activation=reader.activation("hidden_act"), bias=True),
        dropout=dropout,
    )
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        narrow=None if embedding is None else NarrowTables(width=embedding),
        positions=positions,
        segments=segments or reader.optional_integer("type_vocab_size", least=0) or None,
        norm=norm,
        dropout=dropout,
        padding=reader.padding(vocabulary=vocabulary),
    )
    layers = (layer,) * reader.integer("num_hidden_layers")
    return Single(stack=StackSpec(width=reader.integer("hidden_size"), frontend=frontend, layers=layers))


def language(reader: Reader, *, activation: Activation | None = None) -> LanguageHeadSpec:
    """Scores over the vocabulary, behind a dense layer, an activation, by default that of the layers, and a norm."""
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        bias=True,
        transform=TransformSpec(activation=activation or reader.activation("hidden_act"), norm=norm_spec(reader)),
    )


def causal_language(reader: Reader, *, activation: Activation | None = None) -> LanguageHeadSpec:
    """The same scores, of a decoder. Raises ConfigError for an encoder."""
    if not reader.flag("is_decoder"):
        raise ConfigError(
            f"Every token of this {reader.family} sees those behind it ({reader.label}). To make it generate, pass "
            "is_decoder=True."
        )
    return language(reader, activation=activation)


def classifier(reader: Reader) -> ClassifierHeadSpec:
    """Scores over labels."""
    dropout = "hidden_dropout_prob" if reader.value("classifier_dropout") is None else "classifier_dropout"
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability(dropout))


def whole(reader: Reader, *, activation: Activation) -> ClassifierHeadSpec:
    """Scores over labels behind a dense layer, with the same dropout before it and behind."""
    plain = classifier(reader)
    return replace(plain, transform=TransformSpec(activation=activation, dropout=plain.dropout))


def choice_of(read: Callable[[Reader], ClassifierHeadSpec]) -> Callable[[Reader], ClassifierHeadSpec]:
    """A reader of the head that `read` gives, with one score of a text: how well it fits."""
    return lambda reader: replace(read(reader), labels=1)


def two(reader: Reader) -> ClassifierHeadSpec:
    """Two scores: an answer begins and ends at a token, or a text follows another and does not."""
    return ClassifierHeadSpec(labels=2)


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


CLASSIFIER = (rename("classifier.{wb}", "head.projection.{wb}"),)
SPAN = (rename("qa_outputs.{wb}", "head.projection.{wb}"),)
# Behind a dense layer.
WHOLE = (
    rename("classifier.dense.{wb}", "head.dense.{wb}"),
    rename("classifier.out_proj.{wb}", "head.projection.{wb}"),
)
