"""Decoder families: both generations of config.json read alike, and defaults are the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.family import topology
from plait.models.files import new_model
from plait.models.reader import Reader
from plait.models.registry import family_of
from plait.nn.spec import LinearScaling, MaskSpec, RopeSpec, Single

REFERENCES = {
    "deepseek_v3": "DeepseekV3Config",
    "gemma2": "Gemma2Config",
    "gemma3_text": "Gemma3TextConfig",
    "glm4": "Glm4Config",
    "gpt2": "GPT2Config",
    "gpt_neo": "GPTNeoConfig",
    "gpt_neox": "GPTNeoXConfig",
    "opt": "OPTConfig",
    "phi": "PhiConfig",
    "phi3": "Phi3Config",
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "mixtral": "MixtralConfig",
    "qwen2": "Qwen2Config",
    "qwen2_moe": "Qwen2MoeConfig",
    "qwen3": "Qwen3Config",
    "qwen3_moe": "Qwen3MoeConfig",
    "smollm3": "SmolLM3Config",
}


def read(task: str = "base", **values: Any) -> Single:
    config = Config(values, label="config.json of x")
    family = family_of(config.model_type, label="x")
    return topology(family, task, Reader(config, label="config.json of x", family=family.NAME))


@pytest.mark.parametrize("family", REFERENCES)
def test_defaults_are_those_of_the_reference(family: str) -> None:
    """A configuration leaves out what equals the default; one that means something else is another network."""
    reference = getattr(transformers, REFERENCES[family])()
    defaults = family_of(family, label="x").DEFAULTS
    rope = getattr(reference, "rope_parameters", None) or {}
    rope = {**rope.get("sliding_attention", {}), **rope, **rope.get("full_attention", {})}
    ours = {key: value for key, value in defaults.items() if value is not None and hasattr(reference, key)}
    ours.pop("sliding_window", None)  # the reference forgets the number where windows are off
    assert ours == {key: getattr(reference, key) for key in ours}
    assert Config(model_type=family).rope_theta == rope.get("rope_theta")
    assert len(ours) > 10


@pytest.mark.parametrize("family", REFERENCES)
def test_what_the_reference_writes_for_its_defaults_is_read_as_the_defaults(family: str) -> None:
    written = getattr(transformers, REFERENCES[family])().to_dict()
    assert read(**written) == read(model_type=family)


# Three quarters of 96 dimensions are 36 pairs.
_LONG = {"short_factor": [1.0] * 36, "long_factor": [float(index + 1) for index in range(36)]}
SPELLINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "qwen3": (
        {"rope_theta": 5e6, "rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}},
    ),
    "smollm3": ({"rope_theta": 5e6}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}),
    "glm4": (
        {"rope_theta": 5e6, "partial_rotary_factor": 0.25},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.25}},
    ),
    "phi": (
        {"rope_theta": 5e6, "partial_rotary_factor": 0.25},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "partial_rotary_factor": 0.25}},
    ),
    "gpt_neox": (
        {"rotary_emb_base": 5000, "rotary_pct": 1.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 2.0,
                "rope_theta": 5000,
                "partial_rotary_factor": 1.0,
            }
        },
    ),
    "phi3": (
        {
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 16,
            "rope_scaling": {"type": "su", **_LONG},
        },
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 16,
                "partial_rotary_factor": 0.75,
                **_LONG,
            },
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": ({"rope_theta": 5e6}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}}),
    "gemma2": ({"rope_theta": 7.0}, {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}),
    "gemma3_text": (
        {"rope_theta": 7.0, "rope_local_base_freq": 5.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 7.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5.0},
            }
        },
    ),
}


@pytest.mark.parametrize("family", SPELLINGS)
def test_both_spellings_of_rotations(family: str) -> None:
    older, newer = (read(model_type=family, **values) for values in SPELLINGS[family])
    assert older == newer != read(model_type=family)


def test_two_rotations_by_kind_of_layer() -> None:
    layers = read(model_type="gemma3_text", num_hidden_layers=7, **SPELLINGS["gemma3_text"][0]).stack.layers
    full = RopeSpec(theta=7.0, dim=256, scaling=LinearScaling(factor=8.0))
    found = [(layer.attention.mask.window, layer.attention.rope) for layer in layers]
    assert found == [(4096, RopeSpec(theta=5.0, dim=256))] * 5 + [(None, full)] + found[:1]


def test_layers_without_rotation() -> None:
    def turned(**values: Any) -> list[bool]:
        layers = read(model_type="smollm3", num_hidden_layers=4, **values).stack.layers
        return [layer.attention.rope is not None for layer in layers]

    assert turned() == [True, True, True, False]
    assert turned(no_rope_layer_interval=2) == [True, False, True, False]
    assert turned(no_rope_layers=[0, 0, 1, 1]) == [False, False, True, True]


def test_other_keys_leave_nested_rotations_alone() -> None:
    config = Config(model_type="gemma3_text", **SPELLINGS["gemma3_text"][1])
    config.update({"vocab_size": 9})
    assert config.rope_parameters == SPELLINGS["gemma3_text"][1]["rope_parameters"]


def test_windows_of_an_encoder_count_both_sides() -> None:
    layer = read(model_type="gemma3_text", use_bidirectional_attention=True, sliding_window=512).stack.layers[0]
    assert layer.attention.mask == MaskSpec(causal=False, window=257)


def test_residual_weights_begin_smaller() -> None:
    sizes = {"n_embd": 64, "n_head": 4, "n_layer": 8, "vocab_size": 11, "n_positions": 9}
    model = new_model(Config(model_type="gpt2", **sizes), task="causal_lm")
    layers = model.network.stack.layers
    drawn = {
        "added": [part.weight for layer in layers for part in (layer.attention.output, layer.mlp.down)],
        "others": [part.weight for layer in layers for part in (layer.attention.query, layer.mlp.up)],
    }
    # 100,000 numbers and more: their deviation is known to 1 / sqrt(200,000) of itself; five of those.
    for group, expected in (("added", 0.02 / 4), ("others", 0.02)):
        numbers = torch.cat([weight.flatten() for weight in drawn[group]])
        assert numbers.numel() > 100_000
        assert numbers.std().item() == pytest.approx(expected, rel=0.012)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"model_type": "gemma3_text", "attn_logit_softcapping": 50.0},
            "`attn_logit_softcapping` is 50.0 in config.json of x, and only None is supported for Gemma3Text: its "
            "queries and keys have norms instead.",
        ),
        (
            {"model_type": "gemma3_text", "use_bidirectional_attention": True},
            "Every token of this Gemma3Text sees those behind it (config.json of x), so it cannot generate.",
        ),
        (
            {"model_type": "gemma2", "use_bidirectional_attention": True},
            "`use_bidirectional_attention` is True in config.json of x, and only False is supported for Gemma2: its "
            "tokens see those before them alone.",
        ),
        (
            {"model_type": "phi3", **SPELLINGS["phi3"][0], "partial_rotary_factor": 0.5},
            "`rope_parameters.short_factor` must be a list of 24 positive numbers, one for each pair of dimensions "
            "that turns, but is [1.0, 1.0, 1.0,",
        ),
        (
            {"model_type": "phi3", "full_attn_mod": 2},
            "`full_attn_mod` is 2 in config.json of x, and only 1 is supported for Phi3: all its layers are alike",
        ),
        (
            {"model_type": "phi", "partial_rotary_factor": 0.3},
            "`partial_rotary_factor` must turn pairs, but 0.3 of a head's 64 dimensions is 19 (config.json of x).",
        ),
        (
            {"model_type": "deepseek_v3", "n_group": 200},
            "`n_group` must divide the 256 experts into groups of at least 2, but is 200 (config.json of x).",
        ),
        (
            {"model_type": "deepseek_v3", "n_group": 64, "topk_group": 1},
            "`topk_group` must be at most `n_group` (64) and leave enough experts for `num_experts_per_tok`, but is 1 "
            "(config.json of x).",
        ),
        (
            {"model_type": "deepseek_v3", "num_key_value_heads": 8},
            "`num_key_value_heads` is 8 in config.json of x, and only 128 is supported for DeepseekV3: all heads share "
            "one latent vector, and expand it each.",
        ),
        (
            {"model_type": "deepseek_v3", "topk_method": "greedy"},
            "`topk_method` is 'greedy' in config.json of x, and only 'noaux_tc' is supported for DeepseekV3: a "
            "correction of the scores balances the load.",
        ),
        (
            {"model_type": "deepseek_v3", "moe_layer_freq": 2},
            "`moe_layer_freq` is 2 in config.json of x, and only 1 is supported for DeepseekV3: every layer behind the "
            "dense ones is sparse.",
        ),
        (
            {"model_type": "smollm3", "no_rope_layers": [1, 0]},
            "`no_rope_layers` must hold 1 (rotary) or 0 for each of the 36 layers, but is [1, 0] (config.json of x).",
        ),
        (
            {"model_type": "gpt_neo", "attention_types": [[["global", "near"], 12]]},
            "`attention_types` must name global or local for each of the 24 layers, as in [[['global', 'local'], 12]], "
            "but is [[['global', 'near'], 12]] (config.json of x).",
        ),
        (
            {"model_type": "gpt_neo", "attention_types": [["global", "local", 12]]},
            "but is [['global', 'local', 12]] (config.json of x).",
        ),
        (
            {"model_type": "gpt2", "n_head": 7},
            "`n_embd` must be a multiple of `n_head` (7), but is 768 (config.json of x).",
        ),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {"factr": 2.0}},
            },
            "config.json of x has 1 key that Gemma3Text does not know and that could change its numbers:\n"
            "  `rope_parameters.sliding_attention.factr` = 2.0.",
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("causal_lm", **values)
    assert text in str(caught.value)
