"""Every Python block of both READMEs runs, in order, in one process, and prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# print(…)  # what it prints, up to an ellipsis or a full-width colon that goes on in words
SAID = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)


@pytest.mark.network
@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_code_blocks_run(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    code = "\n".join(BLOCK.findall(text))
    assert len(BLOCK.findall(text)) == 8
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert result.returncode == 0, result.stderr
    for said in SAID.findall(code):
        for part in said.split("…"):
            expected = part.split(": the")[0].split("：")[0].strip()
            if expected != "R²":
                assert expected in result.stdout, said
    assert float(result.stdout.split()[-1]) > 0.9, "R² of the worked example"


def test_both_languages_show_the_same_code() -> None:
    """Translated comments aside."""
    blocks = [
        re.sub(r"#.*", "#", "\n".join(BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))))
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
