"""Qwen3-MoE (arXiv:2505.09388): Qwen3's decoder with mixtures of experts.

Configuration: https://huggingface.co/Qwen/Qwen3-30B-A3B.
"""

from __future__ import annotations

from plait.models import decoders, llama, mixture
from plait.models.config import Config
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single, SoftmaxRouterSpec
from plait.weights.rules import Rules

NAME = "Qwen3Moe"

SPELLINGS = {"num_local_experts": "num_experts"}  # as newer files have it

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "decoder_sparse_step": 1,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 32768,
    "mlp_only_layers": None,
    "moe_intermediate_size": 768,
    "norm_topk_prob": False,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 24,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}

IGNORED = {**llama.IGNORED, "max_window_layers": "a window is that of all layers here, or of none"}


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    bias, window = reader.flag("attention_bias"), reader.optional_integer("sliding_window")
    if not reader.flag("use_sliding_window"):
        window = None
    sparse = mixture.mixture(
        reader,
        experts=reader.integer("num_experts"),
        width=reader.integer("moe_intermediate_size"),
        router=SoftmaxRouterSpec(renormalise=reader.flag("norm_topk_prob")),
    )
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias.all(bias),
        mlp_bias=False,
        windows=[window] * reader.integer("num_hidden_layers"),
        mlps=mixture.mixed(reader, sparse),
        qk_norm=True,
    )


_NAMES = {**decoders.NAMES, **decoders.QK_NORMS, **mixture.ROUTER}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights."""
    return mixture.names(_NAMES, count=config.num_experts)


def _span(config: Config) -> Rules:
    return mixture.names(_NAMES, count=config.num_experts, prefix="transformer.", other="model.")


HEADS = decoders.heads(NAME, span=_span)
