"""MPNet (arXiv:2004.09297): RoBERTa without segments, and with a bias on the scores by the distance of the tokens.

Configuration: https://huggingface.co/microsoft/mpnet-base.
"""

from __future__ import annotations

from dataclasses import replace

from plait.models import bert, encoders, roberta
from plait.models.config import Config
from plait.models.reader import Reader
from plait.nn.spec import RelativeBiasSpec, Single

NAME = "MPNet"

_ABSENT = ("type_vocab_size", "position_embedding_type", "classifier_dropout", "use_cache")
DEFAULTS = {
    **{key: value for key, value in bert.DEFAULTS.items() if key not in _ABSENT},
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "relative_attention_num_buckets": 32,
    "vocab_size": 30527,
}

IGNORED: dict[str, str] = {}

_PADDING = 1  # whatever the configuration calls its padding: so the table of positions was trained


def first_position(config: Config) -> int:
    """The position id of the first token."""
    return _PADDING + 1


def spec(reader: Reader) -> Single:
    """The encoder; see `Family.spec`."""
    reader.only("relative_attention_num_buckets", 32, reason="distances are sorted into so many buckets")
    reader.only("is_decoder", False, reason="it was never trained to write")
    stack = encoders.encoder(reader, positions=roberta.positions(reader, padding=_PADDING)).stack
    return Single(stack=replace(stack, relative_bias=RelativeBiasSpec(buckets=32, distance=128)))


_ATTENTION = "encoder.layer.{i}.attention."
_BERT = {
    theirs: ours for theirs, ours in encoders.NAMES.items() if "attention" not in theirs and "token_type" not in theirs
}
RULES = encoders.names(
    _BERT
    | {
        _ATTENTION + "attn.q.{wb}": "stack.layers.{i}.attention.query.{wb}",
        _ATTENTION + "attn.k.{wb}": "stack.layers.{i}.attention.key.{wb}",
        _ATTENTION + "attn.v.{wb}": "stack.layers.{i}.attention.value.{wb}",
        _ATTENTION + "attn.o.{wb}": "stack.layers.{i}.attention.output.{wb}",
        _ATTENTION + "LayerNorm.{wb}": "stack.layers.{i}.around_attention.after.{wb}",
        "encoder.relative_attention_bias.weight": "stack.relative_bias.table.weight",
    },
    prefix="mpnet.",
)

HEADS = roberta.heads(NAME, prefix="mpnet.", generates=False)
