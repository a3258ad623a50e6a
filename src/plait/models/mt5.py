"""mT5 (arXiv:2010.11934): T5 in a hundred languages, in the gated form, its scores never divided.

Configuration: https://huggingface.co/google/mt5-small.
"""

from __future__ import annotations

from plait.models import t5
from plait.models.reader import Reader
from plait.nn.spec import EncoderDecoder

NAME = "MT5"

SPELLINGS = t5.SPELLINGS
DEFAULTS = {
    **t5.DEFAULTS,
    "d_ff": 1024,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 6,
    "num_layers": 8,
    "scale_decoder_outputs": False,
    "vocab_size": 250112,
}
IGNORED = t5.IGNORED


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    reader.only("scale_decoder_outputs", False, reason="its scores are never divided")
    return t5.spec(reader)


initialise = t5.initialise

RULES = t5.RULES

HEADS = t5.heads(NAME)
