"""DeepSeek-V3 and R1 (arXiv:2412.19437): latent attention, and mixtures whose experts are chosen by groups.

Configuration: https://huggingface.co/deepseek-ai/DeepSeek-V3. The layers that predict further words, which stand behind
the others in published files, are not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from plait.errors import ConfigError
from plait.models import decoders, llama, mixture
from plait.models.config import Config
from plait.models.positions import rope, score_factor
from plait.models.reader import Reader
from plait.nn.spec import (
    GroupedRouterSpec,
    LatentAttentionSpec,
    MaskSpec,
    MLPSpec,
    MoESpec,
    NormSpec,
    SharedExpertSpec,
    Single,
)
from plait.weights.rules import Rules, ignore, rename, split

NAME = "DeepseekV3"

SPELLINGS = {"num_local_experts": "n_routed_experts", "num_mtp_layers": "num_nextn_predict_layers"}

DEFAULTS = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "initializer_range": 0.02,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 4096,
    "moe_intermediate_size": 2048,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "output_router_logits": False,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-6,
    "rope_interleave": True,
    "rope_theta": 10000.0,
    "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False,
    "topk_group": 4,
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 129280,
}

IGNORED = {
    **llama.IGNORED,
    "aux_loss_alpha": "weighs a loss of its training",
    "ep_size": "on how many devices the experts lay in training",
    "head_dim": "an old name of qk_rope_head_dim",
    "num_nextn_predict_layers": "layers that predict further words, which are not built",
    "qk_head_dim": "the sum of qk_nope_head_dim and qk_rope_head_dim",
    "seq_aux": "over what a loss of its training was taken",
}


def _attention(reader: Reader) -> LatentAttentionSpec:
    heads, rotated = reader.integer("num_attention_heads"), reader.integer("qk_rope_head_dim")
    reader.only("num_key_value_heads", heads, reason="all heads share one latent vector, and expand it each")
    plain = reader.integer("qk_nope_head_dim")
    rotation = replace(rope(reader, dim=rotated), interleaved=reader.flag("rope_interleave", default=True))
    return LatentAttentionSpec(
        heads=heads,
        latent=reader.integer("kv_lora_rank"),
        plain_dim=plain,
        value_dim=reader.integer("v_head_dim"),
        rope=rotation,
        scale=(plain + rotated) ** -0.5 * score_factor(reader, rotation),
        norm=NormSpec(kind="rms", eps=1e-6),  # whatever the other norms have
        query_latent=reader.optional_integer("q_lora_rank"),
        mask=MaskSpec(causal=True),
        bias=reader.flag("attention_bias"),
        dropout=reader.probability("attention_dropout"),
    )


def _router(reader: Reader, *, experts: int) -> GroupedRouterSpec:
    groups, chosen = reader.integer("n_group"), reader.integer("topk_group")
    reader.only("scoring_func", "sigmoid", reason="experts are scored by themselves")
    reader.only("topk_method", "noaux_tc", reason="a correction of the scores balances the load")
    if experts % groups or experts < 2 * groups:
        raise ConfigError(
            f"`n_group` must divide the {experts} experts into groups of at least 2, but is {groups} ({reader.label})."
        )
    if chosen > groups or reader.integer("num_experts_per_tok") > experts // groups * chosen:
        raise ConfigError(
            f"`topk_group` must be at most `n_group` ({groups}) and leave enough experts for `num_experts_per_tok`, "
            f"but is {chosen} ({reader.label})."
        )
    renormalise, scale = reader.flag("norm_topk_prob"), reader.number("routed_scaling_factor")
    return GroupedRouterSpec(groups=groups, chosen_groups=chosen, renormalise=renormalise, scale=scale)


def _mlps(reader: Reader, *, layers: int) -> list[MLPSpec | MoESpec]:
    """The first layers are dense, the others sparse. `moe_layer_freq` is 1 in every published file."""
    reader.only("moe_layer_freq", 1, reason="every layer behind the dense ones is sparse")
    experts, width = reader.integer("n_routed_experts"), reader.integer("moe_intermediate_size")
    activation, dense = reader.activation("hidden_act"), reader.integer("first_k_dense_replace", least=0)
    shared = MLPSpec(width=width * reader.integer("n_shared_experts"), activation=activation, gated=True)
    sparse = mixture.mixture(
        reader,
        experts=experts,
        width=width,
        router=_router(reader, experts=experts),
        shared=SharedExpertSpec(mlp=shared),
    )
    plain = MLPSpec(width=reader.integer("intermediate_size"), activation=activation, gated=True)
    return [plain if index < dense else sparse for index in range(layers)]


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    layers = reader.integer("num_hidden_layers")
    return decoders.decoder_of(reader, attentions=[_attention(reader)] * layers, mlps=_mlps(reader, layers=layers))


_ATTENTION, _OURS = "layers.{i}.self_attn.", "stack.layers.{i}.attention."
_NAMES = {
    **{theirs: ours for theirs, ours in decoders.NAMES.items() if ".self_attn." not in theirs},
    **mixture.ROUTER,
    "layers.{i}.mlp.gate.e_score_correction_bias": "stack.layers.{i}.mlp.router.correction",
    "layers.{i}.mlp.shared_experts.{p:gate|up|down}_proj.weight": "stack.layers.{i}.mlp.shared.{p}.weight",
    _ATTENTION + "q_a_proj.{wb}": _OURS + "query_latent.{wb}",
    _ATTENTION + "q_a_layernorm.weight": _OURS + "query_norm.weight",
    _ATTENTION + "kv_a_layernorm.weight": _OURS + "latent_norm.weight",
    _ATTENTION + "o_proj.{wb}": _OURS + "output.{wb}",
}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights; keys and values of a head, and what both come from, lie in one tensor."""
    query = "q_proj" if config.q_lora_rank is None else "q_b_proj"
    ends: Mapping[str, tuple[int, int]] = {
        "kv": (config.qk_nope_head_dim, config.v_head_dim),
        "latent": (config.kv_lora_rank, config.qk_rope_head_dim),
    }
    theirs, layers = "model." + _ATTENTION, config.num_hidden_layers
    return mixture.names(
        _NAMES,
        rename(f"{theirs}{query}.weight", _OURS + "query.weight"),
        split(
            theirs + "kv_a_proj_with_mqa.{wb}",
            [_OURS + "latent.{wb}", _OURS + "rotated_key.{wb}"],
            sizes=ends["latent"],
        ),
        split(
            theirs + "kv_b_proj.weight",
            [_OURS + "key.weight", _OURS + "value.weight"],
            sizes=ends["kv"],
            blocks=config.num_attention_heads,
        ),
        *(
            ignore(f"model.layers.{index}.{{rest}}", "a layer that predicts further words; not built", first=True)
            for index in range(layers, layers + max(1, config.num_nextn_predict_layers))
        ),
        count=config.n_routed_experts,
    )


HEADS = decoders.heads(NAME, span=RULES, without=["question_answering"])
