"""Qwen3 (arXiv:2505.09388): Qwen2's decoder with a norm on each head's query and key in place of their biases.

Configuration: https://huggingface.co/Qwen/Qwen3-8B.
"""

from __future__ import annotations

from plait.models import decoders, llama, qwen2
from plait.models.positions import windows
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

NAME = "Qwen3"

DEFAULTS = {
    **qwen2.DEFAULTS,
    "attention_bias": False,
    "head_dim": 128,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    bias = reader.flag("attention_bias")
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias.all(bias),
        mlp_bias=False,
        windows=windows(reader, layers=reader.integer("num_hidden_layers")),
        qk_norm=True,
    )


_NAMES = {**decoders.NAMES, **decoders.QK_NORMS}

RULES = decoders.names(_NAMES)
HEADS = decoders.heads(NAME, _NAMES)
