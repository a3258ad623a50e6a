"""PEGASUS (arXiv:1912.08777): BART's stacks with norms before each sublayer and fixed sinusoidal positions.

Configuration: https://huggingface.co/google/pegasus-xsum.
"""

from __future__ import annotations

from plait.models import bart, coders
from plait.models.reader import Reader
from plait.nn.spec import EncoderDecoder, SinusoidalPositions

NAME = "Pegasus"

SPELLINGS = bart.SPELLINGS
DEFAULTS = {
    **bart.DEFAULTS,
    "bos_token_id": None,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "forced_eos_token_id": 1,
    "pad_token_id": 0,
}
IGNORED = {**bart.IGNORED, "max_position_embeddings": "its positions are computed, so the network has no limit"}


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    positions = SinusoidalPositions(halves=True)
    return coders.stacks(reader, before=True, embedding_norm=False, last_norm=True, positions=positions)


RULES = coders.names(coders.LAST_NORM, before=True)

HEADS = {
    **coders.heads(NAME, "PegasusForConditionalGeneration"),
    **coders.writing_head(NAME, spec, coders.alone(coders.LAST_NORM, before=True)),
}
