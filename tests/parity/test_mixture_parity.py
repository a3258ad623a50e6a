"""Mixtures of experts against the reference library: both layouts of their files, the balance of their load, and what
latent attention keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from decoder_cases import LATENT
from parity_harness import BATCH, CASES, TOKENS, TOLERANCE, WORDS, batch, difference, load, masks, reference
from safetensors.torch import load_file, save_file

from plait.errors import OptionError, WeightsError

MIXTURES = ["mixtral", "qwen2_moe", "qwen3_moe-mixed", "deepseek_v3"]


@pytest.mark.parametrize("name", MIXTURES)
def test_files_that_hold_the_experts_of_a_layer_in_two_tensors(name: str, tmp_path: Path) -> None:
    theirs = reference(CASES[name], "causal_lm")
    theirs.save_pretrained(tmp_path, save_original_format=False)
    tensors = load_file(tmp_path / "model.safetensors")
    joined = [key for key in tensors if key.endswith("mlp.experts.gate_up_proj")]
    assert joined
    assert not any(".experts.0." in key for key in tensors)
    ours = load(tmp_path, "causal_lm")
    inputs = batch(CASES[name], "causal_lm", None)
    with torch.no_grad():
        assert difference(ours(**inputs).logits, theirs(**inputs).logits) <= TOLERANCE
    # A file with both layouts says a thing twice, and is refused. Its names for gate and up differ among families.
    mine = tmp_path / "mine"
    ours.save_pretrained(mine)
    save_file({**load_file(mine / "model.safetensors"), joined[0]: tensors[joined[0]]}, mine / "model.safetensors")
    with pytest.raises(WeightsError, match=r"experts\.0\..* and .*gate_up_proj both hold stack\.layers\.\d\.mlp"):
        load(mine, "causal_lm")


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen2_moe-mixed", "qwen3_moe-mixed"])
def test_the_balance_of_the_load(name: str, padding: str, tmp_path: Path) -> None:
    theirs = reference(CASES[name], "causal_lm", router_aux_loss_coef=0.3)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "causal_lm")
    mask = masks()[padding]
    inputs = batch(CASES[name], "causal_lm", mask)
    labels = inputs["input_ids"].clone()
    if mask is not None:
        labels[mask == 0] = -100
        labels[:, 1:][mask[:, :-1] == 0] = -100  # what padding predicts is nobody's
    mine = ours(**inputs, labels=labels, output_router_logits=True)
    other = theirs(**inputs, labels=labels, output_router_logits=True)
    assert difference(mine.aux_loss, other.aux_loss) <= TOLERANCE
    assert difference(mine.loss, other.loss) <= TOLERANCE
    assert len(mine.router_logits) == len(other.router_logits)
    seen = torch.ones(BATCH * TOKENS, dtype=torch.bool) if mask is None else mask.flatten().bool()
    for a, b in zip(mine.router_logits, other.router_logits, strict=True):
        assert difference(a[seen], b[seen]) <= TOLERANCE
    # It is a part of the loss and of the gradient, on each router.
    plain = ours(**inputs, labels=labels)
    assert "aux_loss" not in plain
    assert difference(mine.loss - plain.loss, 0.3 * mine.aux_loss) <= TOLERANCE
    routers = [layer.mlp.router.weight for layer in ours.layers if hasattr(layer.mlp, "router")]
    references = [layer.mlp.gate.weight for layer in theirs.model.layers if hasattr(layer.mlp, "experts")]
    for a, b in zip(torch.autograd.grad(mine.loss, routers), torch.autograd.grad(other.loss, references), strict=True):
        assert float((a - b).abs().max()) <= TOLERANCE * max(1.0, float(b.abs().max()))
    # As a default of the configuration, too.
    ours.config.output_router_logits = True
    assert torch.equal(ours(**inputs, labels=labels).loss, mine.loss)


def test_the_balance_joins_the_loss_of_every_task(tmp_path: Path) -> None:
    """The reference's classifiers take the option and leave it without effect."""
    theirs = reference(CASES["mixtral"], "sequence_classification", router_aux_loss_coef=0.3)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "sequence_classification")
    inputs = batch(CASES["mixtral"], "sequence_classification", None)
    labels = torch.tensor([0, 2, 1])
    mine, plain = ours(**inputs, labels=labels, output_router_logits=True), ours(**inputs, labels=labels)
    assert difference(plain.loss, theirs(**inputs, labels=labels, output_router_logits=True).loss) <= TOLERANCE
    assert difference(mine.loss, plain.loss + 0.3 * mine.aux_loss) <= TOLERANCE
    assert torch.equal(mine.loss_terms.mean(), mine.loss)
    assert float(mine.aux_loss) > 1


def test_scores_of_routers_without_a_weighed_balance(tmp_path: Path) -> None:
    theirs = reference(CASES["deepseek_v3"], "causal_lm")
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "causal_lm")
    inputs = batch(CASES["deepseek_v3"], "causal_lm", None)
    with torch.no_grad():
        mine, other = (model(**inputs, output_router_logits=True) for model in (ours, theirs))
    assert "aux_loss" not in mine
    assert len(mine.router_logits) == len(other.router_logits) == 2
    for a, b in zip(mine.router_logits, other.router_logits, strict=True):
        assert difference(a, b) <= TOLERANCE


