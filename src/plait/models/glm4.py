"""GLM-4 (2025 release, arXiv:2406.12793): Llama's decoder with norms before and behind each sublayer, and rotary
positions on half of each head, whose pairs are neighbours.

Configuration: https://huggingface.co/zai-org/GLM-4-9B-0414.
"""

from __future__ import annotations

from dataclasses import replace

from plait.models import decoders, llama
from plait.models.positions import rope
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

NAME = "Glm4"

DEFAULTS = {
    "attention_bias": True,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 13696,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "pad_token_id": 151329,
    "rms_norm_eps": 1.5625e-7,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 151552,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    bias, layers = reader.flag("attention_bias"), reader.integer("num_hidden_layers")
    rotation = replace(rope(reader, dim=decoders.head_dim(reader), partial=0.5), interleaved=True)
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(query=bias, key=bias, value=bias),
        mlp_bias=False,
        windows=[None] * layers,
        rotations=[rotation] * layers,
        sandwich=True,
    )


_NAMES = {
    **decoders.JOINED_MLP,
    "layers.{i}.post_self_attn_layernorm.weight": "stack.layers.{i}.around_attention.branch.weight",
    "layers.{i}.post_mlp_layernorm.weight": "stack.layers.{i}.around_mlp.branch.weight",
}

RULES = decoders.names(_NAMES, decoders.GATE_AND_UP)
HEADS = decoders.heads(NAME, without=["question_answering"])
