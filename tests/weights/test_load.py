"""Strict loading: what is bound, what is refused in which words, and that nothing is initialised or copied in vain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from plait.errors import OptionError, WeightsError
from plait.weights.checkpoint import Checkpoint, open_checkpoint
from plait.weights.load import load_into
from plait.weights.rules import Rules, ignore, rename, split, stack, tied, transpose

RULES = Rules(
    rename("net.embed.weight", "tokens.weight"),
    transpose(
        split(
            "net.h.{i}.qkv.{wb}", [f"layers.{{i}}.{part}.{{wb}}" for part in ("query", "key", "value")], sizes=(2, 1, 1)
        )
    ),
    rename("net.norm.weight", "norm.weight"),
    rename("net.steps", "steps"),
    stack("net.experts.{e}.weight", "experts", over="e", count=3),
    rename("score.{wb}", "score.{wb}"),
    tied("lm_head.weight", "head.weight"),
    ignore("net.mask", "computed"),
    prefixes=("net.",),
    old={"gamma": "weight"},
)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 8), nn.Linear(6, 4), nn.Linear(6, 4)


class Model(nn.Module):
    """Every case in small: shared parameters, a buffer, stacked and split tensors, a head that may be new."""

    def __init__(self, *, layers: int = 2, tie: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 6)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = nn.LayerNorm(6, bias=False)
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("cached", torch.ones(2, device="cpu"), persistent=False)
        self.experts = nn.Parameter(torch.empty(3, 2, 5))
        self.score = nn.Linear(6, 2)
        self.head = nn.Linear(6, 10, bias=False)
        if tie:
            self.head.weight = self.tokens.weight


def on_meta(**options: object) -> Model:
    with torch.device("meta"):
        return Model(**options)  # type: ignore[arg-type]


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state = {"net.embed.weight": draw(10, 6), "net.norm.gamma": draw(6), "net.steps": torch.tensor([1, 2, 3])}
    for i in range(2):
        state |= {f"net.h.{i}.qkv.weight": draw(6, 16), f"net.h.{i}.qkv.bias": draw(16)}
    state |= {f"net.experts.{e}.weight": draw(2, 5) for e in range(3)}
    state |= {"score.weight": draw(2, 6), "score.bias": draw(2), "net.mask": torch.ones(2, 2)}
    return state


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[dict[str, Tensor]], Checkpoint]:
    def save(state: dict[str, Tensor]) -> Checkpoint:
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
        return open_checkpoint(tmp_path, label="org/name")

    return save


def refused(checkpoint: Checkpoint, model: nn.Module | None = None, **options: object) -> str:
    model = model or on_meta()
    with pytest.raises(WeightsError) as caught:
        load_into(model, checkpoint, RULES, **options)  # type: ignore[arg-type]
    assert all(parameter.is_meta for parameter in model.parameters())  # nothing was bound
    return str(caught.value)


class TestBinding:
    def test_every_number_is_the_files(self, saved: Callable[..., Checkpoint]) -> None:
        state, model = weights(), on_meta()
        report = load_into(model, saved(state), RULES)
        assert (report.new, report.dtype) == ([], torch.float32)
        assert report.ignored == {"net.mask": "computed"}
        assert torch.equal(model.tokens.weight, state["net.embed.weight"])
        assert torch.equal(model.norm.weight, state["net.norm.gamma"])
        assert torch.equal(model.steps, state["net.steps"])
        assert torch.equal(model.experts, torch.stack([state[f"net.experts.{e}.weight"] for e in range(3)]))
        for i, layer in enumerate(model.layers):
            fused = torch.cat([layer.query.weight, layer.key.weight, layer.value.weight])  # type: ignore[union-attr]
            assert torch.equal(fused.T, state[f"net.h.{i}.qkv.weight"])
            assert torch.equal(layer.value.bias, state[f"net.h.{i}.qkv.bias"][12:])  # type: ignore[union-attr, index]
        assert all(parameter.is_contiguous() and parameter.requires_grad for parameter in model.parameters())
        assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())

    def test_a_renamed_tensor_is_a_view_of_the_file(self, saved: Callable[..., Checkpoint]) -> None:
        checkpoint, model = saved(weights()), on_meta()
        load_into(model, checkpoint, RULES)
        assert model.tokens.weight.data_ptr() == checkpoint.tensor("net.embed.weight").data_ptr()
        converted = on_meta()
        load_into(converted, checkpoint, RULES, dtype=torch.float32)  # the type it already has: still no copy
        assert converted.tokens.weight.data_ptr() == model.tokens.weight.data_ptr()

    def test_shared_parameters_stay_shared(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        for present in ({}, {"lm_head.weight": state["net.embed.weight"].clone()}):
            model = on_meta()
            load_into(model, saved(state | present), RULES)
            assert model.head.weight is model.tokens.weight
        # A file that names only the head fills both.
        only_head = {name: tensor for name, tensor in state.items() if name != "net.embed.weight"}
        load_into(model := on_meta(), saved(only_head | {"lm_head.weight": state["net.embed.weight"]}), RULES)
        assert model.head.weight is model.tokens.weight
        assert torch.equal(model.tokens.weight, state["net.embed.weight"])

    def test_an_untied_head_is_its_own(self, saved: Callable[..., Checkpoint]) -> None:
        state, model = weights(), on_meta(tie=False)
        load_into(model, saved(state | {"lm_head.weight": state["net.embed.weight"] + 1}), RULES)
        assert torch.equal(model.head.weight, model.tokens.weight + 1)
        assert "lm_head.weight (head.weight)" in refused(saved(state), on_meta(tie=False))

    def test_training_changes_the_model_and_not_the_file(
        self, saved: Callable[..., Checkpoint], tmp_path: Path
    ) -> None:
        checkpoint, model = saved(weights()), on_meta()
        load_into(model, checkpoint, RULES)
        before = (tmp_path / "model.safetensors").read_bytes()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        model.head(model.tokens.weight.new_ones(1, 6)).sum().backward()
        expected = weights()["net.embed.weight"] - 0.5
        optimizer.step()
        assert torch.equal(model.tokens.weight, expected)  # d/dw of a sum of w·1 is 1
        assert (tmp_path / "model.safetensors").read_bytes() == before

    def test_frozen_parameters_stay_frozen(self, saved: Callable[..., Checkpoint]) -> None:
        model = on_meta()
        model.norm.requires_grad_(False)
        load_into(model, saved(weights()), RULES)
        assert not model.norm.weight.requires_grad
        assert model.tokens.weight.requires_grad

    def test_a_module_with_memory_is_filled_in_place(self, saved: Callable[..., Checkpoint]) -> None:
        model = Model().to(torch.float64)
        before = list(model.parameters())
        load_into(model, saved(weights()), RULES)
        assert all(old is now for old, now in zip(before, model.parameters(), strict=True))
        assert model.norm.weight.dtype == torch.float64
        assert torch.equal(model.norm.weight, weights()["net.norm.gamma"].double())

    def test_no_initialiser_runs(self, saved: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither torch.nn.init nor a random kernel is called by a load, and none runs on real memory before it."""
        checkpoint, model, calls = saved(weights()), on_meta(), []
        for name in dir(nn.init):
            if name.endswith("_") and callable(getattr(nn.init, name)) and not name.startswith("_"):
                monkeypatch.setattr(nn.init, name, lambda *args, name=name, **options: calls.append(name))
        for name in ("normal_", "uniform_", "zero_", "fill_", "random_"):
            monkeypatch.setattr(Tensor, name, lambda *args, name=name, **options: calls.append(name))
        nn.init.zeros_(torch.empty(1))
        assert calls == ["zeros_"]  # the counter counts
        load_into(model, checkpoint, RULES)
        assert calls == ["zeros_"]


