"""Checkpoints as users have them: of another task, of other sizes, from within a wrapper, with weights that share
memory; against what the reference library makes of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from plait.errors import NotFoundError, OptionError, WeightsError
from plait.models import auto
from plait.models.auto import AutoModelForCausalLM, AutoModelForSequenceClassification

SIZES = {
    "vocab_size": 29,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "num_labels": 3,
}
IDS = torch.tensor([[5, 9, 2, 17, 3]])


def saved(folder: Path, name: str, task: str, **changes: Any) -> Any:
    """A random model of the reference library, saved in `folder`; a change to None takes the key out."""
    torch.manual_seed(0)
    values = {key: value for key, value in {**SIZES, **changes}.items() if value is not None}
    config = getattr(transformers, f"{name}Config")(**values)
    model = getattr(transformers, f"AutoModel{task}").from_config(config).eval()
    model.save_pretrained(folder)
    return model


def edited(folder: Path, edit: Callable[[dict[str, Tensor]], dict[str, Tensor]], *, name: str = "edited") -> Path:
    """A copy of a saved model with its tensors changed."""
    target = folder.parent / name
    target.mkdir()
    tensors = edit(safetensors.torch.load_file(folder / "model.safetensors"))
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_text((folder / "config.json").read_text())
    return target


@pytest.mark.parametrize(
    "task", ["SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice"]
)
def test_modernbert_as_published_gets_a_new_last_layer(
    task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its file is that of the masked-language model, whose dense layer and norm every head has in front."""
    special = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    theirs = saved(tmp_path, "ModernBert", "ForMaskedLM", **special)
    model = getattr(auto, f"AutoModelFor{task}").from_pretrained(tmp_path)
    head = model.network.head
    assert torch.equal(head.dense.weight, theirs.head.dense.weight)
    assert torch.equal(head.norm.weight, theirs.head.norm.weight)
    assert caplog.text.count("New, not in") == 1
    assert ": classifier.weight, classifier.bias. Train before use." in caplog.text
    ends = {"num_labels": 2} if task == "QuestionAnswering" else {}  # as many as it has labels, there
    reference = getattr(transformers, f"AutoModelFor{task}").from_pretrained(tmp_path, **ends).eval()
    with torch.no_grad():
        reference.classifier.weight.copy_(head.projection.weight)
        reference.classifier.bias.copy_(head.projection.bias)
        inputs = IDS[:, None] if task == "MultipleChoice" else IDS
        mine, other = model(inputs), reference(inputs)
    # float32 rounds at 6e-8 of a value; a few layers of sums of a dozen values stay below 1e-5 of the largest
    key = "start_logits" if task == "QuestionAnswering" else "logits"
    torch.testing.assert_close(mine[key], other[key], rtol=1e-5, atol=1e-5)


def test_other_labels_keep_what_is_in_front_of_them(tmp_path: Path) -> None:
    """As in the reference, only the layer of another size is new: the dense layer before it was trained."""
    sizes = {"dim": 8, "hidden_dim": 12, "n_layers": 2, "n_heads": 2, "intermediate_size": None}
    theirs = saved(tmp_path, "DistilBert", "ForSequenceClassification", **sizes)
    other = {"num_labels": 5, "ignore_mismatched_sizes": True}
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, **other)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, **other)
    assert torch.equal(reference.pre_classifier.weight, theirs.pre_classifier.weight)
    assert torch.equal(model.network.head.dense.weight, theirs.pre_classifier.weight)
    assert model.network.head.projection.weight.shape == (5, 8)


def test_another_width_is_no_other_head(tmp_path: Path) -> None:
    saved(tmp_path, "Bert", "ForSequenceClassification")
    with pytest.raises(WeightsError, match=r"of another shape:\n  .*8.* in the checkpoint, .*16.* in the model"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, hidden_size=16)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_files_from_within_a_wrapper(wrapper: str, tmp_path: Path) -> None:
    """`torch.save(DataParallel(model).state_dict())`, and that of a compiled model."""
    theirs = saved(tmp_path / "plain", "Llama", "ForCausalLM", num_key_value_heads=1)
    wrapped = edited(tmp_path / "plain", lambda tensors: {wrapper + name: part for name, part in tensors.items()})
    with torch.no_grad():
        mine, other = AutoModelForCausalLM.from_pretrained(wrapped)(IDS).logits, theirs(IDS).logits
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_a_wrapped_name_beside_the_plain_one_must_agree(tmp_path: Path) -> None:
    saved(tmp_path / "plain", "Llama", "ForCausalLM", num_key_value_heads=1)
    both = edited(tmp_path / "plain", lambda held: {**held, "module.model.norm.weight": held["model.norm.weight"] + 1})
    with pytest.raises(WeightsError, match="and module.model.norm.weight are one tensor of the model, but differ"):
        AutoModelForCausalLM.from_pretrained(both)


