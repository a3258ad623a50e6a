"""GGUF files as models, complete for the architectures of `ARCHITECTURES`: metadata as a configuration, names of
weights.

Format and names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. One table of names serves all decoders,
since GGUF has one. Llama's queries and keys are stored with rotary pairs side by side and are permuted back; those of
the others are not. A scaling of Llama 3 is stored as a tensor of factors, from which its parameters are found again.
Gemma's norms are stored whole, where its own files leave out one.
No torch at import.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from plait.errors import ConfigError, nearest
from plait.models.config import Config
from plait.weights.gguf import Reader, present_parts
from plait.weights.rules import Rules, ignore, permute_rope, rename, shift, tied

# `general.architecture` -> `model_type`
ARCHITECTURES = {
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}

# Keys below the architecture's name -> keys of config.json.
_KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
_WINDOW = {"attention.sliding_window": "sliding_window", "final_logit_softcapping": "final_logit_softcapping"}
# Those that one architecture has beside the others.
_MORE_KEYS = {
    "gemma2": {**_WINDOW, "attn_logit_softcapping": "attn_logit_softcapping"},
    "gemma3": {**_WINDOW, "rope.freq_base_swa": "rope_local_base_freq"},
}
# The number of layers of the one size whose scores are divided by the root of width / heads, and not of a head's width.
_LARGEST = {"gemma2": 46, "gemma3": 62}
_SCALING_KEYS = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_READ = {
    *("rope.scaling.type", "rope.scaling.attn_factor", "rope.scale_linear", "rope.dimension_count"),
    *("attention.value_length", "rope.scaling.finetuned"),
}
_TOKENS = {
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
}
_FACTORS = "rope_freqs.weight"
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def read_gguf_config(path: Path, *, label: str) -> Config:
    """The configuration of a GGUF file, or of all files of a split model; see `config_from` for the errors."""
    metadata: dict[str, Any] = {}
    names: list[str] = []
    factors = None
    for part in present_parts(path, label=label):
        with part.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            reader = Reader(buffer, label=label)
            metadata = {**reader.metadata(), **metadata}
            for tensor in reader.tensors():
                names.append(tensor.name)
                if tensor.name == _FACTORS:
                    if tensor.type.name != "F32":
                        raise ConfigError(f"`{_FACTORS}` is stored as {tensor.type.name}, and F32 is read ({label}).")
                    factors = struct.unpack_from(f"<{tensor.size // 4}f", buffer, tensor.start)
    return config_from(metadata, names, factors=factors, label=label)


def config_from(
    metadata: Mapping[str, Any], tensors: Collection[str], *, factors: Sequence[float] | None = None, label: str
) -> Config:
    """The configuration that a file's `metadata` and the names of its `tensors` describe.

    `factors` are the numbers of `rope_freqs.weight` where the file has it. Raises ConfigError for an architecture that
    is not among `ARCHITECTURES`, and for a key below it that could change the numbers and is not understood.
    """
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"`general.architecture` {architecture!r} is not one that plait reads ({label})."
            f"{nearest(str(architecture), ARCHITECTURES)} They are: {', '.join(ARCHITECTURES)}."
        )
    prefix = f"{architecture}."
    given = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    keys = {**_KEYS, **_MORE_KEYS.get(architecture, {})}
    _refuse_strangers(given, {*keys, *_SCALING_KEYS, *_READ}, architecture, label)
    values: dict[str, Any] = {"model_type": ARCHITECTURES[architecture]}
    values |= {ours: _shortest(given[theirs]) for theirs, ours in keys.items() if theirs in given}
    values |= {ours: metadata[theirs] for theirs, ours in _TOKENS.items() if theirs in metadata}
    values.setdefault("vocab_size", len(metadata.get("tokenizer.ggml.tokens", ())) or None)
    values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    values["tie_word_embeddings"] = "output.weight" not in tensors
    _check_head(given, values, label)
    if architecture in _LARGEST:
        whole = values["hidden_size"] // values["num_attention_heads"]
        largest = values.get("num_hidden_layers") == _LARGEST[architecture]
        values["query_pre_attn_scalar"] = whole if largest else values.get("head_dim", whole)
    if scaling := _scaling(given, factors, values, label):
        values["rope_scaling"] = scaling
    return Config(values, label=label)


def _refuse_strangers(given: Mapping[str, Any], known: Collection[str], architecture: str, label: str) -> None:
    for key, value in given.items():
        if key not in known and value not in (0, "", False):
            raise ConfigError(
                f"`{architecture}.{key}` = {value!r:.80} is not understood, and could change the numbers ({label})."
                f"{nearest(key, known)}"
            )


def _check_head(given: Mapping[str, Any], values: Mapping[str, Any], label: str) -> None:
    heads, width = values.get("num_attention_heads"), values.get("hidden_size")
    if not isinstance(heads, int) or not isinstance(width, int) or not heads:
        raise ConfigError(f"The metadata lack attention.head_count or embedding_length as one number ({label}).")
    dim = values.get("head_dim") or width // heads
    for key in ("attention.value_length", "rope.dimension_count"):
        if given.get(key, dim) != dim:
            raise ConfigError(
                f"`{key}` is {given[key]}, and only the head's whole dimension, {dim}, is read ({label})."
            )


def _scaling(
    given: Mapping[str, Any], factors: Sequence[float] | None, values: Mapping[str, Any], label: str
) -> dict[str, Any] | None:
    if factors is not None:
        return _llama3(factors, values, label)
    kind = given.get("rope.scaling.type", "none")
    # Files from before the typed keys have one number for linear scaling.
    if kind == "none" and given.get("rope.scale_linear", 1.0) != 1.0:
        return {"rope_type": "linear", "factor": _shortest(given["rope.scale_linear"])}
    if kind == "none":
        return None
    scaling = {"rope_type": kind}
    scaling |= {ours: _shortest(given[theirs]) for theirs, ours in _SCALING_KEYS.items() if theirs in given}
    attention = given.get("rope.scaling.attn_factor", 1.0)
    if kind == "yarn" and attention != 1.0:
        # llama.cpp multiplies the paper's temperature by it; config.json holds the product.
        scaling["attention_factor"] = attention * (0.1 * math.log(scaling["factor"]) + 1.0)
    return scaling


def _llama3(factors: Sequence[float], values: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The parameters behind the divisors of the frequencies: the largest is `factor`, the rest are Llama 3's own."""
    scaling = {"rope_type": "llama3", "factor": _shortest(max(factors)), **_LLAMA3}
    theta = values.get("rope_theta", 10000.0)
    low, high, length = (scaling[key] for key in _LLAMA3)
    for index, divisor in enumerate(factors):
        turns = length * theta ** (-index / len(factors)) / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        expected = 1 / ((1 - kept) / scaling["factor"] + kept)
        # The file holds float32, made in float32.
        if not math.isclose(divisor, expected, rel_tol=1e-4):
            raise ConfigError(
                f"`{_FACTORS}` is no scaling of Llama 3: its entry {index} is {divisor:g}, not {expected:g} ({label})."
            )
    return scaling


