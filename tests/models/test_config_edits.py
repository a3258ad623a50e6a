"""Changing a configuration in place: what is taken out, and views that refuse changes which would be lost."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from plait.errors import ConfigError
from plait.models.config import Config


def test_a_key_that_is_taken_out_answers_with_the_default() -> None:
    config = Config(model_type="bert", hidden_size=64, torch_dtype="float16", num_labels=3, own=1)
    for key in ("hidden_size", "torch_dtype", "num_labels", "own"):
        delattr(config, key)
    assert (config.hidden_size, config.dtype, config.num_labels) == (768, None, 2)
    assert config == Config(model_type="bert")
    with pytest.raises(AttributeError, match="BertConfig was given no key 'hidden_size'"):
        del config.hidden_size


def test_a_key_is_taken_out_under_either_name() -> None:
    config = Config(model_type="t5", d_kv=32)
    assert config.head_dim == 32
    del config.head_dim
    assert config.d_kv == 64


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "id2label"),
        ({}, "id2label"),
        ({"id2label": {"0": "no", "1": "yes"}}, "label2id"),
        ({"rope_theta": 5.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_parameters"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}}, "rope_scaling"),
    ],
)
def test_a_change_in_a_view_is_refused(values: dict[str, object], key: str) -> None:
    config = Config({"model_type": "llama", **values})
    view = getattr(config, key)
    before = dict(view)
    for change in (
        lambda: view.__setitem__(0, "maybe"),
        lambda: view.update({0: "maybe"}),
        lambda: view.pop(next(iter(view))),
        view.clear,
    ):
        with pytest.raises(ConfigError) as caught:
            change()
        assert str(caught.value) == (
            f"`{key}` is one of several views of the same values, and a change in it would be lost. Set it as a whole: "
            f"config.{key} = {{**config.{key}, …}}."
        )
    assert getattr(config, key) == before
    # Copies are ordinary dictionaries.
    for made in (copy.copy(view), copy.deepcopy(view), pickle.loads(pickle.dumps(view)), {**view}, view | {}):
        assert type(made) is dict
        assert made == before
    assert json.loads(json.dumps(view)) == json.loads(json.dumps(before))


def test_the_remedy_of_a_view_works() -> None:
    config = Config({"model_type": "llama", "rope_parameters": {"rope_type": "linear", "factor": 2.0}})
    config.rope_scaling = {**config.rope_scaling, "factor": 4.0}
    config.id2label = {**config.id2label, 0: "no"}
    assert config.rope_parameters["factor"] == 4.0
    assert config.label2id == {"no": 0, "LABEL_1": 1}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"id2label": ["no", "yes"]},
            "`id2label` must have the form {0: name, 1: name, …}, but is ['no', 'yes'] (x). The other way round it is "
            "`label2id`.",
        ),
        ({"id2label": {"no": 0, "yes": 1}}, "`id2label` must have the form {0: name, 1: name, …}, but is {'no': 0, 'y"),
        (
            {"label2id": {0: "no", 1: "yes"}},
            "`label2id` must have the form {name: 0, name: 1, …}, but is {0: 'no', 1: 'yes'} (x). The other way round "
            "it is `id2label`.",
        ),
        ({"id2label": {0: "no", 1: "yes"}, "label2id": 3}, "`label2id` must have the form {name: 0, name: 1, …}, but"),
        ({"label2id": {"no": None}}, "`label2id` must have the form"),
        ({"problem_type": 3}, "`problem_type` must be one of regression, single_label_classification, multi_label"),
        ({"rope_scaling": "yarn"}, "`rope_scaling` must be an object or null, but is 'yarn' (x)."),
        ({"rope_parameters": [1]}, "`rope_parameters` must be an object or null, but is [1] (x)."),
    ],
)
def test_values_of_another_form(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config({"model_type": "llama", **values}, label="x")
    assert text in str(caught.value)


def test_a_file_by_its_name(tmp_path: Path) -> None:
    config = Config(model_type="bert", hidden_size=64, id2label={0: "no", 1: "yes"})
    config.to_json_file(tmp_path / "small.json")
    text = (tmp_path / "small.json").read_text(encoding="utf-8")
    assert text == config.to_json_string() + "\n"
    assert Config.from_file(tmp_path / "small.json") == config
