"""GGUF metadata as a configuration: keys, ties, scalings and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from plait.errors import ConfigError
from plait.models.gguf import config_from, gguf_rules
from plait.nn.rope import frequencies
from plait.nn.spec import Llama3Scaling, RopeSpec

LLAMA = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.block_count": 2,
    "llama.context_length": 128,
    "llama.embedding_length": 24,
    "llama.feed_forward_length": 40,
    "llama.attention.head_count": 3,
    "llama.attention.head_count_kv": 1,
    "llama.rope.freq_base": 100000.0,
    "llama.rope.dimension_count": 8,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def read(changes: dict[str, Any] | None = None, *, tensors: tuple[str, ...] = (), **keywords: Any) -> Any:
    return config_from({**LLAMA, **(changes or {})}, tensors, label="x.gguf", **keywords)


def test_keys() -> None:
    config = read()
    assert dict(config.values) == {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "vocab_size": 3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    assert not read(tensors=("output.weight",)).tie_word_embeddings
    assert read({"llama.vocab_size": 9}).vocab_size == 9


def test_linear_and_yarn() -> None:
    assert read({"llama.rope.scaling.type": "none"}).rope_scaling is None
    assert read({"llama.rope.scale_linear": 4.0}).rope_scaling == {"rope_type": "linear", "factor": 4.0}
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    assert read(linear).rope_scaling == {"rope_type": "linear", "factor": 2.0}
    yarn = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 32,
    }
    assert read(yarn).rope_scaling == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    # 0.5 * (0.1 ln 4 + 1)
    assert read({**yarn, "llama.rope.scaling.attn_factor": 0.5}).rope_scaling["attention_factor"] == pytest.approx(
        0.569314718056
    )


def test_llama3_is_found_again_from_its_factors() -> None:
    scaling = Llama3Scaling(factor=32.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=8192)
    scaled, _ = frequencies(RopeSpec(theta=500000.0, dim=64, scaling=scaling))
    plain, _ = frequencies(RopeSpec(theta=500000.0, dim=64))
    factors = (plain / scaled).to(torch.float32).tolist()
    changes = {"llama.rope.freq_base": 500000.0}
    assert read(changes, factors=factors).rope_scaling == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    factors[20] *= 1.01
    with pytest.raises(
        ConfigError, match=r"`rope_freqs.weight` is no scaling of Llama 3: its entry \d+ is .*\(x.gguf\)"
    ):
        read(changes, factors=factors)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"general.architecture": "lama"},
            "`general.architecture` 'lama' is not one that plait reads (x.gguf). Did you mean 'llama'? They are: "
            "gemma2, gemma3, llama, qwen2, qwen3.",
        ),
        (
            {"llama.expert_count": 8},
            "`llama.expert_count` = 8 is not understood, and could change the numbers (x.gguf).",
        ),
        ({"llama.rope.dimension_count": 4}, "`rope.dimension_count` is 4, and only the head's whole dimension, 8,"),
        ({"llama.embedding_length": None}, "The metadata lack attention.head_count or embedding_length"),
    ],
)
def test_what_is_not_understood(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(changes)
    assert text in str(caught.value)


def of(architecture: str, **more: Any) -> dict[str, Any]:
    """The keys above under another architecture, with `more` of its own."""
    moved = {key.replace("llama.", f"{architecture}.", 1): value for key, value in LLAMA.items()}
    return {**moved, "general.architecture": architecture, **{f"{architecture}.{k}": v for k, v in more.items()}}


GEMMA = {"attention.key_length": 8, "attention.value_length": 8, "attention.sliding_window": 512}


def test_keys_of_one_architecture() -> None:
    values = of("gemma3", **GEMMA, **{"rope.freq_base_swa": 5000.0, "final_logit_softcapping": 30.0})
    config = config_from(values, (), label="x.gguf")
    assert (config.model_type, config.sliding_window, config.rope_local_base_freq) == ("gemma3_text", 512, 5000.0)
    assert (config.final_logit_softcapping, config.query_pre_attn_scalar, config.head_dim) == (30.0, 8, 8)
    config = config_from(of("gemma2", **GEMMA, attn_logit_softcapping=20.0), (), label="x.gguf")
    assert (config.model_type, config.attn_logit_softcapping, config.final_logit_softcapping) == ("gemma2", 20.0, 30.0)
    assert config_from(of("qwen3", **{"attention.key_length": 8}), (), label="x.gguf").head_dim == 8
    # Where the family has no such key, a number there is not understood.
    with pytest.raises(ConfigError, match=r"`qwen3.attention.sliding_window` = 512 is not understood"):
        config_from(of("qwen3", **GEMMA), (), label="x.gguf")


@pytest.mark.parametrize(("architecture", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_the_largest_divides_scores_otherwise(architecture: str, layers: int) -> None:
    """Its scalar is width / heads, 24 / 3 here, where the others have the width of a head."""
    values = of(architecture, **{**GEMMA, "attention.key_length": 6, "attention.value_length": 6})
    values[f"{architecture}.rope.dimension_count"] = 6
    assert config_from(values, (), label="x.gguf").query_pre_attn_scalar == 6
    values[f"{architecture}.block_count"] = layers
    assert config_from(values, (), label="x.gguf").query_pre_attn_scalar == 8


@pytest.mark.parametrize("task", ["base", "causal_lm"])
def test_rules_invert(task: str) -> None:
    rules = gguf_rules(read(), task=task)
    names = ["stack.frontend.tokens.weight", "stack.norm.weight"]
    names += [f"stack.layers.1.attention.{part}.weight" for part in ("query", "key", "value", "output")]
    names += [f"stack.layers.1.mlp.{part}.weight" for part in ("gate", "up", "down")]
    assert sorted(rules.to_ours(rules.to_theirs(names))) == sorted(names)
