"""BART, T5 and their relatives beside parity: what their configurations may say, their first weights, their labels."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from plait.errors import ConfigError
from plait.models.auto import AutoModelForSeq2SeqLM
from plait.models.config import Config
from plait.models.files import read_topology
from plait.nn.build import build

BART: dict[str, Any] = {
    "vocab_size": 29,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "pad_token_id": 0,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "decoder_start_token_id": 1,
    "max_position_embeddings": 20,
}
T5: dict[str, Any] = {"vocab_size": 29, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 1, "num_heads": 4}


def model_of(family: str, **values: Any) -> Any:
    return AutoModelForSeq2SeqLM.from_config({"model_type": family, **(T5 if "t5" in family else BART), **values})


@pytest.mark.parametrize(
    ("family", "values", "text"),
    [
        ("bart", {"encoder_attention_heads": 5}, "`d_model` must be a multiple of `encoder_attention_heads` (5)"),
        ("bart", {"normalize_before": True}, "`normalize_before` is True in"),
        ("mbart", {"add_final_layer_norm": False}, "`add_final_layer_norm` is False in"),
        ("marian", {"static_position_embeddings": False}, "`static_position_embeddings` is False in"),
        ("pegasus", {"add_bias_logits": True}, "only False is supported for Pegasus"),
        ("mt5", {"scale_decoder_outputs": True}, "only False is supported for MT5: its scores are never divided."),
        (
            "t5",
            {"feed_forward_proj": "gated-gelo"},
            "`feed_forward_proj` must be an activation such as 'relu', or 'gated-' and one, but is 'gated-gelo' "
            "(the configuration). Did you mean 'gated-gelu'?",
        ),
    ],
)
def test_what_a_family_refuses(family: str, values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        model_of(family, **values)


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("bart", {"normalize_before": False, "normalize_embedding": True, "static_position_embeddings": False}),
        ("mbart", {"normalize_before": True, "add_final_layer_norm": True, "extra_pos_embeddings": 2}),
        ("marian", {"normalize_embedding": False, "static_position_embeddings": True, "encoder_layerdrop": 0.1}),
        ("t5", {"n_positions": 512, "output_past": True, "is_gated_act": False}),
        (
            "bart",
            {
                "add_bias_logits": False,
                "classif_dropout": 0.0,
                "early_stopping": True,
                "force_bos_token_to_be_generated": True,
                "length_penalty": 2.0,
                "max_length": 142,
                "min_length": 56,
                "no_repeat_ngram_size": 3,
                "num_beams": 4,
                "num_hidden_layers": 1,
                "prefix": " ",
                "save_step": 58,
                "task_specific_params": {"summarization": {"num_beams": 4}},
            },
        ),
        (
            "marian",
            {"_num_labels": 3, "bad_words_ids": [[28]], "decoder_vocab_size": 29, "gradient_checkpointing": False},
        ),
        ("pegasus", {"extra_pos_embeddings": 1, "num_beams": 8, "length_penalty": 0.6, "normalize_before": True}),
        ("mt5", {"tokenizer_class": "T5Tokenizer", "num_decoder_layers": 1}),
    ],
)
def test_what_published_files_say_of_themselves(family: str, told: dict[str, Any]) -> None:
    assert model_of(family, **told).num_parameters() == model_of(family).num_parameters()


def test_usual_names_of_sizes() -> None:
    bart, t5 = Config({"model_type": "bart", **BART}), Config({"model_type": "t5", **T5})
    assert (bart.hidden_size, bart.num_attention_heads, bart.num_hidden_layers) == (32, 4, 1)
    assert Config({"model_type": "bart", "encoder_layers": 3, "num_hidden_layers": 6}).encoder_layers == 3
    assert (t5.hidden_size, t5.num_attention_heads, t5.num_hidden_layers) == (32, 4, 1)


def test_first_weights_of_bart() -> None:
    torch.manual_seed(0)
    model = model_of("bart", d_model=128, init_std=0.05, vocab_size=400)
    network = model.network
    # The deviation of some 16384 draws has an error of half a percent; five times that passes.
    for weight in (
        network.encoder.layers[0].attention.query.weight,
        network.decoder.layers[0].cross.output.weight,
        network.encoder.frontend.tokens.weight[1:],
    ):
        assert float(weight.detach().std()) == pytest.approx(0.05, rel=0.025)
    assert float(network.head.projection.bias.detach().abs().max()) == 0.0
    assert network.head.projection.weight is network.encoder.frontend.tokens.weight


def test_first_weights_of_t5() -> None:
    torch.manual_seed(0)
    network = model_of(
        "t5",
        d_model=256,
        d_kv=32,
        d_ff=512,
        vocab_size=400,
        initializer_factor=0.5,
        relative_attention_num_buckets=128,
        relative_attention_max_distance=300,
        num_heads=16,
        tie_word_embeddings=False,
    ).network
    layer = network.decoder.layers[0]
    expected = {
        "query": (layer.attention.query.weight, 0.5 * (256 * 32) ** -0.5),
        "cross key": (layer.cross.key.weight, 0.5 * 256**-0.5),
        "output": (layer.attention.output.weight, 0.5 * (16 * 32) ** -0.5),
        "up": (layer.mlp.up.weight, 0.5 * 256**-0.5),
        "down": (layer.mlp.down.weight, 0.5 * 512**-0.5),
        "tokens": (network.encoder.frontend.tokens.weight, 0.5),
        "head": (network.head.projection.weight, 0.5),
    }
    for name, (weight, deviation) in expected.items():
        # At least 65536 draws: the error of the deviation is a quarter of a percent.
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.0125), name
    # 2048 draws: an error of 1.6 percent, and five times that passes.
    table = network.encoder.relative_bias.table.weight
    assert float(table.detach().std()) == pytest.approx(0.5 * 256**-0.5, rel=0.08)


def test_the_language_of_mbart_comes_first() -> None:
    labels = torch.tensor([[5, 6, 2, 9], [7, 2, 8, -100]])  # the last of each is the token of its language
    read = model_of("mbart").prepare_decoder_input_ids_from_labels(labels)
    assert read.tolist() == [[9, 5, 6, 2], [8, 7, 2, 8]]
    read = model_of("bart").prepare_decoder_input_ids_from_labels(labels)
    assert read.tolist() == [[1, 5, 6, 2], [1, 7, 2, 8]]


def test_t5_divides_its_scores_where_they_share_a_weight() -> None:
    scales = [
        model_of("t5", **values).network.spec.head.scale
        for values in ({}, {"tie_word_embeddings": False}, {"scale_decoder_outputs": False})
    ]
    assert scales == [32**-0.5, 1.0, 1.0]
    assert model_of("mt5").network.spec.head.scale == 1.0


PUBLISHED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "google-t5/t5-small": (60_506_624, "seq2seq_lm", {"model_type": "t5", "n_positions": 512}),
    "facebook/bart-base": (
        139_420_416,
        "base",
        {
            "model_type": "bart",
            "activation_dropout": 0.1,
            "attention_dropout": 0.1,
            "classif_dropout": 0.1,
            "d_model": 768,
            "decoder_attention_heads": 12,
            "decoder_ffn_dim": 3072,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "encoder_layers": 6,
            "normalize_before": False,
            "normalize_embedding": True,
        },
    ),
    "facebook/bart-large": (406_291_456, "base", {"model_type": "bart"}),
    "google/mt5-small": (
        300_176_768,
        "seq2seq_lm",
        {"model_type": "mt5", "tie_word_embeddings": False, "tokenizer_class": "T5Tokenizer"},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    count, task, values = PUBLISHED[name]
    network = build(read_topology(Config(values, label=name), task))
    assert sum(part.numel() for part in network.parameters()) == count
