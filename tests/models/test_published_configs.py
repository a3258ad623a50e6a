"""The configurations of published models: every key of them is understood, and their networks have the published
number of parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.files import read_topology
from plait.nn.build import build

# The keys as published; of long lists of factors, only the length.
_HERE = Path(__file__).parent
PUBLISHED = {
    name: entry
    for file in ("published_decoders.json", "published_others.json")
    for name, entry in json.loads((_HERE / file).read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name: str) -> None:
    config = Config(PUBLISHED[name]["config"], label=f"config.json of {name}")
    network = build(read_topology(config, PUBLISHED[name].get("task", "causal_lm")))
    assert sum(part.numel() for part in network.parameters()) == PUBLISHED[name]["parameters"]


_YARN = {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}
_KINDS = [3, 16, 16]


@pytest.mark.parametrize(
    ("values", "more"),
    [
        ({"model_type": "gemma2"}, {"sliding_window_size": 4096}),
        ({"model_type": "tapas", "type_vocab_sizes": _KINDS}, {"type_vocab_size": _KINDS, "softmax_temperature": 1.0}),
        ({"model_type": "llama", "rope_scaling": _YARN}, {"rope_scaling": {**_YARN, "finetuned": True}}),
        ({"model_type": "bert"}, {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}),
        ({"model_type": "qwen3_moe"}, {"use_qk_norm": True, "qkv_bias": False, "shared_expert_intermediate_size": 0}),
        ({"model_type": "bert"}, {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}),
    ],
)
def test_keys_that_say_nothing_new(values: dict[str, Any], more: dict[str, Any]) -> None:
    assert read_topology(Config({**values, **more}), "base") == read_topology(Config(values), "base")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"model_type": "gemma2", "sliding_window_size": 2048},
            "`sliding_window_size` is 2048 in the configuration, and only 4096 is supported for Gemma2: the window is "
            "that of `sliding_window`.",
        ),
        (
            {"model_type": "tapas", "type_vocab_sizes": _KINDS, "type_vocab_size": [3, 9, 9]},
            "`type_vocab_size` is [3, 9, 9] in the configuration, and only [3, 16, 16] is supported for Tapas: the "
            "sizes are those of `type_vocab_sizes`.",
        ),
        (
            {"model_type": "qwen3", "use_qk_norm": False},
            "`use_qk_norm` is False in the configuration, and only True is supported for Qwen3: each head's query and "
            "key has a norm.",
        ),
        (
            {"model_type": "tapas", "softmax_temperature": 2.0},
            "`softmax_temperature` is 2.0 in the configuration, and only 1.0 is supported for Tapas: `temperature` "
            "alone divides the scores.",
        ),
    ],
)
def test_second_names_that_contradict(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_topology(Config(values), "base")
    assert text in str(caught.value)
