"""What each Auto class asks the hub for: a tokenizer must not download weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import plait.hub
from plait import AutoConfig, AutoModel, AutoTokenizer


@pytest.mark.parametrize(("auto", "need"), [(AutoConfig, "config"), (AutoTokenizer, "tokenizer"), (AutoModel, "model")])
def test_only_what_is_needed_is_asked_for(auto: Any, need: str, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    resolve = plait.hub.resolve

    def recording(reference: Any, **options: Any) -> Any:
        asked.append(options["need"])
        return resolve(minilm, **options)

    monkeypatch.setattr(plait.hub, "resolve", recording)
    auto.from_pretrained("org/name")
    assert asked == [need]
