"""The configurations of published decoders: every key of them is understood, and their networks have the published
number of parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plait.models.config import Config
from plait.models.files import read_topology
from plait.nn.build import build

# The keys as published; of long lists of factors, only the length.
PUBLISHED = json.loads((Path(__file__).parent / "published_decoders.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name: str) -> None:
    config = Config(PUBLISHED[name]["config"], label=f"config.json of {name}")
    network = build(read_topology(config, "causal_lm"))
    assert sum(part.numel() for part in network.parameters()) == PUBLISHED[name]["parameters"]
