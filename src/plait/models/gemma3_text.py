"""Gemma 3, the part that reads text (arXiv:2503.19786): Gemma 2's decoder with norms on queries and keys in place of
bounded scores, and rotations of one base in the layers with windows and of another in those without.

Configuration: https://huggingface.co/google/gemma-3-270m. With `use_bidirectional_attention` the same layers are an
encoder (https://huggingface.co/google/embeddinggemma-300m).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from plait.errors import ConfigError
from plait.models import decoders, gemma2
from plait.models.positions import rope, rotation, sliding_layers
from plait.models.reader import Reader
from plait.nn.spec import LanguageHeadSpec, MaskSpec, RopeSpec, Single

NAME = "Gemma3Text"

DEFAULTS = {
    **gemma2.DEFAULTS,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "max_position_embeddings": 131072,
    "rope_local_base_freq": 10000.0,
    "rope_theta": 1000000.0,
    "sliding_window_pattern": 6,
    "use_bidirectional_attention": False,
    "vocab_size": 262208,
}

IGNORED = gemma2.IGNORED


def _rotations(reader: Reader, *, dim: int) -> tuple[RopeSpec, RopeSpec]:
    """The rotation of layers without and with a window, from one object for each or from the older keys."""
    theta, local = reader.number("rope_theta", least=1.0), reader.number("rope_local_base_freq", least=1.0)
    parameters = reader.value("rope_parameters")
    if not isinstance(parameters, Mapping) or "full_attention" not in parameters:
        return rope(reader, dim=dim), RopeSpec(theta=local, dim=dim)
    with reader.nested("rope_parameters") as both:
        with both.nested("full_attention") as inner:
            full = rotation(inner, reader, dim=dim, theta=theta)
        with both.nested("sliding_attention") as inner:
            return full, rotation(inner, reader, dim=dim, theta=local)


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    reader.only("attn_logit_softcapping", None, reason="its queries and keys have norms instead")
    count, period = reader.integer("num_hidden_layers"), reader.integer("sliding_window_pattern")
    slides = sliding_layers(reader, [(index + 1) % period != 0 for index in range(count)])
    full, local = _rotations(reader, dim=reader.integer("head_dim"))
    window, causal = reader.optional_integer("sliding_window"), not reader.flag("use_bidirectional_attention")
    if window is not None and not causal:
        window = window // 2 + 1  # the number counts both sides
    masks = MaskSpec(causal=causal), MaskSpec(causal=causal, window=window)
    layers = [(masks[1], local) if slide else (masks[0], full) for slide in slides]
    return gemma2.decoder(reader, layers=layers, qk_norm=True)


def _language(reader: Reader) -> LanguageHeadSpec:
    if reader.flag("use_bidirectional_attention"):
        raise ConfigError(f"Every token of this {NAME} sees those behind it ({reader.label}), so it cannot generate.")
    return gemma2.language(reader)


_NAMES = {**gemma2.NAMES, **decoders.QK_NORMS}

RULES = decoders.names(_NAMES)
HEADS = decoders.heads(NAME, _NAMES, language=_language, without=["question_answering", "token_classification"])
HEADS["causal_lm"] = replace(HEADS["causal_lm"], architecture="Gemma3ForCausalLM")
