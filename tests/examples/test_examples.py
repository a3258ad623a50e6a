"""Every example runs as a script, on small settings, and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(tmp_path: Path, name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_example_is_longer_than_a_screen() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name


def test_every_example_is_tested() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    tested = {match[1] for match in re.finditer(r'"(\w+\.py)"', tests)}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


def test_solar_regression(tmp_path: Path, minilm: Path) -> None:
    output = run(tmp_path, "solar_regression.py", str(minilm), "1")
    (error,) = re.findall(r"epoch 1/1: MAE ([\d.]+) kW", output)
    assert float(error) < 2.0  # the mean errs by 6 kW, a line by 1.1 kW


@pytest.mark.slow
def test_text_classification(tmp_path: Path, minilm: Path) -> None:
    output = run(tmp_path, "text_classification.py", str(minilm), "2", "300")
    (accuracy,) = re.findall(r"accuracy on 60 held-out sentences: ([\d.]+)%", output)
    # Chance is 50% and its standard deviation on 60 sentences 6.5%: this is more than two of them above.
    assert float(accuracy) > 64


def test_chat(tmp_path: Path, smollm2: Path) -> None:
    assert "Paris" in run(tmp_path, "chat.py", "What is the capital of France?", str(smollm2), "12")


def test_tokenizer(tmp_path: Path, minilm: Path) -> None:
    lines = run(tmp_path, "tokenizer.py", str(minilm)).splitlines()
    assert lines[0] == "tokens  ['[CLS]', 'hello', ',', 'how', 'are', 'you', '?', '[SEP]']"
    assert lines[1] == "ids     [101, 7592, 1010, 2129, 2024, 2017, 1029, 102]"
    assert lines[2] == "decoded hello, how are you?"
    assert lines[3] == "batch   (2, 8)"
