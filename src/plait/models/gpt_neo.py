"""GPT-Neo (Black et al. 2021, doi:10.5281/zenodo.5297715): GPT-2's decoder with layers of local and of global
attention, whose scores are not divided and whose queries, keys and values have no bias.

Configuration: https://huggingface.co/EleutherAI/gpt-neo-1.3B.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plait.errors import ConfigError
from plait.models import decoders, gpt2
from plait.models.family import multi_head, pre_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    ClassifierHeadSpec,
    LayerSpec,
    LearnedPositions,
    MaskSpec,
    MLPSpec,
    NormSpec,
    ProjectionBias,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename

NAME = "GPTNeo"

# Usual keys -> this family's own.
SPELLINGS = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}

DEFAULTS = {
    "activation_function": "gelu_new",
    "attention_dropout": 0.0,
    "attention_layers": None,
    "attention_types": None,
    "bos_token_id": 50256,
    "classifier_dropout": 0.1,
    "embed_dropout": 0.0,
    "eos_token_id": 50256,
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": None,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 2048,
    "num_heads": 16,
    "num_layers": 24,
    "resid_dropout": 0.0,
    "use_cache": True,
    "vocab_size": 50257,
    "window_size": 256,
}

IGNORED = {key: reason for key, reason in gpt2.IGNORED.items() if key.startswith("summary_")}


def _local(reader: Reader, *, layers: int) -> list[bool]:
    """Which layers look through the window: as `attention_types` says in runs, `attention_layers` one by one, or every
    second one."""
    runs, kinds = reader.value("attention_types"), reader.value("attention_layers")
    if runs is not None:
        kinds = _expanded(runs)
    elif kinds is None:
        kinds = [("global", "local")[index % 2] for index in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {"global", "local"}:
        raise ConfigError(
            f"`attention_types` must name global or local for each of the {layers} layers, as in "
            f"[[['global', 'local'], {layers // 2}]], but is {runs!r} ({reader.label})."
        )
    return [kind == "local" for kind in kinds]


def _expanded(runs: Any) -> list[str] | None:
    """[[kinds, times], …] written out, or None for something else."""
    try:
        return [str(kind) for kinds, times in runs for kind in list(kinds) * times]
    except (TypeError, ValueError):
        return None


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    width, heads = reader.integer("hidden_size"), reader.integer("num_heads")
    norm = NormSpec(kind="layer", eps=reader.number("layer_norm_epsilon"), bias=True)
    plain = multi_head(heads, reader.per_head(heads="num_heads"), dropout=reader.probability("attention_dropout"))
    plain = replace(plain, scale=1.0, bias=ProjectionBias(output=True))
    mlp = MLPSpec(
        width=reader.optional_integer("intermediate_size") or 4 * width,
        activation=reader.activation("activation_function"),
        bias=True,
    )
    window, dropout = reader.integer("window_size"), reader.probability("resid_dropout")

    def layer(local: bool) -> LayerSpec:
        mask = MaskSpec(causal=True, window=window if local else None)
        return pre_norm_layer(norm, replace(plain, mask=mask), mlp, dropout=dropout)

    frontend = TextFrontendSpec(
        vocabulary=reader.integer("vocab_size"),
        positions=LearnedPositions(count=reader.integer("max_position_embeddings")),
        dropout=reader.probability("embed_dropout"),
    )
    layers = tuple(layer(local) for local in _local(reader, layers=reader.integer("num_layers")))
    return Single(stack=StackSpec(width=width, frontend=frontend, layers=layers, norm=norm))


def _token_classifier(reader: Reader) -> ClassifierHeadSpec:
    return ClassifierHeadSpec(labels=reader.integer("num_labels"), dropout=reader.probability("classifier_dropout"))


_THEIRS, _OURS = "transformer.h.{i}.", "stack.layers.{i}."
RULES = Rules(
    rename("transformer.wte.weight", "stack.frontend.tokens.weight"),
    rename("transformer.wpe.weight", "stack.frontend.positions.weight"),
    rename("transformer.ln_f.{wb}", "stack.norm.{wb}"),
    rename(_THEIRS + "ln_1.{wb}", _OURS + "around_attention.before.{wb}"),
    rename(_THEIRS + "attn.attention.q_proj.weight", _OURS + "attention.query.weight"),
    rename(_THEIRS + "attn.attention.k_proj.weight", _OURS + "attention.key.weight"),
    rename(_THEIRS + "attn.attention.v_proj.weight", _OURS + "attention.value.weight"),
    rename(_THEIRS + "attn.attention.out_proj.{wb}", _OURS + "attention.output.{wb}"),
    rename(_THEIRS + "ln_2.{wb}", _OURS + "around_mlp.before.{wb}"),
    rename(_THEIRS + "mlp.c_fc.{wb}", _OURS + "mlp.up.{wb}"),
    rename(_THEIRS + "mlp.c_proj.{wb}", _OURS + "mlp.down.{wb}"),
    ignore(_THEIRS + "attn.attention.{p:bias|masked_bias}", "the causal mask, made anew"),
    prefixes=("transformer.",),
)

HEADS = decoders.heads(NAME, None, tokens=_token_classifier, token_scores="classifier")
