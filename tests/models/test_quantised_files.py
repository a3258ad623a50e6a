"""Quantised models in files and in training: to the bit, whatever the order of a CPU; refused where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_quantised import FAMILIES, LATENT, dense, given, made, numbers

from plait import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, Trainer, TrainingArguments
from plait.errors import ConfigError, OptionError, TrainingError, WeightsError
from plait.models.quantise import quantise
from plait.weights import quantise as matrices
from plait.weights.quantise import QuantisedLinear


def saved(family: str, kind: str, folder: Path, **options: Any) -> Any:
    model = made(family)
    quantise(model.network, kind)
    model.save_pretrained(folder, **options)
    return model


def assert_same_bits(model: Any, other: Any) -> None:
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for name, part in expected.items():
        assert part.dtype == state[name].dtype, name
        assert torch.equal(state[name], part), name


@pytest.mark.parametrize("size", ["5GB", "20KB"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_gives_the_same_bits(tmp_path: Path, family: str, kind: str, size: str) -> None:
    model = saved(family, kind, tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "20KB")
    again = FAMILIES[family][0].from_pretrained(tmp_path)
    assert_same_bits(again, model)
    assert not any(part.is_meta for part in (*again.parameters(), *again.buffers()))
    # Many rows and few: kernels read the numbers of few where they lie.
    few = {name: part[:1, :9] for name, part in given(family).items()}
    for arguments in (given(family), few):
        assert torch.equal(numbers(again, arguments), numbers(model, arguments))
    again.save_pretrained(tmp_path / "again", max_shard_size=size)
    for file in tmp_path.glob("*.safetensors"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_numbers_at_any_address_are_multiplied() -> None:
    """The kernel of int8 ends the process at addresses that are no multiples of 16, where a file may hold them."""
    torch.manual_seed(0)
    matrix = matrices.Int8(torch.randn(48, 64))
    memory = torch.empty(48 * 64 + 64, dtype=torch.int8)
    x = torch.randn(5, 64)
    expected = matrix(x)
    for place in (1, 8, 24):
        odd = memory[place : place + 48 * 64].view(48, 64).copy_(matrix.numbers)
        assert odd.data_ptr() % 16
        empty = matrices.Int8(torch.empty(48, 64, device="meta"))
        empty.factors = matrix.factors
        assert empty.receive("numbers", odd)
        assert torch.equal(empty(x), expected)
        empty.numbers = odd  # as load_state_dict(…, assign=True) leaves them
        # Dense, of inputs that are not rounded to bfloat16: 2^-9 of each product, as in sums of 64.
        torch.testing.assert_close(empty(x), expected, rtol=0, atol=2**-8 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "dtype"), [("int8", "bfloat16"), ("int4", "float32")])
def test_the_parts_that_are_not_quantised_take_another_dtype(tmp_path: Path, kind: str, dtype: str) -> None:
    saved("deepseek_v3", kind, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert {str(part.dtype) for name, part in model.named_parameters() if "correction" not in name} == {
        f"torch.{dtype}"
    }
    types = {part.dtype for name, part in model.named_buffers() if name.endswith((".factors", ".scales"))}
    assert types == {torch.bfloat16}  # whatever the model's
    assert LATENT["q_lora_rank"] == 32


def test_files_hold_one_order_for_all_computers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = saved("llama", "int4", tmp_path / "here")
    monkeypatch.setattr(matrices, "_order", lambda rows: None)  # a computer without the kernel
    elsewhere = saved("llama", "int4", tmp_path / "elsewhere")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("here", "elsewhere")]
    assert files[0] == files[1]
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "here")
    assert {part.order for part in read.modules() if isinstance(part, matrices.Int4)} == {None}
    assert torch.equal(numbers(read, given("llama")), numbers(elsewhere, given("llama")))
    monkeypatch.undo()
    here.load_state_dict(read.state_dict())
    assert torch.equal(numbers(here, given("llama")), numbers(saved("llama", "int4", tmp_path), given("llama")))


def test_numbers_are_filled_in_place(tmp_path: Path) -> None:
    for kind in ("int8", "int4"):
        model = saved("llama", kind, tmp_path / kind)
        before = numbers(model, given("llama"))
        other = made("llama")
        with torch.no_grad():
            for part in other.parameters():
                part.mul_(1.5)
        quantise(other.network, kind)
        assert not torch.equal(numbers(other, given("llama")), before)
        other.load_weights(tmp_path / kind)
        assert torch.equal(numbers(other, given("llama")), before)


def test_the_configuration_says_so(tmp_path: Path) -> None:
    saved("llama", "int4", tmp_path)
    note = {"library": "plait", "kind": "int4"}
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"] == note
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int4")
    assert model.config.quantization_config == note
    for options, asked in (({"quantize": "int8"}, "quantize='int8'"), ({"prepack": True}, "prepack=True")):
        with pytest.raises(OptionError) as error:
            AutoModelForCausalLM.from_pretrained(tmp_path, **options)
        assert str(error.value) == (
            f"The weights of {tmp_path} are quantised to int4, and {asked} was given. Leave it out, or load the model "
            "that they were made from."
        )
    with pytest.raises(OptionError) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": "30KB"})
    assert str(error.value) == (
        "Quantised matrices are put into the order of this CPU when they are read, so no part can lie on disk. Allow "
        "more memory."
    )
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": "1MB"})
    assert whole.hf_device_map == {"": "cpu"}
    # A new model of the same shape has weights as others have.
    fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert fresh.config.get("quantization_config") is None
    assert not [part for part in fresh.modules() if isinstance(part, QuantisedLinear)]
    assert AutoModelForCausalLM.from_config(fresh.config, quantize="int4").config.quantization_config == note


def test_what_others_quantised_is_refused(tmp_path: Path) -> None:
    made("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = AutoConfig.from_pretrained(tmp_path)
    for load, source in ((AutoModelForCausalLM.from_pretrained, tmp_path), (AutoModelForCausalLM.from_config, read)):
        with pytest.raises(ConfigError) as error:
            load(source)
        assert str(error.value) == (
            f"The weights of config.json of {tmp_path} are quantised by gptq, in a format that plait does not read. "
            "Load the model that they were made from, with quantize='int8' or quantize='int4'."
        )


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_reference_refuses_such_a_folder(tmp_path: Path, kind: str) -> None:
    saved("llama", kind, tmp_path)
    with pytest.raises(ValueError, match="has no `quant_method` attribute"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


def test_files_are_read_strictly(tmp_path: Path) -> None:
    saved("llama", "int8", tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    name = "stack.layers.1.attention.key.matrix.factors"
    save_file({key: value for key, value in whole.items() if key != name}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensor missing in the checkpoint:\s+stack\.layers\.1\.attention\.key"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    save_file({**whole, name: whole[name][:-1].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"\(31,\) in the checkpoint, \(32,\) in the model"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    # A note without the numbers, and numbers without the note.
    made("llama").save_pretrained(tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(plain))
    for folder in (tmp_path, tmp_path / "plain"):
        with pytest.raises(WeightsError, match="without a place in the model"):
            AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("family", ["llama", "mixtral", "bert", "gpt2"])
def test_ordinary_matrices_again(tmp_path: Path, family: str) -> None:
    model = made(family)
    quantise(model.network, "int4")
    plain, loader = dense(family, model), FAMILIES[family][0]
    assert model.dequantize() is model
    assert_same_bits(model, plain)
    assert model.num_parameters(only_trainable=True) == plain.num_parameters(only_trainable=True)
    assert torch.equal(numbers(model, given(family)), numbers(plain, given(family)))
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert_same_bits(loader.from_pretrained(tmp_path), plain)
    theirs = getattr(transformers, loader.__name__).from_pretrained(tmp_path)
    output = theirs(given(family)["input_ids"])
    found = (output.last_hidden_state if loader.task == "base" else output.logits).detach()
    # The same float32 numbers multiplied by another library, two layers.
    torch.testing.assert_close(found, numbers(plain, given(family)), rtol=1e-4, atol=1e-4 * float(found.abs().max()))
    with pytest.raises(OptionError) as error:
        model.dequantize()
    assert str(error.value) == "This model is not quantised: its weights are as the checkpoint holds them."


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_new_head_learns_on_quantised_layers(tmp_path: Path) -> None:
    saved("bert", "int8", tmp_path / "base")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    head = {"classifier.weight", "classifier.bias"}
    assert {name for name, part in model.named_parameters() if part.requires_grad} == head
    before = {name: part.clone() for name, part in model.state_dict().items()}
    ids = given("bert", 6)["input_ids"]
    rows = [{"input_ids": row, "label": index % 3} for index, row in enumerate(ids.tolist())]
    options: dict[str, Any] = {"report_to": "none", "disable_tqdm": True, "save_strategy": "epoch"}
    options |= {"eval_strategy": "epoch", "load_best_model_at_end": True, "learning_rate": 0.01}
    arguments = TrainingArguments(output_dir=str(tmp_path / "run"), num_train_epochs=40, **options)
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    first, last = trainer.evaluate()["eval_loss"], (trainer.train(), trainer.evaluate()["eval_loss"])[1]
    assert last < first / 2
    changed = {name for name, part in model.state_dict().items() if not torch.equal(part, before[name])}
    assert changed == head
    trainer.save_model(str(tmp_path / "again"))
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    assert_same_bits(again, model.eval())


def test_gradients_reach_what_lies_in_front() -> None:
    model = made("llama")
    quantise(model.network, "int4")
    slopes = []
    for each in (model, dense("llama", model)):
        vectors = torch.randn(4, 30, 64, generator=torch.Generator().manual_seed(2)).requires_grad_()
        each(inputs_embeds=vectors, labels=given("llama", 4)["input_ids"]).loss.backward()
        assert vectors.grad is not None
        slopes.append(vectors.grad)
    # The same matrices, made dense: float32 sums in the same order but for the bias.
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5 * float(slopes[1].abs().max()))
    assert all(part.grad is None for part in model.parameters())


def test_nothing_to_train_is_said_before_the_first_step(tmp_path: Path) -> None:
    model = made("llama")
    quantise(model.network, "int8")
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", disable_tqdm=True)
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}]
    with pytest.raises(TrainingError) as error:
        Trainer(model, arguments, train_dataset=rows)
    assert str(error.value) == (
        "nothing to train: the matrices of PretrainedModel are quantised to int8, which no gradient reaches, and its "
        "other parameters are frozen. Train the head (model.unfreeze(last=0)) or parts that you add; or the model "
        "itself, as its weights are without quantize=, or after model.dequantize()."
    )
    Trainer(model, arguments, eval_dataset=rows).evaluate()
    Trainer(model.unfreeze(last=0), arguments, train_dataset=rows).train()
    for part in made("llama").freeze().requires_grad_(False), model.dequantize().requires_grad_(False):
        with pytest.raises(TrainingError, match="nothing to train: every parameter of PretrainedModel is frozen"):
            Trainer(part, arguments, train_dataset=rows)
