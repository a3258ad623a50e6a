"""Qwen1.5-MoE and Qwen2-MoE (arXiv:2407.10671 §2.2.2): Qwen2's decoder with mixtures of experts, and one expert shared
by all tokens.

Configuration: https://huggingface.co/Qwen/Qwen1.5-MoE-A2.7B.
"""

from __future__ import annotations

from plait.models import decoders, llama, mixture
from plait.models.config import Config
from plait.models.positions import sliding_layers, windowed
from plait.models.reader import Reader
from plait.nn.spec import MLPSpec, ProjectionBias, SharedExpertSpec, Single, SoftmaxRouterSpec
from plait.weights.rules import Rules

NAME = "Qwen2Moe"

DEFAULTS = {
    "attention_dropout": 0.0,
    "decoder_sparse_step": 1,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 5632,
    "layer_types": None,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "mlp_only_layers": None,
    "moe_intermediate_size": 1408,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 16,
    "output_router_logits": False,
    "qkv_bias": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 5632,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

IGNORED = llama.IGNORED


def _windows(reader: Reader) -> list[int | None]:
    """Without `layer_types`, every second layer of the first `max_window_layers` looks through the window."""
    last, layers = reader.integer("max_window_layers", least=0), reader.integer("num_hidden_layers")
    size = reader.optional_integer("sliding_window", least=0)  # 0, as some files have it, is none
    window = (size or None) if reader.flag("use_sliding_window") else None
    slides = [window is not None and index % 2 == 0 and index < last for index in range(layers)]
    return windowed(reader, sliding_layers(reader, slides), window=window)


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    bias = reader.flag("qkv_bias")
    width, activation = reader.integer("shared_expert_intermediate_size"), reader.activation("hidden_act")
    sparse = mixture.mixture(
        reader,
        experts=reader.integer("num_experts"),
        width=reader.integer("moe_intermediate_size"),
        router=SoftmaxRouterSpec(renormalise=reader.flag("norm_topk_prob")),
        shared=SharedExpertSpec(mlp=MLPSpec(width=width, activation=activation, gated=True), gated=True),
    )
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(query=bias, key=bias, value=bias),
        mlp_bias=False,
        windows=_windows(reader),
        mlps=mixture.mixed(reader, sparse),
    )


_NAMES = {
    **decoders.NAMES,
    **mixture.ROUTER,
    "layers.{i}.mlp.shared_expert.{p:gate|up|down}_proj.weight": "stack.layers.{i}.mlp.shared.{p}.weight",
    "layers.{i}.mlp.shared_expert_gate.weight": "stack.layers.{i}.mlp.shared_gate.weight",
}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights."""
    return mixture.names(_NAMES, count=config.num_experts)


HEADS = decoders.heads(NAME, span=RULES)
