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

NEO = {key: value for key, value in SIZES.items() if key not in ("num_attention_heads", "num_hidden_layers")}
NEO |= {"num_heads": 4, "num_layers": 3, "max_position_embeddings": 40, "layer_norm_epsilon": 1e-3, "window_size": 5}
NEO |= {"attention_types": [[["global", "local"], 1], [["global"], 1]]}

UNGATED = {**SIZES, "intermediate_size": 40, "layer_norm_eps": 1e-3}
HALF = {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}}
# Texts of 24 tokens are longer than one of the two original lengths.
LONG = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
}
OPT = {**{key: value for key, value in SIZES.items() if key != "initializer_range"}, "ffn_dim": 40}
OPT |= {"init_std": 0.2, "max_position_embeddings": 40}

MIXTURE = {**GATED, "moe_intermediate_size": 12, "num_experts": 5, "num_experts_per_tok": 2}

LATENT = {**{key: value for key, value in GATED.items() if key != "num_key_value_heads"}, "moe_intermediate_size": 12}
LATENT |= {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1}
LATENT |= {"kv_lora_rank": 12, "q_lora_rank": 10, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6, "v_head_dim": 5}
LATENT |= {"num_key_value_heads": 4, "max_position_embeddings": 64}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 16,
    "mscale": 0.7,
    "mscale_all_dim": 1.3,
}

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
    "qwen3_moe": ("Qwen3MoeConfig", {**MIXTURE, "head_dim": 12, "norm_topk_prob": True}, ALL),
    "qwen3_moe-mixed": (
        "Qwen3MoeConfig",
        {
            **MIXTURE,
            "num_hidden_layers": 4,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "num_experts_per_tok": 3,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
        },
        LANGUAGE,
    ),
    "qwen2_moe": ("Qwen2MoeConfig", {**MIXTURE, "shared_expert_intermediate_size": 20}, ALL),
    "qwen2_moe-mixed": (
        "Qwen2MoeConfig",
        {
            **MIXTURE,
            "shared_expert_intermediate_size": 20,
            "mlp_only_layers": [1],
            "norm_topk_prob": True,
            "qkv_bias": False,
            "hidden_act": "gelu",
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 2,
        },
        LANGUAGE,
    ),
    "mixtral": ("MixtralConfig", {**GATED, "num_local_experts": 5, "num_experts_per_tok": 2}, ALL),
    "mixtral-window": (
        "MixtralConfig",
        {
            **GATED,
            "num_local_experts": 4,
            "num_experts_per_tok": 3,
            "head_dim": 12,
            "sliding_window": 5,
            "tie_word_embeddings": True,
        },
        LANGUAGE,
    ),
    "deepseek_v3": ("DeepseekV3Config", LATENT, NO_SPAN),
    "deepseek_v3-yarn": ("DeepseekV3Config", {**LATENT, "rope_parameters": YARN}, LANGUAGE),
    "deepseek_v3-plain-queries": (
        "DeepseekV3Config",
        {
            **LATENT,
            "q_lora_rank": None,
            "attention_bias": True,
            "rope_interleave": False,
            "n_group": 1,
            "topk_group": 1,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
        },
        LANGUAGE,
    ),
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
    "phi3": ("Phi3Config", {**GATED, "sliding_window": 7}, NO_SPAN),
    "phi3-short": (
        "Phi3Config",
        {**GATED, "original_max_position_embeddings": 64, "max_position_embeddings": 256, "rope_parameters": LONG},
        LANGUAGE,
    ),
    "phi3-long-partial": (
        "Phi3Config",
        {
            **GATED,
            "num_key_value_heads": None,
            "original_max_position_embeddings": 16,
            "max_position_embeddings": 64,
            "rope_parameters": {
                **LONG,
                "partial_rotary_factor": 0.5,
                "short_factor": [1.0, 1.5],
                "long_factor": [2.0, 4.0],
            },
        },
        ("base",),
    ),
    "glm4": ("Glm4Config", {**GATED, "head_dim": 12, "pad_token_id": 0, **HALF}, NO_SPAN),
    "glm4-unbiased-tied": (
        "Glm4Config",
        {**GATED, "head_dim": 8, "attention_bias": False, "tie_word_embeddings": True},
        LANGUAGE,
    ),
    "phi": ("PhiConfig", {**UNGATED, **HALF}, NO_SPAN),
    "phi-grouped-normed": (
        "PhiConfig",
        {**UNGATED, **HALF, "num_key_value_heads": 2, "qk_layernorm": True, "tie_word_embeddings": True},
        LANGUAGE,
    ),
    "gpt_neo": ("GPTNeoConfig", NEO, ALL),
    "gpt_neo-untied": (
        "GPTNeoConfig",
        {
            **NEO,
            "attention_types": [[["local", "local", "global"], 1]],
            "activation_function": "relu",
            "intermediate_size": 40,
            "tie_word_embeddings": False,
        },
        LANGUAGE,
    ),
    "gpt_neox": ("GPTNeoXConfig", {**UNGATED, **HALF}, ALL),
    "gpt_neox-sequential-tied": (
        "GPTNeoXConfig",
        {**UNGATED, **ROPE, "use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True},
        LANGUAGE,
    ),
    "opt": ("OPTConfig", OPT, (*ALL[:3], "question_answering")),
    "opt-narrow-norms-behind": (
        "OPTConfig",
        {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 24},
        (*ALL[:3], "question_answering"),
    ),
    "opt-norms-behind-unbiased": (
        "OPTConfig",
        {**OPT, "do_layer_norm_before": False, "enable_bias": False, "activation_function": "gelu"},
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
    "qwen3_moe eps": ("qwen3_moe", EPS, None),
    "qwen3_moe theta": ("qwen3_moe", THETA, None),
    "qwen3_moe scale": ("qwen3_moe", {}, "scale"),
    "qwen3_moe shares": ("qwen3_moe", {"norm_topk_prob": False}, None),
    "qwen3_moe active": ("qwen3_moe", {"num_experts_per_tok": 3}, None),
    "qwen3_moe router": ("qwen3_moe", {}, "layers.1.mlp.gate.weight"),
    "qwen3_moe expert": ("qwen3_moe", {}, "layers.2.mlp.experts.gate_up_proj"),
    "qwen3_moe window": ("qwen3_moe-mixed", {"sliding_window": 4}, None),
    "qwen3_moe layers": ("qwen3_moe-mixed", {"mlp_only_layers": []}, None),
    "qwen3_moe step": ("qwen3_moe-mixed", {"decoder_sparse_step": 1}, None),
    "qwen3_moe bias": ("qwen3_moe-mixed", {}, "layers.2.self_attn.o_proj.bias"),
    "qwen2_moe eps": ("qwen2_moe", EPS, None),
    "qwen2_moe theta": ("qwen2_moe", THETA, None),
    "qwen2_moe scale": ("qwen2_moe", {}, "scale"),
    "qwen2_moe shares": ("qwen2_moe", {"norm_topk_prob": True}, None),
    "qwen2_moe expert": ("qwen2_moe", {}, "layers.1.mlp.experts.down_proj"),
    "qwen2_moe shared expert": ("qwen2_moe", {}, "layers.1.mlp.shared_expert.up_proj.weight"),
    "qwen2_moe shared gate": ("qwen2_moe", {}, "layers.1.mlp.shared_expert_gate.weight"),
    "qwen2_moe bias": ("qwen2_moe", {}, "layers.1.self_attn.v_proj.bias"),
    "qwen2_moe window": ("qwen2_moe-mixed", {"sliding_window": 4}, None),
    "qwen2_moe window layers": ("qwen2_moe-mixed", {"max_window_layers": 3}, None),
    "mixtral eps": ("mixtral", EPS, None),
    "mixtral theta": ("mixtral", THETA, None),
    "mixtral scale": ("mixtral", {}, "scale"),
    "mixtral active": ("mixtral", {"num_experts_per_tok": 1}, None),
    "mixtral router": ("mixtral", {}, "layers.1.mlp.gate.weight"),
    "mixtral expert": ("mixtral", {}, "layers.2.mlp.experts.down_proj"),
    "mixtral window": ("mixtral-window", {"sliding_window": 4}, None),
    "deepseek_v3 eps": ("deepseek_v3", EPS, None),
    "deepseek_v3 theta": ("deepseek_v3", THETA, None),
    "deepseek_v3 scale": ("deepseek_v3", {}, "scale"),
    "deepseek_v3 pairs": ("deepseek_v3", {"rope_interleave": False}, None),
    "deepseek_v3 groups": ("deepseek_v3", {"topk_group": 3}, None),
    "deepseek_v3 active": ("deepseek_v3", {"num_experts_per_tok": 2}, None),
    "deepseek_v3 factor": ("deepseek_v3", {"routed_scaling_factor": 2.4}, None),
    "deepseek_v3 shares": ("deepseek_v3", {"norm_topk_prob": False}, None),
    "deepseek_v3 one group": ("deepseek_v3-plain-queries", {"n_group": 2}, None),
    "deepseek_v3 router": ("deepseek_v3", {}, "layers.1.mlp.gate.weight"),
    "deepseek_v3 shared": ("deepseek_v3", {}, "layers.2.mlp.shared_experts.up_proj.weight"),
    "deepseek_v3 latent norm": ("deepseek_v3", {}, "layers.2.self_attn.kv_a_layernorm.weight"),
    "deepseek_v3 query norm": ("deepseek_v3", {}, "layers.1.self_attn.q_a_layernorm.weight"),
    "deepseek_v3 values": ("deepseek_v3", {}, "layers.0.self_attn.kv_b_proj.weight"),
    "deepseek_v3 bias": ("deepseek_v3-plain-queries", {}, "layers.1.self_attn.kv_a_proj_with_mqa.bias"),
    "deepseek_v3 mscale": ("deepseek_v3-yarn", {"rope_parameters": {**YARN, "mscale_all_dim": 1.2}}, None),
    "deepseek_v3 yarn": ("deepseek_v3-yarn", {"rope_parameters": {**YARN, "factor": 3.0}}, None),
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
    "phi3 eps": ("phi3", EPS, None),
    "phi3 theta": ("phi3", THETA, None),
    "phi3 scale": ("phi3", {}, "scale"),
    "phi3 window": ("phi3", {"sliding_window": 6}, None),
    "phi3 fused": ("phi3", {}, "layers.1.self_attn.qkv_proj.weight"),
    "phi3 short factors": ("phi3-short", {"rope_parameters": {**LONG, "short_factor": [1.0, 1.1, 1.3, 1.7]}}, None),
    "phi3 attention factor": ("phi3-short", {"max_position_embeddings": 128}, None),
    "phi3 theta of longrope": ("phi3-short", {"rope_parameters": {**LONG, "rope_theta": 200.0}}, None),
    "phi3 length": ("phi3-long-partial", {"original_max_position_embeddings": 32}, None),
    "glm4 eps": ("glm4", EPS, None),
    "glm4 share": ("glm4", THETA, None),
    "glm4 theta": ("glm4", {"rope_parameters": {**HALF["rope_parameters"], "rope_theta": 200.0}}, None),
    "glm4 scale": ("glm4", {}, "scale"),
    "glm4 key bias": ("glm4", {}, "layers.1.self_attn.k_proj.bias"),
    "glm4 norm behind": ("glm4", {}, "layers.2.post_self_attn_layernorm.weight"),
    "glm4 fused": ("glm4-unbiased-tied", {}, "layers.2.mlp.gate_up_proj.weight"),
    "phi eps": ("phi", {"layer_norm_eps": 1e-2}, None),
    "phi theta": ("phi", {"rope_parameters": {**HALF["rope_parameters"], "rope_theta": 200.0}}, None),
    "phi scale": ("phi", {}, "scale"),
    "phi norm": ("phi", {}, "layers.1.input_layernorm.bias"),
    "phi query norm": ("phi-grouped-normed", {}, "layers.1.self_attn.q_layernorm.bias"),
    "gpt_neo eps": ("gpt_neo", {"layer_norm_epsilon": 1e-2}, None),
    "gpt_neo window": ("gpt_neo", {"window_size": 4}, None),
    "gpt_neo layers": ("gpt_neo", {"attention_types": [[["local", "global"], 1], [["global"], 1]]}, None),
    "gpt_neo activation": ("gpt_neo", {"activation_function": "gelu"}, None),
    "gpt_neo output bias": ("gpt_neo", {}, "h.1.attn.attention.out_proj.bias"),
    "gpt_neo query": ("gpt_neo", {}, "h.2.attn.attention.q_proj.weight"),
    "gpt_neo position": ("gpt_neo", {}, "wpe.weight"),
    "gpt_neox eps": ("gpt_neox", {"layer_norm_eps": 1e-2}, None),
    "gpt_neox theta": ("gpt_neox", {"rope_parameters": {**HALF["rope_parameters"], "rope_theta": 200.0}}, None),
    "gpt_neox scale": ("gpt_neox", {}, "scale"),
    "gpt_neox wiring": ("gpt_neox", {"use_parallel_residual": False}, None),
    "gpt_neox norm": ("gpt_neox", {}, "layers.1.post_attention_layernorm.weight"),
    "gpt_neox fused bias": ("gpt_neox", {}, "layers.1.attention.query_key_value.bias"),
    "gpt_neox activation": ("gpt_neox-sequential-tied", {"hidden_act": "gelu_new"}, None),
    "opt scale": ("opt", {}, "scale"),
    "opt activation": ("opt", {"activation_function": "gelu"}, None),
    "opt key bias": ("opt", {}, "decoder.layers.1.self_attn.v_proj.bias"),
    "opt norm": ("opt", {}, "decoder.layers.1.final_layer_norm.bias"),
    "opt projection in": ("opt-narrow-norms-behind", {}, "decoder.project_in.weight"),
    "opt projection out": ("opt-narrow-norms-behind", {}, "decoder.project_out.weight"),
    "opt norm behind": ("opt-norms-behind-unbiased", {}, "decoder.layers.2.self_attn_layer_norm.weight"),
    "mistral eps": ("mistral", EPS, None),
    "mistral theta": ("mistral", THETA, None),
    "mistral scale": ("mistral", {}, "scale"),
    "mistral window": ("mistral", {"sliding_window": 4}, None),
    "mistral no window": ("mistral", {"sliding_window": None}, None),
}
