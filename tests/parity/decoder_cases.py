"""Tiny configurations of the decoder families, the tasks that each is compared in, and changes that must show.

Epsilons are large, thetas and windows small, so that every one of them moves the output of a tiny model.
"""

from __future__ import annotations

from typing import Any

LANGUAGE = ("base", "causal_lm")
ALL = (*LANGUAGE, "sequence_classification", "token_classification", "question_answering")
NO_SPAN = ALL[:-1]

SIZES = {
    "vocab_size": 53,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "num_labels": 3,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}
GATED = {**SIZES, "intermediate_size": 40, "num_key_value_heads": 2, "rms_norm_eps": 1e-3, **ROPE}

# name -> configuration class, its values, tasks
DECODERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "qwen3": ("Qwen3Config", {**GATED, "head_dim": 12}, ALL),
    "qwen3-windows-biased": (
        "Qwen3Config",
        {
            **GATED,
            "head_dim": 8,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        LANGUAGE,
    ),
    "mistral": ("MistralConfig", {**GATED, "sliding_window": 5}, ALL),
    "mistral-no-window": ("MistralConfig", {**GATED, "sliding_window": None, "head_dim": 12}, ("base",)),
}

EPS = {"rms_norm_eps": 1e-2}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 200.0}}
# What is changed of a reference: values of its configuration, and "scale" of its scores by one hundredth or one
# parameter, whose first entry moves by 0.3.
CHANGED: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "qwen3 eps": ("qwen3", EPS, None),
    "qwen3 theta": ("qwen3", THETA, None),
    "qwen3 scale": ("qwen3", {}, "scale"),
    "qwen3 query norm": ("qwen3", {}, "layers.1.self_attn.q_norm.weight"),
    "qwen3 key norm": ("qwen3", {}, "layers.2.self_attn.k_norm.weight"),
    "qwen3 output bias": ("qwen3-windows-biased", {}, "layers.2.self_attn.o_proj.bias"),
    "qwen3 window": ("qwen3-windows-biased", {"sliding_window": 4}, None),
    "mistral eps": ("mistral", EPS, None),
    "mistral theta": ("mistral", THETA, None),
    "mistral scale": ("mistral", {}, "scale"),
    "mistral window": ("mistral", {"sliding_window": 4}, None),
    "mistral no window": ("mistral", {"sliding_window": None}, None),
}
