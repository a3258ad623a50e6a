"""Tokenizers: text to ids and back, chat templates, and streams of text out of streams of ids.

from plait.text import Tokenizer, BatchEncoding
"""

from __future__ import annotations

from plait.text.encoding import BatchEncoding
from plait.text.tokenizer import Tokenizer

__all__ = ["BatchEncoding", "Tokenizer"]
