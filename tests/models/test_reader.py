"""The reader: types, accounting, rotary positions and windows."""

from __future__ import annotations

from typing import Any

import pytest

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.family import topology
from plait.models.positions import rope, windows
from plait.models.reader import HARMLESS, Reader
from plait.models.registry import FAMILIES, family_of
from plait.nn.spec import DynamicScaling, LinearScaling, Llama3Scaling, RopeSpec, Single, YarnScaling

_TINY = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 11}
_GROUPED = {**_TINY, "num_key_value_heads": 2}
_PAIR = {"num_encoder_layers": 2, "num_decoder_layers": 1, "num_hidden_layers": None}
# A width of 8 and a vocabulary of 11 beside the families' own defaults.
_SIDES = {"vocab_size": 11, "d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
_SIDES |= {"encoder_layers": 2, "decoder_layers": 1}
TINY = {
    **dict.fromkeys(("bart", "mbart", "marian", "pegasus"), _SIDES),
    **dict.fromkeys(("t5", "mt5"), {"vocab_size": 11, "d_model": 8, "d_kv": 4, "num_heads": 2, "num_layers": 2}),
    "transformer": {**_TINY, **_PAIR},
    "gemma2": {**_GROUPED, "head_dim": 4},
    "gemma3_text": {**_GROUPED, "head_dim": 4},
    "mistral": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 4},
    "bert": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 11},
    "llama": {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 11},
    "qwen2": {
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "vocab_size": 11,
    },
}


# Encoders whose layers may be causal, which their heads for text generation ask for.
MAY_DECODE = ("bert", "electra", "roberta", "xlm-roberta")
# What a configuration must say: a family whose defaults are a network that is not built here.
SAID = {
    "deberta-v2": {
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "relative_attention": True,
        "share_att_key": True,
    }
}


def reader_of(family: str = "llama", **values: Any) -> Reader:
    values = {"model_type": family, **TINY.get(family, {}), **SAID.get(family, {}), **values}
    return Reader(Config(values), label="config.json of x", family=family)


def read(family: str, task: str = "base", **values: Any) -> Single:
    return topology(family_of(family, label="x"), task, reader_of(family, **values))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_default_is_read_or_known(family: str) -> None:
    """A default that nothing reads would be a promise that nothing keeps."""
    module = family_of(family, label="x")
    values = {**module.DEFAULTS, **SAID.get(family, {}), "model_type": family}
    reader = Reader(Config(values), label="x", family=family)
    for task, head in module.HEADS.items():
        if task != "causal_lm" or family not in MAY_DECODE:
            module.spec(reader)
            if head.spec:
                head.spec(reader)
    reader.account(module.IGNORED)
    unread = set(module.DEFAULTS) - reader._read - set(module.IGNORED) - set(HARMLESS)
    assert {key for key in unread if not key.endswith("_token_id")} == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stranger_is_an_error(family: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(family, attention_sinks=4, vocab_sise=8)
    text = str(caught.value)
    assert text.startswith(
        f"config.json of x has 2 keys that {family} does not know and that could change its numbers:"
    )
    assert "`attention_sinks` = 4." in text
    assert "`vocab_sise` = 8. Did you mean 'vocab_size'?" in text
    assert text.endswith("If it makes no difference, say so by passing attention_sinks=None.")


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}])
def test_a_switch_that_is_off_is_harmless(value: object) -> None:
    assert read("llama", attention_sinks=value) == read("llama")


@pytest.mark.parametrize(
    "values",
    [
        {"transformers_version": "4.8.2", "_name_or_path": "x", "architectures": ["LlamaForCausalLM"]},
        {"torch_dtype": "bfloat16", "auto_map": {"AutoModel": "x.Y"}, "use_cache": True},
        {"mask_token_id": 5, "max_length": 20, "temperature": 0.6, "top_p": 0.9, "do_sample": True},
        {"_attn_implementation_autoset": True, "unsloth_version": "2024.9"},
    ],
)
def test_what_checkpoints_carry_is_no_obstacle(values: dict[str, Any]) -> None:
    for family in FAMILIES:
        assert read(family, **values) == read(family)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(
    "values", [{"rope_theta": 123456.0}, {"rope_parameters": {"rope_theta": 123456.0, "rope_type": "default"}}]
)
def test_theta_is_read_in_both_spellings(family: str, values: dict[str, Any]) -> None:
    for layer in read(family, **values).stack.layers:
        assert layer.attention.rope == RopeSpec(theta=123456.0, dim=4)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, None),
        ({"rope_type": "default"}, None),
        ({"type": "linear", "factor": 2}, LinearScaling(factor=2.0)),
        ({"type": "linear", "rope_type": "linear", "factor": 2}, LinearScaling(factor=2.0)),
        ({"type": "dynamic", "factor": 2}, DynamicScaling(factor=2.0, original_positions=2048)),
        (
            {"rope_type": "llama3", **LLAMA3},
            Llama3Scaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=64),
        ),
        # 0.1 ln 4 + 1
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            YarnScaling(factor=4.0, original_positions=64, attention_factor=1.1386294361119891),
        ),
        # The length of the model stands in for the original one.
        ({"type": "yarn", "factor": 0.5}, YarnScaling(factor=0.5, original_positions=2048, attention_factor=1.0)),
        (
            {
                "rope_type": "yarn",
                "factor": None,
                "original_max_position_embeddings": 64,
                "attention_factor": 0.7,
                "beta_fast": 30,
                "beta_slow": 2,
                "truncate": False,
            },
            YarnScaling(
                factor=32.0,
                original_positions=64,
                attention_factor=0.7,
                beta_fast=30.0,
                beta_slow=2.0,
                truncate=False,
            ),
        ),
        # (0.1 · 2 ln 4 + 1) / (0.1 ln 4 + 1)
        (
            {"rope_type": "yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 1.0},
            YarnScaling(factor=4.0, original_positions=2048, attention_factor=1.2772588722239782 / 1.1386294361119891),
        ),
    ],
)
def test_scalings(scaling: dict[str, Any] | None, expected: object) -> None:
    v4 = rope(reader_of(rope_theta=7.0, rope_scaling=scaling), dim=4)
    v5 = rope(reader_of(rope_parameters={"rope_theta": 7.0, **(scaling or {})}), dim=4)
    assert v4 == v5 == RopeSpec(theta=7.0, dim=4, scaling=expected)


