"""The original Transformer, trained from scratch by its example, reverses sequences that it has never seen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "reverse_sequences.py"


@pytest.mark.slow
def test_reverse_sequences() -> None:
    result = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    (match,) = re.findall(r"exact match on 1000 unseen sequences: ([\d.]+)%", result.stdout)
    assert float(match) >= 99.0


def test_the_example_fits_a_screen() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60