def test_weights_of_one_memory_are_trained_apart_where_they_are_not_tied(tmp_path: Path) -> None:
    """A pickle of a tied model holds its embedding once, under two names."""
    saved(tmp_path, "Llama", "ForCausalLM", num_key_value_heads=1, tie_word_embeddings=True)
    held = safetensors.torch.load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save({**held, "lm_head.weight": held["model.embed_tokens.weight"]}, tmp_path / "pytorch_model.bin")
    model = AutoModelForCausalLM.from_pretrained(tmp_path, tie_word_embeddings=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(1.0)
    assert torch.equal(model.get_input_embeddings().weight, held["model.embed_tokens.weight"])
    model.save_pretrained(tmp_path / "ours")
    stored = safetensors.torch.load_file(tmp_path / "ours" / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], held["model.embed_tokens.weight"] + 1)


def test_notes_of_the_program_that_trained_opt_are_left_out(tmp_path: Path) -> None:
    saved(tmp_path / "plain", "OPT", "ForCausalLM", ffn_dim=12, intermediate_size=None)
    noted = edited(tmp_path / "plain", lambda tensors: {**tensors, "model.decoder.version": torch.tensor([3.0])})
    with torch.no_grad():
        plain, other = (AutoModelForCausalLM.from_pretrained(folder)(IDS) for folder in (tmp_path / "plain", noted))
    assert torch.equal(plain.logits, other.logits)


def test_a_format_that_cannot_be_avoided_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path, "Llama", "ForCausalLM", num_key_value_heads=1)
    with caplog.at_level(logging.INFO):
        AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=False)
    assert "use_safetensors=False has no effect: of several formats, safetensors are read." in caplog.text


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", "ForCausalLM", num_key_value_heads=1)
    with pytest.raises(OptionError, match=r"config\.json is a file, and a model is saved into a folder\. Name one"):
        AutoModelForCausalLM.from_pretrained(tmp_path).save_pretrained(tmp_path / "config.json")


@pytest.mark.parametrize(("name", "task"), [("Llama", "ForCausalLM"), ("T5", "ForSeq2SeqLM")])
def test_tensors_that_are_assigned_stay_shared(name: str, task: str, tmp_path: Path) -> None:
    """Or training would part what the configuration ties, and what is saved then would contradict itself."""
    sizes = {"num_key_value_heads": 1, "tie_word_embeddings": True}
    if name == "T5":
        sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_heads": 2, "num_layers": 2, "hidden_size": None}
        sizes |= dict.fromkeys(["intermediate_size", "num_attention_heads", "num_hidden_layers", "initializer_range"])
    saved(tmp_path, name, task, **sizes)
    model = getattr(auto, f"AutoModel{task}").from_pretrained(tmp_path)
    table, parameters = model.get_input_embeddings().weight, len(list(model.parameters()))
    model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
    assert model.get_input_embeddings().weight is not table
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert len(list(model.parameters())) == parameters


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "float8_e4m3fn"}, "dtype must be one of auto, fastest, float32, float16, bfloat16, float64, but is"),
        ({"dtype": torch.float8_e5m2}, "dtype must be one of auto, fastest, float32, float16, bfloat16, float64, but"),
        (
            {"device_map": "autto"},
            "device_map names 'autto', which is not a device that torch knows. Did you mean 'auto'",
        ),
        ({"device_map": {"": "disk", "lm_head": "gpu"}}, "device_map names 'gpu', which is not a device that torch"),
    ],
)
def test_what_there_is_not_is_said_before_anything_is_fetched(options: dict[str, Any], text: str) -> None:
    """Nothing computes in eight bits; and no hub is asked for a model that could not be loaded so."""
    with pytest.raises(OptionError) as caught:
        AutoModelForCausalLM.from_pretrained("no-such/model", **options)
    assert text in str(caught.value)