def test_the_original_length_at_the_top_wins() -> None:
    scaling = {"rope_type": "llama3", **LLAMA3}
    found = rope(reader_of(rope_scaling=scaling, original_max_position_embeddings=32), dim=4).scaling
    assert isinstance(found, Llama3Scaling)
    assert found.original_positions == 32


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"rope_scaling": {"rope_type": "yarnn", "factor": 2}},
            "`rope_type` must be one of default, linear, dynamic, llama3, yarn, longrope, but is 'yarnn' "
            "(config.json of x). Did you mean 'yarn'?",
        ),
        ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, "`rope_parameters.factor` must be a number of at least"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2, "alpha": 9}}, "`rope_parameters.alpha` = 9."),
        ({"rope_scaling": {"type": "linear"}}, "`rope_parameters.factor` is missing from config.json of x"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "beta": 3}}, "`rope_parameters.beta` = 3."),
        ({"rope_scaling": {"rope_type": "default", "factor": 2}}, "`rope_parameters.factor` = 2."),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "`rope_parameters.full_attention` = "),
        (
            {"partial_rotary_factor": 0.5},
            "`partial_rotary_factor` is 0.5 in config.json of x, and only 1.0 is supported",
        ),
        ({"rope_theta": "big"}, "`rope_theta` must be a number of at least 1, but is 'big' (config.json of x)."),
        ({"head_dim": 3}, "The head dimension must be even for rotary positions, which turn pairs, but is 3"),
    ],
)
def test_positions_that_cannot_be(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("llama", **values)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [None, None]),
        ({"sliding_window": 4}, [None, None]),
        ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, [None, 4]),
        ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, [4, 4]),
        ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 9}, [None, None]),
        (
            {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
            [4, None],
        ),
    ],
)
def test_windows(values: dict[str, Any], expected: list[int | None]) -> None:
    assert windows(reader_of("qwen2", **values), layers=2) == expected
    assert [layer.attention.mask.window for layer in read("qwen2", **values).stack.layers] == expected


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"layer_types": ["full_attention"]},
            "`layer_types` must name full_attention or sliding_attention for each of the 2",
        ),
        ({"layer_types": ["full_attention", "mamba"]}, "but is ['full_attention', 'mamba'] (config.json of x)."),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "asks for sliding_attention, but no window is set"),
        (
            {"sliding_window": 0, "use_sliding_window": True},
            "`sliding_window` must be a whole number of at least 1, but is 0",
        ),
    ],
)
def test_windows_that_cannot_be(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("qwen2", **values)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("family", "values", "text"),
    [
        ("bert", {"hidden_size": 9}, "`hidden_size` must be a multiple of `num_attention_heads` (2), but is 9"),
        ("llama", {"hidden_size": 9}, "where `head_dim` is absent, but is 9 (config.json of x)."),
        ("bert", {"vocab_size": "many"}, "`vocab_size` must be a whole number of at least 1, but is 'many'"),
        ("bert", {"vocab_size": None}, "`vocab_size` is missing from config.json of x; Bert needs a whole number"),
        ("bert", {"hidden_act": "gelu_neu"}, "but is 'gelu_neu' (config.json of x). Did you mean 'gelu_new'?"),
        ("bert", {"hidden_dropout_prob": 1.0}, "`hidden_dropout_prob` must be at least 0 and below 1, but is 1.0"),
        ("bert", {"is_decoder": "yes"}, "`is_decoder` must be true or false, but is 'yes'"),
        ("bert", {"position_embedding_type": "relative_key"}, "only 'absolute' is supported for Bert"),
        ("bert", {"add_cross_attention": True}, "its decoder attends to itself alone"),
        ("llama", {"attention_bias": 1}, "`attention_bias` must be true or false, but is 1"),
        (
            "llama",
            {"rope_interleaved": True},
            "`rope_interleaved` is True in config.json of x, and only False is supported",
        ),
        ("llama", {"sparsity_config": {"bits": 4}}, "`sparsity_config` = {'bits': 4}."),
    ],
)
def test_values_of_the_wrong_kind(family: str, values: dict[str, Any], text: str) -> None:
    module = family_of(family, label="x")
    config = Config({"model_type": family, **TINY[family], **values})
    with pytest.raises(ConfigError) as caught:
        topology(module, "base", Reader(config, label="config.json of x", family=module.NAME))
    assert text in str(caught.value)


def test_a_task_that_the_family_lacks() -> None:
    with pytest.raises(
        ConfigError, match=r"Llama has no next_sentence head \(config.json of x\).* It has: base, causal_lm"
    ):
        read("llama", "next_sentence")


@pytest.mark.parametrize("family", FAMILIES)
def test_specs_are_hashable_and_equal_by_value(family: str) -> None:
    for task in family_of(family, label="x").HEADS:
        decoder = {"is_decoder": True} if task == "causal_lm" and family in MAY_DECODE else {}
        assert len({read(family, task, **decoder), read(family, task, **decoder)}) == 1
