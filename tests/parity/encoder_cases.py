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

# Families whose bare network ends with a pooler.
POOLERS = ("BertConfig",)

# name -> configuration class, its values, tasks
ENCODERS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "distilbert": ("DistilBertConfig", {**_DISTIL, "num_labels": 3}, TASKS),
    "distilbert-relu-untied": (
        "DistilBertConfig",
        {**_DISTIL, "activation": "relu", "tie_word_embeddings": False},
        ("base", "masked_lm"),
    ),
}

# What is changed of a reference, as in decoder_cases.
ENCODERS_CHANGED: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "distilbert scale": ("distilbert", {}, "scale"),
    "distilbert heads": ("distilbert", {"n_heads": 2}, None),
    "distilbert activation": ("distilbert", {"activation": "gelu_new"}, None),
    "distilbert query bias": ("distilbert", {}, "transformer.layer.1.attention.q_lin.bias"),
    "distilbert norm": ("distilbert", {}, "transformer.layer.2.output_layer_norm.bias"),
    "distilbert position": ("distilbert", {}, "embeddings.position_embeddings.weight"),
}
