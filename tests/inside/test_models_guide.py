"""The Python of docs/models.md runs as it stands, on a small model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from plait.models.auto import AutoTokenizer
from plait.models.config import Config
from plait.models.files import new_model

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_the_guide_runs(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "org" / "name"
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 13}
    config = Config(model_type="llama", vocab_size=len(tokenizer), num_key_value_heads=2, **sizes)
    new_model(config, task="causal_lm").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 5
    tables = next(block for block in blocks if "table-question-answering" in block)
    blocks.remove(tables)  # the tests of the pipeline run it on a model of tables
    if not torch.accelerator.is_available():  # there is no accelerator 0 to be named
        blocks[1] = blocks[1].replace('{0: "10GB", "cpu": "8GB"}', '{"cpu": "8GB"}')
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["found"].attentions.shape == (13, 4, 8, 8)  # type: ignore[attr-defined]
    assert len(names["record"].states) == 14  # type: ignore[attr-defined]
    assert names["model"].hf_device_map["stack.layers.12"] == "disk"  # type: ignore[attr-defined]
    assert (tmp_path / "look" / "index.html").is_file()
