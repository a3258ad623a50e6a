"""ELECTRA (arXiv:2003.10555): BERT's encoder behind narrower embeddings, trained to find replaced tokens.

The discriminator is what is fine-tuned; the generator, which proposes the replacements, has the same form and the
masked-language head. Configuration: https://huggingface.co/google/electra-small-discriminator.
"""

from __future__ import annotations

from functools import partial

from plait.models import bert, encoders
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import ClassifierHeadSpec, LearnedPositions, PoolSpec, Single, TransformSpec
from plait.weights.rules import ignore, rename, tied

NAME = "Electra"

DEFAULTS = {
    **bert.DEFAULTS,
    "embedding_size": 128,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "summary_activation": "gelu",
    "summary_last_dropout": 0.1,
    "summary_type": "first",
    "summary_use_proj": True,
}

IGNORED = bert.IGNORED | dict.fromkeys(
    ["summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"],
    "the head of multiple choice reads it",
)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    width, embedding = reader.integer("hidden_size"), reader.integer("embedding_size")
    return encoders.encoder(
        reader,
        positions=LearnedPositions(count=reader.integer("max_position_embeddings")),
        embedding=None if embedding == width else embedding,
    )


_language = partial(encoders.language, activation="gelu")
_causal_language = partial(encoders.causal_language, activation="gelu")
_whole = partial(encoders.whole, activation="gelu")


def _choice(reader: Reader) -> ClassifierHeadSpec:
    reader.only("summary_type", "first", reason="a text is summed up by its first token")
    reader.only("summary_use_proj", True, reason="a dense layer follows")
    transform = TransformSpec(activation=reader.activation("summary_activation"))
    return ClassifierHeadSpec(labels=1, transform=transform, dropout=reader.probability("summary_last_dropout"))


RULES = encoders.names(
    {**encoders.NAMES, "embeddings_project.{wb}": "stack.frontend.projection.{wb}"},
    ignore("discriminator_predictions.{rest}", "finds replaced tokens: the head of its training"),
    prefix="electra.",
)

_LANGUAGE = (
    rename("generator_predictions.dense.{wb}", "head.dense.{wb}"),
    rename("generator_predictions.LayerNorm.{wb}", "head.norm.{wb}"),
    tied("generator_lm_head.weight", "head.projection.weight"),
    rename("generator_lm_head.bias", "head.projection.bias"),
)
_CHOICE = (rename("sequence_summary.summary.{wb}", "head.dense.{wb}"), *encoders.CLASSIFIER)
_FIRST = PoolSpec(where="first")

HEADS = {
    "base": Head(architecture="ElectraModel"),
    "masked_lm": Head(architecture="ElectraForMaskedLM", spec=_language, rules=_LANGUAGE),
    "causal_lm": Head(architecture="ElectraForCausalLM", spec=_causal_language, rules=_LANGUAGE),
    "sequence_classification": Head(
        architecture="ElectraForSequenceClassification", pool=_FIRST, spec=_whole, rules=encoders.WHOLE
    ),
    "token_classification": Head(
        architecture="ElectraForTokenClassification", spec=encoders.classifier, rules=encoders.CLASSIFIER
    ),
    "question_answering": Head(architecture="ElectraForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
    "multiple_choice": Head(architecture="ElectraForMultipleChoice", pool=_FIRST, spec=_choice, rules=_CHOICE),
}
