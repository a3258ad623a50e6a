"""DistilBERT (arXiv:1910.01108): BERT with half the layers, no segments and no pooler.

Configuration: https://huggingface.co/distilbert/distilbert-base-uncased.
"""

from __future__ import annotations

from plait.models.family import Head, multi_head, post_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    LanguageHeadSpec,
    LearnedPositions,
    MLPSpec,
    NormSpec,
    PoolSpec,
    Single,
    StackSpec,
    TextFrontendSpec,
    TransformSpec,
)
from plait.weights.rules import Rules, ignore, rename, tied

NAME = "DistilBert"

SPELLINGS = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

DEFAULTS = {
    "activation": "gelu",
    "attention_dropout": 0.1,
    "dim": 768,
    "dropout": 0.1,
    "hidden_dim": 3072,
    "initializer_range": 0.02,
    "max_position_embeddings": 512,
    "n_heads": 12,
    "n_layers": 6,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "vocab_size": 30522,
}

IGNORED = {
    "sinusoidal_pos_embds": "with what numbers the table of positions began; it is in the checkpoint",
    "qa_dropout": "the head that answers questions reads it",
    "seq_classif_dropout": "the heads of whole texts read it",
    "tie_weights_": "an old name of tie_word_embeddings, always true",
}

_NORM = NormSpec(kind="layer", eps=1e-12, bias=True)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    vocabulary, dropout = reader.integer("vocab_size"), reader.probability("dropout")
    layer = post_norm_layer(
        _NORM,
        multi_head(
            reader.integer("n_heads"),
            reader.per_head("dim", "n_heads"),
            dropout=reader.probability("attention_dropout"),
        ),
        MLPSpec(width=reader.integer("hidden_dim"), activation=reader.activation("activation"), bias=True),
        dropout=dropout,
    )
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        positions=LearnedPositions(count=reader.integer("max_position_embeddings")),
        norm=_NORM,
        dropout=dropout,
        padding=reader.padding(vocabulary=vocabulary),
    )
    return Single(
        stack=StackSpec(width=reader.integer("dim"), frontend=frontend, layers=(layer,) * reader.integer("n_layers"))
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        bias=True,
        transform=TransformSpec(activation=reader.activation("activation"), norm=_NORM),
    )


def _whole(reader: Reader, labels: int) -> ClassifierHeadSpec:
    dropout = reader.probability("seq_classif_dropout")
    return ClassifierHeadSpec(labels=labels, transform=TransformSpec(activation="relu"), dropout=dropout)


def _classifier(reader: Reader) -> ClassifierHeadSpec:
    return _whole(reader, reader.integer("num_labels"))


def _choice(reader: Reader) -> ClassifierHeadSpec:
    return _whole(reader, 1)


def _tokens(reader: Reader) -> ClassifierHeadSpec:
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability("dropout"))


def _span(reader: Reader) -> ClassifierHeadSpec:
    return ClassifierHeadSpec(labels=2, dropout=reader.probability("qa_dropout"))


_LAYER, _OURS = "distilbert.transformer.layer.{i}.", "stack.layers.{i}."
RULES = Rules(
    rename("distilbert.embeddings.word_embeddings.weight", "stack.frontend.tokens.weight"),
    rename("distilbert.embeddings.position_embeddings.weight", "stack.frontend.positions.weight"),
    rename("distilbert.embeddings.LayerNorm.{wb}", "stack.frontend.norm.{wb}"),
    rename(_LAYER + "attention.q_lin.{wb}", _OURS + "attention.query.{wb}"),
    rename(_LAYER + "attention.k_lin.{wb}", _OURS + "attention.key.{wb}"),
    rename(_LAYER + "attention.v_lin.{wb}", _OURS + "attention.value.{wb}"),
    rename(_LAYER + "attention.out_lin.{wb}", _OURS + "attention.output.{wb}"),
    rename(_LAYER + "sa_layer_norm.{wb}", _OURS + "around_attention.after.{wb}"),
    rename(_LAYER + "ffn.lin1.{wb}", _OURS + "mlp.up.{wb}"),
    rename(_LAYER + "ffn.lin2.{wb}", _OURS + "mlp.down.{wb}"),
    rename(_LAYER + "output_layer_norm.{wb}", _OURS + "around_mlp.after.{wb}"),
    ignore("distilbert.embeddings.position_ids", "counted, not learned"),
    prefixes=("distilbert.",),
)

_LANGUAGE = (
    rename("vocab_transform.{wb}", "head.dense.{wb}"),
    rename("vocab_layer_norm.{wb}", "head.norm.{wb}"),
    tied("vocab_projector.weight", "head.projection.weight"),
    rename("vocab_projector.bias", "head.projection.bias"),
)
_WHOLE = (rename("pre_classifier.{wb}", "head.dense.{wb}"), rename("classifier.{wb}", "head.projection.{wb}"))
_FIRST = PoolSpec(where="first")

HEADS = {
    "base": Head(architecture="DistilBertModel"),
    "masked_lm": Head(architecture="DistilBertForMaskedLM", spec=_language, rules=_LANGUAGE),
    "sequence_classification": Head(
        architecture="DistilBertForSequenceClassification", pool=_FIRST, spec=_classifier, rules=_WHOLE
    ),
    "token_classification": Head(architecture="DistilBertForTokenClassification", spec=_tokens, rules=_WHOLE[1:]),
    "question_answering": Head(
        architecture="DistilBertForQuestionAnswering",
        spec=_span,
        rules=(rename("qa_outputs.{wb}", "head.projection.{wb}"),),
    ),
    "multiple_choice": Head(architecture="DistilBertForMultipleChoice", pool=_FIRST, spec=_choice, rules=_WHOLE),
}
