"""RoBERTa (arXiv:1907.11692): BERT trained longer, with positions counted over the tokens of a text alone.

Position ids begin behind the padding's id, whose row of the table belongs to padding. Configuration:
https://huggingface.co/FacebookAI/roberta-base.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from plait.models import bert, encoders
from plait.models.config import Config
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import (
    HeadSpec,
    LearnedPositions,
    PoolSpec,
    Single,
)
from plait.weights.rules import Rule, rename, tied

NAME = "Roberta"

DEFAULTS = {**bert.DEFAULTS, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "vocab_size": 50265}

IGNORED = bert.IGNORED


def first_position(config: Config) -> int:
    """The position id of the first token."""
    return Reader(config, label=config.label, family=NAME).integer("pad_token_id", least=0) + 1


def positions(reader: Reader, *, padding: int) -> LearnedPositions:
    """A table whose rows up to `padding` belong to no token."""
    count = reader.integer("max_position_embeddings")
    return LearnedPositions(count=count, offset=padding + 1, over="tokens")


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    return encoders.encoder(reader, positions=positions(reader, padding=reader.integer("pad_token_id", least=0)))


_language = partial(encoders.language, activation="gelu")
_causal_language = partial(encoders.causal_language, activation="gelu")
_whole = partial(encoders.whole, activation="tanh")


RULES = encoders.names(encoders.NAMES, prefix="roberta.")

LANGUAGE = (
    rename("lm_head.dense.{wb}", "head.dense.{wb}"),
    rename("lm_head.layer_norm.{wb}", "head.norm.{wb}"),
    tied("lm_head.decoder.weight", "head.projection.weight"),
    rename("lm_head.bias", "head.projection.bias", copies=["lm_head.decoder.bias"]),
)


def heads(name: str, *, prefix: str, generates: bool = True) -> dict[str, Head]:
    """The heads of a family called `name`, whose weights' names begin with `prefix`."""

    def pooled(title: str, rules: tuple[Rule, ...] = (), spec: Callable[[Reader], HeadSpec] | None = None) -> Head:
        pooler = rename(prefix + "pooler.dense.{wb}", "pool.dense.{wb}")
        pool = PoolSpec(where="first", activation="tanh")
        return Head(architecture=name + title, pool=pool, spec=spec, rules=(pooler, *rules))

    first = PoolSpec(where="first")
    causal = Head(architecture=f"{name}ForCausalLM", spec=_causal_language, rules=LANGUAGE)
    return {
        "base": pooled("Model"),
        "masked_lm": Head(architecture=f"{name}ForMaskedLM", spec=_language, rules=LANGUAGE),
        **({"causal_lm": causal} if generates else {}),
        "sequence_classification": Head(
            architecture=f"{name}ForSequenceClassification", pool=first, spec=_whole, rules=encoders.WHOLE
        ),
        "token_classification": Head(
            architecture=f"{name}ForTokenClassification", spec=encoders.classifier, rules=encoders.CLASSIFIER
        ),
        "question_answering": Head(architecture=f"{name}ForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
        "multiple_choice": pooled("ForMultipleChoice", encoders.CLASSIFIER, encoders.choice_of(encoders.classifier)),
    }


HEADS = heads(NAME, prefix="roberta.")
