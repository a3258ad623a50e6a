"""What files of T5 and mT5 call their weights, complete: both stacks, or the encoder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.weights.rules import Rule, Rules, ignore, rename, tied

if TYPE_CHECKING:
    from plait.models.config import Config

_PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "output"}
_GATED = {"wi_0": "gate", "wi_1": "up", "wo": "down"}
_PLAIN = {"wi": "up", "wo": "down"}
# The sublayers of a layer in their order: their name, and ours.
_SUBLAYERS = {
    "encoder": {"SelfAttention": "attention", "DenseReluDense": "mlp"},
    "decoder": {"SelfAttention": "attention", "EncDecAttention": "cross", "DenseReluDense": "mlp"},
}


# What names begin with where both stacks are a part of something; files of language models lack it.
_START = "transformer."


def _names(config: Config, side: str, ours: str) -> list[Rule]:
    """The names of one stack, which is `ours` here, those of the MLP as its form is."""
    mlp = _GATED if str(config.feed_forward_proj).startswith("gated-") else _PLAIN
    parts = {"attention": _PROJECTIONS, "cross": _PROJECTIONS, "mlp": mlp}
    theirs = f"{_START}{side}."
    named = [
        rename(
            theirs + "block.0.layer.0.SelfAttention.relative_attention_bias.weight", ours + "relative_bias.table.weight"
        ),
        rename(theirs + "final_layer_norm.weight", ours + "norm.weight"),
    ]
    for number, (sublayer, part) in enumerate(_SUBLAYERS[side].items()):
        block, layer = f"{theirs}block.{{i}}.layer.{number}.", f"{ours}layers.{{i}}."
        named.append(rename(block + "layer_norm.weight", f"{layer}around_{part}.before.weight"))
        named += [rename(f"{block}{sublayer}.{t}.weight", f"{layer}{part}.{o}.weight") for t, o in parts[part].items()]
    return named


def _embedding(ours: str) -> Rule:
    return rename(_START + "shared.weight", ours, also=[_START + "encoder.embed_tokens.weight"])


def rules(config: Config) -> Rules:
    """The names of the stacks' weights."""
    return Rules(
        _embedding("encoder.frontend.tokens.weight"),
        tied(_START + "decoder.embed_tokens.weight", "decoder.frontend.tokens.weight"),
        ignore(
            _START + "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
            "places in one sequence mean nothing in another; the published code never read it",
        ),
        *_names(config, "encoder", "encoder."),
        *_names(config, "decoder", "decoder."),
        prefixes=(_START,),
    )


def encoder_alone(config: Config) -> Rules:
    """The names where the encoder reads alone; a file may hold a decoder as well."""
    return Rules(
        _embedding("stack.frontend.tokens.weight"),
        ignore(_START + "decoder.{rest}", "the encoder reads alone"),
        *_names(config, "encoder", "stack."),
        prefixes=(_START,),
    )
