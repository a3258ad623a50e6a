"""What BART and its relatives share, complete: two stacks, their heads and the names of their weights.

They differ by where norms stand, by what positions are, and by whether both sides use one embedding: the arguments of
`stacks`, and the rules given to `names`. No torch here.
"""

from __future__ import annotations

from typing import Literal

from plait.models import encoders
from plait.models.family import Head, coder_layer, multi_head
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    ClassifierHeadSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    LearnedPositions,
    MLPSpec,
    NormSpec,
    PoolSpec,
    SinusoidalPositions,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
    TransformSpec,
)
from plait.weights.rules import Rule, Rules, ignore, rename, row, tied


def _stack(
    reader: Reader,
    side: str,
    *,
    before: bool,
    embedding_norm: bool,
    last_norm: bool,
    positions: LearnedPositions | SinusoidalPositions,
    vocabulary: int,
) -> StackSpec:
    width, decodes = reader.integer("d_model"), side == "decoder"
    norm = NormSpec(kind="layer", eps=1e-5, bias=True)
    dropout = reader.probability("dropout")
    around = SublayerSpec(before=norm if before else None, after=None if before else norm, dropout=dropout)
    mlp = MLPSpec(
        width=reader.integer(f"{side}_ffn_dim"),
        activation=reader.activation("activation_function"),
        bias=True,
        dropout=reader.probability("activation_dropout"),
    )
    memory = _attention(reader, side, causal=False) if decodes else None
    layer = coder_layer(_attention(reader, side, causal=decodes), mlp, around, memory=memory)
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        positions=positions,
        scale=width**0.5 if reader.flag("scale_embedding") else 1.0,
        norm=norm if embedding_norm else None,
        dropout=dropout,
        padding=reader.padding(vocabulary=vocabulary),
    )
    layers = (layer,) * reader.integer(f"{side}_layers")
    return StackSpec(width=width, frontend=frontend, layers=layers, norm=norm if last_norm else None)


def _attention(reader: Reader, side: str, *, causal: bool) -> AttentionSpec:
    heads, dim = reader.integer(f"{side}_attention_heads"), reader.per_head("d_model", f"{side}_attention_heads")
    return multi_head(heads, dim, causal=causal, dropout=reader.probability("attention_dropout"))


def stacks(
    reader: Reader,
    *,
    before: bool,
    embedding_norm: bool,
    last_norm: bool,
    positions: LearnedPositions | SinusoidalPositions,
    shared: bool = True,
    decoder_vocabulary: int | None = None,
) -> EncoderDecoder:
    """The two stacks that BART and its relatives share.

    They differ by whether norms stand `before` sublayers or behind them, by an `embedding_norm` and a `last_norm`, by
    their positions, and by whether both use one embedding.
    """
    # Old files say in words of the training program which relative they are.
    sinusoidal = isinstance(positions, SinusoidalPositions)
    told = {"normalize_before": before, "normalize_embedding": embedding_norm, "add_final_layer_norm": last_norm}
    for key, value in {**told, "static_position_embeddings": sinusoidal, "add_bias_logits": False}.items():
        reader.only(key, value, reason="this family is told apart by it")
    encoder, decoder = (
        _stack(
            reader,
            side,
            before=before,
            embedding_norm=embedding_norm,
            last_norm=last_norm,
            positions=positions,
            vocabulary=vocabulary,
        )
        for side, vocabulary in (
            ("encoder", reader.integer("vocab_size")),
            ("decoder", decoder_vocabulary or reader.integer("vocab_size")),
        )
    )
    return EncoderDecoder(encoder=encoder, decoder=decoder, shared=shared)


def learned_positions(reader: Reader) -> LearnedPositions:
    """A table whose first two rows belong to no position."""
    return LearnedPositions(count=reader.integer("max_position_embeddings") + 2, offset=2)


def language(reader: Reader) -> LanguageHeadSpec:
    """Scores over the vocabulary, with a bias."""
    return LanguageHeadSpec(vocabulary=reader.integer("vocab_size"), tied=reader.flag("tie_word_embeddings"), bias=True)


