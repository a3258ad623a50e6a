"""What families of decoders share, complete: the stack of Llama and its relatives, the heads of all, and their names.

They differ by the arguments of `decoder`, by what an attention or a feed-forward part is (`decoder_of`), and by entries
of the table of names. No torch here.
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
    LatentAttentionSpec,
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

NO_LIMIT = "rotary positions have no table, so the network has no limit; scalings that need the length read it"


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
    dim, heads = head_dim(reader), reader.integer("num_attention_heads")
    kv_heads, attention_dropout = (
        reader.optional_integer("num_key_value_heads") or heads,
        reader.probability("attention_dropout"),
    )
    if qk_norm:
        reader.only("use_qk_norm", True, reason="each head's query and key has a norm")
    turns = rotations or [rope(reader, dim=dim)] * len(windows)
    attentions = [
        AttentionSpec(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim,
            scale=dim**-0.5,
            mask=MaskSpec(causal=True, window=window),
            bias=attention_bias,
            rope=rotation,
            qk_norm=_norm(reader) if qk_norm else None,
            dropout=attention_dropout,
        )
        for window, rotation in zip(windows, turns, strict=True)
    ]
    if mlps is None:
        activation = reader.activation("hidden_act")
        mlp = MLPSpec(width=reader.integer("intermediate_size"), activation=activation, gated=True, bias=mlp_bias)
        mlps = [mlp] * len(windows)
    return decoder_of(reader, attentions=attentions, mlps=mlps, sandwich=sandwich, dropout=dropout)


def decoder_of(
    reader: Reader,
    *,
    attentions: Sequence[AttentionSpec | LatentAttentionSpec],
    mlps: Sequence[MLPSpec | MoESpec],
    sandwich: bool = False,
    dropout: float = 0.0,
) -> Single:
    """The same stack around other attentions: an RMS norm before each sublayer, and one behind the layers."""
    norm, vocabulary = _norm(reader), reader.integer("vocab_size")
    around = SublayerSpec(before=norm, branch=norm if sandwich else None, dropout=dropout)
    layers = tuple(
        LayerSpec(attention=attention, mlp=mlp, around_attention=around, around_mlp=around)
        for attention, mlp in zip(attentions, mlps, strict=True)
    )
    frontend = TextFrontendSpec(vocabulary=vocabulary, padding=reader.padding(vocabulary=vocabulary))
    return Single(stack=StackSpec(width=reader.integer("hidden_size"), frontend=frontend, layers=layers, norm=norm))


def _norm(reader: Reader) -> NormSpec:
    return NormSpec(kind="rms", eps=reader.number("rms_norm_eps"))


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


SCORES = tied("lm_head.weight", "head.projection.weight")


def heads(
    name: str,
    table: Mapping[str, str] | None = NAMES,
    *,
    language: Callable[[Reader], LanguageHeadSpec] = language,
    writer: str = "ForCausalLM",
    scores: Rule = SCORES,
    tokens: Callable[[Reader], ClassifierHeadSpec] = token_classifier,
    token_scores: str = "score",
    span: Rules | Callable[[Config], Rules] | None = None,
    without: Sequence[str] = (),
) -> dict[str, Head]:
    """The heads of a decoder family called `name`; not those for the tasks `without`.

    `writer` is the end of the class that writes, `scores` the rule of its head's weight. `tokens` reads the head for
    labels of tokens, `token_scores` is its name in files. `span`: the stack's names under the head for question
    answering, the one whose published names begin otherwise; by default those of `table`, or the usual ones without it.
    """
    if span is None and table is not None:
        span = names(table, prefix="transformer.", other="model.")
    made = {
        "base": Head(architecture=f"{name}Model"),
        "causal_lm": Head(architecture=name + writer, spec=language, rules=(scores,)),
        "sequence_classification": Head(
            architecture=f"{name}ForSequenceClassification",
            pool=PoolSpec(where="last"),
            spec=classifier,
            rules=(rename("score.{wb}", "head.projection.{wb}"),),
        ),
        "token_classification": Head(
            architecture=f"{name}ForTokenClassification",
            spec=tokens,
            rules=(rename(token_scores + ".{wb}", "head.projection.{wb}"),),
        ),
        "question_answering": Head(
            architecture=f"{name}ForQuestionAnswering",
            spec=ends,
            rules=(rename("qa_outputs.{wb}", "head.projection.{wb}"),),
            stack=span,
        ),
    }
    return {task: head for task, head in made.items() if task not in without}
