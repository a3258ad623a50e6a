"""Tiny configurations of the encoder families, the tasks that each is compared in, and changes that must show.

Epsilons are large, distances and windows small, so that every one of them moves the output of a tiny model.
"""

from __future__ import annotations

from typing import Any

TASKS = (
    *("base", "masked_lm", "sequence_classification", "token_classification", "question_answering"),
    "multiple_choice",
)
SIZES = {
    "vocab_size": 53,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-3,
    "num_labels": 3,
}
_DISTIL = {"vocab_size": 53, "dim": 32, "hidden_dim": 40, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}

ROBERTA = {**SIZES, "pad_token_id": 1}
MODERN = {key: value for key, value in SIZES.items() if key != "layer_norm_eps"}
MODERN |= {"norm_eps": 1e-3, "pad_token_id": 0, "local_attention": 10, "bos_token_id": 1, "eos_token_id": 2}
DEBERTA = {
    **SIZES,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_buckets": 8,
}
THETAS: dict[str, dict[str, Any]] = {
    "full_attention": {"rope_type": "default", "rope_theta": 300.0},
    "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
}

# Families whose bare network ends with a pooler.
POOLERS = ("AlbertConfig", "BertConfig", "MPNetConfig", "RobertaConfig", "XLMRobertaConfig")
# Families that count positions over the tokens that are no padding, from behind the padding's id.
COUNTED = ("MPNetConfig", "RobertaConfig", "XLMRobertaConfig")
# Families with distances, for which the reference counts slots even where positions are given.
RELATIVE = ("DebertaV2Config", "MPNetConfig", "ModernBertConfig")

# name -> configuration class, its values, tasks
ENCODERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "distilbert": ("DistilBertConfig", {**_DISTIL, "num_labels": 3}, TASKS),
    "distilbert-relu-untied": (
        "DistilBertConfig",
        {**_DISTIL, "activation": "relu", "tie_word_embeddings": False},
        ("base", "masked_lm"),
    ),
    "roberta": ("RobertaConfig", ROBERTA, TASKS),
    "roberta-padding-3-relu": (
        "RobertaConfig",
        {**ROBERTA, "pad_token_id": 3, "hidden_act": "relu", "num_labels": 1, "type_vocab_size": 1},
        ("base", "masked_lm", "sequence_classification"),
    ),
    "roberta-decoder": ("RobertaConfig", {**ROBERTA, "is_decoder": True}, ("base", "causal_lm")),
    "xlm-roberta": ("XLMRobertaConfig", ROBERTA, TASKS),
    "mpnet": ("MPNetConfig", ROBERTA, TASKS),
    "mpnet-relu-untied": (
        "MPNetConfig",
        {**ROBERTA, "hidden_act": "relu", "tie_word_embeddings": False, "num_labels": 1},
        ("base", "masked_lm", "sequence_classification"),
    ),
    "albert": ("AlbertConfig", {**SIZES, "embedding_size": 16}, TASKS),
    "albert-square-relu-untied": (
        "AlbertConfig",
        {**SIZES, "embedding_size": 32, "hidden_act": "relu", "tie_word_embeddings": False, "num_labels": 1},
        ("base", "masked_lm", "sequence_classification"),
    ),
    "albert-two-inner": ("AlbertConfig", {**SIZES, "embedding_size": 16, "inner_group_num": 2}, ("base",)),
    "albert-groups": (
        "AlbertConfig",
        {**SIZES, "embedding_size": 16, "inner_group_num": 2, "num_hidden_groups": 2, "num_hidden_layers": 3},
        ("base", "masked_lm", "sequence_classification"),
    ),
    "modernbert": ("ModernBertConfig", {**MODERN, "rope_parameters": THETAS}, TASKS),
    "modernbert-mean-biased-untied": (
        "ModernBertConfig",
        {
            **MODERN,
            **dict.fromkeys(["attention_bias", "mlp_bias", "norm_bias", "classifier_bias"], True),
            "classifier_activation": "relu",
            "classifier_pooling": "mean",
            "decoder_bias": False,
            "hidden_activation": "silu",
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "num_labels": 1,
            "tie_word_embeddings": False,
        },
        ("base", "masked_lm", "sequence_classification"),
    ),
    "deberta-v2": ("DebertaV2Config", DEBERTA, TASKS),
    "deberta-v2-no-buckets-relu-untied": (
        "DebertaV2Config",
        {
            **DEBERTA,
            "hidden_act": "relu",
            "max_relative_positions": 16,
            "norm_rel_ebd": "none",
            "num_labels": 1,
            "pooler_hidden_act": "tanh",
            "position_buckets": -1,
            "tie_word_embeddings": False,
            "type_vocab_size": 3,
        },
        ("base", "masked_lm", "sequence_classification"),
    ),
    "deberta-v2-convolution": (
        "DebertaV2Config",
        {**DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu", "conv_groups": 2},
        ("base", "masked_lm", "sequence_classification"),
    ),
    "electra": ("ElectraConfig", {**SIZES, "embedding_size": 16}, TASKS),
    "electra-square-relu-untied": (
        "ElectraConfig",
        {
            **SIZES,
            "embedding_size": 32,
            "hidden_act": "relu",
            "tie_word_embeddings": False,
            "summary_activation": "tanh",
        },
        ("base", "masked_lm", "multiple_choice"),
    ),
    "electra-decoder": ("ElectraConfig", {**SIZES, "embedding_size": 16, "is_decoder": True}, ("base", "causal_lm")),
}


