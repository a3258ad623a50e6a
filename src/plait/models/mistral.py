"""Mistral 7B (arXiv:2310.06825): Llama's decoder whose every layer looks through a window, where one is set.

Configuration: https://huggingface.co/mistralai/Mistral-7B-v0.1.
"""

from __future__ import annotations

from plait.models import decoders, llama
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

NAME = "Mistral"

DEFAULTS = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32000,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(),
        mlp_bias=False,
        windows=[reader.optional_integer("sliding_window")] * reader.integer("num_hidden_layers"),
    )


RULES = llama.RULES
HEADS = decoders.heads(NAME, span=RULES)
