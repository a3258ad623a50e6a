"""T5 (arXiv:1910.10683): an encoder and a decoder with a bias by distance in place of positions, norms without mean or
shift before each sublayer, and scores that are not divided by the root of a head's width.

Configuration: https://huggingface.co/google-t5/t5-small, and google/t5-v1_1-small for the gated form.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from plait.errors import ConfigError, nearest
from plait.models.family import Head
from plait.models.reader import ACTIVATIONS, Reader
from plait.nn.spec import (
    AttentionSpec,
    EncoderDecoder,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    RelativeBiasSpec,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename, tied

if TYPE_CHECKING:
    from torch import nn

    from plait.models.config import Config

NAME = "T5"

SPELLINGS = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

DEFAULTS = {
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "relu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-6,
    "num_decoder_layers": None,
    "num_heads": 8,
    "num_layers": 6,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "scale_decoder_outputs": None,
    "use_cache": True,
    "vocab_size": 32128,
}

IGNORED = {
    "dense_act_fn": "said by feed_forward_proj",
    "is_encoder_decoder": "it always is",
    "is_gated_act": "said by feed_forward_proj",
    "n_positions": "the length of the texts it was trained on",
    "scale_decoder_outputs": "the language head reads it",
}


def _mlp(reader: Reader) -> MLPSpec:
    form = reader.value("feed_forward_proj")
    name = str(form).removeprefix("gated-")
    if name not in ACTIVATIONS:
        choices = [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)]
        raise ConfigError(
            f"`feed_forward_proj` must be an activation such as 'relu', or 'gated-' and one, but is {form!r} "
            f"({reader.label}).{nearest(str(form), choices)}"
        )
    # The gated form was trained with the approximation by tanh, and its name does not say so.
    activation = "gelu_tanh" if form == "gated-gelu" else ACTIVATIONS[name]
    return MLPSpec(
        width=reader.integer("d_ff"),
        activation=activation,
        gated=form != name,
        dropout=reader.probability("dropout_rate"),
    )


def _attention(reader: Reader, *, causal: bool) -> AttentionSpec:
    heads = reader.integer("num_heads")
    return AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=reader.integer("d_kv"),
        scale=1.0,
        mask=MaskSpec(causal=causal),
        dropout=reader.probability("dropout_rate"),
    )


def _stack(reader: Reader, *, layers: int, decodes: bool) -> StackSpec:
    vocabulary, dropout = reader.integer("vocab_size"), reader.probability("dropout_rate")
    norm = NormSpec(kind="rms", eps=reader.number("layer_norm_epsilon"))
    around = SublayerSpec(before=norm, dropout=dropout)
    layer = LayerSpec(
        attention=_attention(reader, causal=decodes),
        mlp=_mlp(reader),
        around_attention=around,
        around_mlp=around,
        cross=_attention(reader, causal=False) if decodes else None,
        around_cross=around if decodes else None,
    )
    bias = RelativeBiasSpec(
        buckets=reader.integer("relative_attention_num_buckets"),
        distance=reader.integer("relative_attention_max_distance"),
        bidirectional=not decodes,
    )
    return StackSpec(
        width=reader.integer("d_model"),
        frontend=TextFrontendSpec(vocabulary=vocabulary, dropout=dropout),
        layers=(layer,) * layers,
        norm=norm,
        relative_bias=bias,
        dropout=dropout,
    )


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    layers = reader.integer("num_layers")
    return EncoderDecoder(
        encoder=_stack(reader, layers=layers, decodes=False),
        decoder=_stack(reader, layers=reader.optional_integer("num_decoder_layers") or layers, decodes=True),
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    """Where head and embedding share a weight, what is scored is divided by the root of the width, unless told."""
    shared = reader.flag("tie_word_embeddings")
    scaled = reader.flag("scale_decoder_outputs", default=shared)
    scale = reader.integer("d_model") ** -0.5 if scaled else 1.0
    return LanguageHeadSpec(vocabulary=reader.integer("vocab_size"), tied=shared, scale=scale)


def initialise(network: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """Weights by how many numbers they add up, as in the published training code:

    normal with the deviation inputs^-0.5, queries divided by the root of a head's width besides, which stands in for
    the scale of the scores; embeddings and an unshared head with 1, the bias by distance with width^-0.5; all, and
    norms, times `initializer_factor`.
    """
    from torch import nn

    from plait.nn.build import initialise
    from plait.nn.norm import Norm

    factor = float(config.initializer_factor)

    def deviation(name: str, part: nn.Module) -> float:
        if name.endswith("relative_bias.table"):
            return factor * float(config.d_model**-0.5)
        if not isinstance(part, nn.Linear) or name == "head.projection":
            return factor
        per_head = config.d_kv**-0.5 if name.endswith(".query") else 1.0
        return factor * float(part.in_features**-0.5 * per_head)

    initialise(network, std=deviation, only=only)
    for part in network.modules() if only is None else only:
        if isinstance(part, Norm):
            nn.init.constant_(part.weight, factor)


_SIDE = "{s:encoder|decoder}."
_PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "output"}
_GATED = {"wi_0": "gate", "wi_1": "up", "wo": "down"}
_PLAIN = {"wi": "up", "wo": "down"}


def rules(config: Config) -> Rules:
    """The names of the stacks' weights, those of the MLP as its form is."""
    parts = _GATED if str(config.feed_forward_proj).startswith("gated-") else _PLAIN
    block, layer = _SIDE + "block.{i}.layer.", _SIDE + "layers.{i}."
    places = {"encoder": 1, "decoder": 2}
    return Rules(
        rename("shared.weight", "encoder.frontend.tokens.weight", also=["encoder.embed_tokens.weight"]),
        tied("decoder.embed_tokens.weight", "decoder.frontend.tokens.weight"),
        rename(
            _SIDE + "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            _SIDE + "relative_bias.table.weight",
        ),
        ignore(
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
            "places in one sequence mean nothing in another; the published code never read it",
        ),
        *(
            rename(f"{block}0.SelfAttention.{t}.weight", f"{layer}attention.{o}.weight")
            for t, o in _PROJECTIONS.items()
        ),
        *(
            rename(f"decoder.block.{{i}}.layer.1.EncDecAttention.{t}.weight", f"decoder.layers.{{i}}.cross.{o}.weight")
            for t, o in _PROJECTIONS.items()
        ),
        *(
            rename(f"{side}.block.{{i}}.layer.{n}.DenseReluDense.{t}.weight", f"{side}.layers.{{i}}.mlp.{o}.weight")
            for side, n in places.items()
            for t, o in parts.items()
        ),
        rename(block + "0.layer_norm.weight", layer + "around_attention.before.weight"),
        rename("decoder.block.{i}.layer.1.layer_norm.weight", "decoder.layers.{i}.around_cross.before.weight"),
        *(
            rename(f"{side}.block.{{i}}.layer.{n}.layer_norm.weight", f"{side}.layers.{{i}}.around_mlp.before.weight")
            for side, n in places.items()
        ),
        rename(_SIDE + "final_layer_norm.weight", _SIDE + "norm.weight"),
    )


RULES = rules


def heads(name: str) -> dict[str, Head]:
    """The heads of a family called `name`."""
    return {
        "base": Head(architecture=f"{name}Model"),
        "seq2seq_lm": Head(
            architecture=f"{name}ForConditionalGeneration",
            spec=_language,
            rules=(tied("lm_head.weight", "head.projection.weight"),),
        ),
    }


HEADS = heads(NAME)
