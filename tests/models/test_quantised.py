"""Quantised models: the network of the few-bit matrices and nothing else, in every kind of layer; how good it is."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plait import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from plait.errors import OptionError
from plait.models.quantise import QuantisedExperts, quantise
from plait.nn.attention import Attention
from plait.nn.joined import joined
from plait.nn.moe import Experts
from plait.weights.quantise import QuantisedLinear

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 90}
MIXTURE = {**SIZES, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}
LATENT = {**SIZES, "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16}
LATENT |= {"qk_nope_head_dim": 16, "v_head_dim": 16, "first_k_dense_replace": 2}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (AutoModel, SIZES),
    "llama": (AutoModelForCausalLM, {**SIZES, "num_key_value_heads": 2}),
    "mixtral": (AutoModelForCausalLM, MIXTURE),
    "deepseek_v3": (AutoModelForCausalLM, LATENT),
    "gpt2": (AutoModelForCausalLM, {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 96, "vocab_size": 90}),
    "phi": (AutoModelForCausalLM, SIZES),
    "t5": (
        AutoModelForSeq2SeqLM,
        {"d_model": 64, "d_ff": 96, "d_kv": 16, "num_heads": 4, "num_layers": 2, "vocab_size": 90},
    ),
}


def made(family: str) -> Any:
    loader, values = FAMILIES[family]
    torch.manual_seed(0)
    scale = {"initializer_factor": 1.0} if family == "t5" else {"initializer_range": 0.1}
    return loader.from_config({"model_type": family, **scale, **values}).eval()


def given(family: str, rows: int = 20) -> dict[str, Tensor]:
    ids = torch.randint(3, 90, (rows, 30), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids} | ({"labels": ids} if family == "t5" else {})


def numbers(model: Any, arguments: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        output = model(**arguments)
    return output["last_hidden_state" if "last_hidden_state" in output else "logits"]


def dense(family: str, model: Any) -> Any:
    """The same model with ordinary matrices that hold the quantised numbers."""
    plain = made(family)
    for name, part in model.named_modules():
        if isinstance(part, QuantisedLinear):
            plain.get_submodule(name).weight.data = part.matrix.dense(torch.float32)
        elif isinstance(part, QuantisedExperts):
            for projection, matrices in part.matrices.items():
                stacked = torch.stack([matrix.dense(torch.float32) for matrix in matrices])
                getattr(plain.get_submodule(name), projection).data = stacked
    return plain


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_of_the_quantised_numbers(family: str, kind: str) -> None:
    model = made(family)
    before = numbers(model, given(family))
    quantise(model.network, kind)
    found, expected = numbers(model, given(family)), numbers(dense(family, model), given(family))
    # Matrices of the same numbers: float32 sums in another order, through two layers.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    # Another network than before. Steps of int4 are 17 times those of int8, rows of 32 apart.
    error = (found - before).norm() / before.norm()
    assert 0 < error < {"int8": 0.05, "int4": 0.5}[kind]


def test_what_is_replaced_and_what_is_not() -> None:
    model = made("mixtral")
    quantise(model.network, "int8")
    kinds = {name: type(part) for name, part in model.network.named_modules()}
    replaced = {name for name, kind in kinds.items() if kind in (QuantisedLinear, QuantisedExperts)}
    attention = {f"attention.{name}" for name in ("query", "key", "value", "output")}
    assert replaced == {f"stack.layers.{i}.{name}" for i in (0, 1) for name in (*attention, "mlp.experts")}
    assert Experts not in kinds.values()
    left = {name.rsplit(".", 1)[0].removeprefix("stack.") for name, _ in model.network.named_parameters()}
    routers = {f"layers.{i}.mlp.router" for i in (0, 1)}
    norms = {f"layers.{i}.around_{name}.before" for i in (0, 1) for name in ("attention", "mlp")}
    assert left == {"frontend.tokens", "head.projection", "norm"} | routers | norms


def test_bytes_fall() -> None:
    model = made("llama")
    whole, others = model.get_memory_footprint(), 4 * (2 * 90 * 64 + 5 * 64)
    numbers_ = (whole - others) // 4
    rows = 2 * (64 + 32 + 32 + 64 + 96 + 96 + 64)
    assert numbers_ == 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96)
    for kind, size in (("int8", numbers_ + 2 * rows), ("int4", numbers_ // 2 + 4 * numbers_ // 32)):
        model = made("llama")
        quantise(model.network, kind)
        assert model.get_memory_footprint() == others + size
        assert model.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "kind"), [("llama", "int4"), ("mixtral", "int8"), ("bert", "int8")])
def test_loading_equals_surgery_afterwards(tmp_path: Path, family: str, kind: str, dtype: torch.dtype) -> None:
    made(family).to(dtype).save_pretrained(tmp_path)
    loader = FAMILIES[family][0]
    loaded, afterwards = loader.from_pretrained(tmp_path, quantize=kind), loader.from_pretrained(tmp_path)
    quantise(afterwards.network, kind)
    state, expected = loaded.state_dict(), afterwards.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], part) for name, part in expected.items())
    assert not any(part.is_meta for part in (*loaded.parameters(), *loaded.buffers()))
    assert loaded.dtype == dtype
    assert torch.equal(numbers(loaded, given(family)), numbers(afterwards, given(family)))


def test_loading_stays_strict(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from plait.errors import WeightsError

    made("llama").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.layers.1.self_attn.q_proj.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.layers\.1\.self_attn\.q_proj\.weight"):
        AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int8")


def test_a_random_model_is_quantised_too() -> None:
    loader, values = FAMILIES["llama"]
    model = loader.from_config({"model_type": "llama", **values}, quantize="int4")
    assert sum(isinstance(part, QuantisedLinear) for part in model.modules()) == 14


def test_gradients_pass_through_to_what_is_not_quantised() -> None:
    model = made("llama")
    quantise(model.network, "int8")
    assert not [name for name, part in model.named_parameters() if part.requires_grad]
    model.unfreeze()
    plain = dense("llama", model)
    slopes = []
    for each in (model, plain):
        each(given("llama")["input_ids"], labels=given("llama")["input_ids"]).loss.backward()
        slopes.append(each.get_input_embeddings().weight.grad)
    # Sums over 600 tokens, through two layers.
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4 * float(slopes[1].abs().max()))


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_numbers_are_counted_as_before(kind: str) -> None:
    for family in ("llama", "mixtral"):
        model = made(family)
        whole, embeddings = model.num_parameters(), model.num_parameters(exclude_embeddings=True)
        head = model.describe().splitlines()[0]
        quantise(model.network, kind)
        assert model.num_parameters() == whole
        assert model.describe().splitlines()[0] == head
        assert f"64 × 64 quantised to {kind}" in model.describe()
        assert model.num_parameters(exclude_embeddings=True) == embeddings
        assert model.num_parameters(only_trainable=True) == 0
        assert model.unfreeze().num_parameters(only_trainable=True) == sum(part.numel() for part in model.parameters())


def test_refusals(tmp_path: Path) -> None:
    model = made("llama")
    model.save_pretrained(tmp_path)
    with pytest.raises(OptionError) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int5")
    assert str(error.value) == "quantize must be one of int8, int4, but is 'int5'. Did you mean 'int8'?"
    with pytest.raises(OptionError, match="`load_in_8bit` is not supported: give quantize='int8'"):
        AutoModelForCausalLM.from_pretrained(tmp_path, load_in_8bit=True)
    quantise(model.network, "int4")
    with pytest.raises(OptionError, match="Load it once, with the kind that you want"):
        quantise(model.network, "int8")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "mixtral", "bert", "gpt2"])
def test_prepacked_models(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    made(family).to(dtype).save_pretrained(tmp_path / "saved")
    loader = FAMILIES[family][0]
    whole, prepacked = (loader.from_pretrained(tmp_path / "saved", prepack=prepack) for prepack in (False, True))
    state, copied = whole.state_dict(), prepacked.state_dict()
    assert list(state) == list(copied)
    assert all(torch.equal(state[name], copied[name]) for name in state)
    assert not any(part.data_ptr() % 64 for part in copied.values())
    assert not {part.data_ptr() for part in copied.values()} & {part.data_ptr() for part in state.values()}
    for model, joins in ((whole, False), (prepacked, True)):
        layers = [part for part in model.network.modules() if isinstance(part, Attention)]
        x = torch.zeros(1, 3, layers[0].query.in_features, dtype=dtype)
        with torch.no_grad():
            assert all((joined((part.query, part.key, part.value), x) is not None) is joins for part in layers)
    for rows in (1, 20):
        found, expected = (numbers(model, given(family, rows)).float() for model in (prepacked, whole))
        # The same products, but an activation may be computed before a product is rounded: 2^-8 in each of some layers.
        assert float((found - expected).norm() / expected.norm()) < (0.02 if dtype == torch.bfloat16 else 1e-5)
    prepacked.save_pretrained(tmp_path / "again")
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_nothing_that_is_made_lies_on_disk(tmp_path: Path) -> None:
    made("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    limits = {"device_map": "auto", "max_memory": {"cpu": 60_000}}
    with pytest.raises(OptionError) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path, quantize="int8", **limits)
    assert str(error.value) == (
        "`quantize` makes matrices that the checkpoint does not hold, so no part can lie on disk. Leave it out, or "
        "allow more memory."
    )
    parted = AutoModelForCausalLM.from_pretrained(tmp_path, prepack=True, **limits)
    assert "disk" in parted.hf_device_map.values()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path)
    found, expected = (numbers(model, given("llama")).float() for model in (parted, whole))
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_where_prepacking_says_nothing_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = made("llama")
    with caplog.at_level("INFO", logger="plait"):
        AutoModelForCausalLM.from_config(model.config, prepack=True)
    assert "prepack has no effect: new weights lie in memory of their own." in caplog.messages
    model.save_pretrained(tmp_path)
    with pytest.raises(OptionError) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path, prepack=True, quantize="int8")
    assert (
        str(error.value) == "Quantised matrices are made in memory of their own: give quantize= or prepack=, not both."
    )


PROGRAM = """
import sys, torch
from plait import AutoModelForCausalLM
from plait.weights.quantise import Int8

