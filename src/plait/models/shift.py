"""What a decoder reads while it learns to write given words, complete: the same words, one place later.

Two customs differ by what stands in the first place. Shapes: B batch, T tokens.
"""

from __future__ import annotations

from torch import Tensor

from plait.errors import OptionError
from plait.models.config import Config
from plait.models.registry import family_of


def shifted(labels: Tensor, config: Config) -> Tensor:
    """The decoder's input (B, T) for `labels` (B, T), by the custom of the family.

    -100, which marks labels that count nothing, becomes padding. Raises OptionError where the configuration lacks a
    token that is needed.
    """
    padding = _token(config, "pad_token_id")
    head = family_of(config.model_type, label=config.label).HEADS["seq2seq_lm"]
    words = labels.masked_fill(labels == -100, padding)
    read = words.roll(1, dims=1)
    if head.first == "last_word":
        # Each row ends, before its padding, with the token of its language; that one comes first.
        last = (words != padding).sum(dim=1, keepdim=True) - 1
        read[:, :1] = words.gather(1, last.clamp(min=0))
    else:
        read[:, 0] = _token(config, "decoder_start_token_id")
    return read


def _token(config: Config, key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int):
        raise OptionError(
            f"Labels cannot be shifted, because `{key}` is {value!r} in {config.label}. Set it, or pass "
            "decoder_input_ids as well."
        )
    return value
