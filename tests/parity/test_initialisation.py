"""New weights are drawn as each family's are: mean and deviation of every kind of parameter against the reference.

Both draw from their own generator, so what is compared are moments. Of N normal draws with deviation s, the root of the
mean square is known to s / sqrt(2 N) and the mean to s / sqrt(N); the differences of two such are sqrt(2) times that.
Six times s / sqrt(N) is six and four of those: of 500 kinds none fails by chance. Kinds of one name in all layers are
taken together. The least N is some hundreds, so a deviation that is a tenth off shows, and any that matters does:
1 / sqrt(2 * layers) is 0.4, and a missing factor more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from plait.models.auto import AutoModel, AutoModelForSequenceClassification
from plait.models.config import Config
from plait.models.family import prefixed, rules_for
from plait.models.files import new_model
from plait.models.registry import FAMILIES, family_of

TASKS = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
}
RANGE = 0.05
USUAL = {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "initializer_range": RANGE,
    "pad_token_id": 0,
}
LLAMA = {**USUAL, "num_key_value_heads": 2}
EXPERTS = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
BART = {"d_model": 64, "vocab_size": 500, "max_position_embeddings": 100, "init_std": RANGE, "pad_token_id": 1}
for side in ("encoder", "decoder"):
    BART |= {f"{side}_layers": 2, f"{side}_ffn_dim": 96, f"{side}_attention_heads": 4}
BART |= {"decoder_start_token_id": 2, "bos_token_id": 0, "eos_token_id": 2, "forced_eos_token_id": 2}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 500}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["bart", "mbart", "marian", "pegasus"], BART),
    **{name: {**T5, "initializer_factor": factor} for name, factor in (("t5", 1.0), ("mt5", 0.3))},
    **dict.fromkeys(["llama", "mistral", "qwen2", "qwen3", "glm4", "phi3", "smollm3"], LLAMA),
    **dict.fromkeys(["gemma2", "gemma3_text"], {**LLAMA, "head_dim": 16}),
    **dict.fromkeys(["albert", "electra"], {**USUAL, "embedding_size": 32}),
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 40},
    "qwen3_moe": EXPERTS,
    "mixtral": {**LLAMA, "num_local_experts": 4},
    "deepseek_v3": {
        **USUAL,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 24,
        "moe_intermediate_size": 32,
        "n_group": 2,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "topk_group": 1,
        "v_head_dim": 16,
    },
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 99, "vocab_size": 500, "initializer_range": RANGE},
    "gpt_neo": {
        "hidden_size": 64,
        "num_heads": 4,
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 100,
        "vocab_size": 500,
        "initializer_range": RANGE,
    },
    "opt": {
        "hidden_size": 64,
        "ffn_dim": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "vocab_size": 500,
        "init_std": RANGE,
        "word_embed_proj_dim": 48,
        "do_layer_norm_before": False,
    },
    "distilbert": {
        "dim": 64,
        "hidden_dim": 96,
        "n_heads": 4,
        "n_layers": 3,
        "vocab_size": 500,
        "initializer_range": RANGE,
    },
    "modernbert": {**USUAL, **dict.fromkeys(["bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"], 1)},
    "deberta-v2": {
        **USUAL,
        "relative_attention": True,
        "position_biased_input": False,
        "share_att_key": True,
        "pos_att_type": ["c2p", "p2c"],
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 16,
        "conv_kernel_size": 3,
        "pooler_hidden_size": 64,
    },
}
# Decoders of encoder families need a configuration that says so; the original Transformer has no reference.
DECODERS = ("bert", "electra", "roberta", "xlm-roberta")
PAIRS = [
    (name, task)
    for name in FAMILIES
    if name != "transformer"
    for task in TASKS
    if task in family_of(name, label="x").HEADS and (name not in DECODERS or task != "causal_lm")
]


def kinds(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All numbers of one kind: those of the same name in every layer and expert."""
    found = defaultdict(list)
    for name, tensor in state.items():
        found[re.sub(r"(?<=\.)\d+(?=\.)", "*", name)].append(tensor.flatten())
    return {name: torch.cat(parts) for name, parts in found.items()}