def gguf_rules(config: Config, *, task: str) -> Rules:
    """The names of the weights of a GGUF file, for the decoder that `config` describes."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    turned, whole = config.model_type == "llama", config.model_type in ("gemma2", "gemma3_text")
    query = "blk.{i}.attn_q.{wb}", "stack.layers.{i}.attention.query.{wb}"
    key = "blk.{i}.attn_k.{wb}", "stack.layers.{i}.attention.key.{wb}"
    scores = "output.weight"
    norms = {
        "output_norm.weight": "stack.norm.weight",
        "blk.{i}.attn_norm.weight": "stack.layers.{i}.around_attention.before.weight",
        "blk.{i}.post_attention_norm.weight": "stack.layers.{i}.around_attention.branch.weight",
        "blk.{i}.ffn_norm.weight": "stack.layers.{i}.around_mlp.before.weight",
        "blk.{i}.post_ffw_norm.weight": "stack.layers.{i}.around_mlp.branch.weight",
        "blk.{i}.attn_q_norm.weight": "stack.layers.{i}.attention.query_norm.weight",
        "blk.{i}.attn_k_norm.weight": "stack.layers.{i}.attention.key_norm.weight",
    }
    return Rules(
        rename("token_embd.weight", "stack.frontend.tokens.weight"),
        *(shift(theirs, ours, by=1.0) if whole else rename(theirs, ours) for theirs, ours in norms.items()),
        permute_rope(*query, heads=heads) if turned else rename(*query),
        permute_rope(*key, heads=kv_heads) if turned else rename(*key),
        rename("blk.{i}.attn_v.{wb}", "stack.layers.{i}.attention.value.{wb}"),
        rename("blk.{i}.attn_output.{wb}", "stack.layers.{i}.attention.output.{wb}"),
        rename("blk.{i}.ffn_{p:gate|up|down}.{wb}", "stack.layers.{i}.mlp.{p}.{wb}"),
        tied(scores, "head.projection.weight") if task == "causal_lm" else ignore(scores, "belongs to another head"),
        ignore(_FACTORS, "read with the configuration"),
    )


def _shortest(value: Any) -> Any:
    """A float32 as the shortest decimal that names it: 9.999999747378752e-06 is 1e-05."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
