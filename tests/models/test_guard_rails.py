"""Guard rails against a jungle:

every field of a spec matters, every table of names inverts, nothing is read by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plait.errors import ConfigError
from plait.models.config import Config
from plait.models.family import rules_for, topology
from plait.models.files import new_model
from plait.models.reader import Reader
from plait.models.registry import FAMILIES, family_of
from plait.nn import spec as specs
from plait.nn.build import build
from plait.nn.spec import LearnedPositions, LinearScaling, NormSpec, Single, SinusoidalPositions, Topology
from plait.nn.topology import EncoderDecoderModel, SingleModel
from plait.weights.rules import Rules

Network = SingleModel | EncoderDecoderModel
TINY = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 29,
    "initializer_range": 0.2,
}
_LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-2, "rope_theta": 100.0, "num_key_value_heads": 2, "pad_token_id": 0}
_SCALED = {"factor": 4.0, "original_max_position_embeddings": 16}
_GEMMA = {"head_dim": 12, "sliding_window": 5, "query_pre_attn_scalar": 9, "tie_word_embeddings": False}
_GEMMA["rms_norm_eps"] = 1.0  # what its norms behind sublayers see is large
_GPT = {"model_type": "gpt2", "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "intermediate_size": None}
_STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_NONE = {"intermediate_size": None, "pad_token_id": 0}
_LAYER_NORM = {"rms_norm_eps": None, "layer_norm_eps": 0.1, "num_key_value_heads": None}
_LONG = {
    "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.0, 2.0, 3.0, 4.0]}
}
# Their sides have sizes of their own.
_BART = {"init_std": 0.2, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
_BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 20, "pad_token_id": 0}
_BART |= {"dropout": 0.0, "intermediate_size": None, "scale_embedding": True, "decoder_start_token_id": 1}
_T5 = {"d_kv": 8, "d_ff": 40, "layer_norm_epsilon": 1.0, "dropout_rate": 0.0, "intermediate_size": None}
_T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6, "initializer_range": None}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6}
CONFIGS: dict[str, dict[str, Any]] = {
    **{name: {"model_type": name, **_BART} for name in ("bart", "mbart", "marian", "pegasus")},
    **{name: {"model_type": name, **_T5} for name in ("t5", "mt5")},
    "transformer": {
        "model_type": "transformer",
        "layer_norm_eps": 1.0,  # what its norms see is large
        "hidden_dropout_prob": 0.0,
        "num_hidden_layers": None,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
    },
    "bert": {
        "model_type": "bert",
        "layer_norm_eps": 1e-2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 20,
    },
    "roberta": {
        "model_type": "roberta",
        "layer_norm_eps": 1e-2,
        "max_position_embeddings": 20,
        "pad_token_id": 0,
        **_STILL,
    },
    "xlm-roberta": {"model_type": "xlm-roberta"},
    "electra": {"model_type": "electra", "embedding_size": 16},
    "deberta-v2": {
        "model_type": "deberta-v2",
        "layer_norm_eps": 1e-1,
        "max_relative_positions": 20,
        "position_buckets": 8,
        "num_hidden_layers": 1,
        "pooler_hidden_size": 32,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "relative_attention": True,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        **_STILL,
    },
    "modernbert": {
        "model_type": "modernbert",
        "norm_eps": 1e-1,
        "local_attention": 6,
        "local_rope_theta": 100.0,
        "global_rope_theta": 300.0,
        "pad_token_id": 0,
    },
    "albert": {"model_type": "albert", "embedding_size": 16, "layer_norm_eps": 1.0, "max_position_embeddings": 20},
    "mpnet": {
        "model_type": "mpnet",
        "layer_norm_eps": 1e-2,
        "max_position_embeddings": 20,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        **_STILL,
    },
    "distilbert": {"model_type": "distilbert", "hidden_dim": 40, "intermediate_size": None},
    "llama": {**_LLAMA},
    "llama-linear": {**_LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "llama-dynamic": {**_LLAMA, "max_position_embeddings": 4, "rope_scaling": {"rope_type": "dynamic", "factor": 3.0}},
    "llama-llama3": {
        **_LLAMA,
        "rope_scaling": {"rope_type": "llama3", **_SCALED, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    },
    "llama-yarn": {
        **_LLAMA,
        "head_dim": 32,  # enough dimensions for the ends of the ramp to fall between
        "rope_scaling": {"rope_type": "yarn", **_SCALED, "original_max_position_embeddings": 64, "beta_fast": 4.0},
    },
    "qwen2": {
        **_LLAMA,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "gemma2": {**_LLAMA, **_GEMMA, "model_type": "gemma2", "attn_logit_softcapping": 3.0},
    "gemma3_text": {**_LLAMA, **_GEMMA, "model_type": "gemma3_text"},
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 20, "layer_norm_epsilon": 0.1, **_GPT},
    "gpt_neo": {
        "model_type": "gpt_neo",
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "layer_norm_epsilon": 0.1,
        "max_position_embeddings": 20,
    },
    "gpt_neox": {**_LLAMA, "model_type": "gpt_neox", "rotary_emb_base": 100.0, "rotary_pct": 0.5, **_LAYER_NORM},
    "phi": {**_LLAMA, "model_type": "phi", **_LAYER_NORM},
    "opt": {"model_type": "opt", "ffn_dim": 40, "max_position_embeddings": 20, "dropout": 0.0, **_NONE},
    "opt-narrow": {
        "model_type": "opt",
        "ffn_dim": 40,
        "max_position_embeddings": 20,
        "dropout": 0.0,
        "do_layer_norm_before": False,
        "word_embed_proj_dim": 24,
        **_NONE,
    },
    "glm4": {**_LLAMA, "model_type": "glm4", "head_dim": 12, "partial_rotary_factor": 1.0},
    "phi3": {**_LLAMA, "model_type": "phi3", "original_max_position_embeddings": 16, **_LONG},
    "phi3-long": {**_LLAMA, "model_type": "phi3", "original_max_position_embeddings": 8, **_LONG},
    "smollm3": {**_LLAMA, "model_type": "smollm3", "no_rope_layers": [1, 0]},
    "mistral": {**_LLAMA, "model_type": "mistral", "sliding_window": 5},
    "qwen3": {**_LLAMA, "model_type": "qwen3", "head_dim": 12},
    "qwen3_moe": {**_LLAMA, **_EXPERTS, "model_type": "qwen3_moe", "head_dim": 12, "mlp_only_layers": [0]},
    "qwen2_moe": {**_LLAMA, **_EXPERTS, "model_type": "qwen2_moe", "shared_expert_intermediate_size": 9},
    "deepseek_v3": {
        **{key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"},
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 1,
        "kv_lora_rank": 12,
        "moe_intermediate_size": 6,
        "n_group": 4,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
        "q_lora_rank": 10,
        "qk_nope_head_dim": 6,
        "qk_rope_head_dim": 4,
        "topk_group": 2,
        "v_head_dim": 5,
    },
    "tapas": {
        "model_type": "tapas",
        "layer_norm_eps": 1e-2,
        "max_position_embeddings": 10,
        "type_vocab_sizes": [3, 8, 8, 2, 8, 8, 10],
        "max_num_rows": 4,
        "max_num_columns": 5,
        "num_aggregation_labels": 3,
        **_STILL,
    },
    "mixtral": {**_LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
}

CONFIGS["albert-groups"] = {**CONFIGS["albert"], "num_hidden_groups": 2, "num_hidden_layers": 4}
CONFIGS["deberta-v2-convolution"] = {**CONFIGS["deberta-v2"], "conv_kernel_size": 3, "conv_groups": 2}


def spec_of(name: str, task: str) -> Topology:
    config = Config({**TINY, **CONFIGS[name]})
    return topology(family_of(config.model_type, label="x"), task, Reader(config, label="x", family=name))


# (class, field) -> another value of it. A field that is missing here fails the test: say how it can be told.
NORM = NormSpec(kind="rms", eps=1e-2)
CHANGES: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("NormSpec", "kind"): lambda kind: "rms" if kind == "layer" else "layer",
    ("NormSpec", "eps"): lambda eps: eps * 10 if eps > 1e-4 else 5.0,  # some families fix it at 1e-5
    ("NormSpec", "bias"): lambda bias: not bias,
    ("NormSpec", "offset"): lambda offset: offset + 1,
    ("LinearScaling", "factor"): lambda factor: factor * 2,
    **{("DynamicScaling", field.name): lambda v: v * 2 for field in dataclasses.fields(specs.DynamicScaling)},
    **{("Llama3Scaling", field.name): lambda v: v * 2 for field in dataclasses.fields(specs.Llama3Scaling)},
    **{("YarnScaling", field.name): lambda v: v * 2 for field in dataclasses.fields(specs.YarnScaling)},
    ("YarnScaling", "truncate"): lambda truncate: not truncate,
    **{("LongRopeScaling", f"{kind}_factors"): lambda f: tuple(v * 2 for v in f) for kind in ("short", "long")},
    ("LongRopeScaling", "original_positions"): lambda count: 24 - count,
    ("LongRopeScaling", "attention_factor"): lambda factor: factor * 2,
    ("RopeSpec", "interleaved"): lambda interleaved: not interleaved,
    ("ParallelLayerSpec", "mlp_norm"): lambda norm: None if norm else NormSpec(kind="layer", eps=0.1),
    ("ParallelLayerSpec", "dropout"): lambda dropout: 0.5,
    ("RopeSpec", "theta"): lambda theta: theta * 2,
    ("RopeSpec", "dim"): lambda dim: dim // 2,
    ("RopeSpec", "scaling"): lambda scaling: None if scaling else LinearScaling(factor=2.0),
    ("MaskSpec", "causal"): lambda causal: not causal,
    ("MaskSpec", "window"): lambda window: 3 if window is None else window - 1,
    **{("ProjectionBias", part): lambda bias: not bias for part in ("query", "key", "value", "output")},
    ("AttentionSpec", "heads"): lambda heads: heads * 2,
    ("AttentionSpec", "kv_heads"): lambda heads: heads // 2,
    ("AttentionSpec", "head_dim"): lambda dim: dim * 2,
    ("AttentionSpec", "scale"): lambda scale: scale * 1.05,
    ("AttentionSpec", "rope"): lambda rope: None if rope else specs.RopeSpec(theta=100.0, dim=8),
    ("AttentionSpec", "qk_norm"): lambda norm: None if norm else NORM,
    ("AttentionSpec", "softcap"): lambda cap: None if cap else 2.0,
    ("AttentionSpec", "dropout"): lambda dropout: 0.5,
    ("LatentAttentionSpec", "heads"): lambda heads: heads * 2,
    ("LatentAttentionSpec", "latent"): lambda width: width + 1,
    ("LatentAttentionSpec", "plain_dim"): lambda dim: dim + 1,
    ("LatentAttentionSpec", "value_dim"): lambda dim: dim + 1,
    ("LatentAttentionSpec", "scale"): lambda scale: scale * 1.05,
    ("LatentAttentionSpec", "query_latent"): lambda width: None if width else 9,
    ("LatentAttentionSpec", "bias"): lambda bias: not bias,
    ("LatentAttentionSpec", "dropout"): lambda dropout: 0.5,
    ("MLPSpec", "width"): lambda width: width + 1,
    ("MLPSpec", "activation"): lambda name: "silu" if name == "relu" else "relu",
    ("MLPSpec", "gated"): lambda gated: not gated,
    ("MLPSpec", "bias"): lambda bias: not bias,
    ("MLPSpec", "dropout"): lambda dropout: 0.5,
    ("MoESpec", "experts"): lambda count: count + 1,
    ("MoESpec", "active"): lambda count: count - 1,
    ("MoESpec", "width"): lambda width: width + 1,
    ("MoESpec", "activation"): lambda name: "relu",
    ("MoESpec", "router"): lambda router: (
        specs.GroupedRouterSpec() if isinstance(router, specs.SoftmaxRouterSpec) else specs.SoftmaxRouterSpec()
    ),
    ("SoftmaxRouterSpec", "renormalise"): lambda renormalise: not renormalise,
    ("GroupedRouterSpec", "groups"): lambda groups: groups // 2,
    ("GroupedRouterSpec", "chosen_groups"): lambda chosen: chosen - 1,
    ("GroupedRouterSpec", "renormalise"): lambda renormalise: not renormalise,
    ("GroupedRouterSpec", "scale"): lambda scale: scale * 2,
    ("MoESpec", "shared"): lambda part: (
        None if part else specs.SharedExpertSpec(mlp=specs.MLPSpec(width=9, activation="relu"))
    ),
    ("SharedExpertSpec", "gated"): lambda gated: not gated,
    **{("SublayerSpec", slot): lambda norm: None if norm else NORM for slot in ("before", "branch", "after")},
    ("SublayerSpec", "dropout"): lambda dropout: 0.5,
    ("LearnedPositions", "count"): lambda count: count + 1,
    ("LearnedPositions", "offset"): lambda offset: offset + 1,
    ("LearnedPositions", "over"): lambda over: "tokens" if over == "slots" else "slots",
    ("SinusoidalPositions", "halves"): lambda halves: not halves,
    ("TextFrontendSpec", "vocabulary"): lambda count: count + 1,
    ("TextFrontendSpec", "narrow"): lambda part: None if part else specs.NarrowTables(width=24),
    ("TextFrontendSpec", "positions"): lambda p: (
        SinusoidalPositions() if isinstance(p, LearnedPositions) else LearnedPositions(count=20)
    ),
    ("TextFrontendSpec", "segments"): lambda count: (
        2 if count is None else (count[0] + 1, *count[1:]) if isinstance(count, tuple) else None
    ),
    ("TextFrontendSpec", "scale"): lambda scale: scale * 2,
    ("TextFrontendSpec", "norm"): lambda norm: None if norm else NORM,
    ("TextFrontendSpec", "dropout"): lambda dropout: 0.5,
    ("TextFrontendSpec", "padding"): lambda padding: None,
    ("StackSpec", "width"): lambda width: width + 8,
    ("StackSpec", "layers"): lambda layers: layers[:-1],
    ("StackSpec", "relative_vectors"): lambda part: None if part else specs.RelativeVectorsSpec(reach=8),
    ("RelativeVectorsSpec", "reach"): lambda reach: reach - 2,
    ("RelativeVectorsSpec", "distance"): lambda distance: distance // 2,
    ("RelativeVectorsSpec", "norm"): lambda norm: None if norm else NORM,
    ("DisentangledSpec", "heads"): lambda heads: heads * 2,
    ("DisentangledSpec", "head_dim"): lambda dim: dim * 2,
    ("DisentangledSpec", "scale"): lambda scale: scale * 1.05,
    ("DisentangledSpec", "dropout"): lambda dropout: 0.5,
    ("DisentangledSpec", "position_dropout"): lambda dropout: 0.5,
    ("StackSpec", "order"): lambda order: (0, 0, *(order or ())),
    ("StackSpec", "narrow"): lambda width: None if width else 24,
    ("NarrowTables", "width"): lambda width: width + 1,
    ("NarrowTokens", "width"): lambda width: width + 1,
    ("ConvolutionSpec", "kernel"): lambda kernel: kernel + 2,
    ("ConvolutionSpec", "groups"): lambda groups: groups * 2,
    ("ConvolutionSpec", "activation"): lambda name: "relu",
    ("ConvolutionSpec", "dropout"): lambda dropout: 0.5,
    ("StackSpec", "relative_bias"): lambda part: None if part else specs.RelativeBiasSpec(buckets=8, distance=9),
    ("RelativeBiasSpec", "buckets"): lambda buckets: buckets // 2,
    ("RelativeBiasSpec", "distance"): lambda distance: distance // 8,
    ("RelativeBiasSpec", "bidirectional"): lambda both: not both,
    ("StackSpec", "dropout"): lambda dropout: 0.5,
    ("StackSpec", "norm"): lambda norm: None if norm else NORM,
    ("PoolSpec", "where"): lambda where: "mean",
    ("PoolSpec", "activation"): lambda name: "relu" if name else "tanh",
    ("LanguageHeadSpec", "vocabulary"): lambda count: count + 1,
    ("LanguageHeadSpec", "tied"): lambda tied: not tied,
    ("LanguageHeadSpec", "bias"): lambda bias: not bias,
    ("TransformSpec", "activation"): lambda name: "relu" if name != "relu" else "tanh",
    ("TransformSpec", "bias"): lambda bias: not bias,
    ("TransformSpec", "norm"): lambda norm: None if norm else NORM,
    ("TransformSpec", "dropout"): lambda dropout: 0.5,
    ("LanguageHeadSpec", "transform"): lambda part: None if part else specs.TransformSpec(activation="tanh"),
    ("LanguageHeadSpec", "softcap"): lambda cap: 2.0,
    ("LanguageHeadSpec", "scale"): lambda scale: scale * 2,
    ("ClassifierHeadSpec", "labels"): lambda count: count + 1,
    ("ClassifierHeadSpec", "bias"): lambda bias: not bias,
    ("ClassifierHeadSpec", "transform"): lambda part: None if part else specs.TransformSpec(activation="tanh"),
    ("ClassifierHeadSpec", "dropout"): lambda dropout: 0.5,
    ("CellHeadSpec", "rows"): lambda count: 2,
    ("CellHeadSpec", "columns"): lambda count: 3,
    ("CellHeadSpec", "operations"): lambda count: count + 1,
    ("CellHeadSpec", "temperature"): lambda temperature: temperature * 2,
    ("CellHeadSpec", "pick"): lambda pick: "cells" if pick == "column" else "tokens",
    ("CellHeadSpec", "dropout"): lambda dropout: 0.5,
    ("EncoderDecoder", "head"): lambda head: None if head else specs.LanguageHeadSpec(vocabulary=29, tied=True),
    ("EncoderDecoder", "pool"): lambda pool: None if pool else specs.PoolSpec(where="last"),
    ("EncoderDecoder", "shared"): lambda shared: not shared,
    ("Single", "pool"): lambda pool: None if pool else specs.PoolSpec(where="last"),
    ("Single", "head"): lambda head: None if head else specs.ClassifierHeadSpec(labels=3),
}
# Fields that hold another spec whose own fields are perturbed.
CONTAINERS = {
    *(("AttentionSpec", "mask"), ("AttentionSpec", "bias"), ("Single", "stack"), ("StackSpec", "frontend")),
    *(("ParallelLayerSpec", name) for name in ("attention", "mlp", "norm")),
    ("SharedExpertSpec", "mlp"),
    *(("LatentAttentionSpec", name) for name in ("rope", "norm", "mask")),
    *(
        (kind.__name__, field.name)
        for kind in (specs.LayerSpec, specs.ConvolvedLayerSpec)
        for field in dataclasses.fields(kind)
    ),
    ("ConvolutionSpec", "norm"),
    *(("EncoderDecoder", stack) for stack in ("encoder", "decoder")),
}


def test_every_field_of_every_spec_is_in_the_table() -> None:
    classes = [item for item in vars(specs).values() if dataclasses.is_dataclass(item)]
    fields = {(item.__name__, field.name) for item in classes for field in dataclasses.fields(item)}
    assert fields == set(CHANGES) | CONTAINERS


def variants(spec: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    """Every spec that differs in one field of one of its parts, with the name of the field."""
    kind = type(spec).__name__
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if (kind, field.name) in CHANGES:
            new = CHANGES[kind, field.name](value)
            yield (kind, field.name), dataclasses.replace(spec, **{field.name: new})
        if dataclasses.is_dataclass(value):
            for name, changed in variants(value):
                yield name, dataclasses.replace(spec, **{field.name: changed})
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                for name, changed in variants(item) if dataclasses.is_dataclass(item) else ():
                    items = (*value[:index], changed, *value[index + 1 :])
                    yield name, dataclasses.replace(spec, **{field.name: items})


def network_of(spec: Topology, numbers: dict[tuple[str, torch.Size], Tensor]) -> Network:
    """The network with random numbers, the same for the same name and shape."""
    network = build(spec, device="cpu")
    generator = torch.Generator().manual_seed(len(numbers))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            key = (name, parameter.shape)
            if key not in numbers:
                norm = name.endswith(("norm.weight", "before.weight", "branch.weight", "after.weight"))
                numbers[key] = torch.randn(parameter.shape, generator=generator) * 0.4 + norm
            parameter.copy_(numbers[key])
    return network


def outputs(network: Network) -> list[Tensor]:
    """States, pooled and scores for one batch with padding, in training mode: dropout is a field too."""
    tokens = torch.randint(0, 29, (2, 12), generator=torch.Generator().manual_seed(1))
    tokens[0, 0] = 0
    valid = torch.ones(2, 12).bool()
    valid[0, :1], valid[1, 9:] = False, False
    torch.manual_seed(0)
    with torch.no_grad():
        if isinstance(network, EncoderDecoderModel):
            hidden = network.train()(tokens, tokens.flip(1), valid=valid, targets_valid=valid)
            parts = (hidden.memory, hidden.states, hidden.pooled, hidden.scores)
            return [part[valid] if part.dim() == 3 else part for part in parts if part is not None]
        segments = None
        if isinstance(network.spec.stack.frontend.segments, tuple):  # a table of three columns and three rows
            segments = torch.zeros(2, 12, len(network.spec.stack.frontend.segments), dtype=torch.long)
            segments[:, 3:, 1], segments[:, 3:, 2] = torch.arange(9) % 3 + 1, torch.arange(9) // 3
        hidden = network.train()(tokens, segments=segments, valid=valid)
    states = hidden.states[valid]
    operations = None if hidden.cells is None else hidden.cells.operations
    return [part for part in (states, hidden.pooled, hidden.scores, operations) if part is not None]


def padding_gradient(network: Network) -> Tensor:
    network.zero_grad()
    padding = torch.zeros(1, 3).long()
    pair = isinstance(network, EncoderDecoderModel)
    hidden = network(padding, padding) if pair else network(padding)
    hidden.states.square().sum().backward()
    gradient = (network.encoder if pair else network.stack).frontend.tokens.weight.grad
    assert gradient is not None
    return gradient[0]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert", "sequence_classification"),
        ("tapas", "table_question_answering"),
        ("bert", "masked_lm"),
        ("roberta", "sequence_classification"),
        ("mpnet", "sequence_classification"),
        ("albert", "masked_lm"),
        ("albert-groups", "base"),
        ("opt-narrow", "causal_lm"),
        ("deberta-v2-convolution", "base"),
        ("deberta-v2", "masked_lm"),
        ("modernbert", "sequence_classification"),
        ("llama", "causal_lm"),
        ("llama", "sequence_classification"),
        ("llama-linear", "base"),
        ("llama-dynamic", "base"),
        ("llama-llama3", "base"),
        ("llama-yarn", "base"),
        ("qwen2", "causal_lm"),
        ("transformer", "seq2seq_lm"),
        ("bart", "seq2seq_lm"),
        ("mbart", "base"),
        ("mbart", "sequence_classification"),
        ("marian", "seq2seq_lm"),
        ("t5", "seq2seq_lm"),
        ("mt5", "seq2seq_lm"),
        ("qwen3", "causal_lm"),
        ("qwen3_moe", "causal_lm"),
        ("qwen2_moe", "base"),
        ("mixtral", "causal_lm"),
        ("deepseek_v3", "causal_lm"),
        ("gemma2", "causal_lm"),
        ("gpt2", "causal_lm"),
        ("gpt_neo", "causal_lm"),
        ("gpt_neox", "causal_lm"),
        ("phi", "causal_lm"),
        ("glm4", "causal_lm"),
        ("phi3", "base"),
        ("phi3-long", "base"),
    ],
)
def test_every_field_moves_the_output(name: str, task: str) -> None:
    """A field that changes nothing is a field that nobody reads."""
    spec = spec_of(name, task)
    first = spec.stack if isinstance(spec, Single) else spec.encoder
    numbers: dict[tuple[str, torch.Size], Tensor] = {}
    base = network_of(spec, numbers)
    before = outputs(base)
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(network_of(spec, numbers)), strict=True))
    count = 0
    for field, changed in variants(spec):
        count += 1
        if field == ("TextFrontendSpec", "padding"):
            # The one field that no forward shows: the padding's vector receives no gradient.
            if first.frontend.padding is not None:
                assert padding_gradient(base).abs().max() == 0
                assert padding_gradient(network_of(changed, numbers)).abs().max() > 1e-3
            continue
        if field == ("RopeSpec", "dim") and name.startswith("phi3"):
            continue  # the scaling has a factor for each pair, so the two change together
        if (name, field[1]) in (("phi3", "long_factors"), ("phi3-long", "short_factors")):
            continue  # the 12 tokens are not longer, or longer, than the original length
        if field[1] == "vocabulary" and getattr(spec.head, "tied", False):
            continue  # head and embedding share one weight, so neither has a size of its own
        if field == ("ProjectionBias", "key") and first.layers[0].attention.rope is None:
            continue  # it adds the same number to a query's score of every key, which a softmax does not see
        try:
            after = outputs(network_of(changed, numbers))
        except ConfigError:
            continue  # the parts no longer fit each other, and that is said
        moved = len(before) != len(after) or any(
            a.shape != b.shape or float((a - b).abs().max()) > 1e-4 * float(a.abs().max().clamp(min=1))
            for a, b in zip(before, after, strict=True)
        )
        assert moved, field
    assert count > 60


@pytest.mark.parametrize("family", FAMILIES)
def test_rules_invert(family: str) -> None:
    """Every parameter of every task has a name in files, and comes back from it; with and without the prefix."""
    module = family_of(family, label="x")
    for task in module.HEADS:
        values: dict[str, Any] = {**TINY, **CONFIGS[family], "is_decoder": task == "causal_lm"}
        if family not in ("bert", "electra", "roberta", "xlm-roberta"):
            values.pop("is_decoder")
        model = new_model(Config({**values, "tie_word_embeddings": False}), task=task)
        rules: Rules = rules_for(module, task, model.config)
        names = list(model.network.state_dict())
        theirs = rules.to_theirs(names)
        assert len(set(theirs)) == len(theirs)  # fewer than ours where files join tensors, more where they cut them
        assert sorted(rules.to_ours(theirs)) == sorted(names)
        assert sorted(rules.to_ours(rules.to_theirs(names, prefixed=False))) == sorted(names)
        exported = rules.export(model.network.state_dict())
        back: dict[str, Tensor] = {}
        for step in rules.plan(exported).steps:
            tensors = step.rule.to_ours([exported[name] for name in step.theirs])
            back |= dict(zip(step.ours, tensors, strict=True))
        for name, tensor in model.network.state_dict().items():
            if name == "decoder.frontend.tokens.weight" and model.network.spec.shared:
                continue  # the encoder's, which is written once
            assert torch.equal(back[name], tensor)


def test_weights_of_other_heads_are_known_and_ignored() -> None:
    rules = rules_for(family_of("bert", label="x"), "token_classification")
    plan = rules.plan(
        ["bert.pooler.dense.weight", "cls.predictions.bias", "cls.seq_relationship.weight", "classifier.bias", "odd"]
    )
    assert set(plan.ignored) == {"bert.pooler.dense.weight", "cls.predictions.bias", "cls.seq_relationship.weight"}
    assert plan.unexpected == ("odd",)
    assert [step.ours for step in plan.steps] == [("head.projection.bias",)]


def test_old_names_and_both_prefixes_are_read() -> None:
    bert = rules_for(family_of("bert", label="x"), "base")
    for name in ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"):
        assert bert.to_ours([name]) == ["stack.frontend.norm.weight"]
    for task in ("base", "question_answering"):
        llama = rules_for(family_of("llama", label="x"), task)
        for prefix in ("", "model.", "transformer."):
            ours = llama.to_ours([f"{prefix}layers.7.self_attn.q_proj.weight"])
            assert ours == ["stack.layers.7.attention.query.weight"]


def test_a_bias_that_files_hold_twice_is_written_twice() -> None:
    model = new_model(Config({**TINY, **CONFIGS["bert"]}), task="masked_lm")
    exported = rules_for(family_of("bert", label="x"), "masked_lm").export(model.network.state_dict())
    first, second = (exported[f"cls.predictions.{name}"] for name in ("bias", "decoder.bias"))
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()
    assert "cls.predictions.decoder.weight" not in exported  # shared with the embedding
    assert isinstance(model.network.head, nn.Module)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_one_file_of_specs_and_rules(family: str) -> None:
    """What outgrows it is shared, or a concept with a room of its own."""
    source = Path(str(family_of(family, label="x").__file__)).read_text(encoding="utf-8")
    assert source.count("\n") <= 200
    assert "import torch" not in source
