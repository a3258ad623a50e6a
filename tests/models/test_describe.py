"""Descriptions of models: of every family and task the numbers add up, and large ones fit a terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from test_guard_rails import CONFIGS, TINY

from plait.models.config import Config
from plait.models.files import model_of, new_model, read_topology
from plait.models.registry import family_of
from plait.nn.build import build

# Families as they are published by default; the first with the layers and words of its largest checkpoint.
LARGE = {
    "deepseek_v3": ("causal_lm", {"num_hidden_layers": 61}),
    "mixtral": ("causal_lm", {}),
    "qwen3_moe": ("causal_lm", {}),
    "bart": ("seq2seq_lm", {}),
    "t5": ("seq2seq_lm", {}),
    "gemma3_text": ("causal_lm", {}),
    "modernbert": ("masked_lm", {}),
    "tapas": ("table_question_answering", {}),
}


def counted(text: str) -> tuple[int, list[tuple[int, int]]]:
    """The number in the first line, and the depth and number of each line below."""
    head, *lines = text.splitlines()
    whole = re.search(r"([\d,]+) parameters", head)
    assert whole is not None
    rows = [(re.search(r"[├└]", line), line.split()[-1]) for line in lines]
    return _number(whole[1]), [(found.start() // 3, _number(count)) for found, count in rows if found is not None]


def _number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_numbers_add_up(name: str) -> None:
    heads = family_of(CONFIGS[name]["model_type"], label="x").HEADS
    for task in heads:
        decoder = {"is_decoder": True} if task == "causal_lm" and "masked_lm" in heads else {}
        model = new_model(Config({**TINY, **CONFIGS[name], **decoder}), task=task)
        whole, rows = counted(model.describe())
        assert whole == model.num_parameters()
        assert sum(count for depth, count in rows if depth == 0) == whole


@pytest.mark.parametrize("name", LARGE)
def test_large_models_fit_eighty_columns(name: str) -> None:
    task, values = LARGE[name]
    config = Config(model_type=name, **values)
    model: Any = model_of(config, task=task, network=build(read_topology(config, task), device="meta"))
    assert max(map(len, model.describe().splitlines())) <= 80


def test_tensors_that_take_a_line_together_have_one_and_others_one_each() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1}
    bert = new_model(Config(model_type="bert", vocab_size=29, **sizes), task="masked_lm")
    assert bert.describe().splitlines()[-5:] == [
        "   ├─ dense                   16 × 16 + bias 16            272",
        "   ├─ norm                    16 + bias 16                  32",
        "   └─ projection                                            29",
        "      ├─ weight               of stack.frontend.tokens       0",
        "      └─ bias                 29                            29",
    ]
    mixture = {"num_key_value_heads": 2, "num_local_experts": 3}
    mixtral = new_model(Config(model_type="mixtral", vocab_size=29, **sizes, **mixture), task="base")
    lines = mixtral.describe().splitlines()
    place = next(index for index, line in enumerate(lines) if "experts" in line)
    assert [re.split(r"  +", line.lstrip("│├└─ ")) for line in lines[place : place + 4]] == [
        ["experts", "3,456"],
        ["gate", "3 × 24 × 16", "1,152"],
        ["up", "3 × 24 × 16", "1,152"],
        ["down", "3 × 16 × 24", "1,152"],
    ]
