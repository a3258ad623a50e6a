"""Every public name resolves, is what the type checker sees, and a wrong one names the nearest."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import plait


@pytest.mark.parametrize("name", plait.__all__)
def test_name_resolves(name: str) -> None:
    assert getattr(plait, name) is not None
    assert name in dir(plait)


def test_type_checker_and_table_agree() -> None:
    tree = ast.parse(Path(plait.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == plait._MODULES


def test_wrong_name() -> None:
    with pytest.raises(
        AttributeError, match=r"plait has no public name 'AutoTokeniser'. Did you mean 'AutoTokenizer'\?"
    ):
        plait.AutoTokeniser  # noqa: B018


@pytest.mark.parametrize("name", ["AutoTokenizer", "AutoConfig", "AutoModel", "AutoModelForCausalLM", "load_dataset"])
def test_names_that_need_no_torch_do_not_import_it(name: str) -> None:
    code = f"import sys, plait; plait.{name}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_module_imports_and_says_what_it_is() -> None:
    package = Path(plait.__file__).parent
    names = [
        ".".join(("plait", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(package.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    for name in names:
        assert importlib.import_module(name).__doc__
