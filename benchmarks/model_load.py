"""From a checkpoint on disk to a usable model: time and peak memory of a 0.5B Qwen2 in bfloat16."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Row, alternate, alternate_processes, main

TITLE = "Loading a model"

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}

LOAD = """
import sys, torch
from {} import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
assert all(p.detach().view(torch.int16).amax().item() > 0 for p in model.parameters())
"""


LOAD_FLOAT32 = """
import sys, torch
from {} import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
assert all(p.detach().view(torch.int32).amax().item() > 0 for p in model.parameters())
"""


def write_checkpoint(folder: Path) -> Path:
    """A Qwen2 of 0.5B random parameters as the reference library would save it; returns the weights file."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    width, inner, kv = CONFIG["hidden_size"], CONFIG["intermediate_size"], 128
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (CONFIG["vocab_size"], width)}
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows in (("q", width), ("k", kv), ("v", kv)):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (rows, width)
            shapes[f"{at}self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{at}self_attn.o_proj.weight"] = (width, width)
        shapes[f"{at}mlp.gate_proj.weight"] = shapes[f"{at}mlp.up_proj.weight"] = (inner, width)
        shapes[f"{at}mlp.down_proj.weight"] = (width, inner)
        shapes[f"{at}input_layernorm.weight"] = shapes[f"{at}post_attention_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    tensors = {name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02) for name, shape in shapes.items()}
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file_mib = write_checkpoint(folder).stat().st_size / 2**20
        torch_alone, ours, theirs = alternate_processes(
            ["import torch", LOAD.format("plait"), LOAD.format("transformers")], name, runs=5
        )
        yield Row(
            "fresh process: import, load, touch every weight", ours.seconds, theirs.seconds, "s", "≤ 0.65", smaller=True
        )
        yield Row("peak memory of that process", ours.peak_mib, theirs.peak_mib, "MiB", "≤ next row", smaller=True)
        limit = file_mib + 1.05 * torch_alone.peak_mib
        yield Row("peak memory against file + 1.05 × `import torch`", ours.peak_mib, limit, "MiB", "≤ 1", smaller=True)
        yield from _load_alone(name)
        yield from _as_float32(name, file_mib)


def _as_float32(folder: str, file_mib: float) -> Iterator[Row]:
    """Twice as many bytes in memory as in the file, and not the file's bytes beside them."""
    codes = ["import torch", LOAD_FLOAT32.format("plait"), LOAD_FLOAT32.format("transformers")]
    torch_alone, ours, theirs = alternate_processes(codes, folder, runs=2, warmup=0)
    yield Row("as float32: fresh process", ours.seconds, theirs.seconds, "s", "≤ 1", smaller=True)
    yield Row("as float32: peak memory of that process", ours.peak_mib, theirs.peak_mib, "MiB", "≤ 1", smaller=True)
    limit = 1.05 * (2 * file_mib + torch_alone.peak_mib)
    yield Row(
        "as float32: peak against 1.05 × (size + `import torch`)", ours.peak_mib, limit, "MiB", "≤ 1", smaller=True
    )


def _load_alone(folder: str) -> Iterator[Row]:
    import transformers

    import plait

    def ours() -> object:
        return plait.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")

    def theirs() -> object:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")

    mine, reference = alternate(ours, theirs)
    yield Row("the load alone, everything imported, strict checks on", mine, reference, "s", "≤ 1", smaller=True)


if __name__ == "__main__":
    main("model_load", TITLE, rows)
