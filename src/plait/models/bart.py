"""BART (arXiv:1910.13461): an encoder and a decoder with learned positions and norms behind each sublayer.

Configuration: https://huggingface.co/facebook/bart-large. mBART, Marian and PEGASUS are the same stacks with norms in
other places and other positions; they share what is here.
"""

from __future__ import annotations

from plait.models import coders
from plait.models.reader import Reader
from plait.nn.spec import EncoderDecoder

NAME = "Bart"

SPELLINGS = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
    "initializer_range": "init_std",
}

DEFAULTS = {
    "activation_dropout": 0.0,
    "activation_function": "gelu",
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "d_model": 1024,
    "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
    "decoder_layers": 12,
    "decoder_start_token_id": 2,
    "dropout": 0.1,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "encoder_layers": 12,
    "eos_token_id": 2,
    "forced_eos_token_id": 2,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "max_position_embeddings": 1024,
    "pad_token_id": 1,
    "scale_embedding": False,
    "use_cache": True,
    "vocab_size": 50265,
}

IGNORED = {
    "init_std": "the deviation of new weights; the network's function is the same",
    "is_decoder": "the task says whether the decoder is alone",
    "is_encoder_decoder": "the task says so",
    "encoder_layerdrop": "layers left out at random while the checkpoint was trained",
    "decoder_layerdrop": "layers left out at random while the checkpoint was trained",
    "extra_pos_embeddings": "a note of the program that trained it",
    "force_bos_token_to_be_generated": "an old spelling of forced_bos_token_id",
    "classif_dropout": "an old spelling of classifier_dropout",
    "save_step": "a note of the program that trained it",
}


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    positions = coders.learned_positions(reader)
    return coders.stacks(reader, before=False, embedding_norm=True, last_norm=False, positions=positions)


_BELOW = (coders.LEARNED_POSITIONS, coders.EMBEDDING_NORM)
RULES = coders.names(*_BELOW, before=False)

HEADS = {
    **coders.heads(NAME, "BartForConditionalGeneration"),
    **coders.reading_heads(NAME),
    **coders.writing_head(NAME, spec, coders.alone(*_BELOW, before=False)),
}
