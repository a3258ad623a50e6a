"""Phi-3 and Phi-4 mini (arXiv:2404.14219): Llama's decoder in files that join query, key and value, and gate and up.

Configuration: https://huggingface.co/microsoft/Phi-4-mini-instruct. Long texts have the scaling "longrope".
"""

from __future__ import annotations

from plait.models import decoders, llama
from plait.models.config import Config
from plait.models.positions import rope
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single
from plait.weights.rules import Rules, split

NAME = "Phi3"

DEFAULTS = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": None,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32064,
}

IGNORED = {**llama.IGNORED, "embd_pdrop": "the published network drops nothing there"}


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    for key in ("full_attn_mod", "interpolate_factor"):
        reader.only(key, 1, reason="all its layers are alike, and `rope_scaling` alone stretches positions")
    layers = reader.integer("num_hidden_layers")
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(),
        mlp_bias=False,
        windows=[reader.optional_integer("sliding_window")] * layers,
        rotations=[rope(reader, dim=decoders.head_dim(reader), partial=1.0)] * layers,
        dropout=reader.probability("resid_pdrop"),
    )


_NAMES = {theirs: ours for theirs, ours in decoders.JOINED_MLP.items() if "attn" not in theirs or "o_proj" in theirs}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights; how many rows of the joined tensor are queries follows from the heads."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    parts = [f"stack.layers.{{i}}.attention.{part}.weight" for part in ("query", "key", "value")]
    joined = split("model.layers.{i}.self_attn.qkv_proj.weight", parts, sizes=(heads, kv_heads, kv_heads))
    return decoders.names(_NAMES, joined, decoders.GATE_AND_UP)


HEADS = decoders.heads(NAME, without=["question_answering"])
