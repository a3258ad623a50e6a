"""What parameters are called: as elsewhere, so that scripts that choose by name choose what they mean."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from plait import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from plait.errors import WeightsError
from plait.models.config import Config
from plait.models.files import model_of, new_model, read_topology
from plait.models.registry import FAMILIES, family_of
from plait.nn.build import build

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 29}
BERT = {"model_type": "bert", **SIZES}
DEBERTA = {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_biased_input": False, "share_att_key": True}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2}


def classifier(family: str = "bert", **values: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config({"model_type": family, **SIZES, "num_labels": 3, **values})


def batch() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[3, 4, 5], [6, 7, 8]]), "labels": torch.tensor([0, 2])}


def trained(model: Any) -> set[str]:
    return {name for name, part in model.named_parameters() if part.requires_grad}


# -- the idioms --------------------------------------------------------------------------------------------------------


def test_everything_but_the_head_is_frozen_by_name() -> None:
    model = classifier()
    before = copy.deepcopy(model.state_dict())
    for name, parameter in model.named_parameters():
        if not name.startswith("classifier"):
            parameter.requires_grad = False
    assert trained(model) == {"classifier.weight", "classifier.bias"}
    optimizer = torch.optim.AdamW(filter(lambda part: part.requires_grad, model.parameters()), lr=0.1)
    losses = []
    for _ in range(20):
        losses.append(model(**batch()).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] / 2
    changed = {name for name, part in model.state_dict().items() if not torch.equal(part, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(("family", "body", "head"), [("bert", "bert", "classifier"), ("llama", "model", "score")])
def test_the_body_is_frozen_by_its_attribute_and_by_its_names(family: str, body: str, head: str) -> None:
    for freeze in (
        lambda model: [part.requires_grad_(False) for part in getattr(model, body).parameters()],
        lambda model: [part.requires_grad_(False) for name, part in model.named_parameters() if f"{body}." in name],
        lambda model: model.freeze(),
    ):
        model = classifier(family)
        freeze(model)
        assert {name.split(".")[0] for name in trained(model)} == {head}
        assert trained(model)


def test_layers_and_norms_are_chosen_by_name() -> None:
    model = classifier()
    last = {name for name in trained(model) if "encoder.layer.1." in name or "classifier" in name}
    assert {id(part) for name, part in model.named_parameters() if name in last} == {
        id(part) for part in (*model.layers[1].parameters(), *model.network.head.parameters())
    }
    no_decay = ("bias", "LayerNorm.weight")
    spared = {name for name, _ in model.named_parameters() if any(each in name for each in no_decay)}
    assert spared == {name for name, part in model.named_parameters() if part.dim() == 1}


def test_averages_are_kept_by_name() -> None:
    model = classifier()
    shadow = {name: part.detach().clone() for name, part in model.named_parameters()}
    with torch.no_grad():
        for part in model.parameters():
            part.add_(1.0)
        for name, part in model.named_parameters():
            part.lerp_(shadow[name], 0.5)
    for name, part in model.state_dict().items():
        torch.testing.assert_close(part, shadow[name] + 0.5)
    with torch.no_grad():
        model.load_state_dict(shadow)
    assert all(torch.equal(part, shadow[name]) for name, part in model.named_parameters())


# -- consistency -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_is_one_of_the_file(family: str) -> None:
    """Names of the model are those of its state and distinct; of one tensor here and there, the file's own."""
    values = DEBERTA if family == "deberta-v2" else {}
    heads = family_of(family, label="the test").HEADS
    for task in heads:
        config = Config(values, model_type=family)
        if task == "causal_lm" and "masked_lm" in heads:
            config.is_decoder = True
        model = model_of(config, task=task, network=build(read_topology(config, task), device="meta"))
        names = [name for name, _ in model.named_parameters()]
        assert len({*names}) == len(names)
        assert not [name for name in names if name.startswith("network.")]
        assert [name for name, _ in model.named_parameters(remove_duplicate=False)] == list(model.state_dict())
        assert [id(part) for part in model.parameters()] == [id(part) for _, part in model.named_parameters()]


@pytest.mark.parametrize("values", [BERT, LLAMA, {**BERT, "model_type": "electra"}, {**LLAMA, "model_type": "qwen3"}])
@pytest.mark.parametrize("task", ["AutoModel", "AutoModelForSequenceClassification", "AutoModelForTokenClassification"])
def test_names_are_those_of_the_reference(values: dict[str, Any], task: str) -> None:
    import plait

    kind = values["model_type"]
    more = {key: value for key, value in values.items() if key != "model_type"}
    theirs = getattr(transformers, task).from_config(transformers.AutoConfig.for_model(kind, **more))
    ours = getattr(plait, task).from_config(values)
    assert {name: part.shape for name, part in ours.named_parameters()} == {
        name: part.shape for name, part in theirs.named_parameters()
    }


def test_a_state_of_the_reference_is_loaded_where_tensors_correspond() -> None:
    more = {key: value for key, value in BERT.items() if key != "model_type"}
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**more, num_labels=3)).eval()
    ours = classifier().eval()
    ours.load_state_dict(theirs.state_dict())
    ids = batch()["input_ids"]
    # float32, two layers of width 16.
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=0, atol=1e-5)
    theirs.load_state_dict(ours.state_dict())


def test_parts_of_one_tensor_have_their_word_in_its_name() -> None:
    model = new_model(Config(model_type="gpt2", n_embd=16, n_layer=1, n_head=4, vocab_size=29), task="causal_lm")
    attention = [name for name, _ in model.named_parameters() if ".attn." in name]
    parts = [f"c_attn.{part}" for part in ("query", "key", "value")]
    assert attention == [f"transformer.h.0.attn.{p}.{leaf}" for p in (*parts, "c_proj") for leaf in ("weight", "bias")]
    values = {**LLAMA, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
    experts = [name for name, _ in new_model(Config(values), task="causal_lm").named_parameters() if "experts" in name]
    layer = "model.layers.{}.block_sparse_moe.experts.{}.weight"
    assert experts == [layer.format(index, name) for index in range(2) for name in ("w1", "w3", "w2")]


def test_one_parameter_by_its_name() -> None:
    model = classifier()
    assert model.get_parameter("classifier.weight") is model.network.head.projection.weight
    assert model.get_parameter("network.head.projection.weight") is model.network.head.projection.weight
    with pytest.raises(AttributeError):
        model.get_parameter("classifier.wait")


def test_states_that_do_not_fit_are_refused_by_name() -> None:
    model = classifier()
    state = dict(model.state_dict())
    bias = state.pop("classifier.bias")
    with pytest.raises(WeightsError) as error:
        model.load_state_dict({**state, "classifier.bais": bias})
    assert str(error.value) == (
        "The state does not fit PretrainedModel: it lacks classifier.bias (1), and it holds in excess classifier.bais "
        "(1). Did you mean 'classifier.bias'? The folder of a checkpoint is read with from_pretrained or load_weights."
    )
    found = model.load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["classifier.bias"], [])


def test_within_another_module_names_are_those_within() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = AutoModel.from_config(BERT)
            self.score = nn.Linear(16, 1)

    own = Own()
    names = [name for name, _ in own.named_parameters()]
    assert names == list(own.state_dict())
    assert names[0] == "body.network.stack.frontend.tokens.weight"
    other = Own()
    other.load_state_dict(own.state_dict())
    assert all(torch.equal(part, other.state_dict()[name]) for name, part in own.state_dict().items())


def test_files_are_as_they_were(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = AutoModelForCausalLM.from_config(LLAMA)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {*stored} == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(stored[name], part) for name, part in model.named_parameters())
