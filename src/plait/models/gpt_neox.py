"""GPT-NeoX and Pythia (arXiv:2204.06745): a decoder whose attention and MLP stand side by side, each with a norm.

Configuration: https://huggingface.co/EleutherAI/pythia-410m. A part of each head has rotary positions; files hold
query, key and value of each head as one.
"""

from __future__ import annotations

from dataclasses import replace

from plait.models import decoders
from plait.models.config import Config
from plait.models.family import multi_head, pre_norm_layer
from plait.models.positions import rope
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    LayerSpec,
    MLPSpec,
    NormSpec,
    ParallelLayerSpec,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename, split, tied

NAME = "GPTNeoX"

# Usual keys -> this family's own, before rope_parameters held both.
SPELLINGS = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}

DEFAULTS = {
    "attention_bias": True,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "classifier_dropout": 0.1,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout": 0.0,
    "hidden_size": 6144,
    "initializer_range": 0.02,
    "intermediate_size": 24576,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "num_attention_heads": 64,
    "num_hidden_layers": 44,
    "rotary_emb_base": 10000.0,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_parallel_residual": True,
    "vocab_size": 50432,
}

IGNORED = {
    "max_position_embeddings": decoders.NO_LIMIT,
    "rotary_emb_base": "read as rope_theta",
    "rotary_pct": "read as partial_rotary_factor",
}


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    norm = NormSpec(kind="layer", eps=reader.number("layer_norm_eps"), bias=True)
    heads, dim = reader.integer("num_attention_heads"), decoders.head_dim(reader)
    bias, dropout = reader.flag("attention_bias"), reader.probability("hidden_dropout")
    plain = multi_head(heads, dim, causal=True, bias=bias, dropout=reader.probability("attention_dropout"))
    attention = replace(plain, rope=rope(reader, dim=dim, partial=0.25))
    mlp = MLPSpec(width=reader.integer("intermediate_size"), activation=reader.activation("hidden_act"), bias=True)
    layer: LayerSpec | ParallelLayerSpec = pre_norm_layer(norm, attention, mlp, dropout=dropout)
    if reader.flag("use_parallel_residual"):
        layer = ParallelLayerSpec(attention=attention, mlp=mlp, norm=norm, mlp_norm=norm, dropout=dropout)
    frontend = TextFrontendSpec(vocabulary=reader.integer("vocab_size"), dropout=dropout)
    layers = (layer,) * reader.integer("num_hidden_layers")
    return Single(stack=StackSpec(width=reader.integer("hidden_size"), frontend=frontend, layers=layers, norm=norm))


def RULES(config: Config) -> Rules:
    """The names of the stack's weights; query, key and value lie head by head in one tensor."""
    theirs, ours = "gpt_neox.layers.{i}.", "stack.layers.{i}."
    norms = ("norm", "mlp_norm") if config.use_parallel_residual else ("around_attention.before", "around_mlp.before")
    parts = [ours + f"attention.{part}.{{wb}}" for part in ("query", "key", "value")]
    return Rules(
        rename("gpt_neox.embed_in.weight", "stack.frontend.tokens.weight"),
        split(theirs + "attention.query_key_value.{wb}", parts, blocks=config.num_attention_heads),
        rename(theirs + "attention.dense.{wb}", ours + "attention.output.{wb}"),
        rename(theirs + "mlp.dense_h_to_4h.{wb}", ours + "mlp.up.{wb}"),
        rename(theirs + "mlp.dense_4h_to_h.{wb}", ours + "mlp.down.{wb}"),
        rename(theirs + "input_layernorm.{wb}", ours + norms[0] + ".{wb}"),
        rename(theirs + "post_attention_layernorm.{wb}", ours + norms[1] + ".{wb}"),
        rename("gpt_neox.final_layer_norm.{wb}", "stack.norm.{wb}"),
        ignore(theirs + "attention.{p:bias|masked_bias}", "the causal mask, made anew"),
        ignore(theirs + "attention.rotary_emb.inv_freq", "computed from the configuration"),
        prefixes=("gpt_neox.",),
    )


def _token_classifier(reader: Reader) -> ClassifierHeadSpec:
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability("classifier_dropout"))


HEADS = decoders.heads(
    NAME,
    None,
    scores=tied("lm_head.weight", "head.projection.weight", also=["embed_out.weight"]),
    tokens=_token_classifier,
    token_scores="classifier",
)
