"""A checkpoint under other names: its entries, its tensors, two tables in a row, and all that does not fit."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from plait.errors import WeightsError
from plait.weights.checkpoint import Checkpoint, open_checkpoint
from plait.weights.load import load_into
from plait.weights.rules import Rules, rename, split, stack, transpose
from plait.weights.save import save_state
from plait.weights.translated import Translated

RULES = Rules(
    rename("norm.weight", "after.weight"),
    transpose(split("qkv.{wb}", ["query.{wb}", "key.{wb}", "value.{wb}"], sizes=(2, 1, 1))),
    stack("experts.{e}.weight", "experts", over="e", count=3),
    old={"gamma": "weight"},
)


def weights() -> dict[str, Tensor]:
    state = {"norm.gamma": torch.randn(6), "qkv.weight": torch.randn(6, 16), "qkv.bias": torch.randn(16)}
    return state | {f"experts.{e}.weight": torch.randn(2, 5) for e in range(3)}


def opened(state: dict[str, Tensor], folder: Path) -> Checkpoint:
    save_state(state, folder)
    return open_checkpoint(folder, label="org/name")


def test_is_a_checkpoint_of_our_names(tmp_path: Path) -> None:
    state = weights()
    translated = Translated(opened(state, tmp_path), RULES)
    assert (translated.format, translated.label) == ("safetensors", "model.safetensors of org/name")
    assert set(translated.entries()) == {
        "after.weight", "experts", *(f"{part}.{wb}" for part in ("query", "key", "value") for wb in ("weight", "bias"))
    }  # fmt: skip
    entry = translated.entries()["key.weight"]
    assert (entry.shape, entry.dtype, entry.stored) == ((4, 6), torch.float32, "F32")
    for tensor in (translated.tensor("key.weight"), translated.borrow("key.weight")):
        assert torch.equal(tensor, state["qkv.weight"].T[8:12])
    assert translated.tensor("key.weight").is_contiguous()
    assert torch.equal(translated.tensor("experts")[2], state["experts.2.weight"])
    assert translated.origin("key.weight") == ("qkv.weight",)
    assert translated.origin("after.weight") == ("norm.gamma",)
    with pytest.raises(WeightsError, match=r"has nothing for 'experst'\. Did you mean 'experts'\?"):
        translated.tensor("experst")


def test_two_tables_in_a_row(tmp_path: Path) -> None:
    """How one vocabulary of names is read through another: the file's become known ones, and those the model's."""
    state = weights()
    first = Rules(*(rename(f"x.{name}", name) for name in state))
    checkpoint = Translated(opened({f"x.{name}": tensor for name, tensor in state.items()}, tmp_path), first)
    with torch.device("meta"):
        model = nn.Module()
        for name, width in (("query", 8), ("key", 4), ("value", 4)):
            setattr(model, name, nn.Linear(6, width))
        model.after = nn.LayerNorm(6, bias=False)
        model.experts = nn.Parameter(torch.empty(3, 2, 5))
    load_into(model, checkpoint, RULES)
    assert torch.equal(model.value.bias, state["qkv.bias"][12:])
    assert torch.equal(model.after.weight, state["norm.gamma"])


def test_says_all_that_does_not_fit(tmp_path: Path) -> None:
    state = weights() | {"surprise": torch.zeros(1), "qkv.bias": torch.zeros(7), "norm.weight": torch.zeros(6)}
    del state["experts.0.weight"], state["experts.2.weight"]
    checkpoint = opened(state, tmp_path)
    translated = Translated(checkpoint, RULES)
    assert translated.unexpected == ("surprise",)
    assert translated.incomplete == {"experts": "absent of its 3 tensors: experts.0.weight, experts.2.weight"}
    assert translated.unfit == dict.fromkeys(
        ("query.bias", "key.bias", "value.bias"), "dimension 0 of (7,) does not divide into 1 × (2, 1, 1)"
    )
    assert translated.contradictions == ["norm.gamma and norm.weight are one tensor of the model, but differ"]


def test_parts_of_a_tensor_keep_no_files_open(tmp_path: Path) -> None:
    """A system may allow a process as few as 256 open files, and a model has more parts of tensors than that."""
    checkpoint = opened({f"h.{i}.qkv": torch.arange(12.0).view(6, 2) + i for i in range(20)}, tmp_path)
    translated = Translated(checkpoint, Rules(split("h.{i}.qkv", ["h.{i}.query", "h.{i}.key", "h.{i}.value"])))
    gc.collect()  # what earlier tests left closes now, and not in between
    before = len(os.listdir("/proc/self/fd"))
    kept = [translated.tensor(f"h.{i}.{part}") for i in range(20) for part in ("query", "key", "value")]
    assert len(os.listdir("/proc/self/fd")) == before
    assert torch.equal(kept[-1], torch.arange(8.0, 12.0).view(2, 2) + 19)
    whole = checkpoint.tensor("h.19.qkv")
    assert kept[-1].data_ptr() == whole[4:].data_ptr(), "a view of the file, not a copy"
