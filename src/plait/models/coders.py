"""What BART and its relatives share, complete: two stacks, their heads and the names of their weights.

They differ by where norms stand, by what positions are, and by whether both sides use one embedding: the arguments of
`stacks` and of `names`. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    Single,
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
# What stands below a stack besides its layers: the name in files, and here.
Below = tuple[str, str]
LEARNED_POSITIONS: Below = ("embed_positions.weight", "frontend.positions.weight")
EMBEDDING_NORM: Below = ("layernorm_embedding.{wb}", "frontend.norm.{wb}")
LAST_NORM: Below = ("layer_norm.{wb}", "norm.{wb}")


def names(*below: Below, before: bool, embeddings: Sequence[Rule] = SHARED) -> Rules:
    """The names of both stacks' weights, with norms `before` sublayers or behind them."""
    sides = _names("model." + _SIDE, _SIDE, below, before=before)
    cross = _cross_names("model.decoder.", "decoder.", before=before)
    return Rules(*embeddings, *sides, *cross, prefixes=("model.",))


def alone(*below: Below, before: bool) -> Rules:
    """The names where the decoder writes alone; a file may hold an encoder as well, and one embedding for both."""
    theirs, ours = "model.decoder.", "stack."
    return Rules(
        rename(f"{theirs}embed_tokens.weight", f"{ours}frontend.tokens.weight", also=["model.shared.weight"]),
        *_names(theirs, ours, below, before=before),
        *_cross_names(theirs, ours, before=before),
        ignore("model.encoder.{rest}", "the decoder writes alone"),
        prefixes=("model.",),
    )


def _names(theirs: str, ours: str, below: Sequence[Below], *, before: bool) -> Iterator[Rule]:
    """Those of a stack but for its embedding and its attention to another stack."""
    slot, layer, layer_here = "before" if before else "after", theirs + "layers.{i}.", ours + "layers.{i}."
    for there, here in below:
        yield rename(theirs + there, ours + here)
    if LEARNED_POSITIONS not in below:
        yield ignore(theirs + LEARNED_POSITIONS[0], "computed, not learned")
    for there, here in _PROJECTIONS.items():
        yield rename(f"{layer}self_attn.{there}.{{wb}}", f"{layer_here}attention.{here}.{{wb}}")
    yield rename(layer + "fc1.{wb}", layer_here + "mlp.up.{wb}")
    yield rename(layer + "fc2.{wb}", layer_here + "mlp.down.{wb}")
    yield rename(layer + "self_attn_layer_norm.{wb}", f"{layer_here}around_attention.{slot}.{{wb}}")
    yield rename(layer + "final_layer_norm.{wb}", f"{layer_here}around_mlp.{slot}.{{wb}}")
    yield ignore(theirs + "version", "a note of the program that trained it")


def _cross_names(theirs: str, ours: str, *, before: bool) -> Iterator[Rule]:
    """Those of a decoder's attention to the encoder."""
    slot, layer, layer_here = "before" if before else "after", theirs + "layers.{i}.", ours + "layers.{i}."
    for there, here in _PROJECTIONS.items():
        yield rename(f"{layer}encoder_attn.{there}.{{wb}}", f"{layer_here}cross.{here}.{{wb}}")
    yield rename(layer + "encoder_attn_layer_norm.{wb}", f"{layer_here}around_cross.{slot}.{{wb}}")


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


def writing_head(name: str, spec: Callable[[Reader], EncoderDecoder], stack: Rules) -> dict[str, Head]:
    """The decoder as a language model of its own. What would attend to an encoder is kept, and attends to nothing.

    `spec` is the family's, `stack` the names that `alone` makes.
    """

    def scores(reader: Reader) -> LanguageHeadSpec:
        vocabulary = spec(reader).decoder.frontend.vocabulary
        return LanguageHeadSpec(vocabulary=vocabulary, tied=reader.flag("tie_word_embeddings"))

    return {
        "causal_lm": Head(
            architecture=f"{name}ForCausalLM",
            spec=scores,
            rules=(tied("lm_head.weight", "head.projection.weight"),),
            stack=stack,
            network=lambda reader: Single(stack=spec(reader).decoder),
        )
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
