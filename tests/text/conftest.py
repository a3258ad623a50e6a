"""Tokenizers of the two real checkpoints, plait's and transformers', once per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait.text import Tokenizer


@pytest.fixture(scope="session")
def bert(minilm: Path) -> Tokenizer:
    """WordPiece, from tokenizer.json with truncation and padding switched on in the file."""
    return Tokenizer.from_folder(minilm)


@pytest.fixture(scope="session")
def their_bert(minilm: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(minilm))


@pytest.fixture(scope="session")
def chat(smollm2: Path) -> Tokenizer:
    """Byte-level BPE with a chat template, from GGUF metadata."""
    from plait.weights.gguf import read_metadata

    return Tokenizer.from_gguf(read_metadata(smollm2))


@pytest.fixture(scope="session")
def their_chat(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(smollm2.parent), gguf_file=smollm2.name)


@pytest.fixture(scope="session")
def digits(smollm2: Path) -> Any:
    """transformers over SmolLM2's own pipeline, as its tokenizer.json publishes it.

    transformers' GGUF conversion leaves the splitting of digits out, so it is put back here.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(smollm2.parent), gguf_file=smollm2.name)
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return theirs
