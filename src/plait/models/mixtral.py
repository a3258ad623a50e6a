"""Mixtral (arXiv:2401.04088): Mistral's decoder with a mixture of experts in every layer.

Configuration: https://huggingface.co/mistralai/Mixtral-8x7B-v0.1.
"""

from __future__ import annotations

from plait.models import decoders, llama, mistral, mixture
from plait.models.config import Config
from plait.models.reader import Reader
from plait.nn.spec import ProjectionBias, Single, SoftmaxRouterSpec
from plait.weights.rules import Rules, read_only, rename

NAME = "Mixtral"

SPELLINGS = {"num_experts": "num_local_experts"}

DEFAULTS = {
    **mistral.DEFAULTS,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "output_router_logits": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "sliding_window": None,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    reader.only("router_jitter_noise", 0.0, reason="in training it multiplies what the experts see by noise")
    layers = reader.integer("num_hidden_layers")
    sparse = mixture.mixture(
        reader,
        experts=reader.integer("num_local_experts"),
        width=reader.integer("intermediate_size"),
        router=SoftmaxRouterSpec(renormalise=True),
    )
    return decoders.decoder(
        reader,
        attention_bias=ProjectionBias(),
        mlp_bias=False,
        windows=[reader.optional_integer("sliding_window")] * layers,
        mlps=[sparse] * layers,
    )


_BLOCK = "layers.{i}.block_sparse_moe."
_NAMES = {theirs: ours for theirs, ours in decoders.NAMES.items() if ".mlp." not in theirs}
_NAMES[_BLOCK + "gate.weight"] = "stack.layers.{i}.mlp.router.weight"
_ROUTER = read_only(rename("model.layers.{i}.mlp.gate.weight", _NAMES[_BLOCK + "gate.weight"]))
_EXPERTS = {
    _BLOCK + f"experts.{{e}}.{theirs}.weight": f"stack.layers.{{i}}.mlp.experts.{ours}"
    for theirs, ours in (("w1", "gate"), ("w3", "up"), ("w2", "down"))
}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights."""
    return mixture.names(_NAMES, _ROUTER, experts=_EXPERTS, count=config.num_local_experts)


HEADS = decoders.heads(NAME, span=RULES)
