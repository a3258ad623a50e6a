"""Llama 2 and 3 (arXiv:2307.09288, arXiv:2407.21783): a decoder with rotary positions, shared key heads and a gated
MLP.

Configuration: https://huggingface.co/meta-llama/Llama-3.1-8B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.family import Head
from plait.models.positions import rope
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    MoESpec,
    NormSpec,
    PoolSpec,
    ProjectionBias,
    RopeSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rule, Rules, ignore, rename, split, tied

NAME = "Llama"

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32000,
}

IGNORED = {
    "max_position_embeddings": "rotary positions have no table, so the network has no limit; scalings that need the "
    "length read it",
    "original_max_position_embeddings": "the length before a scaling of the positions; without a scaling it means "
    "nothing",
    "is_llama_config": "a note of the program that trained it",
    "max_sequence_length": "the length of the texts it was trained on",
}


def head_dim(reader: Reader) -> int:
    """Dimensions of a head: given, or the width shared among the heads."""
    if (dim := reader.optional_integer("head_dim")) is not None:
        return dim
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    if width % heads:
        raise ConfigError(
            f"`hidden_size` must be a multiple of `num_attention_heads` ({heads}) where `head_dim` is absent, but is "
            f"{width} ({reader.label})."
        )
    return width // heads


def decoder(
    reader: Reader,
    *,
    attention_bias: ProjectionBias,
    mlp_bias: bool,
    windows: Sequence[int | None],
    rotations: Sequence[RopeSpec | None] | None = None,
    mlps: Sequence[MLPSpec | MoESpec] | None = None,
    qk_norm: bool = False,
    sandwich: bool = False,
    dropout: float = 0.0,
) -> Single:
    """The stack that Llama and its relatives share. They differ by biases, by the window, the rotation and the
    feed-forward part of each layer (`rotations`, `mlps`: None for the same one in all), by a norm on each head's query
    and key, norms behind the sublayers as well as before them (`sandwich`), and dropout on what a sublayer adds."""
    norm = NormSpec(kind="rms", eps=reader.number("rms_norm_eps"))
    dim, heads, vocabulary = head_dim(reader), reader.integer("num_attention_heads"), reader.integer("vocab_size")
    attention_dropout = reader.probability("attention_dropout")
    kv_heads = reader.optional_integer("num_key_value_heads") or heads
    activation = reader.activation("hidden_act")
    mlp = MLPSpec(width=reader.integer("intermediate_size"), activation=activation, gated=True, bias=mlp_bias)
    around = SublayerSpec(before=norm, branch=norm if sandwich else None, dropout=dropout)
    turns = rotations or [rope(reader, dim=dim)] * len(windows)
    layers = tuple(
        LayerSpec(
            attention=AttentionSpec(
                heads=heads,
                kv_heads=kv_heads,
                head_dim=dim,
                scale=dim**-0.5,
                mask=MaskSpec(causal=True, window=window),
                bias=attention_bias,
                rope=rotation,
                qk_norm=norm if qk_norm else None,
                dropout=attention_dropout,
            ),
            mlp=mlp,
            around_attention=around,
            around_mlp=around,
        )
        for window, rotation, mlp in zip(windows, turns, mlps or [mlp] * len(windows), strict=True)
    )
    frontend = TextFrontendSpec(vocabulary=vocabulary, padding=reader.padding(vocabulary=vocabulary))
    return Single(stack=StackSpec(width=reader.integer("hidden_size"), frontend=frontend, layers=layers, norm=norm))


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    reader.only("rope_interleaved", False, reason="its rotary pairs would be neighbours, and are taken to be halves")
    bias = reader.flag("attention_bias")
    return decoder(
        reader,
        attention_bias=ProjectionBias(query=bias, key=bias, value=bias, output=bias),
        mlp_bias=reader.flag("mlp_bias"),
        windows=[None] * reader.integer("num_hidden_layers"),
    )


def language(reader: Reader) -> LanguageHeadSpec:
    """Scores over the vocabulary, with the embedding's weight where the configuration ties them."""
    return LanguageHeadSpec(vocabulary=reader.integer("vocab_size"), tied=reader.flag("tie_word_embeddings"))