def reference(name: str, task: str, folder: Path) -> tuple[dict[str, Tensor], Config]:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **OWN.get(name, USUAL))
    getattr(transformers, TASKS[task]).from_config(config).save_pretrained(folder)
    return load_file(folder / "model.safetensors"), Config.from_file(folder / "config.json", label="config.json")


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_moments(name: str, task: str, tmp_path: Path) -> None:
    theirs, config = reference(name, task, tmp_path)
    torch.manual_seed(1)
    model = new_model(config, task=task)
    family = family_of(name, label="x")
    state = model.network.state_dict()
    ours = rules_for(family, task, config).export(state, prefixed=prefixed(family, task))
    mine, others = kinds(ours), kinds(theirs)
    # Marian and PEGASUS write their sinusoids; GPT-NeoX's head has an older name there.
    aside = {"lm_head.weight", "embed_out.weight"} if name == "gpt_neox" else set()
    unlike = mine.keys() ^ others.keys()
    assert {key for key in unlike if "positions" not in key and not key.endswith("decoder.bias")} <= aside
    for key in mine.keys() & others.keys():
        a, b = mine[key], others[key]
        assert a.shape == b.shape
        scale = max(float(a.square().mean().sqrt()), float(b.square().mean().sqrt()))
        tolerance = 6 * scale / len(a) ** 0.5
        assert abs(float(a.square().mean().sqrt() - b.square().mean().sqrt())) <= tolerance, key
        assert abs(float(a.mean() - b.mean())) <= tolerance, key
        if bool((b == b[0]).all()):
            assert torch.equal(a, b), key  # norms and biases are no draws
    padding = model.get_input_embeddings().padding_idx
    if padding is not None:
        row = model.get_input_embeddings().weight[padding]
        assert row.count_nonzero() == 0


def test_every_family_is_compared() -> None:
    assert {name for name, _ in PAIRS} == set(FAMILIES) - {"transformer"}


def test_the_original_transformer() -> None:
    """Glorot & Bengio: uniform within sqrt(6 / (inputs + outputs)); embeddings with the deviation width^-0.5."""
    config = Config({"model_type": "transformer", "hidden_size": 64, "intermediate_size": 96, "vocab_size": 500})
    torch.manual_seed(0)
    state = new_model(config, task="seq2seq_lm").network.state_dict()
    up = state["encoder.layers.0.mlp.up.weight"]
    bound = (6 / (64 + 96)) ** 0.5
    assert 0.999 * bound < float(up.abs().max()) <= bound  # 6,144 draws reach within 1 / 6,144 of the ends
    assert float(up.std()) == pytest.approx(bound / 3**0.5, rel=0.03)
    table = state["encoder.frontend.tokens.weight"]
    assert float(table.std()) == pytest.approx(1 / 8, rel=0.03)  # 32,000 draws: 0.4 %


def test_nothing_of_modernbert_lies_beyond_its_cutoff() -> None:
    for cutoff in (1.0, None):
        config = Config({"model_type": "modernbert", **OWN["modernbert"], "initializer_cutoff_factor": cutoff})
        torch.manual_seed(0)
        up = new_model(config, task="base").network.state_dict()["stack.layers.0.mlp.up.weight"]
        reach = RANGE * (3.0 if cutoff is None else cutoff)
        assert 0.95 * reach < float(up.abs().max()) <= reach


@pytest.mark.parametrize("name", ["modernbert", "gpt2", "bert", "deberta-v2"])
def test_a_new_head_on_a_loaded_stack(name: str, tmp_path: Path) -> None:
    """Only what the file lacks is drawn, as in a new model; what was loaded stays to the bit."""
    config = Config({"model_type": name, **OWN.get(name, USUAL), "num_labels": 40})
    torch.manual_seed(0)
    new_model(config, task="base").save_pretrained(tmp_path)
    stack = AutoModel.from_pretrained(tmp_path).network.stack.state_dict()
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=40)
    for key, value in model.network.stack.state_dict().items():
        assert torch.equal(value, stack[key]), key
    torch.manual_seed(2)
    whole = new_model(model.config, task="sequence_classification").network.head.state_dict()
    for key, value in model.network.head.state_dict().items():
        # 2,560 draws and more: 1.4 % each.
        assert float(value.std()) == pytest.approx(float(whole[key].std()), rel=0.1, abs=1e-9), key
        assert not torch.equal(value, whole[key]) or not key.endswith("projection.weight")