def test_a_file_in_the_place_of_the_folder_for_parts_on_disk(tmp_path: Path) -> None:
    saved(tmp_path, "Llama", "ForCausalLM", num_key_value_heads=1)
    with pytest.raises(OptionError, match=r"offload_folder='.*config\.json' is a file\. Name a folder"):
        AutoModelForCausalLM.from_pretrained(
            tmp_path, device_map={"": "disk"}, dtype="bfloat16", offload_folder=tmp_path / "config.json"
        )


def test_arguments_of_saving_that_scripts_give(tmp_path: Path) -> None:
    """As after training with several processes: `is_main_process`, `save_function`; and those that would be in vain."""
    saved(tmp_path / "theirs", "Llama", "ForCausalLM", num_key_value_heads=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "other process", is_main_process=False, save_function=torch.save)
    assert not (tmp_path / "other process").exists()
    model.save_pretrained(save_directory=tmp_path / "ours", is_main_process=True, push_to_hub=False, variant=None)
    model.config.save_pretrained(save_directory=tmp_path / "ours")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "ours").config == model.config
    for options, text in (
        ({"push_to_hub": True}, "`push_to_hub` of save_pretrained is not supported: save the model, and upload"),
        ({"state_dict": model.state_dict()}, "`state_dict` of save_pretrained is not supported: put it into the model"),
        ({"variant": "fp16"}, "`variant` of save_pretrained is not supported: rename the file afterwards"),
        ({"max_shardsize": "1MB"}, "has no argument 'max_shardsize'. Did you mean 'max_shard_size'?"),
    ):
        with pytest.raises(OptionError) as caught:
            model.save_pretrained(tmp_path / "no", **options)
        assert text in str(caught.value)
    assert not (tmp_path / "no").exists()


def test_the_second_head_of_a_gpt2_is_left_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=29, n_embd=8, n_layer=2, n_head=2, initializer_range=0.3, num_labels=1)
    theirs = transformers.GPT2DoubleHeadsModel(config).eval()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        mine, other = AutoModelForCausalLM.from_pretrained(tmp_path)(IDS).logits, theirs(IDS).logits
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    saved(tmp_path / "theirs", "Llama", "ForCausalLM", num_key_value_heads=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    whole = sorted(file.name for file in (tmp_path / "ours").iterdir())
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (tmp_path / "ours" / f".{name}.0a1b2c3d.partial").write_text("half of i")
    model.save_pretrained(tmp_path / "ours")
    assert sorted(file.name for file in (tmp_path / "ours").iterdir()) == whole


def split_gguf(folder: Path) -> Any:
    """A random Llama of the reference library, as a GGUF model in several files."""
    theirs = saved(folder / "theirs", "Llama", "ForCausalLM", num_key_value_heads=2, tie_word_embeddings=True)
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama", split_max_tensors=5)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(theirs.config.rms_norm_eps)
    writer.add_vocab_size(29)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in theirs.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # llama.cpp has rotary pairs side by side: (heads, 2, 2, D) turned
            tensor = tensor.view(2, 2, 2, 8).transpose(1, 2).reshape(8, 8)
        if name != "lm_head.weight":
            writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return theirs


def test_a_folder_with_a_split_gguf_is_one_model(tmp_path: Path) -> None:
    theirs = split_gguf(tmp_path)
    assert len(list(tmp_path.glob("tiny-0000?-of-0000?.gguf"))) == 4
    with torch.no_grad():
        mine, other = AutoModelForCausalLM.from_pretrained(tmp_path)(IDS).logits, theirs(IDS).logits
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    (tmp_path / "tiny-00001-of-00004.gguf").unlink()
    with pytest.raises(
        WeightsError, match="tiny-00002-of-00004.gguf is one of 4 files, of which 1 are missing: tiny-00001"
    ):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_folder_with_two_gguf_models_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(
        NotFoundError, match=r"has no file 'config\.json'.* Name the GGUF model to open, as in .*/a\.gguf\."
    ):
        AutoModelForCausalLM.from_pretrained(tmp_path)