def test_a_model_without_mixtures_has_no_scores_of_routers(tmp_path: Path) -> None:
    reference(CASES["llama"], "causal_lm").save_pretrained(tmp_path)
    ours = load(tmp_path, "causal_lm")
    with pytest.raises(OptionError, match="`output_router_logits` was asked for, but this model has no mixture"):
        ours(torch.ones(1, 3).long(), output_router_logits=True)


# -- latent attention
# ------------------------------------------------------------------


def saved(folder: Path, **changes: Any) -> Any:
    theirs = reference(CASES["deepseek_v3"], "causal_lm", **changes)
    theirs.save_pretrained(folder)
    return theirs


def test_the_cache_holds_one_latent_vector_and_one_key_for_each_token(tmp_path: Path) -> None:
    saved(tmp_path)
    ours = load(tmp_path, "causal_lm")
    cache = ours.new_cache(BATCH, capacity=TOKENS)
    with torch.no_grad():
        ours(batch(CASES["deepseek_v3"], "causal_lm", None)["input_ids"], past_key_values=cache)
    numbers = [layer._keys.numel() + layer._values.numel() for layer in cache.layers]
    # 12 + 8 per token, where four heads of keys with 14 and values with 5 numbers would be 76.
    assert numbers == [BATCH * TOKENS * (LATENT["kv_lora_rank"] + LATENT["qk_rope_head_dim"])] * 3


def test_both_ways_to_the_scores_are_taken_and_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    ours = load(tmp_path, "causal_lm")
    attention = type(ours.layers[0].attention)
    taken: list[bool] = []
    choose = attention._absorbs

    def noted(self: Any, queries: int, keys: int) -> bool:
        taken.append(choose(self, queries, keys))
        return taken[-1]

    monkeypatch.setattr(attention, "_absorbs", noted)
    ids = batch(CASES["deepseek_v3"], "causal_lm", None)["input_ids"]
    with torch.no_grad():
        cache = ours.new_cache(BATCH, capacity=TOKENS)
        ours(ids[:, :-1], past_key_values=cache)
        assert taken == [False] * 3  # a whole text is expanded
        last = ours(ids[:, -1:], past_key_values=cache).logits
        assert taken[3:] == [True] * 3  # one more word goes to the latent vectors
        whole = ours(ids).logits
        assert difference(last, whole[:, -1:]) <= TOLERANCE
        for always in (True, False):
            monkeypatch.setattr(attention, "_absorbs", lambda *_, always=always: always)
            for mask in masks().values():
                seen = torch.ones_like(ids) if mask is None else mask
                plain = ours(ids, mask)
                told = ours(ids, mask, output_attentions=True)
                assert difference(told.logits[seen.bool()], plain.logits[seen.bool()]) <= TOLERANCE
                if mask is None:
                    assert difference(plain.logits, whole) <= TOLERANCE


def test_one_token_is_its_values(tmp_path: Path) -> None:
    saved(tmp_path)
    ours = load(tmp_path, "causal_lm")
    ids = torch.tensor([[7], [9], [11]])
    with torch.no_grad():
        short = ours(ids, use_cache=False).logits
        long = ours(ids, use_cache=True).logits
    assert difference(short, long) <= TOLERANCE


def test_a_head_that_is_masked_adds_nothing(tmp_path: Path) -> None:
    saved(tmp_path)
    ours = load(tmp_path, "causal_lm")
    ids = batch(CASES["deepseek_v3"], "causal_lm", None)["input_ids"]
    with torch.no_grad():
        masked = ours(ids, head_mask=torch.tensor([1.0, 0.0, 1.0, 1.0])).logits
        for layer in ours.layers:
            layer.attention.output.weight[:, 5:10] = 0.0  # the five values of the second head
        assert difference(masked, ours(ids).logits) <= TOLERANCE


def test_layers_that_predict_further_words_are_left_out(tmp_path: Path) -> None:
    theirs = saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    further = {key.replace("layers.2.", "layers.3."): value + 1 for key, value in tensors.items() if "layers.2." in key}
    further |= {
        "model.layers.3.eh_proj.weight": torch.ones(32, 64),
        "model.layers.3.shared_head.norm.weight": torch.ones(32),
    }
    save_file({**tensors, **further}, tmp_path / "model.safetensors")
    ours = load(tmp_path, "causal_lm")
    inputs = batch(CASES["deepseek_v3"], "causal_lm", None)
    with torch.no_grad():
        assert difference(ours(**inputs).logits, theirs(**inputs).logits) <= TOLERANCE
    # One more than the configuration names is a stranger.
    save_file({**tensors, "model.layers.4.norm.weight": torch.ones(32)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.layers\.4\.norm\.weight"):
        load(tmp_path, "causal_lm")


def test_corrections_stay_in_float32(tmp_path: Path) -> None:
    theirs = saved(tmp_path)
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():
            if name.endswith("correction_bias"):
                buffer.copy_(15 + torch.arange(8) / 1000)  # in bfloat16 all would be 15
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, "causal_lm", dtype=torch.bfloat16)
    router = ours.layers[1].mlp.router
    assert (ours.dtype, router.weight.dtype, router.correction.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(router.correction, theirs.model.layers[1].mlp.gate.e_score_correction_bias)
    assert not router.correction.requires_grad
    ids = torch.randint(1, WORDS, (2, 9), generator=torch.Generator().manual_seed(1))
    logits = ours(ids).logits
    assert logits.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits; a few layers of sums lose some of them.
    assert difference(logits.float(), theirs(ids).logits) < 0.1