def _theta(kind: str) -> dict[str, Any]:
    return {"rope_parameters": {**THETAS, kind: {**THETAS[kind], "rope_theta": 600.0}}}


# What is changed of a reference, as in decoder_cases.
ENCODERS_CHANGED: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "distilbert scale": ("distilbert", {}, "scale"),
    "distilbert heads": ("distilbert", {"n_heads": 2}, None),
    "distilbert activation": ("distilbert", {"activation": "gelu_new"}, None),
    "distilbert query bias": ("distilbert", {}, "transformer.layer.1.attention.q_lin.bias"),
    "distilbert norm": ("distilbert", {}, "transformer.layer.2.output_layer_norm.bias"),
    "distilbert position": ("distilbert", {}, "embeddings.position_embeddings.weight"),
    "roberta eps": ("roberta", {"layer_norm_eps": 1e-2}, None),
    "roberta scale": ("roberta", {}, "scale"),
    "roberta first position": ("roberta", {"pad_token_id": 2}, None),
    "roberta activation": ("roberta-padding-3-relu", {"hidden_act": "gelu"}, None),
    "mpnet eps": ("mpnet", {"layer_norm_eps": 1e-2}, None),
    "mpnet distance": ("mpnet", {}, "encoder.relative_attention_bias.weight"),
    "mpnet key": ("mpnet", {}, "encoder.layer.2.attention.attn.k.weight"),
    "mpnet activation": ("mpnet-relu-untied", {"hidden_act": "gelu"}, None),
    "albert eps": ("albert", {"layer_norm_eps": 1e-2}, None),
    "albert scale": ("albert", {}, "scale"),
    "albert activation": ("albert", {"hidden_act": "gelu"}, None),
    "albert layer": ("albert", {}, "encoder.albert_layer_groups.0.albert_layers.0.ffn_output.bias"),
    "albert depth": ("albert", {"num_hidden_layers": 4}, None),
    "albert group": ("albert-groups", {}, "encoder.albert_layer_groups.1.albert_layers.1.ffn_output.bias"),
    "albert share of the depth": ("albert-groups", {"num_hidden_layers": 4}, None),
    "albert projection": ("albert-square-relu-untied", {}, "encoder.embedding_hidden_mapping_in.bias"),
    "modernbert eps": ("modernbert", {"norm_eps": 1e-2}, None),
    "modernbert window": ("modernbert", {"local_attention": 12}, None),
    "modernbert theta": ("modernbert", _theta("full_attention"), None),
    "modernbert local theta": ("modernbert", _theta("sliding_attention"), None),
    "modernbert gate": ("modernbert", {}, "layers.1.mlp.Wi.weight"),
    "modernbert order": ("modernbert-mean-biased-untied", {"layer_types": ["full_attention"] * 3}, None),
    "modernbert bias": ("modernbert-mean-biased-untied", {}, "layers.2.attn.Wo.bias"),
    "deberta-v2 eps": ("deberta-v2", {"layer_norm_eps": 1e-2}, None),
    "deberta-v2 buckets": ("deberta-v2", {"max_relative_positions": 20}, None),
    "deberta-v2 distance": ("deberta-v2", {}, "encoder.LayerNorm.bias"),
    "deberta-v2 key bias": ("deberta-v2", {}, "encoder.layer.1.attention.self.key_proj.bias"),
    "deberta-v2 convolution": ("deberta-v2-convolution", {}, "encoder.conv.conv.bias"),
    "deberta-v2 convolution's norm": ("deberta-v2-convolution", {}, "encoder.conv.LayerNorm.weight"),
    "deberta-v2 convolution's activation": ("deberta-v2-convolution", {"conv_act": "tanh"}, None),
    "deberta-v2 norm": ("deberta-v2-no-buckets-relu-untied", {"norm_rel_ebd": "layer_norm"}, None),
    "electra eps": ("electra", {"layer_norm_eps": 1e-2}, None),
    "electra scale": ("electra", {}, "scale"),
    "electra projection": ("electra", {}, "embeddings_project.bias"),
    "electra activation": ("electra-square-relu-untied", {"hidden_act": "gelu"}, None),
    "xlm-roberta output bias": ("xlm-roberta", {}, "encoder.layer.1.output.dense.bias"),
}
