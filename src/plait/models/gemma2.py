"""Gemma 2 (arXiv:2408.00118): a decoder with norms before and behind each sublayer, bounded scores, and windows in
every other layer.

Configuration: https://huggingface.co/google/gemma-2-9b.
"""

from __future__ import annotations

from collections.abc import Sequence

from plait.models import decoders
from plait.models.positions import rope, sliding_layers
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    LanguageHeadSpec,
    LayerSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ProjectionBias,
    RopeSpec,
    Single,
    StackSpec,
    SublayerSpec,
    TextFrontendSpec,
)

NAME = "Gemma2"

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "initializer_range": 0.02,
    "intermediate_size": 9216,
    "layer_types": None,
    "max_position_embeddings": 8192,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "use_bidirectional_attention": None,
    "use_cache": True,
    "vocab_size": 256000,
}

IGNORED = {
    "cache_implementation": "how another library keeps keys and values",
    "final_logit_softcapping": "bounds scores over words; the language head reads it",
    "hidden_act": "an older key; `hidden_activation` holds the function that the checkpoints were trained with",
    "max_position_embeddings": decoders.NO_LIMIT,
}


def optional_number(reader: Reader, key: str) -> float | None:
    """A number, or None where the key is null."""
    return None if reader.value(key) is None else reader.number(key)


def decoder(
    reader: Reader,
    *,
    layers: Sequence[tuple[MaskSpec, RopeSpec]],
    softcap: float | None = None,
    qk_norm: bool = False,
) -> Single:
    """The stack that the generations share; they differ by the mask and rotation of each layer, the bound on the scores
    and a norm on each head's query and key."""
    # Weights of norms are stored less one.
    norm = NormSpec(kind="rms", eps=reader.number("rms_norm_eps"), offset=1.0)
    width, vocabulary, bias = reader.integer("hidden_size"), reader.integer("vocab_size"), reader.flag("attention_bias")
    heads, kv_heads = reader.integer("num_attention_heads"), reader.integer("num_key_value_heads")
    dim, scale = reader.integer("head_dim"), reader.number("query_pre_attn_scalar", least=1e-6) ** -0.5
    dropout, activation = reader.probability("attention_dropout"), reader.activation("hidden_activation")
    mlp = MLPSpec(width=reader.integer("intermediate_size"), activation=activation, gated=True)
    around = SublayerSpec(before=norm, branch=norm)
    made = tuple(
        LayerSpec(
            attention=AttentionSpec(
                heads=heads,
                kv_heads=kv_heads,
                head_dim=dim,
                scale=scale,
                mask=mask,
                bias=ProjectionBias.all(bias),
                rope=rotation,
                qk_norm=norm if qk_norm else None,
                softcap=softcap,
                dropout=dropout,
            ),
            mlp=mlp,
            around_attention=around,
            around_mlp=around,
        )
        for mask, rotation in layers
    )
    frontend = TextFrontendSpec(vocabulary=vocabulary, scale=width**0.5, padding=reader.padding(vocabulary=vocabulary))
    return Single(stack=StackSpec(width=width, frontend=frontend, layers=made, norm=norm))


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    reader.only("use_bidirectional_attention", False, reason="its tokens see those before them alone")
    slides = sliding_layers(reader, [index % 2 == 0 for index in range(reader.integer("num_hidden_layers"))])
    window, rotation = reader.optional_integer("sliding_window"), rope(reader, dim=reader.integer("head_dim"))
    # Some published files have the number under both names.
    reader.only("sliding_window_size", window, reason="the window is that of `sliding_window`")
    layers = [(MaskSpec(causal=True, window=window if slide else None), rotation) for slide in slides]
    return decoder(reader, layers=layers, softcap=optional_number(reader, "attn_logit_softcapping"))


def language(reader: Reader) -> LanguageHeadSpec:
    """Scores over the vocabulary, bounded where the configuration says so."""
    return LanguageHeadSpec(
        vocabulary=reader.integer("vocab_size"),
        tied=reader.flag("tie_word_embeddings"),
        softcap=optional_number(reader, "final_logit_softcapping"),
    )


NAMES = {
    **decoders.NAMES,
    "layers.{i}.post_attention_layernorm.weight": "stack.layers.{i}.around_attention.branch.weight",
    "layers.{i}.pre_feedforward_layernorm.weight": "stack.layers.{i}.around_mlp.before.weight",
    "layers.{i}.post_feedforward_layernorm.weight": "stack.layers.{i}.around_mlp.branch.weight",
}

RULES = decoders.names(NAMES)
HEADS = decoders.heads(NAME, NAMES, language=language, without=["question_answering"])
