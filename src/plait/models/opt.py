"""OPT (arXiv:2205.01068): a decoder with learned positions, counted over the tokens that are no padding.

Configuration: https://huggingface.co/facebook/opt-125m.
"""

from __future__ import annotations

from plait.models import decoders
from plait.models.config import Config
from plait.models.family import multi_head, post_norm_layer, pre_norm_layer
from plait.models.reader import Reader
from plait.nn.spec import (
    LearnedPositions,
    MLPSpec,
    NarrowTokens,
    NormSpec,
    Single,
    StackSpec,
    TextFrontendSpec,
)
from plait.weights.rules import Rules, ignore, rename

NAME = "OPT"

# Usual keys -> this family's own.
SPELLINGS = {"initializer_range": "init_std"}

DEFAULTS = {
    "activation_function": "relu",
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "do_layer_norm_before": True,
    "dropout": 0.1,
    "enable_bias": True,
    "eos_token_id": 2,
    "ffn_dim": 3072,
    "hidden_size": 768,
    "init_std": 0.02,
    "layer_norm_elementwise_affine": True,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "use_cache": True,
    "vocab_size": 50272,
    "word_embed_proj_dim": None,
}

IGNORED = {
    "activation_dropout": "the published network drops nothing there",
    "init_std": "read as initializer_range, a choice of training",
    "layerdrop": "leaves out layers in training; all of them are used",
}

# Rows of the table of positions before that of position 0.
_OFFSET = 2


def spec(reader: Reader) -> Single:
    """The decoder; see `Family.spec`."""
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    reader.only("layer_norm_elementwise_affine", True, reason="its norms have weights")
    norm = NormSpec(kind="layer", eps=1e-5, bias=True)
    bias, dim, dropout = reader.flag("enable_bias"), decoders.head_dim(reader), reader.probability("dropout")
    attention = multi_head(heads, dim, causal=True, bias=bias, dropout=reader.probability("attention_dropout"))
    activation = reader.activation("activation_function")
    mlp = MLPSpec(width=reader.integer("ffn_dim"), activation=activation, bias=bias)
    before, vocabulary = reader.flag("do_layer_norm_before"), reader.integer("vocab_size")
    layer = (pre_norm_layer if before else post_norm_layer)(norm, attention, mlp, dropout=dropout)
    # The first checkpoints had no norm behind the layers.
    last = before and not reader.flag("_remove_final_layer_norm", default=False)
    tokens = reader.optional_integer("word_embed_proj_dim") or width
    frontend = TextFrontendSpec(
        vocabulary=vocabulary,
        narrow=None if tokens == width else NarrowTokens(width=tokens),
        positions=LearnedPositions(
            count=reader.integer("max_position_embeddings") + _OFFSET, offset=_OFFSET, over="tokens"
        ),
        padding=reader.padding(vocabulary=vocabulary),
    )
    return Single(
        stack=StackSpec(
            width=width,
            frontend=frontend,
            layers=(layer,) * reader.integer("num_hidden_layers"),
            norm=norm if last else None,
            narrow=None if tokens == width else tokens,
        )
    )


_NAMES = {
    "embed_tokens.weight": "stack.frontend.tokens.weight",
    "embed_positions.weight": "stack.frontend.positions.weight",
    "project_in.weight": "stack.frontend.projection.weight",
    "project_out.weight": "stack.projection.weight",
    "layers.{i}.self_attn.q_proj.{wb}": "stack.layers.{i}.attention.query.{wb}",
    "layers.{i}.self_attn.k_proj.{wb}": "stack.layers.{i}.attention.key.{wb}",
    "layers.{i}.self_attn.v_proj.{wb}": "stack.layers.{i}.attention.value.{wb}",
    "layers.{i}.self_attn.out_proj.{wb}": "stack.layers.{i}.attention.output.{wb}",
    "layers.{i}.fc1.{wb}": "stack.layers.{i}.mlp.up.{wb}",
    "layers.{i}.fc2.{wb}": "stack.layers.{i}.mlp.down.{wb}",
    "final_layer_norm.{wb}": "stack.norm.{wb}",
}


def RULES(config: Config) -> Rules:
    """The names of the stack's weights; the norms of a layer stand before or behind its sublayers."""
    slot = "before" if config.do_layer_norm_before else "after"
    table = {
        **_NAMES,
        "layers.{i}.self_attn_layer_norm.{wb}": f"stack.layers.{{i}}.around_attention.{slot}.{{wb}}",
        "layers.{i}.final_layer_norm.{wb}": f"stack.layers.{{i}}.around_mlp.{slot}.{{wb}}",
    }
    return Rules(
        *(rename("model.decoder." + theirs, ours) for theirs, ours in table.items()),
        ignore("model.decoder.version", "a note of the program that trained it"),
        prefixes=("model.",),
    )


HEADS = decoders.heads(NAME, None, without=["token_classification"])