def classifier(reader: Reader) -> ClassifierHeadSpec:
    """Scores over labels, of the last token."""
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), bias=False)


def token_classifier(reader: Reader) -> ClassifierHeadSpec:
    """Scores over labels, of every token."""
    return ClassifierHeadSpec(
        labels=reader.integer("num_labels"), dropout=reader.probability("classifier_dropout", default=0.1)
    )


def ends(reader: Reader) -> ClassifierHeadSpec:
    """Two scores of every token: an answer begins here, and ends here."""
    return ClassifierHeadSpec(labels=2)


NAMES = {
    "embed_tokens.weight": "stack.frontend.tokens.weight",
    "layers.{i}.self_attn.q_proj.{wb}": "stack.layers.{i}.attention.query.{wb}",
    "layers.{i}.self_attn.k_proj.{wb}": "stack.layers.{i}.attention.key.{wb}",
    "layers.{i}.self_attn.v_proj.{wb}": "stack.layers.{i}.attention.value.{wb}",
    "layers.{i}.self_attn.o_proj.{wb}": "stack.layers.{i}.attention.output.{wb}",
    "layers.{i}.mlp.{p:gate|up|down}_proj.{wb}": "stack.layers.{i}.mlp.{p}.{wb}",
    "layers.{i}.input_layernorm.weight": "stack.layers.{i}.around_attention.before.weight",
    "layers.{i}.post_attention_layernorm.weight": "stack.layers.{i}.around_mlp.before.weight",
    "norm.weight": "stack.norm.weight",
}
QK_NORMS = {
    "layers.{i}.self_attn.q_norm.weight": "stack.layers.{i}.attention.query_norm.weight",
    "layers.{i}.self_attn.k_norm.weight": "stack.layers.{i}.attention.key_norm.weight",
}


# Of files that join gate and up: what is left of the table, and the rule for both.
JOINED_MLP = {theirs: ours for theirs, ours in NAMES.items() if "gate" not in theirs}
JOINED_MLP["layers.{i}.mlp.down_proj.weight"] = "stack.layers.{i}.mlp.down.weight"
GATE_AND_UP = split(
    "model.layers.{i}.mlp.gate_up_proj.weight", [f"stack.layers.{{i}}.mlp.{part}.weight" for part in ("gate", "up")]
)


def names(table: Mapping[str, str], *more: Rule, prefix: str = "model.", other: str = "transformer.") -> Rules:
    """The stack's weights, whose names begin with `prefix`, or `other` in files of other heads, or neither."""
    return Rules(
        *(rename(prefix + theirs, ours, also=[other + theirs]) for theirs, ours in table.items()),
        *more,
        ignore(prefix + "layers.{i}.self_attn.rotary_emb.inv_freq", "computed from the configuration"),
        prefixes=(prefix,),
    )


RULES = names(NAMES)


def heads(
    name: str,
    table: Mapping[str, str] = NAMES,
    *,
    language: Callable[[Reader], LanguageHeadSpec] = language,
    span: Rules | Callable[[Config], Rules] | None = None,
    without: Sequence[str] = (),
) -> dict[str, Head]:
    """The heads of a decoder family called `name`, whose stack has the names of `table`; not those for the tasks
    `without`.

    `span`: the stack's names under the head for question answering, the one whose published names begin otherwise.
    """
    score = (rename("score.{wb}", "head.projection.{wb}"),)
    made = {
        "base": Head(architecture=f"{name}Model"),
        "causal_lm": Head(
            architecture=f"{name}ForCausalLM", spec=language, rules=(tied("lm_head.weight", "head.projection.weight"),)
        ),
        "sequence_classification": Head(
            architecture=f"{name}ForSequenceClassification", pool=PoolSpec(where="last"), spec=classifier, rules=score
        ),
        "token_classification": Head(architecture=f"{name}ForTokenClassification", spec=token_classifier, rules=score),
        "question_answering": Head(
            architecture=f"{name}ForQuestionAnswering",
            spec=ends,
            rules=(rename("qa_outputs.{wb}", "head.projection.{wb}"),),
            stack=span or names(table, prefix="transformer.", other="model."),
        ),
    }
    return {task: head for task, head in made.items() if task not in without}


HEADS = heads(NAME)
