"""Marian (arXiv:1804.00344): the original Transformer as trained for the OPUS-MT translators, in BART's words.

Configuration: https://huggingface.co/Helsinki-NLP/opus-mt-en-de. Source and target may have vocabularies of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plait.models import bart, coders
from plait.models.family import Head
from plait.models.reader import Reader
from plait.nn.spec import EncoderDecoder, LanguageHeadSpec, SinusoidalPositions
from plait.weights.rules import Rules, rename

if TYPE_CHECKING:
    from plait.models.config import Config

NAME = "Marian"

SPELLINGS = bart.SPELLINGS
DEFAULTS = {
    **bart.DEFAULTS,
    "bos_token_id": None,
    "decoder_start_token_id": 58100,
    "decoder_vocab_size": None,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "pad_token_id": 58100,
    "share_encoder_decoder_embeddings": True,
    "vocab_size": 58101,
}
IGNORED = {
    **bart.IGNORED,
    "max_position_embeddings": "its positions are computed, so the network has no limit",
    "tied_embeddings_all": "said by share_encoder_decoder_embeddings and tie_word_embeddings",
}


def spec(reader: Reader) -> EncoderDecoder:
    """The two stacks; see `Family.spec`."""
    return coders.stacks(
        reader,
        before=False,
        embedding_norm=False,
        last_norm=False,
        positions=SinusoidalPositions(halves=True),
        shared=reader.flag("share_encoder_decoder_embeddings"),
        decoder_vocabulary=reader.optional_integer("decoder_vocab_size"),
    )


def _language(reader: Reader) -> LanguageHeadSpec:
    vocabulary = reader.optional_integer("decoder_vocab_size") or reader.integer("vocab_size")
    return replace(coders.language(reader), vocabulary=vocabulary)


def rules(config: Config) -> Rules:
    """The names of the stacks' weights: one embedding has a name of its own, two have those of their sides."""
    of_two = (
        rename("model.encoder.embed_tokens.weight", coders.EMBEDDING),
        rename("model.decoder.embed_tokens.weight", "decoder.frontend.tokens.weight"),
    )
    embeddings = coders.SHARED if config.share_encoder_decoder_embeddings else of_two
    return coders.names(before=False, embeddings=embeddings)


RULES = rules

HEADS = {
    "base": Head(architecture="MarianModel"),
    "seq2seq_lm": Head(architecture="MarianMTModel", spec=_language, rules=coders.SCORES),
    **coders.writing_head(NAME, spec, coders.alone(before=False)),
}
