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

MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
GEMMA = {**GATED, "head_dim": 12, "sliding_window": 5, "query_pre_attn_scalar": 9}
TWO_ROPES = {
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
    }
}

GPT = {
    **{key: value for key, value in SIZES.items() if key not in ("hidden_size", "num_hidden_layers")},
    "n_embd": 32,
    "n_layer": 3,
    "n_positions": 40,
    "layer_norm_epsilon": 1e-3,
}
GPT["n_head"] = GPT.pop("num_attention_heads")

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
    "gemma2": ("Gemma2Config", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}, NO_SPAN),
    "gemma2-biased-unbounded": (
        "Gemma2Config",
        {
            **GEMMA,
            "attention_bias": True,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "layer_types": ["full_attention", "full_attention", "sliding_attention"],
        },
        LANGUAGE,
    ),
    "gemma3": ("Gemma3TextConfig", {**GEMMA, "layer_types": MIXED, **TWO_ROPES}, ALL[:3]),
    "gemma3-capped": (
        "Gemma3TextConfig",
        {**GEMMA, "layer_types": MIXED, **TWO_ROPES, "final_logit_softcapping": 3.0, "tie_word_embeddings": False},
        LANGUAGE,
    ),
    "gemma3-encoder": (
        "Gemma3TextConfig",
        {**GEMMA, "layer_types": MIXED, **TWO_ROPES, "sliding_window": 6, "use_bidirectional_attention": True},
        ("base",),
    ),
    "gpt2": ("GPT2Config", GPT, ALL),
    "gpt2-narrow-untied": (
        "GPT2Config",
        {
            **GPT,
            "n_inner": 20,
            "activation_function": "relu",
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "tie_word_embeddings": False,
        },
        LANGUAGE,
    ),
    "smollm3": ("SmolLM3Config", {**GATED, "no_rope_layer_interval": 2, "tie_word_embeddings": True}, ALL),
    "smollm3-windows": (
        "SmolLM3Config",
        {
            **GATED,
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "mlp_bias": True,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
        LANGUAGE,
    ),
}

EPS = {"rms_norm_eps": 1e-2}
THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 200.0}}
LOCAL = TWO_ROPES["rope_parameters"]["sliding_attention"]
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
    "gemma2 eps": ("gemma2", EPS, None),
    "gemma2 theta": ("gemma2", THETA, None),
    "gemma2 scale": ("gemma2", {}, "scale"),
    "gemma2 scalar": ("gemma2", {"query_pre_attn_scalar": 10}, None),
    "gemma2 softcap": ("gemma2", {"attn_logit_softcapping": 2.1}, None),
    "gemma2 window": ("gemma2", {"sliding_window": 4}, None),
    "gemma2 layers": ("gemma2", {"layer_types": MIXED[1:] + MIXED[:1]}, None),
    "gemma2 norm behind": ("gemma2", {}, "layers.1.post_feedforward_layernorm.weight"),
    "gemma2 key bias": ("gemma2-biased-unbounded", {}, "layers.1.self_attn.v_proj.bias"),
    "gemma3 eps": ("gemma3", EPS, None),
    "gemma3 scale": ("gemma3", {}, "scale"),
    "gemma3 window": ("gemma3", {"sliding_window": 4}, None),
    "gemma3 key norm": ("gemma3", {}, "layers.1.self_attn.k_norm.weight"),
    "gemma3 theta": (
        "gemma3-capped",
        {"rope_parameters": {**TWO_ROPES["rope_parameters"], "full_attention": LOCAL}},
        None,
    ),
    "gemma3 local theta": (
        "gemma3",
        {"rope_parameters": {**TWO_ROPES["rope_parameters"], "sliding_attention": {**LOCAL, "rope_theta": 200.0}}},
        None,
    ),
    "gemma3 sides": ("gemma3-encoder", {"sliding_window": 8}, None),
    "gpt2 eps": ("gpt2", {"layer_norm_epsilon": 1e-2}, None),
    "gpt2 scale": ("gpt2", {}, "scale"),
    "gpt2 activation": ("gpt2", {"activation_function": "gelu"}, None),
    "gpt2 fused bias": ("gpt2", {}, "h.1.attn.c_attn.bias"),
    "gpt2 position": ("gpt2", {}, "wpe.weight"),
    "gpt2 scale by layer": ("gpt2-narrow-untied", {"scale_attn_by_inverse_layer_idx": False}, None),
    "gpt2 plain scale": ("gpt2-narrow-untied", {"scale_attn_weights": True}, None),
    "smollm3 eps": ("smollm3", EPS, None),
    "smollm3 theta": ("smollm3", THETA, None),
    "smollm3 scale": ("smollm3", {}, "scale"),
    "smollm3 rotation": ("smollm3", {"no_rope_layers": [1, 1, 1]}, None),
    "smollm3 window": ("smollm3-windows", {"sliding_window": 4}, None),
    "smollm3 layers": ("smollm3-windows", {"no_rope_layers": [1, 1, 0]}, None),
    "mistral eps": ("mistral", EPS, None),
    "mistral theta": ("mistral", THETA, None),
    "mistral scale": ("mistral", {}, "scale"),
    "mistral window": ("mistral", {"sliding_window": 4}, None),
    "mistral no window": ("mistral", {"sliding_window": None}, None),
}
