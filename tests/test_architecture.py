"""The house rules that a machine can check: imports run downwards, imports are light, no family name in nn."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "plait"

BASE = {"errors", "settings", "console", "lazy", "disk", "flat"}
ALLOWED: dict[str, set[str]] = {
    "errors": BASE,
    "settings": BASE,
    "console": BASE,
    "lazy": BASE,
    "disk": BASE,
    "flat": BASE,
    "hub": BASE,
    "text": BASE,
    "media": BASE,
    "nn": BASE,
    "data": BASE | {"hub", "media"},
    "weights": BASE | {"hub"},
    "generate": BASE | {"nn"},
    "models": BASE | {"nn", "weights", "hub", "text", "generate"},
    "train": BASE | {"data", "text", "weights", "nn"},
    "tabular": BASE | {"nn", "models", "train", "data"},
    "inside": BASE | {"nn", "models", "text", "train"},
    "pipelines": BASE | {"models", "text", "media", "generate", "data"},
    "serve": BASE | {"pipelines", "models", "text", "media", "generate", "data", "hub"},
}
ANYTHING = {"compat", "cli", "demo", "__init__"}


def package_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The parts of plait that a file imports, at any depth of the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write `from plait.…`"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("plait.") and name.count(".") >= 1}
    return {name for name in found if (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()}


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path: Path) -> None:
    package = package_of(path)
    if package in ANYTHING:
        return
    forbidden = imports_of(path) - ALLOWED[package] - {package}
    assert not forbidden, f"{package} may not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_is_one_concept(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the first docstring says what the file is complete for"


def test_import_is_light() -> None:
    """Importing plait loads none of the heavy packages; the module table is the durable guard, time alone is noise."""
    code = "import sys, plait; print(sorted({n.split('.')[0] for n in sys.modules} & set(sys.argv[1].split(','))))"
    heavy = (
        "torch,numpy,pyarrow,tokenizers,safetensors,huggingface_hub,jinja2,typer,rich,httpx,pandas,sklearn,matplotlib"
    )
    result = subprocess.run([sys.executable, "-c", code, heavy], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_family_name_in_nn() -> None:
    """nn knows no checkpoint family; only comments and docstrings may cite one."""
    families = {path.stem for path in (SOURCE / "models").glob("*.py") if "RULES" in path.read_text(encoding="utf-8")}
    assert not families or {"bert", "llama", "qwen2"} <= families
    for path in (SOURCE / "nn").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            words: list[str] = []
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                words = node.value.lower().split()
            elif isinstance(node, ast.Name | ast.Attribute):
                words = [node.id.lower() if isinstance(node, ast.Name) else node.attr.lower()]
            assert not families & set(words), f"{path.name}:{getattr(node, 'lineno', 0)}"


def test_no_two_test_files_share_a_name() -> None:
    """Two modules of one name cannot be collected together."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
