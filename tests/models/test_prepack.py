"""Memory for weights before they are read: for which, of what type, where; and that nothing else changes."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from plait import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from plait.models import prepack as prepack_module
from plait.models.pretrained import Pretrained
from plait.nn.attention import Attention

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 90}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Qwen2 with biases of queries, keys and values."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen2", **SIZES, num_key_value_heads=2, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path)
    return tmp_path


def same(found: Pretrained, expected: Pretrained) -> bool:
    states = found.state_dict(), expected.state_dict()
    return list(states[0]) == list(states[1]) and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def joins(model: Pretrained) -> list[bool]:
    """Of each layer, whether keys lie behind queries and values behind keys, weights and biases alike."""
    return [
        all(
            getattr(second, leaf).data_ptr() == getattr(first, leaf).data_ptr() + getattr(first, leaf).nbytes
            for first, second in ((part.query, part.key), (part.key, part.value))
            for leaf in ("weight", "bias")
        )
        for part in model.network.modules()
        if isinstance(part, Attention)
    ]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
def test_the_same_weights_elsewhere(folder: Path, dtype: torch.dtype | None) -> None:
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, prepack=True)
    assert same(found, expected)
    assert found.dtype == (dtype or torch.bfloat16)
    assert joins(found) == [True, True]
    assert joins(expected) == [False, False]
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight  # tied as before
    assert [part.requires_grad for part in found.parameters()] == [part.requires_grad for part in expected.parameters()]


def test_large_pages_are_asked_for_and_a_system_without_them_has_small_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, asked = AutoModelForCausalLM.from_pretrained(folder), []

    class Refusing(mmap.mmap):
        def madvise(self, *arguments: Any) -> None:
            asked.append(arguments)
            raise OSError(22, "Invalid argument")

    if hasattr(mmap, "MADV_HUGEPAGE"):
        monkeypatch.setattr(prepack_module.mmap, "mmap", Refusing)
        found = AutoModelForCausalLM.from_pretrained(folder, prepack=True)
        assert asked == [(mmap.MADV_HUGEPAGE,)]
        assert same(found, expected)
        assert joins(found) == [True, True]
        monkeypatch.undo()
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    found = AutoModelForCausalLM.from_pretrained(folder, prepack=True)
    assert same(found, expected)
    assert joins(found) == [True, True]


def test_what_the_file_does_not_hold_is_drawn_as_before(folder: Path) -> None:
    torch.manual_seed(1)
    expected = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    torch.manual_seed(1)
    found = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, prepack=True)
    assert same(found, expected)


def test_parts_on_disk_take_no_memory(folder: Path) -> None:
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
    found = AutoModelForCausalLM.from_pretrained(folder, device_map={**places, "lm_head": "cpu"}, prepack=True)
    meta = {name for name, part in found.named_parameters() if part.is_meta}
    assert meta
    assert all(".1." in name for name in meta)
    ids = torch.arange(12).view(2, 6)
    expected = AutoModelForCausalLM.from_pretrained(folder)(ids).logits.float()
    # Products in another order, rounded to 8 bits in two layers.
    torch.testing.assert_close(
        found(ids).logits.float(), expected, rtol=0.05, atol=0.05 * expected.detach().abs().max().item()
    )


def test_layers_that_read_another_stack(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "bart",
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        vocab_size=60,
        max_position_embeddings=32,
    )
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    expected, found = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path, prepack=prepack) for prepack in (False, True))
    assert same(found, expected)
    assert joins(found) == [True] * 3
    ids = torch.arange(4, 16).view(2, 6)
    scores = [model(ids, decoder_input_ids=ids[:, :3]).logits for model in (found, expected)]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-5)
    assert found.generate(ids, max_new_tokens=5, num_beams=1).tolist() == (
        expected.generate(ids, max_new_tokens=5, num_beams=1).tolist()
    )
