"""BERT (arXiv:1810.04805): an encoder with learned positions, two segments and norms behind each sublayer.

Configuration: https://huggingface.co/google-bert/bert-base-uncased. With `is_decoder` the same layers are causal.
"""

from __future__ import annotations

from collections.abc import Callable

from plait.models import encoders
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import HeadSpec, LearnedPositions, PoolSpec, Single
from plait.weights.rules import Rule, rename, tied

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


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    return encoders.encoder(reader, positions=LearnedPositions(count=reader.integer("max_position_embeddings")))


RULES = encoders.names(encoders.NAMES, prefix="bert.")

_PREDICTIONS = (
    rename("cls.predictions.transform.dense.{wb}", "head.dense.{wb}"),
    rename("cls.predictions.transform.LayerNorm.{wb}", "head.norm.{wb}"),
    tied("cls.predictions.decoder.weight", "head.projection.weight"),
    rename("cls.predictions.bias", "head.projection.bias", copies=["cls.predictions.decoder.bias"]),
)
_NEXT = (rename("cls.seq_relationship.{wb}", "head.projection.{wb}"),)


def _pooled(name: str, rules: tuple[Rule, ...] = (), spec: Callable[[Reader], HeadSpec] | None = None) -> Head:
    """A head behind BERT's pooler: a dense layer with tanh on the first token."""
    pooler = rename("bert.pooler.dense.{wb}", "pool.dense.{wb}")
    return Head(architecture=name, pool=PoolSpec(where="first", activation="tanh"), spec=spec, rules=(pooler, *rules))


HEADS = {
    "base": _pooled("BertModel"),
    "masked_lm": Head(architecture="BertForMaskedLM", spec=encoders.language, rules=_PREDICTIONS),
    "causal_lm": Head(architecture="BertLMHeadModel", spec=encoders.causal_language, rules=_PREDICTIONS),
    "sequence_classification": _pooled("BertForSequenceClassification", encoders.CLASSIFIER, encoders.classifier),
    "token_classification": Head(
        architecture="BertForTokenClassification", spec=encoders.classifier, rules=encoders.CLASSIFIER
    ),
    "question_answering": Head(architecture="BertForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
    "multiple_choice": _pooled("BertForMultipleChoice", encoders.CLASSIFIER, encoders.choice_of(encoders.classifier)),
    "next_sentence": _pooled("BertForNextSentencePrediction", _NEXT, encoders.two),
}
