"""ELECTRA (arXiv:2003.10555): BERT's encoder behind narrower embeddings, trained to find replaced tokens.

The discriminator is what is fine-tuned; the generator, which proposes the replacements, has the same form and the
masked-language head. Configuration: https://huggingface.co/google/electra-small-discriminator.
"""

from __future__ import annotations

from plait.models import bert
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import ClassifierHeadSpec, LanguageHeadSpec, LearnedPositions, PoolSpec, Single, TransformSpec
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
    return bert.encoder(
        reader,
        positions=LearnedPositions(count=reader.integer("max_position_embeddings")),
        embedding=None if embedding == width else embedding,
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        bias=True,
        transform=TransformSpec(activation="gelu", norm=bert.norm_spec(reader)),
    )


def _causal_language(reader: Reader) -> LanguageHeadSpec:
    bert.causal_language(reader)
    return _language(reader)


def _whole(reader: Reader) -> ClassifierHeadSpec:
    plain = bert.classifier(reader)
    transform = TransformSpec(activation="gelu", dropout=plain.dropout)
    return ClassifierHeadSpec(labels=plain.labels, transform=transform, dropout=plain.dropout)


def _choice(reader: Reader) -> ClassifierHeadSpec:
    reader.only("summary_type", "first", reason="a text is summed up by its first token")
    reader.only("summary_use_proj", True, reason="a dense layer follows")
    transform = TransformSpec(activation=reader.activation("summary_activation"))
    return ClassifierHeadSpec(labels=1, transform=transform, dropout=reader.probability("summary_last_dropout"))


RULES = bert.names(
    {**bert.NAMES, "embeddings_project.{wb}": "stack.frontend.projection.{wb}"},
    ignore("discriminator_predictions.{rest}", "finds replaced tokens: the head of its training"),
    prefix="electra.",
)

_LANGUAGE = (
    rename("generator_predictions.dense.{wb}", "head.dense.{wb}"),
    rename("generator_predictions.LayerNorm.{wb}", "head.norm.{wb}"),
    tied("generator_lm_head.weight", "head.projection.weight"),
    rename("generator_lm_head.bias", "head.projection.bias"),
)
_CLASSIFIER = rename("classifier.{wb}", "head.projection.{wb}")
_WHOLE = (
    rename("classifier.dense.{wb}", "head.dense.{wb}"),
    rename("classifier.out_proj.{wb}", "head.projection.{wb}"),
)
_CHOICE = (rename("sequence_summary.summary.{wb}", "head.dense.{wb}"), _CLASSIFIER)
_SPAN = (rename("qa_outputs.{wb}", "head.projection.{wb}"),)
_FIRST = PoolSpec(where="first")

HEADS = {
    "base": Head(architecture="ElectraModel"),
    "masked_lm": Head(architecture="ElectraForMaskedLM", spec=_language, rules=_LANGUAGE),
    "causal_lm": Head(architecture="ElectraForCausalLM", spec=_causal_language, rules=_LANGUAGE),
    "sequence_classification": Head(
        architecture="ElectraForSequenceClassification", pool=_FIRST, spec=_whole, rules=_WHOLE
    ),
    "token_classification": Head(
        architecture="ElectraForTokenClassification", spec=bert.classifier, rules=(_CLASSIFIER,)
    ),
    "question_answering": Head(architecture="ElectraForQuestionAnswering", spec=bert.two, rules=_SPAN),
    "multiple_choice": Head(architecture="ElectraForMultipleChoice", pool=_FIRST, spec=_choice, rules=_CHOICE),
}