def classifier(reader: Reader) -> ClassifierHeadSpec:
    """Scores over labels, behind a dense layer."""
    dropout = reader.probability("classifier_dropout", default=0.0)
    transform = TransformSpec(activation="tanh", dropout=dropout)
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), transform=transform, dropout=dropout)


_SIDE = "{s:encoder|decoder}."
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
EMBEDDING = "encoder.frontend.tokens.weight"
SHARED = (
    rename("model.shared.weight", EMBEDDING, also=["model.encoder.embed_tokens.weight"]),
    tied("model.decoder.embed_tokens.weight", "decoder.frontend.tokens.weight"),
)


def names(*more: Rule, before: bool) -> Rules:
    """The names of the stacks' weights, with norms `before` sublayers or behind them; `more` are the embeddings'."""
    slot = "before" if before else "after"
    layer, ours = "model." + _SIDE + "layers.{i}.", _SIDE + "layers.{i}."
    cross = "decoder.layers.{i}."
    return Rules(
        *more,
        *(rename(f"{layer}self_attn.{t}.{{wb}}", f"{ours}attention.{o}.{{wb}}") for t, o in _PROJECTIONS.items()),
        *(rename(f"model.{cross}encoder_attn.{t}.{{wb}}", f"{cross}cross.{o}.{{wb}}") for t, o in _PROJECTIONS.items()),
        rename(layer + "fc1.{wb}", ours + "mlp.up.{wb}"),
        rename(layer + "fc2.{wb}", ours + "mlp.down.{wb}"),
        rename(layer + "self_attn_layer_norm.{wb}", f"{ours}around_attention.{slot}.{{wb}}"),
        rename(f"model.{cross}encoder_attn_layer_norm.{{wb}}", f"{cross}around_cross.{slot}.{{wb}}"),
        rename(layer + "final_layer_norm.{wb}", f"{ours}around_mlp.{slot}.{{wb}}"),
        ignore("model." + _SIDE + "version", "a note of the program that trained it"),
        prefixes=("model.",),
    )


LEARNED_POSITIONS = rename("model." + _SIDE + "embed_positions.weight", _SIDE + "frontend.positions.weight")
EMBEDDING_NORM = rename("model." + _SIDE + "layernorm_embedding.{wb}", _SIDE + "frontend.norm.{wb}")
LAST_NORM = rename("model." + _SIDE + "layer_norm.{wb}", _SIDE + "norm.{wb}")
FIXED_POSITIONS = ignore("model." + _SIDE + "embed_positions.weight", "computed, not learned")

SCORES = (
    tied("lm_head.weight", "head.projection.weight"),
    row("final_logits_bias", "head.projection.bias"),
)


def heads(
    name: str, architecture: str, *, first: Literal["start_token", "last_word"] = "start_token"
) -> dict[str, Head]:
    """The heads that BART and its relatives share; `first` as in `Head`."""
    return {
        "base": Head(architecture=f"{name}Model"),
        "seq2seq_lm": Head(architecture=architecture, spec=language, rules=SCORES, first=first),
    }


def reading_heads(name: str, *, first: Literal["start_token", "last_word"] = "start_token") -> dict[str, Head]:
    """The heads of those that read a text with both stacks: masked words, labels of it, and answers in it."""
    architecture = f"{name}ForConditionalGeneration"
    return {
        "masked_lm": Head(architecture=architecture, spec=language, rules=SCORES, first=first),
        "sequence_classification": classification(name),
        "question_answering": Head(architecture=f"{name}ForQuestionAnswering", spec=encoders.two, rules=encoders.SPAN),
    }


def classification(name: str) -> Head:
    """The head for sequences: of the decoder's state at the last token."""
    dense = rename("classification_head.dense.{wb}", "head.dense.{wb}")
    return Head(
        architecture=f"{name}ForSequenceClassification",
        pool=PoolSpec(where="last"),
        spec=classifier,
        rules=(dense, rename("classification_head.out_proj.{wb}", "head.projection.{wb}")),
    )
