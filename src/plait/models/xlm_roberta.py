"""XLM-RoBERTa (arXiv:1911.02116): RoBERTa for a hundred languages; the network is the same, its classes have names of
their own.

Configuration: https://huggingface.co/FacebookAI/xlm-roberta-base.
"""

from __future__ import annotations

from plait.models import roberta

NAME = "XLMRoberta"

DEFAULTS = {**roberta.DEFAULTS, "vocab_size": 30522}

IGNORED, RULES = roberta.IGNORED, roberta.RULES

first_position, spec = roberta.first_position, roberta.spec

HEADS = roberta.heads(NAME, prefix="roberta.")
