"""Spaces that tokenizers of words leave in decoded text, complete: which they are, and closing them."""

from __future__ import annotations

# Before punctuation and inside contractions, in the order in which they are closed.
CLEANUPS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def clean_up(text: str) -> str:
    """Text without these spaces."""
    for spaced, closed in CLEANUPS:
        text = text.replace(spaced, closed)
    return text
