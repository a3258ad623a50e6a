"""Config: what it prints, keeps, keeps consistent and refuses."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from plait.errors import ConfigError, DiskError, OptionError
from plait.models.auto import AutoConfig
from plait.models.config import Config
from plait.models.registry import FAMILIES

# The keys of the article's file, and what it prints.
ARTICLE = """BertConfig {
  "architectures": [
    "BertModel"
  ],
  "attention_probs_dropout_prob": 0.1,
  "gradient_checkpointing": false,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 768,
  "initializer_range": 0.02,
  "intermediate_size": 3072,
  "layer_norm_eps": 1e-12,
  "max_position_embeddings": 512,
  "model_type": "bert",
  "num_attention_heads": 12,
  "num_hidden_layers": 12,
  "pad_token_id": 0,
  "position_embedding_type": "absolute",
  "transformers_version": "4.25.1",
  "type_vocab_size": 2,
  "use_cache": true,
  "vocab_size": 30522
}
"""


def test_prints_as_the_article_shows(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(ARTICLE.removeprefix("BertConfig "), encoding="utf-8")
    assert str(AutoConfig.from_pretrained(tmp_path)) == ARTICLE


def test_prints_defaults_for_keys_that_are_absent() -> None:
    printed = json.loads(repr(Config(model_type="bert", hidden_size=64)).removeprefix("BertConfig "))
    assert printed["hidden_size"] == 64
    assert printed["vocab_size"] == 30522
    assert "classifier_dropout" not in printed  # None is absence
    assert "is_decoder" not in printed  # the default of every family


def test_needs_no_torch() -> None:
    code = (
        "import sys; from plait.models.auto import AutoConfig as A; A.for_model('llama'); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_unknown_keys_round_trip(tmp_path: Path) -> None:
    given = {"model_type": "llama", "made_up": {"deep": [1, 2]}, "rope_theta": 5e5, "vocab_size": 7}
    Config(given).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {key: written[key] for key in given} == given
    assert AutoConfig.from_pretrained(tmp_path).made_up == {"deep": [1, 2]}
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]


def test_attributes() -> None:
    config = Config(model_type="bert", hidden_size=64)
    assert (config.hidden_size, config.vocab_size, config.tie_word_embeddings) == (64, 30522, True)
    config.hidden_size = 32
    config.update({"vocab_size": 9})
    assert (config.hidden_size, config.vocab_size) == (32, 9)
    assert not hasattr(config, "hidden_sizes")
    with pytest.raises(AttributeError, match="BertConfig has no key 'hidden_sizes'. Did you mean 'hidden_size'"):
        _ = config.hidden_sizes


def test_copies_are_independent() -> None:
    config = Config(model_type="bert", num_labels=3)
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
    twin = copy.deepcopy(config)
    twin.hidden_size = 1
    assert config.hidden_size == 768
    assert twin != config


def test_two_spellings_of_dtype() -> None:
    import torch

    assert Config(model_type="bert", torch_dtype="bfloat16").dtype == "bfloat16"
    assert Config(model_type="bert", dtype=torch.float16).torch_dtype == "float16"
    assert json.loads(Config(model_type="bert", torch_dtype="float16").to_json_string())["dtype"] == "float16"


@pytest.mark.parametrize(
    ("given", "theta", "scaling"),
    [
        ({}, 1e4, None),
        ({"rope_theta": 5e5}, 5e5, None),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
            5e5,
            {"type": "linear", "factor": 2.0},
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, 7.0, None),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0}},
            7.0,
            {"rope_type": "linear", "factor": 2.0},
        ),
        ({"rope_parameters": {"rope_type": "default"}}, 1e4, None),
    ],
)
def test_two_spellings_of_rope(given: dict[str, object], theta: float, scaling: object) -> None:
    config = Config(model_type="llama", **given)
    assert config.rope_theta == theta
    assert config.rope_scaling == scaling
    assert config.rope_parameters.get("rope_theta", theta) == theta


def test_rope_is_written_through_to_the_stored_spelling() -> None:
    config = Config(model_type="llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0})
    config.rope_theta = 9.0
    assert config.rope_parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 9.0}
    config.rope_scaling = {"rope_type": "linear", "factor": 3.0}
    assert config.rope_parameters == {"rope_type": "linear", "factor": 3.0, "rope_theta": 9.0}
    config.rope_scaling = None
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 9.0}
    old = Config(model_type="llama", rope_theta=3.0)
    old.rope_parameters = {"rope_type": "default", "rope_theta": 8.0}
    assert (old.rope_theta, "rope_theta" in old) == (8.0, False)


def test_labels_are_three_views_of_one_list() -> None:
    config = Config(model_type="bert")
    assert (config.num_labels, config.id2label, "id2label" in config) == (2, {0: "LABEL_0", 1: "LABEL_1"}, False)
    config.num_labels = 3
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    config.id2label = {"1": "good", "0": "bad"}
    assert (config.num_labels, config.label2id) == (2, {"bad": 0, "good": 1})
    config.label2id = {"x": 0}
    assert (config.num_labels, config.id2label) == (1, {0: "x"})
    config.num_labels = 1
    assert config.id2label == {0: "x"}  # the same number keeps the names
    assert json.loads(config.to_json_string())["id2label"] == {"0": "x"}


def test_num_labels_as_an_override_keeps_or_renews_the_names(tmp_path: Path) -> None:
    Config(model_type="bert", id2label={0: "a", 1: "b", 2: "c"}).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, num_labels=3).id2label == {0: "a", 1: "b", 2: "c"}
    assert AutoConfig.from_pretrained(tmp_path, num_labels=1).id2label == {0: "LABEL_0"}
    assert AutoConfig.from_pretrained(tmp_path, id2label={0: "p", 1: "q"}).num_labels == 2


def test_a_contradicting_label2id_is_named_and_id2label_kept(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(model_type="bert", id2label={0: "a", 1: "b"}, label2id={"a": 1, "b": 0})
    assert config.label2id == {"a": 0, "b": 1}
    assert "`label2id` of the configuration is not the inverse of `id2label`, which is kept." in caplog.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"num_labels": 0}, "`num_labels` must be a whole number of at least 1, but is 0 (the configuration)."),
        (
            {"num_labels": 3, "id2label": {0: "a"}},
            "`num_labels` is 3, but 1 labels are named (the configuration). Give one of the two.",
        ),
        ({"id2label": {0: "a", 2: "b"}}, "Labels must be numbered 0 to 1, but are numbered [0, 2]"),
        ({"id2label": {0: "a", 1: "a"}}, "Labels must have different names, but are ['a', 'a']"),
        ({"problem_type": "regresion"}, "but is 'regresion' (the configuration). Did you mean 'regression'?"),
        (
            {"problem_type": "single_label_classification", "num_labels": 1},
            "Set num_labels=2 for a choice of two, or problem_type='regression' for a number.",
        ),
    ],
)
def test_contradictions_are_errors(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config({"model_type": "bert", **values})
    assert text in str(caught.value)


def test_an_explicit_problem_type_is_saved(tmp_path: Path) -> None:
    Config(model_type="bert", num_labels=3, problem_type="regression").save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).problem_type == "regression"


def test_an_unknown_model_type_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "lama"}')
    with pytest.raises(ConfigError) as caught:
        AutoConfig.from_pretrained(tmp_path)
    assert str(caught.value) == (
        f"`model_type` 'lama' is not a family of plait (config.json of {tmp_path}). Did you mean 'llama'? "
        f"The families are: {', '.join(sorted(FAMILIES))}."
    )
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    with pytest.raises(
        ConfigError, match="is missing from config.json of .* Say it by passing model_type=…. The families"
    ):
        AutoConfig.from_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, model_type="bert").vocab_size == 30522


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not valid JSON"), ("[1]", "must hold a JSON object, but holds a list")]
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        AutoConfig.from_pretrained(tmp_path)


def test_an_unknown_override_names_the_nearest(tmp_path: Path) -> None:
    Config(model_type="bert", own_key=3).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, own_key=None, hidden_dropout_prob=0.5).hidden_dropout_prob == 0.5
    with pytest.raises(
        OptionError, match="no argument or configuration key 'hidden_dropout'. Did you mean 'hidden_dropout_prob'"
    ):
        AutoConfig.from_pretrained(tmp_path, hidden_dropout=0.5)
    with pytest.raises(OptionError, match="no argument or configuration key 'revison'. Did you mean 'revision'"):
        AutoConfig.from_pretrained(tmp_path, revison="main")


def test_for_model() -> None:
    assert AutoConfig.for_model("qwen2", num_hidden_layers=2).num_hidden_layers == 2
    with pytest.raises(OptionError, match="'num_layers'"):
        AutoConfig.for_model("qwen2", num_layers=2)
    with pytest.raises(OptionError, match="use AutoConfig.from_pretrained"):
        AutoConfig()


def test_a_full_disk_leaves_the_configuration_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Config(model_type="bert").save_pretrained(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"config\.json was not written: the disk is full\. Nothing half-made is"):
        Config(model_type="bert", hidden_size=24).save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert Config.from_file(tmp_path / "config.json").hidden_size == 768
