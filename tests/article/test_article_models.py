"""The article's snippets about tokenizers, models, chat and regression run, and print what they should."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from article_harness import EXAMPLES, bert, qwen, run, snippet

from plait.models.auto import AutoModelForCausalLM, AutoTokenizer

IDS = [101, 7592, 1010, 2129, 2024, 2017, 1029, 102]


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bert-base-uncased in it."""
    folder = tmp_path_factory.mktemp("article")
    bert(folder, minilm)
    return folder


def test_the_tokenizer_gives_berts_ids_tokens_and_text(folder: Path) -> None:
    printed = run(
        folder, "\n".join(map(snippet, ("tokenize", "tokens", "decode"))) + "print(decoded_text)"
    ).splitlines()
    # The article prints 101 7592 1010 2023 2003 2860 1012 102, which is "hello, this is w.", not its sentence. It
    # leaves out token_type_ids, which BERT's tokenizer returns, as the article says where it explains the argument.
    assert printed[0] == str({"input_ids": IDS, "token_type_ids": [0] * 8, "attention_mask": [1] * 8})
    assert printed[1] == "['[CLS]', 'hello', ',', 'how', 'are', 'you', '?', '[SEP]']"
    assert printed[2:] == ["hello, how are you?"] * 2


def test_the_configuration_is_printed(folder: Path) -> None:
    printed = run(folder, snippet("config"))
    assert printed.startswith("BertConfig {\n")
    values = json.loads(printed.removeprefix("BertConfig "))
    # What the article prints, but for the stand-in's sizes and for keys that only its version of the library wrote.
    expected = {
        "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12,
        "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30522,
    }  # fmt: skip
    assert {name: values.get(name) for name in expected} == expected


def test_a_forward_gives_states_of_all_layers_and_attentions(folder: Path) -> None:
    printed = run(folder, snippet("forward")).splitlines()
    # The article says 10 tokens; "[CLS] hello , my dog is cute [SEP]" are 8. The stand-in is 48 wide instead of 768.
    assert printed == ["torch.Size([1, 8, 48])", "13", "12"]


def test_the_chat_of_modelscope_runs(smollm2: Path, tmp_path: Path) -> None:
    target = qwen(tmp_path / "Qwen" / "Qwen3-30B-A3B", smollm2)
    # A model of random numbers never ends by itself: its ninth token is made the end token, long before 32768.
    tokenizer, model = AutoTokenizer.from_pretrained(target), AutoModelForCausalLM.from_pretrained(target)
    messages = [{"role": "user", "content": "Give me a short introduction to large language model."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    answer = model.generate(ids, max_new_tokens=9)[0, ids.shape[1] :].tolist()
    assert answer.index(answer[-1]) == 8, "the end token must not come before"
    model.generation_config.eos_token_id = answer[-1]
    model.generation_config.save_pretrained(target)
    printed = run(tmp_path, snippet("chat"))
    # The vocabulary of the stand-in has no id 151668, so nothing is thinking.
    expected = tokenizer.decode(answer, skip_special_tokens=True).strip("\n")
    assert printed == f"thinking content: \ncontent: {expected}\n"


# Presupposed: df ("假设df是你的DataFrame"). A month of the examples' solar year, so that 20 epochs take seconds; and a
# seed, which the article does not set, so that two runs can be compared.
PRESUPPOSED = "df = pd.read_csv('solar.csv')[4000:4700]\ntorch.manual_seed(7)\n"


def regression(folder: Path, *, keep: tuple[str, ...] = ()) -> list[tuple[float, float]]:
    parts = [snippet("regression_1"), PRESUPPOSED, *(snippet(f"regression_{step}") for step in (2, 3, 4, 5))]
    printed = run(folder, "\n".join(parts), keep=keep)
    losses = re.findall(r"Train Loss: ([\d.]+)\nVal Loss: ([\d.]+)\n", printed)
    assert len(losses) == 20
    return [(float(train), float(validation)) for train, validation in losses]


def test_the_regression_trains_and_equals_the_original(tmp_path: Path) -> None:
    qwen(tmp_path / "path/to/your/local/qwen2.5b")
    shutil.copy(EXAMPLES / "solar_power.csv", tmp_path / "solar.csv")
    ours = regression(tmp_path)
    best = torch.load(tmp_path / "best_model.pth", weights_only=True)
    assert {"feature_adapter.weight", "regressor.weight"} <= best.keys()
    assert min(validation for _, validation in ours) < ours[0][1]
    theirs = regression(tmp_path, keep=("transformers",))
    # Both print four decimals. The sums of 700 rows in 20 epochs of float32 updates drift apart by some 1e-5.
    for (train, validation), (train_there, validation_there) in zip(ours, theirs, strict=True):
        assert train == pytest.approx(train_there, rel=1e-3, abs=2e-4)
        assert validation == pytest.approx(validation_there, rel=1e-3, abs=2e-4)