Int8(torch.randn(1024, 4096).bfloat16())  # the kernels that are used below
AutoModelForCausalLM.from_pretrained(sys.argv[2], quantize="int8")  # and the code

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts from here
before = peak()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], quantize="int8")
print(peak() - before)
"""


def test_memory_never_holds_the_model_twice(tmp_path: Path) -> None:
    layers, width, inner = 8, 1024, 4096
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 8, "vocab_size": 64}
    small, large = {**SIZES, "num_hidden_layers": 1}, {**sizes, "num_hidden_layers": layers}
    for name, values in (("small", small), ("large", large)):
        model = AutoModelForCausalLM.from_config({"model_type": "llama", **values}, dtype="bfloat16")
        model.save_pretrained(tmp_path / name)
        matrices = sum(part.numel() for part in model.network.stack.layers.parameters() if part.dim() == 2)
        del model
    assert matrices == layers * (4 * width**2 + 3 * width * inner)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "large"), str(tmp_path / "small")]
    grown = int(run(command, capture_output=True, text=True, check=True).stdout)
    # The numbers are a byte each, one matrix of the file is 8 MB, and what is made of it on the way a few MB. The
    # allocator's holes take a third. The bound, two bytes each, is what the file's numbers alone would take.
    assert matrices <= grown < 2 * matrices


# -- quality ----------------------------------------------------------------------------------------------------------


def reviews(count: int) -> str:
    """Sentences about films, as people wrote them."""
    lines = (Path(__file__).parents[2] / "examples" / "data" / "reviews.csv").read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[1 : count + 1])


@pytest.mark.parametrize(("kind", "perplexity", "agreement"), [("int8", 1.01, 0.94), ("int4", 1.03, 0.94)])
def test_a_language_model_stays_as_good(
    smollm2: Path, whole: tuple[float, Tensor], kind: str, perplexity: float, agreement: float
) -> None:
    """Bounds: bfloat16 alone changes 2 % of the most likely words of SmolLM2, because many have rivals within 1 %.

    Rounding to 8 bits is about as coarse, to 4 bits coarser; but this file's numbers come in 4 bits already (Q4_1, in
    the same groups), so int4 nearly finds them again, which it would not for a model trained in more bits.
    """
    ratio, agreed = compared(AutoModelForCausalLM.from_pretrained(smollm2, quantize=kind), smollm2, whole)
    assert 1 / perplexity < ratio < perplexity
    assert agreement < agreed < 1


@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.999), ("int4", 0.95)])
def test_an_encoder_stays_as_good(minilm: Path, kind: str, bound: float) -> None:
    """Trained in float32. A row's numbers have a rounding error of 0.8 % in int8, which shrinks where rows are added
    up: vectors keep a cosine of 0.999. In int4 it is 8 %, ten times as much, and a hundred times as far from 1."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    batch = tokenizer(reviews(60).splitlines(), padding=True, return_tensors="pt")
    vectors = []
    for options in ({}, {"quantize": kind}):
        model = AutoModel.from_pretrained(minilm, **options)
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        # Padding is zero, and directions are all that counts.
        vectors.append(nn.functional.normalize(states.sum(dim=1)))
    cosines = (vectors[0] * vectors[1]).sum(dim=1)
    assert bound < float(cosines.mean()) < 1 - 1e-6


@pytest.fixture(scope="module")
def whole(smollm2: Path) -> tuple[float, Tensor]:
    """Mean loss and most likely words of SmolLM2 in float32."""
    return scored(AutoModelForCausalLM.from_pretrained(smollm2, dtype="float32"), smollm2)


def scored(model: Any, file: Path) -> tuple[float, Tensor]:
    ids = AutoTokenizer.from_pretrained(file)(reviews(30), return_tensors="pt")["input_ids"][:, :512]
    with torch.no_grad():
        output = model(ids, labels=ids, use_cache=False)
    return float(output.loss), output.logits.argmax(dim=-1)


def compared(model: Any, file: Path, whole: tuple[float, Tensor]) -> tuple[float, float]:
    """How many times the perplexity is that of the whole model, and how often the most likely word is the same."""
    loss, words = scored(model, file)
    return math.exp(loss - whole[0]), float((words == whole[1]).float().mean())
