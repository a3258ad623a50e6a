"""The guides run: their Python and console blocks in order, in one process, printing what their comments say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
GUIDES = ("guide-data", "guide-text", "guide-models")
PAGES = [f"{guide}{language}.md" for guide in GUIDES for language in ("", ".zh-CN")]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# print(…)  # what it prints; an ellipsis stands for anything
SAID = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)


def code_of(page: str) -> str:
    """The blocks of a page as one script; a line of a console block is run by the shell."""
    parts = []
    for language, block in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        assert language in ("python", "console"), f"a block of {page} that does not run: {block}"
        if language == "console":
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            block = "import subprocess\n" + "".join(f"subprocess.run({ln!r}, shell=True, check=True)\n" for ln in lines)
        parts.append(block)
    return "\n".join(parts)


def assert_said(code: str, printed: str) -> None:
    """Each comment says a line that was printed, in their order; an ellipsis in it stands for anything."""
    lines = iter(printed.splitlines())
    for said in SAID.findall(code):
        pattern = ".*".join(re.escape(part.strip()) for part in said.split("…"))
        assert any(re.fullmatch(pattern, line.strip()) for line in lines), f"not printed in its place: {said}"


@pytest.mark.network
@pytest.mark.parametrize("page", [f"{guide}.md" for guide in GUIDES])
def test_guides_run(page: str, tmp_path: Path, minilm: Path, smollm2: Path) -> None:
    """Without a network: the models of the fixtures are cached, and nothing else is fetched.

    The Chinese pages show the same code, as the next test says.
    """
    code = code_of(page)
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": tools, "PLAIT_OFFLINE": "1", "PLAIT_PROGRESS": "0"}
    if page.startswith("guide-data"):  # it removes results from the cache, which is therefore its own
        environment["PLAIT_HOME"] = str(tmp_path / "home")
    (folder := tmp_path / "work").mkdir()
    result = subprocess.run(
        [sys.executable, "-u", "-c", code], capture_output=True, text=True, cwd=folder, env=environment, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert len(SAID.findall(code)) >= 10
    assert_said(code, result.stdout)


@pytest.mark.parametrize("guide", GUIDES)
def test_both_languages_show_the_same_code(guide: str) -> None:
    """Comments in words apart: those that say what is printed, and strings, are the same."""
    english, chinese = (code_of(f"{guide}{language}.md").splitlines() for language in ("", ".zh-CN"))
    assert [_compared(line) for line in english] == [_compared(line) for line in chinese]


def _compared(line: str) -> str:
    return line if SAID.match(line) else re.sub(r"  # .*", "", line)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_short_and_their_links_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / target).exists(), target


def test_every_difference_names_tests_that_exist() -> None:
    """A row of differences.md without its test, or with one that was renamed, is a claim that nothing shows."""
    rows = [line for line in (DOCS / "differences.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    claims = [row for row in rows if not row.startswith("|---") and not row.endswith("| test |")]
    assert len(claims) > 100
    for claim in claims:
        cited = claim.rstrip(" |").rpartition(" | ")[2]
        files = [part.split(", ") for part in cited.split("; ")]
        for file, *names in files:
            path = DOCS.parent / file.strip("`")
            assert path.suffix == ".py", claim
            defined = set(re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")))
            assert {name.strip("`") for name in names} <= defined, claim


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), *sorted(DOCS.parent.glob("*.md"))], ids=lambda page: page.name
)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Those of this repository, written from its root."""
    for name in re.findall(
        r"`((?:src|tests|benchmarks|examples|docs)/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8")
    ):
        assert (DOCS.parent / name).exists(), f"{page.name} names {name}"
