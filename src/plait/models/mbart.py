"""mBART (arXiv:2001.08210): BART in many languages, with norms before each sublayer and one behind each stack.

Configuration: https://huggingface.co/facebook/mbart-large-50. A text ends with the token of its language, with which
the decoder begins.
"""

from __future__ import annotations

from plait.models import bart, coders
from plait.models.reader import Reader
from plait.nn.spec import EncoderDecoder

NAME = "MBart"

SPELLINGS = bart.SPELLINGS
DEFAULTS = {**bart.DEFAULTS, "decoder_start_token_id": None}
IGNORED = bart.IGNORED


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    positions = coders.learned_positions(reader)
    return coders.stacks(reader, before=True, embedding_norm=True, last_norm=True, positions=positions)


_BELOW = (coders.LEARNED_POSITIONS, coders.EMBEDDING_NORM, coders.LAST_NORM)
RULES = coders.names(*_BELOW, before=True)

HEADS = {
    **coders.heads(NAME, "MBartForConditionalGeneration", first="last_word"),
    **coders.reading_heads(NAME, first="last_word"),
    **coders.writing_head(NAME, spec, coders.alone(*_BELOW, before=True)),
}
