"""What a forward frees is there for the next one, without new pages from the system."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from subprocess import run

import pytest

from plait import AutoModel
from plait.models import files

PROGRAM = """
import resource
import torch
from plait.models.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 20)  # 4 MiB, that is 1024 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
keep_freed_memory()
faults()  # these pages are taken once
print(before, faults())
"""


def test_pages_are_taken_once() -> None:
    # A tenth of the pages that twenty blocks have is room for whatever else the interpreter does. Other allocators
    # have ways of their own.
    output = run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    before, after = map(int, output.split())
    assert after <= before
    if platform.libc_ver()[0] == "glibc":
        assert after < 20 * 1024 / 10


def test_every_model_does_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(files, "keep_freed_memory", lambda: calls.append("kept"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    AutoModel.from_config({"model_type": "bert", "vocab_size": 30, **sizes}).save_pretrained(tmp_path)
    assert calls == ["kept"]
    AutoModel.from_pretrained(tmp_path)
    assert calls == ["kept", "kept"]
