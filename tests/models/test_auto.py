"""The Auto classes: arguments, dtypes, devices, strictness, new heads, and GGUF files."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_sizes import TINY
from torch import Tensor

from plait.errors import ConfigError, NotFoundError, OptionError, WeightsError
from plait.models import auto, probe
from plait.models.auto import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForNextSentencePrediction,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTextClassification,
    AutoModelForTextGeneration,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from plait.models.config import Config
from plait.models.options import LoadOptions, parse_dtype


def edited(folder: Path, target: Path, edit: Callable[[dict[str, Tensor]], None]) -> Path:
    """A copy of a saved model with its tensors changed."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    edit(tensors)
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_text((folder / "config.json").read_text())
    return target


# -- imports
# --------------------------------------------------------------------------------------------------------------


def test_a_tokenizer_and_a_configuration_need_no_torch(minilm: Path, smollm2: Path) -> None:
    code = (
        "import sys; from plait.models.auto import AutoConfig, AutoTokenizer\n"
        "for path in sys.argv[1:]:\n"
        "    AutoConfig.from_pretrained(path)\n"
        "    assert AutoTokenizer.from_pretrained(path)('hello')['input_ids']\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(minilm), str(smollm2)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


@pytest.mark.network
def test_the_articles_tokens(minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm, use_fast=True, revision=None, local_files_only=True)
    tokens = tokenizer("Hello, how are you?")
    assert tokens["input_ids"] == [101, 7592, 1010, 2129, 2024, 2017, 1029, 102]
    assert tokenizer.convert_ids_to_tokens(tokens["input_ids"]) == [
        *("[CLS]", "hello", ",", "how", "are", "you", "?", "[SEP]")
    ]


# -- arguments
# ------------------------------------------------------------------------------------------------------------


def test_every_argument_of_the_article(bert: Path) -> None:
    model = AutoModel.from_pretrained(
        bert,
        config=None,
        cache_dir=None,
        force_download=False,
        resume_download=True,
        local_files_only=True,
        proxies=None,
        revision=None,
        subfolder=None,
        trust_remote_code=False,
        torch_dtype="bfloat16",
        low_cpu_mem_usage=True,
        device_map="cpu",
        offload_folder="offload",
        offload_state_dict=True,
        use_auth_token=None,
        hidden_dropout_prob=0.0,
    )
    assert model.dtype == torch.bfloat16
    assert model.config.hidden_dropout_prob == 0.0
    assert not Path("offload").exists()


def test_a_subfolder(bert: Path) -> None:
    assert AutoModel.from_pretrained(bert.parent, subfolder=bert.name).config.hidden_size == 8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"trust_remote_code": True},
            "trust_remote_code=True is refused: plait never runs code that comes with a checkpoint.",
        ),
        (
            {"torch_dtyp": "float16"},
            "There is no argument or configuration key 'torch_dtyp'. Did you mean 'torch_dtype'?",
        ),
        ({"load_in_4bit": True}, "`load_in_4bit` is not supported: give quantize='int4'"),
        ({"variant": "fp16"}, "`variant` is not supported: name the file itself in the reference instead"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "`dtype` and `torch_dtype` are two names of one argument"),
        ({"dtype": "float61"}, "one of auto, fastest, float32, float16, bfloat16, float64, but is 'float61'. Did you"),
        ({"dtype": torch.int8}, "but is torch.int8"),
        (
            {"output_loading_info": True},
            "`output_loading_info` is not supported: loading is strict, so a model that was loaded lacks nothing; the "
            "log names a new head.",
        ),
        (
            {"from_tf": True},
            "`from_tf` is not supported: save the model as safetensors with the library that wrote it.",
        ),
        (
            {"device_map": "gpu"},
            "device_map names 'gpu', which is not a device that torch knows. Did you mean 'cpu'? Give 'auto', 'cpu' or",
        ),
    ],
)
def test_arguments_that_are_refused(bert: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        AutoModel.from_pretrained(bert, **options)
    assert text in str(caught.value)


def test_from_config_takes_nothing_about_files(bert: Path) -> None:
    config = AutoConfig.from_pretrained(bert)
    for name, value in {"revision": "main", "offload_folder": bert, "ignore_mismatched_sizes": True}.items():
        with pytest.raises(OptionError) as caught:
            AutoModel.from_config(config, **{name: value})
        assert str(caught.value) == (
            f"`{name}` is about the files of a checkpoint, and from_config reads none. Leave it out, or call "
            "from_pretrained."
        )


def test_names_of_attention_elsewhere(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="plait.models"):
        AutoModel.from_pretrained(bert, attn_implementation="eager")
    assert "attn_implementation has no effect: torch's attention chooses its kernel." in caplog.text
    with pytest.raises(OptionError, match="must be one of sdpa, eager, .* but is 'eger'. Did you mean 'eager'"):
        AutoModel.from_pretrained(bert, attn_implementation="eger")


def test_refused_arguments_at_their_neutral_value(bert: Path) -> None:
    assert AutoModel.from_pretrained(bert, load_in_8bit=False, variant=None, attn_implementation="sdpa") is not None


@pytest.mark.parametrize("place", [None, "cpu", "auto", "balanced", "sequential", {"": "cpu"}, torch.device("cpu")])
def test_one_device(place: Any) -> None:
    if torch.accelerator.is_available() and isinstance(place, str) and place != "cpu":
        assert LoadOptions(device_map=place).device().type != "cpu"
    else:
        assert LoadOptions(device_map=place).device() == torch.device("cpu")


@pytest.mark.parametrize("place", [{"": "cpu", "head": "meta"}, {"": "disk"}])
def test_new_weights_lie_on_one_device(place: Any) -> None:
    with pytest.raises(OptionError, match="from_config draws weights on one device; only those of a checkpoint lie in"):
        LoadOptions(device_map=place).device()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("auto", None),
        ("float16", torch.float16),
        ("torch.bfloat16", torch.bfloat16),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(given: Any, expected: torch.dtype | None) -> None:
    assert parse_dtype(given) == expected


@pytest.mark.parametrize(("halves", "expected"), [(0.9, torch.bfloat16), (1.1, torch.float32)])
def test_the_fastest_dtype_is_the_one_with_the_shortest_product(
    halves: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter(range(2 * probe.TRIES))

    def seconds(dtype: torch.dtype) -> float:
        # The first half of all products is slow, as beside another program.
        return (5 if next(counts) < probe.TRIES else 1) * (halves if dtype.itemsize == 2 else 1.0)

    monkeypatch.setattr(probe, "seconds", seconds)
    probe.fastest.cache_clear()
    assert parse_dtype("fastest") == expected
    assert parse_dtype("fastest") == expected  # measured once, or the iterator would have ended
    probe.fastest.cache_clear()


def test_one_product_takes_time() -> None:
    assert probe.seconds(torch.bfloat16) > 0


def test_a_configuration_in_place_of_the_file(bert: Path) -> None:
    config = AutoConfig.from_pretrained(bert)
    config.hidden_dropout_prob = 0.25
    assert AutoModel.from_pretrained(bert, config=config).config.hidden_dropout_prob == 0.25
    assert AutoModel.from_pretrained(bert, config=config.to_dict()).config.hidden_dropout_prob == 0.25
    other = AutoModel.from_pretrained(bert, config=config, hidden_dropout_prob=0.5).config
    assert (other.hidden_dropout_prob, config.hidden_dropout_prob) == (0.5, 0.25)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(NotFoundError, match=r"config\.json.*notes\.txt"):
        AutoModel.from_pretrained(tmp_path)
    Config(model_type="bert", **TINY).save_pretrained(tmp_path)
    with pytest.raises(NotFoundError, match="holds no weights"):
        AutoModel.from_pretrained(tmp_path)


def test_classes_are_not_instantiated() -> None:
    for name in ("AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoConfig"):
        with pytest.raises(OptionError, match=f"use {name}.from_pretrained"):
            getattr(auto, name)()


def test_other_names_of_a_task() -> None:
    assert AutoModelForTextClassification.task == AutoModelForSequenceClassification.task
    assert AutoModelForTextGeneration.task == AutoModelForCausalLM.task


# -- what is loaded
# -------------------------------------------------------------------------------------------------------


def test_the_dtype_of_the_file_is_kept(bert: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(bert, dtype="float16").save_pretrained(tmp_path)
    for dtype in (None, "auto"):
        assert AutoModel.from_pretrained(tmp_path, torch_dtype=dtype).dtype == torch.float16
    assert AutoModel.from_pretrained(tmp_path, torch_dtype=torch.float32).dtype == torch.float32


def test_a_file_of_mixed_dtypes_is_read_in_the_one_of_most_numbers(bert: Path, tmp_path: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if "LayerNorm" not in name:
                tensors[name] = tensor.to(torch.bfloat16)

    model = AutoModel.from_pretrained(edited(bert, tmp_path, halve))
    assert {part.dtype for part in model.parameters()} == {torch.bfloat16}


def test_no_number_is_drawn_for_what_is_loaded(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("an initialiser ran")

    for name in ("normal_", "zeros_", "ones_", "xavier_uniform_", "kaiming_uniform_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, refuse)
    AutoModel.from_pretrained(bert)


def test_a_missing_an_unexpected_and_a_misshapen_tensor_in_one_error(bert: Path, tmp_path: Path) -> None:
    def break_it(tensors: dict[str, Tensor]) -> None:
        tensors["encoder.layer.1.output.dense.weigth"] = tensors.pop("encoder.layer.1.output.dense.weight")
        tensors["embeddings.LayerNorm.bias"] = torch.zeros(9)

    with pytest.raises(WeightsError) as caught:
        AutoModel.from_pretrained(edited(bert, tmp_path, break_it))
    text = str(caught.value)
    assert f"model.safetensors of {tmp_path} does not fit" in text
    assert "1 tensor missing in the checkpoint:\n  bert.encoder.layer.1.output.dense.weight" in text
    assert "1 tensor without a place in the model:\n  encoder.layer.1.output.dense.weigth" in text
    assert "embeddings.LayerNorm.bias (stack.frontend.norm.bias): (9,) in the checkpoint, (8,) in the model" in text


def test_a_new_head_is_made_and_named(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3)
    assert "New, not in" in caplog.text
    assert ": classifier.weight, classifier.bias. Train before use." in caplog.text
    head = model.network.head.projection
    assert head.weight.shape == (3, 8)
    assert head.weight.abs().max() > 0.1
    assert head.bias.abs().max() == 0
    assert torch.equal(model.network.pool.dense.weight, AutoModel.from_pretrained(bert).network.pool.dense.weight)
    caplog.clear()
    AutoModel.from_pretrained(bert)
    assert caplog.text == ""


def test_a_new_head_has_the_dtype_of_the_rest(bert: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(bert, dtype="bfloat16")
    assert {part.dtype for part in model.parameters()} == {torch.bfloat16}
    assert not any(part.is_meta for part in model.parameters())


def test_a_language_head_is_never_new(bert: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing in the checkpoint:\n  cls\.predictions"):
        AutoModelForMaskedLM.from_pretrained(bert)


def test_half_a_head_is_an_error(bert: Path, tmp_path: Path) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(bert)
    model.save_pretrained(tmp_path / "whole")
    (tmp_path / "half").mkdir()
    half = edited(tmp_path / "whole", tmp_path / "half", lambda tensors: tensors.__delitem__("qa_outputs.bias"))
    with pytest.raises(WeightsError, match=r"missing in the checkpoint:\n  qa_outputs\.bias"):
        AutoModelForQuestionAnswering.from_pretrained(half)


def test_a_head_without_its_pool_is_an_error(bert: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(bert).save_pretrained(tmp_path / "whole")
    (tmp_path / "half").mkdir()

    def drop(tensors: dict[str, Tensor]) -> None:
        del tensors["bert.pooler.dense.weight"], tensors["bert.pooler.dense.bias"]

    half = edited(tmp_path / "whole", tmp_path / "half", drop)
    with pytest.raises(WeightsError, match=r"2 tensors missing in the checkpoint:\n  bert\.pooler\.dense\.weight"):
        AutoModelForSequenceClassification.from_pretrained(half)


def test_a_head_of_another_size(bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3).save_pretrained(tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.num_labels == 3
    with pytest.raises(WeightsError) as caught:
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    assert "holds a head for 3 labels, but the configuration asks for 5. Leave num_labels out" in str(caught.value)
    caplog.clear()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert ": classifier.weight, classifier.bias. Train before use." in caplog.text
    with torch.no_grad():
        assert model(torch.ones(1, 3).long()).logits.shape == (1, 5)


def test_the_heads_of_other_tasks_are_left_in_the_file(bert: Path, tmp_path: Path) -> None:
    model = AutoModelForNextSentencePrediction.from_pretrained(bert)
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        ids = torch.ones(1, 3).long()
        assert torch.equal(base(ids).pooler_output, model.base_model(ids).pooler_output)


def test_a_checkpoint_without_a_pooler_has_no_pooled_output(bert: Path, tmp_path: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(bert)
    model.save_pretrained(tmp_path)
    output = AutoModel.from_pretrained(tmp_path)(torch.ones(1, 3).long())
    assert "pooler_output" not in output
    assert output.pooler_output is None


def test_sharded_and_old_files(bert: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(bert)
    model.save_pretrained(tmp_path / "shards", max_shard_size=2000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    old = tmp_path / "old"
    model.config.save_pretrained(old)
    tensors = {
        f"bert.{name}": tensor for name, tensor in safetensors.torch.load_file(bert / "model.safetensors").items()
    }
    spelled = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tensors.items()
    }
    torch.save({**spelled, "bert.embeddings.position_ids": torch.arange(512)[None]}, old / "pytorch_model.bin")
    for folder in (tmp_path / "shards", old):
        for (name, mine), other in zip(
            AutoModel.from_pretrained(folder).named_parameters(), model.parameters(), strict=True
        ):
            assert torch.equal(mine, other), name
    with pytest.raises(WeightsError, match="is in the format torch, but use_safetensors=True was given"):
        AutoModel.from_pretrained(old, use_safetensors=True)


def test_from_config_draws_by_the_familys_rule() -> None:
    torch.manual_seed(0)
    config = Config(model_type="bert", **{**TINY, "hidden_size": 64, "vocab_size": 2000, "initializer_range": 0.05})
    model = AutoModelForMaskedLM.from_config(config, hidden_dropout_prob=0.2)
    assert model.training
    assert model.config.hidden_dropout_prob == 0.2
    embedding = model.get_input_embeddings().weight
    assert embedding[0].abs().max() == 0  # the padding's vector
    # 128000 numbers: the deviation of their deviation is 0.2 %.
    assert float(embedding[1:].detach().std()) == pytest.approx(0.05, rel=0.01)
    assert model.layers[0].around_mlp.after.weight.unique().tolist() == [1.0]
    assert AutoModel.from_config(config.to_dict(), dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="that Bert does not know"):
        AutoModel.from_config(Config(model_type="bert", sinks=3))


# -- GGUF
# -----------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """A GGUF file of version 3 with float32 tensors, after the format's description."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def item(value: Any) -> bytes:
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        if isinstance(value, float):
            return struct.pack("<If", 6, value)
        if isinstance(value, list):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        return struct.pack("<II", 4, value)

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(text(name) + item(value) for name, value in metadata.items())
    data = b""
    for name, tensor in tensors.items():
        data += bytes(-len(data) % 32)
        shape = tuple(tensor.shape)[::-1]
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += tensor.contiguous().numpy().tobytes()
    path.write_bytes(head + bytes(-len(head) % 32) + data)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_is_the_model_it_was_made_of(family: str, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = {**TINY, "num_key_value_heads": 1, "tie_word_embeddings": tied, "rope_theta": 500.0}
    model = AutoModelForCausalLM.from_config(Config(model_type=family, **values)).eval()
    for part in model.parameters():
        torch.nn.init.normal_(part, std=0.3)
    names = {"query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output"}
    tensors = {
        "token_embd.weight": model.get_input_embeddings().weight,
        "output_norm.weight": model.network.stack.norm.weight,
    }
    if not tied:
        tensors["output.weight"] = model.network.head.projection.weight
    for index, layer in enumerate(model.layers):
        state = dict(layer.named_parameters())
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                if (part := state.get(f"attention.{ours}.{kind}")) is not None:
                    if family == "llama" and ours in ("query", "key"):
                        # llama.cpp: pairs of a rotation side by side. (H·D, …) -> (H, 2, D/2, …) -> (H, D/2, 2, …)
                        part = part.unflatten(0, (-1, 2, 2)).transpose(1, 2).flatten(0, 2)
                    tensors[f"blk.{index}.{theirs}.{kind}"] = part
        for part_name in ("gate", "up", "down"):
            tensors[f"blk.{index}.ffn_{part_name}.weight"] = state[f"mlp.{part_name}.weight"]
        tensors[f"blk.{index}.attn_norm.weight"] = state["around_attention.before.weight"]
        tensors[f"blk.{index}.ffn_norm.weight"] = state["around_mlp.before.weight"]
    metadata: dict[str, Any] = {"general.architecture": family, "general.name": "tiny"}
    metadata |= {
        f"{family}.{key}": value
        for key, value in {
            "block_count": 2,
            "context_length": 64,
            "embedding_length": 8,
            "feed_forward_length": 12,
            "attention.head_count": 2,
            "attention.head_count_kv": 1,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.freq_base": 500.0,
        }.items()
    }
    metadata["tokenizer.ggml.tokens"] = [f"t{index}" for index in range(17)]
    write_gguf(tmp_path / "tiny.gguf", metadata, {name: part.detach() for name, part in tensors.items()})

    ids = torch.arange(1, 12)[None]
    with torch.no_grad():
        expected = model(ids).logits
        for reference, options in (
            (tmp_path / "tiny.gguf", {}),
            (tmp_path, {"gguf_file": "tiny.gguf"}),
            (tmp_path, {}),
        ):
            loaded = AutoModelForCausalLM.from_pretrained(reference, **options)
            assert torch.equal(loaded(ids).logits, expected)
        base = AutoModel.from_pretrained(tmp_path / "tiny.gguf")
        assert torch.equal(base(ids).last_hidden_state, model.base_model(ids).last_hidden_state)
        classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tiny.gguf", num_labels=1)
        assert classifier(ids).logits.shape == (1, 1)
    assert loaded.config.tie_word_embeddings == tied
    assert loaded.config.vocab_size == 17
    loaded.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model_type"] == family
