"""ALBERT (arXiv:1909.11942): BERT with one layer, or a few, that run again and again, behind narrower embeddings.

Configuration: https://huggingface.co/albert/albert-base-v2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plait.models import bert, encoders
from plait.models.config import Config
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    HeadSpec,
    LayerSpec,
    LearnedPositions,
    PoolSpec,
    Single,
    SublayerSpec,
)
from plait.weights.rules import Rule, Rules, ignore, rename, tied

NAME = "Albert"

_ABSENT = ("classifier_dropout", "position_embedding_type", "use_cache")
DEFAULTS = {
    **{key: value for key, value in bert.DEFAULTS.items() if key not in _ABSENT},
    "attention_probs_dropout_prob": 0.0,
    "bos_token_id": 2,
    "classifier_dropout_prob": 0.1,
    "embedding_size": 128,
    "eos_token_id": 3,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 4096,
    "inner_group_num": 1,
    "intermediate_size": 16384,
    "num_attention_heads": 64,
    "num_hidden_groups": 1,
    "vocab_size": 30000,
}

IGNORED = {"classifier_dropout_prob": "the heads read it"} | dict.fromkeys(
    ["down_scale_factor", "gap_size", "layers_to_keep", "net_structure_type", "num_memory_blocks"],
    "a choice of the original code that no published model makes",
)


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    reader.only("is_decoder", False, reason="it was never trained to write")
    positions = LearnedPositions(count=reader.integer("max_position_embeddings"))
    stack = encoders.encoder(reader, positions=positions, embedding=reader.integer("embedding_size")).stack
    layer = stack.layers[0]
    assert isinstance(layer, LayerSpec)
    # Nothing is dropped behind the MLP.
    layer = replace(layer, around_mlp=SublayerSpec(after=encoders.norm_spec(reader)))
    inner, groups, depth = (
        reader.integer(f"{key}") for key in ("inner_group_num", "num_hidden_groups", "num_hidden_layers")
    )
    # Each group runs for its share of the depth.
    order = [depth_of * groups // depth * inner + index for depth_of in range(depth) for index in range(inner)]
    return Single(stack=replace(stack, layers=(layer,) * inner * groups, order=tuple(order)))


def _classifier(reader: Reader) -> ClassifierHeadSpec:
    dropout = reader.probability("classifier_dropout_prob")
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=dropout)


_LAYER = {
    "attention.{p:query|key|value}.{wb}": "attention.{p}.{wb}",
    "attention.dense.{wb}": "attention.output.{wb}",
    "attention.LayerNorm.{wb}": "around_attention.after.{wb}",
    "ffn.{wb}": "mlp.up.{wb}",
    "ffn_output.{wb}": "mlp.down.{wb}",
    "full_layer_layer_norm.{wb}": "around_mlp.after.{wb}",
}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights; layers are counted within each group."""
    inner = config.inner_group_num
    places = [divmod(number, inner) for number in range(config.num_hidden_groups * inner)]
    layers = {
        f"encoder.albert_layer_groups.{group}.albert_layers.{index}.{theirs}": f"stack.layers.{number}.{ours}"
        for number, (group, index) in enumerate(places)
        for theirs, ours in _LAYER.items()
    }
    return encoders.names(
        {
            **{theirs: ours for theirs, ours in encoders.NAMES.items() if theirs.startswith("embeddings.")},
            "encoder.embedding_hidden_mapping_in.{wb}": "stack.frontend.projection.{wb}",
            **layers,
        },
        ignore("sop_classifier.{rest}", "tells the order of two sentences: a head of its training"),
        prefix="albert.",
    )


_LANGUAGE = (
    rename("predictions.dense.{wb}", "head.dense.{wb}"),
    rename("predictions.LayerNorm.{wb}", "head.norm.{wb}"),
    tied("predictions.decoder.weight", "head.projection.weight"),
    rename("predictions.bias", "head.projection.bias", copies=["predictions.decoder.bias"]),
)


def _pooled(name: str, rules: tuple[Rule, ...] = (), spec: Callable[[Reader], HeadSpec] | None = None) -> Head:
    pooler = rename("albert.pooler.{wb}", "pool.dense.{wb}")
    return Head(architecture=name, pool=PoolSpec(where="first", activation="tanh"), spec=spec, rules=(pooler, *rules))


HEADS = {
    "base": _pooled("AlbertModel"),
    "masked_lm": Head(architecture="AlbertForMaskedLM", spec=encoders.language, rules=_LANGUAGE),
    "sequence_classification": _pooled("AlbertForSequenceClassification", encoders.CLASSIFIER, _classifier),
    "token_classification": Head(
        architecture="AlbertForTokenClassification", spec=_classifier, rules=encoders.CLASSIFIER
    ),
    "question_answering": Head(architecture="AlbertForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
    "multiple_choice": _pooled("AlbertForMultipleChoice", encoders.CLASSIFIER, encoders.choice_of(_classifier)),
}