class TestTypes:
    def test_the_files_own_types_are_kept(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        mixed = {
            name: tensor.bfloat16() if "experts" in name or "qkv" in name else tensor for name, tensor in state.items()
        }
        model = on_meta()
        report = load_into(model, saved(mixed), RULES)
        assert report.dtype == torch.bfloat16  # 2 · (96 + 16) + 30 numbers of 320
        assert model.experts.dtype == torch.bfloat16
        assert model.norm.weight.dtype == torch.float32
        assert model.steps.dtype == torch.int64

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_conversion(self, saved: Callable[..., Checkpoint], dtype: torch.dtype) -> None:
        state, model = weights(), on_meta()
        report = load_into(model, saved(state), RULES, dtype=dtype)
        assert report.dtype == dtype
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert model.steps.dtype == torch.int64
        assert torch.equal(model.tokens.weight, state["net.embed.weight"].to(dtype))

    def test_integers_take_the_modules_type(self, saved: Callable[..., Checkpoint]) -> None:
        state, model = weights(), on_meta()
        load_into(model, saved(state | {"net.steps": state["net.steps"].int()}), RULES)
        assert torch.equal(model.steps, state["net.steps"])

    @pytest.mark.parametrize(
        ("dtype", "stored"),
        [(torch.int8, "I8"), (torch.bool, "BOOL"), (torch.complex64, "C64"), (torch.float8_e4m3fn, "F8_E4M3")],
    )
    def test_another_kind_is_refused(self, saved: Callable[..., Checkpoint], dtype: torch.dtype, stored: str) -> None:
        state = weights()
        text = refused(saved(state | {"net.norm.gamma": state["net.norm.gamma"].to(dtype)}))
        assert text == (
            "model.safetensors of org/name does not fit Model.\n"
            "1 tensor of another kind of type:\n"
            f"  net.norm.gamma (norm.weight): {stored} in the checkpoint, floating in the model\n"
            "  The weights are stored in a way that plait does not read, perhaps quantised by another tool."
        )

    def test_wrong_arguments(self, saved: Callable[..., Checkpoint]) -> None:
        checkpoint = saved(weights())
        with pytest.raises(
            OptionError, match=r"dtype must be a floating type such as torch\.bfloat16, but is torch\.int8"
        ):
            load_into(on_meta(), checkpoint, RULES, dtype=torch.int8)
        with pytest.raises(OptionError, match=r"new must be a tuple such as \('score',\), but is the text 'score'"):
            load_into(on_meta(), checkpoint, RULES, new="score")


class TestNew:
    def test_a_declared_part_may_be_missing(self, saved: Callable[..., Checkpoint]) -> None:
        state, model = weights(), on_meta()
        del state["score.weight"], state["score.bias"]
        report = load_into(model, saved(state), RULES, new=("score.",))
        assert report.new == ["score.weight", "score.bias"]
        assert model.score.weight.is_meta
        assert not model.norm.weight.is_meta

    def test_and_nothing_else(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        del state["score.weight"]
        assert "score.weight (score.weight)" in refused(saved(state))
        assert "score.weight (score.weight)" in refused(saved(state), new=("sco", "scores"))  # whole parts of names
        report = load_into(on_meta(), saved(state), RULES, new=("score",))
        assert report.new == ["score.weight"]

    def test_one_that_is_there_is_loaded(self, saved: Callable[..., Checkpoint]) -> None:
        state, model = weights(), on_meta()
        assert load_into(model, saved(state), RULES, new=("score.",)).new == []
        assert torch.equal(model.score.weight, state["score.weight"])


class TestProblems:
    def test_everything_at_once(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        state["net.norm.wieght"] = state.pop("net.norm.gamma")
        state["score.bias"] = torch.zeros(3)
        state["net.steps"] = torch.zeros(3)
        state["net.h.2.qkv.bias"] = state["net.h.0.qkv.bias"]
        state["net.h.1.qkv.bias"] = torch.zeros(15)
        del state["net.experts.1.weight"]
        state["net.norm.beta"] = torch.zeros(6)
        assert refused(saved(state)) == (
            "model.safetensors of org/name does not fit Model.\n"
            "2 tensors missing in the checkpoint:\n"
            "  net.norm.weight (norm.weight). Did you mean 'net.norm.wieght'?\n"
            "  experts: absent of its 3 tensors: net.experts.1.weight\n"
            "  Only a part that is asked to be new may be missing. Fetch the checkpoint again, or open it as the model "
            "it was made for.\n"
            "3 tensors without a place in the model:\n"
            "  net.norm.beta. Did you mean 'net.norm.weight'?\n"
            "  net.norm.wieght. Did you mean 'net.norm.weight'?\n"
            "  net.h.2.qkv.bias\n"
            "  No weight is dropped silently. Open the checkpoint as the model it was made for.\n"
            "4 tensors of another shape:\n"
            "  score.bias (score.bias): (3,) in the checkpoint, (2,) in the model\n"
            "  net.h.1.qkv.bias (layers.1.query.bias): dimension 0 of (15,) does not divide into 1 × (2, 1, 1)\n"
            "  net.h.1.qkv.bias (layers.1.key.bias): dimension 0 of (15,) does not divide into 1 × (2, 1, 1)\n"
            "  net.h.1.qkv.bias (layers.1.value.bias): dimension 0 of (15,) does not divide into 1 × (2, 1, 1)\n"
            "  The configuration and the weights do not belong together.\n"
            "1 tensor of another kind of type:\n"
            "  net.steps (steps): F32 in the checkpoint, integer in the model\n"
            "  The weights are stored in a way that plait does not read, perhaps quantised by another tool."
        )

    @pytest.mark.parametrize("name", sorted(set(weights()) - {"net.mask"}))
    @pytest.mark.parametrize("mutation", ["delete", "rename", "prefix", "lengthen"])
    def test_any_one_wrong_tensor_is_refused(self, saved: Callable[..., Checkpoint], name: str, mutation: str) -> None:
        state = weights()
        tensor = state.pop(name)
        changed = {"rename": name + "x", "prefix": "model." + name, "lengthen": name}
        if mutation != "delete":
            state[changed[mutation]] = torch.cat([tensor, tensor[:1]]) if mutation == "lengthen" else tensor
        text = refused(saved(state))
        assert name in text or name.replace("gamma", "weight") in text

    def test_long_lists_are_cut(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights() | {f"extra.{index}": torch.zeros(1) for index in range(47)}
        text = refused(saved(state))
        assert "47 tensors without a place in the model:" in text
        assert text.count("extra.") == 10
        assert "\n  … and 37 more\n" in text

    def test_a_wholly_other_model_is_refused_quickly_and_shortly(self, saved: Callable[..., Checkpoint]) -> None:
        state = {f"transformer.blocks.{i}.attention.projection.weight": torch.zeros(1) for i in range(3000)}
        text = refused(saved(state), on_meta(layers=500))
        assert "3006 tensors missing in the checkpoint:\n" in text  # 500 layers of 6, and 6 more
        assert "3000 tensors without a place in the model:\n" in text
        assert len(text.splitlines()) == 1 + 2 * (1 + 10 + 1 + 1)

    def test_old_and_new_name_that_differ(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        load_into(on_meta(), saved(state | {"net.norm.weight": state["net.norm.gamma"].clone()}), RULES)
        text = refused(saved(state | {"net.norm.weight": state["net.norm.gamma"] + 1}))
        assert "net.norm.gamma and net.norm.weight are one tensor of the model, but differ" in text
        assert "Remove the wrong one from the file, or fetch it again." in text

    def test_with_and_without_prefix_that_differ(self, saved: Callable[..., Checkpoint]) -> None:
        text = refused(saved(weights() | {"steps": torch.tensor([1, 2, 4])}))
        assert "net.steps and steps are one tensor of the model, but differ" in text

    def test_tied_tensors_that_differ(self, saved: Callable[..., Checkpoint]) -> None:
        state = weights()
        text = refused(saved(state | {"lm_head.weight": state["net.embed.weight"] + 1}))
        assert "lm_head.weight differs from net.embed.weight; the model shares them" in text

    def test_a_buffer_that_nothing_can_fill(self, saved: Callable[..., Checkpoint]) -> None:
        with torch.device("meta"):
            model = Model()
            model.register_buffer("table", torch.ones(2), persistent=False)
        assert refused(saved(weights()), model) == (
            "The buffer 'table' of Model is on 'meta', and no checkpoint holds it (persistent=False). "
            "Compute it in forward, or build it on a device."
        )
