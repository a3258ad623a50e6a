"""Models that several tests of loading begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_sizes import TINY

from plait import AutoModel
from plait.models.config import Config


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved BERT without any head."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    AutoModel.from_config(Config(model_type="bert", **TINY)).save_pretrained(folder)
    return folder
