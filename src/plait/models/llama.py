"""Llama 2 and 3 (arXiv:2307.09288, arXiv:2407.21783): a decoder with rotary positions, shared key heads and a gated
MLP.

Configuration: https://huggingface.co/meta-llama/Llama-3.1-8B.
"""

from __future__ import annotations

from plait.models import decoders
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

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
    "max_position_embeddings": decoders.NO_LIMIT,
    "original_max_position_embeddings": "the length before a scaling of the positions; without a scaling it means "
    "nothing",
    "is_llama_config": "a note of the program that trained it",
    "max_sequence_length": "the length of the texts it was trained on",
}


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    reader.only("rope_interleaved", False, reason="its rotary pairs would be neighbours, and are taken to be halves")
    bias = reader.flag("attention_bias")
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias.all(bias),
        mlp_bias=reader.flag("mlp_bias"),
        windows=[None] * reader.integer("num_hidden_layers"),
    )


RULES = decoders.names(decoders.NAMES)
HEADS = decoders.heads(NAME)
