"""Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama's decoder with biases on query, key and value, and windows on later
layers.

Configuration: https://huggingface.co/Qwen/Qwen2.5-0.5B.
"""

from __future__ import annotations

from plait.models import decoders, llama
from plait.models.positions import windows
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

NAME = "Qwen2"

DEFAULTS = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 22016,
    "layer_types": None,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(query=True, key=True, value=True),
        mlp_bias=False,
        windows=windows(reader, layers=reader.integer("num_hidden_layers")),
    )


RULES = llama.RULES
HEADS = decoders.heads(NAME)
