"""SmolLM3: Llama's decoder, in which every fourth layer has no rotary positions (NoPE, arXiv:2501.18795).

Configuration: https://huggingface.co/HuggingFaceTB/SmolLM3-3B.
"""

from __future__ import annotations

from plait.errors import ConfigError
from plait.models import decoders, llama
from plait.models.positions import rope, sliding_layers, windowed
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single

NAME = "SmolLM3"

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "layer_types": None,
    "max_position_embeddings": 32768,
    "mlp_bias": False,
    "no_rope_layer_interval": 4,
    "no_rope_layers": None,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "pad_token_id": 128004,
    "rms_norm_eps": 1e-6,
    "rope_theta": 2000000.0,
    "sliding_window": None,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 128256,
}

IGNORED = {**llama.IGNORED, "max_window_layers": "`layer_types` or the layers without rotation say where windows are"}


def _rotates(reader: Reader, *, layers: int) -> list[bool]:
    """Which layers have rotary positions: 1 in `no_rope_layers`, against its name, or all but every n-th."""
    period, marks = reader.integer("no_rope_layer_interval"), reader.value("no_rope_layers")
    if marks is None:
        return [(index + 1) % period != 0 for index in range(layers)]
    if not isinstance(marks, list) or len(marks) != layers or not set(marks) <= {0, 1}:
        raise ConfigError(
            f"`no_rope_layers` must hold 1 (rotary) or 0 for each of the {layers} layers, but is {marks!r} "
            f"({reader.label})."
        )
    return [bool(mark) for mark in marks]


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    bias, layers = reader.flag("attention_bias"), reader.integer("num_hidden_layers")
    rotates, rotation = _rotates(reader, layers=layers), rope(reader, dim=decoders.head_dim(reader))
    size = reader.optional_integer("sliding_window")
    window = size if reader.flag("use_sliding_window") else None
    slides = sliding_layers(reader, [window is not None and not turned for turned in rotates])
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias.all(bias),
        mlp_bias=reader.flag("mlp_bias"),
        windows=windowed(reader, slides, window=window),
        rotations=[rotation if turned else None for turned in rotates],
    )


RULES = llama.RULES
HEADS = decoders.heads(NAME)
