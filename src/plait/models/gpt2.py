"""GPT-2: a decoder with learned positions, norms before sublayers and biases everywhere.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Configuration:
https://huggingface.co/openai-community/gpt2. Its files hold linear layers as (inputs, outputs), and query, key and
value as one.
"""

from __future__ import annotations

from dataclasses import replace

from plait.models import decoders, initial
from plait.models.family import multi_head, pre_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    LearnedPositions,
    MLPSpec,
    NormSpec,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename, split, transpose

NAME = "GPT2"

# Usual keys -> this family's own.
SPELLINGS = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

DEFAULTS = {
    "activation_function": "gelu_new",
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "n_embd": 768,
    "n_head": 12,
    "n_inner": None,
    "n_layer": 12,
    "n_positions": 1024,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.1,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "use_cache": True,
    "vocab_size": 50257,
}

IGNORED = {
    "n_ctx": "the length of texts, which n_positions says",
    "reorder_and_upcast_attn": "the order of rounding in half precision; scores are taken in float32 here",
    **dict.fromkeys(
        [key for key in DEFAULTS if key.startswith("summary_")], "describes a head for choices that is not built here"
    ),
}


def _scales(reader: Reader, *, head_dim: int, layers: int) -> list[float]:
    """The factor on the scores of each layer."""
    scale = head_dim**-0.5 if reader.flag("scale_attn_weights") else 1.0
    falls = reader.flag("scale_attn_by_inverse_layer_idx")
    return [scale / (index + 1) if falls else scale for index in range(layers)]


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    width, dim, layers = reader.integer("n_embd"), reader.per_head("n_embd", "n_head"), reader.integer("n_layer")
    reader.only("add_cross_attention", False, reason="its layers attend to themselves alone")
    norm = NormSpec(kind="layer", eps=reader.number("layer_norm_epsilon"), bias=True)
    mlp = MLPSpec(
        width=reader.optional_integer("n_inner") or 4 * width,
        activation=reader.activation("activation_function"),
        bias=True,
    )
    attention = multi_head(reader.integer("n_head"), dim, causal=True, dropout=reader.probability("attn_pdrop"))
    dropout = reader.probability("resid_pdrop")
    made = tuple(
        pre_norm_layer(norm, replace(attention, scale=scale), mlp, dropout=dropout)
        for scale in _scales(reader, head_dim=dim, layers=layers)
    )
    frontend = TextFrontendSpec(
        vocabulary=reader.integer("vocab_size"),
        positions=LearnedPositions(count=reader.integer("n_positions")),
        dropout=reader.probability("embd_pdrop"),
    )
    return Single(stack=StackSpec(width=width, frontend=frontend, layers=made, norm=norm))


initialise = initial.by_depth


def _token_classifier(reader: Reader) -> ClassifierHeadSpec:
    key = "hidden_dropout" if reader.value("classifier_dropout") is None else "classifier_dropout"
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability(key, default=0.1))


_THEIRS, _OURS = "transformer.h.{i}.", "stack.layers.{i}."
_QKV = [_OURS + f"attention.{part}.{{wb}}" for part in ("query", "key", "value")]

RULES = Rules(
    rename("transformer.wte.weight", "stack.frontend.tokens.weight"),
    rename("transformer.wpe.weight", "stack.frontend.positions.weight"),
    rename("transformer.ln_f.{wb}", "stack.norm.{wb}"),
    rename(_THEIRS + "ln_1.{wb}", _OURS + "around_attention.before.{wb}"),
    transpose(split(_THEIRS + "attn.c_attn.{wb}", _QKV)),
    transpose(_THEIRS + "attn.c_proj.{wb}", _OURS + "attention.output.{wb}"),
    rename(_THEIRS + "ln_2.{wb}", _OURS + "around_mlp.before.{wb}"),
    transpose(_THEIRS + "mlp.c_fc.{wb}", _OURS + "mlp.up.{wb}"),
    transpose(_THEIRS + "mlp.c_proj.{wb}", _OURS + "mlp.down.{wb}"),
    ignore(_THEIRS + "attn.{p:bias|masked_bias}", "the causal mask, made anew"),
    ignore("multiple_choice_head.{rest}", "chooses among texts: a head that is not built here"),
    prefixes=("transformer.",),
)

HEADS = decoders.heads(NAME, None, writer="LMHeadModel", tokens=_token_classifier, token_scores="classifier")
