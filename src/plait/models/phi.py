"""Phi-1, 1.5 and 2 (arXiv:2309.05463): a decoder whose attention and MLP read the same normalised input.

Configuration: https://huggingface.co/microsoft/phi-2. A part of each head has rotary positions.
"""

from __future__ import annotations

from dataclasses import replace

from plait.models import decoders, llama
from plait.models.positions import rope
from plait.models.reader import Reader
from plait.nn.spec import (
    AttentionSpec,
    LanguageHeadSpec,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ParallelLayerSpec,
    ProjectionBias,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.weights.rules import rename

NAME = "Phi"

DEFAULTS = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 2,
    "hidden_act": "gelu_new",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 24,
    "num_key_value_heads": None,
    "qk_layernorm": False,
    "resid_pdrop": 0.0,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 51200,
}

IGNORED = llama.IGNORED


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    norm = NormSpec(kind="layer", eps=reader.number("layer_norm_eps"), bias=True)
    heads, dim = reader.integer("num_attention_heads"), decoders.head_dim(reader)
    layer = ParallelLayerSpec(
        attention=AttentionSpec(
            heads=heads,
            kv_heads=reader.optional_integer("num_key_value_heads") or heads,
            head_dim=dim,
            scale=dim**-0.5,
            mask=MaskSpec(causal=True),
            bias=ProjectionBias.all(),
            rope=rope(reader, dim=dim, partial=0.5),
            qk_norm=norm if reader.flag("qk_layernorm") else None,
            dropout=reader.probability("attention_dropout", default=0.0),
        ),
        mlp=MLPSpec(width=reader.integer("intermediate_size"), activation=reader.activation("hidden_act"), bias=True),
        norm=norm,
        dropout=reader.probability("resid_pdrop"),
    )
    vocabulary = reader.integer("vocab_size")
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        dropout=reader.probability("embd_pdrop"),
        padding=reader.padding(vocabulary=vocabulary),
    )
    layers = (layer,) * reader.integer("num_hidden_layers")
    return Single(stack=StackSpec(width=reader.integer("hidden_size"), frontend=frontend, layers=layers, norm=norm))


def _language(reader: Reader) -> LanguageHeadSpec:
    return replace(decoders.language(reader), bias=True)


_NAMES = {
    "embed_tokens.weight": "stack.frontend.tokens.weight",
    "layers.{i}.self_attn.q_proj.{wb}": "stack.layers.{i}.attention.query.{wb}",
    "layers.{i}.self_attn.k_proj.{wb}": "stack.layers.{i}.attention.key.{wb}",
    "layers.{i}.self_attn.v_proj.{wb}": "stack.layers.{i}.attention.value.{wb}",
    "layers.{i}.self_attn.dense.{wb}": "stack.layers.{i}.attention.output.{wb}",
    "layers.{i}.self_attn.q_layernorm.{wb}": "stack.layers.{i}.attention.query_norm.{wb}",
    "layers.{i}.self_attn.k_layernorm.{wb}": "stack.layers.{i}.attention.key_norm.{wb}",
    "layers.{i}.mlp.fc1.{wb}": "stack.layers.{i}.mlp.up.{wb}",
    "layers.{i}.mlp.fc2.{wb}": "stack.layers.{i}.mlp.down.{wb}",
    "layers.{i}.input_layernorm.{wb}": "stack.layers.{i}.norm.{wb}",
    "final_layernorm.{wb}": "stack.norm.{wb}",
}

RULES = decoders.names(_NAMES)
HEADS = decoders.heads(NAME, language=_language, without=["question_answering"])
_LANGUAGE = HEADS["causal_lm"]
HEADS["causal_lm"] = replace(_LANGUAGE, rules=(*_LANGUAGE.rules, rename("lm_head.bias", "head.projection.bias")))
