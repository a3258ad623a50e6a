"""What configurations of mixtures of experts say: which layers are sparse, what is refused, and both spellings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plait.errors import ConfigError, WeightsError
from plait.models.auto import AutoModelForCausalLM
from plait.models.config import Config
from plait.models.family import rules_for, topology
from plait.models.files import new_model
from plait.models.reader import Reader
from plait.models.registry import family_of
from plait.nn.spec import MLPSpec, MoESpec, Single, SoftmaxRouterSpec
from plait.weights.save import save_state

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "moe_intermediate_size": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 19,
}
NAMES = ("qwen2_moe", "qwen3_moe", "mixtral")


def config(name: str, **values: Any) -> Config:
    given: dict[str, Any] = {**SIZES, "model_type": name, "num_hidden_layers": 6, **values}
    if name == "mixtral":
        given.pop("moe_intermediate_size")
    return Config(given, label="config.json")


def spec_of(name: str, **values: Any) -> Single:
    family = family_of(name, label="x")
    made = topology(family, "causal_lm", Reader(config(name, **values), label="config.json", family=family.NAME))
    assert isinstance(made, Single)
    return made


def sparse(name: str, **values: Any) -> list[int]:
    return [index for index, layer in enumerate(spec_of(name, **values).stack.layers) if isinstance(layer.mlp, MoESpec)]


@pytest.mark.parametrize("name", ["qwen2_moe", "qwen3_moe"])
def test_which_layers_are_sparse(name: str) -> None:
    assert sparse(name) == [0, 1, 2, 3, 4, 5]
    assert sparse(name, decoder_sparse_step=2) == [1, 3, 5]
    assert sparse(name, decoder_sparse_step=3) == [2, 5]
    assert sparse(name, mlp_only_layers=[0, 5]) == [1, 2, 3, 4]
    assert sparse(name, decoder_sparse_step=2, mlp_only_layers=[0, 3]) == [1, 5]
    dense = spec_of(name, decoder_sparse_step=2).stack.layers[0].mlp
    assert dense == MLPSpec(width=20, activation="silu", gated=True)
    assert sparse("mixtral") == [0, 1, 2, 3, 4, 5]


def test_what_a_mixture_is() -> None:
    two, three, mixtral = (spec_of(name).stack.layers[0].mlp for name in NAMES)
    assert isinstance(two, MoESpec)
    assert isinstance(three, MoESpec)
    assert isinstance(mixtral, MoESpec)
    assert (two.experts, two.active, two.width, two.router) == (4, 2, 6, SoftmaxRouterSpec())
    assert two.shared is not None
    assert (two.shared.mlp.width, two.shared.gated) == (5632, True)  # the width is the default of the family
    assert (three.router, three.shared) == (SoftmaxRouterSpec(), None)
    shares = SoftmaxRouterSpec(renormalise=True)
    assert spec_of("qwen3_moe", norm_topk_prob=True).stack.layers[0].mlp.router == shares
    assert (mixtral.experts, mixtral.width, mixtral.router) == (4, 20, shares)


def test_windows() -> None:
    def windows(name: str, **values: Any) -> list[int | None]:
        return [layer.attention.mask.window for layer in spec_of(name, **values).stack.layers]

    assert windows("qwen2_moe", sliding_window=5) == [None] * 6
    assert windows("qwen2_moe", sliding_window=0, use_sliding_window=False) == [None] * 6
    slides = {"sliding_window": 5, "use_sliding_window": True}
    assert windows("qwen2_moe", **slides, max_window_layers=4) == [5, None, 5, None, None, None]
    kinds = ["full_attention"] * 5 + ["sliding_attention"]
    assert windows("qwen2_moe", **slides, layer_types=kinds) == [None] * 5 + [5]
    assert windows("qwen3_moe", sliding_window=5) == [None] * 6
    assert windows("qwen3_moe", **slides, max_window_layers=4) == [5] * 6
    assert windows("mixtral", sliding_window=5) == [5] * 6
    with pytest.raises(ConfigError, match="`layer_types` asks for sliding_attention, but no window is set"):
        spec_of("qwen2_moe", layer_types=kinds)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`num_experts_per_tok` must be at most the number of experts \(4\), but is"):
        spec_of(name, num_experts_per_tok=5)
    with pytest.raises(ConfigError, match=r"`num_(local_)?experts` must be a whole number of at least 1, but is 0"):
        spec_of(name, num_experts=0)
    if name == "mixtral":
        with pytest.raises(ConfigError, match="`router_jitter_noise` is 0.1 in config.json, and only 0.0 is supported"):
            spec_of(name, router_jitter_noise=0.1)
        return
    for wrong in ([6], [-1], ["1"], 3, [True]):
        with pytest.raises(ConfigError, match="`mlp_only_layers` must list layers from 0 to 5, but is"):
            spec_of(name, mlp_only_layers=wrong)


def test_both_spellings_of_the_number_of_experts() -> None:
    for name, own in (("qwen3_moe", "num_experts"), ("mixtral", "num_local_experts")):
        for spelling in ("num_experts", "num_local_experts"):
            read = Config({"model_type": name, spelling: 7})
            assert (read.num_experts, read.num_local_experts) == (7, 7)
            assert read.to_dict()[own] == 7
    assert Config({"model_type": "qwen2_moe", "num_experts": 7}).to_dict()["num_experts"] == 7


NAMES_OF_EXPERTS = {
    "qwen2_moe": ["model.layers.1.mlp.experts.{}.gate_proj.weight", "model.layers.1.mlp.gate.weight"],
    "qwen3_moe": ["model.layers.1.mlp.experts.{}.gate_proj.weight", "model.layers.1.mlp.gate.weight"],
    "mixtral": ["model.layers.1.block_sparse_moe.experts.{}.w1.weight", "model.layers.1.block_sparse_moe.gate.weight"],
}


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_a_tensor_for_each_expert(name: str) -> None:
    model = new_model(config(name, num_hidden_layers=2), task="base")
    rules = rules_for(family_of(name, label="x"), "base", model.config)
    theirs = rules.export(model.network.state_dict())
    gate = model.network.state_dict()["stack.layers.1.mlp.experts.gate"]
    expert, router = NAMES_OF_EXPERTS[name]
    for index in range(4):
        assert torch.equal(theirs[expert.format(index)], gate[index])
    assert torch.equal(theirs[router], model.network.state_dict()["stack.layers.1.mlp.router.weight"])
    # Under the beginning of either head, or none, and never with an expert too many.
    for prefix in ("model.", "transformer.", ""):
        renamed = [prefix + key.removeprefix("model.") for key in theirs]
        assert sorted(rules.to_ours(renamed)) == sorted(model.network.state_dict())
    assert rules.plan([expert.format(4)]).unexpected == (expert.format(4),)
    with pytest.raises(WeightsError, match=r"'stack.layers.1.mlp.experts.gate' is made of 4 tensors; .*2.* is absent"):
        rules.to_ours([expert.format(index) for index in (0, 1, 3)])


def test_a_file_with_an_expert_missing_is_an_error_that_names_it(tmp_path: Path) -> None:
    model = new_model(config("mixtral", num_hidden_layers=1), task="causal_lm")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(19)[None]
    assert torch.equal(again.eval()(ids).logits, model.eval()(ids).logits)
    rules = rules_for(family_of("mixtral", label="x"), "causal_lm", model.config)
    theirs = rules.export(model.network.state_dict())
    del theirs["model.layers.0.block_sparse_moe.experts.3.w2.weight"]
    (tmp_path / "model.safetensors").unlink()
    save_state(theirs, tmp_path)
    with pytest.raises(WeightsError, match=r"model\.layers\.0\.block_sparse_moe\.experts\.3\.w2\.weight"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["num_local_experts"] == 4


def test_training_reaches_the_router_and_the_experts() -> None:
    torch.manual_seed(0)
    model = new_model(config("qwen2_moe", num_hidden_layers=1, shared_expert_intermediate_size=9), task="causal_lm")
    ids = torch.arange(19)[None]
    before = model(ids, labels=ids).loss.item()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimiser.step()
    # Nineteen different words, each followed by the next: chance is ln 19 = 2.94, and it is learned by heart.
    assert before > 2.8
    assert model(ids, labels=ids).loss.item() < 0.5
    mixture = model.network.stack.layers[0].mlp
    assert all(parameter.grad.abs().max() > 0 for parameter in mixture.parameters())
