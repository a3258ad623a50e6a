"""Digests of functions and tables: equal when nothing that matters changed, different when anything did."""

from __future__ import annotations

import functools
import importlib
import logging
import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from plait.data import Dataset
from plait.data.fingerprint import digest_of
from plait.data.reach import Unhashable


def of(value: Any) -> str:
    return digest_of(value)[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes modules of a project and imports them, each call anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(**sources: str) -> list[ModuleType]:
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
            names.append(name)
        sys.dont_write_bytecode = True
        return [importlib.import_module(name) for name in sources]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_the_same_code_elsewhere_is_the_same() -> None:
    def first(row: Any) -> Any:
        return {"n": len(row["t"]) + 1}

    original = of(first)

    # moved, and with a comment in it
    def first(row: Any) -> Any:  # type: ignore[no-redef]
        # a comment
        return {"n": len(row["t"]) + 1}

    assert of(first) == original

    def first(row: Any) -> Any:  # type: ignore[no-redef]
        return {"n": len(row["t"]) + 2}

    assert of(first) != original


def test_everything_that_is_reached_counts(project: Any) -> None:
    main = "import helpers\nLIMIT = 3\ndef f(row):\n    return helpers.clean(row) * LIMIT\n"
    helpers = "from deep import low\ndef clean(x):\n    return low(x)\n\ndef unused(x):\n    return 1\n"
    deep = "def low(x):\n    return x\n"
    seen = {}
    for name, sources in {
        "as it was": {"deep": deep, "helpers": helpers, "main_module": main},
        "again": {"deep": deep, "helpers": helpers, "main_module": main},
        "unused": {"deep": deep, "helpers": helpers.replace("return 1", "return 2"), "main_module": main},
        "global": {"deep": deep, "helpers": helpers, "main_module": main.replace("LIMIT = 3", "LIMIT = 4")},
        "deep": {"deep": deep.replace("return x", "return x + 1"), "helpers": helpers, "main_module": main},
        "helper": {"deep": deep, "helpers": helpers.replace("low(x)\n\n", "low(x) + 1\n\n"), "main_module": main},
    }.items():
        seen[name] = of(project(**sources)[-1].f)
    assert seen["as it was"] == seen["again"] == seen["unused"]
    assert len({seen[name] for name in ("as it was", "global", "deep", "helper")}) == 4


def test_imports_inside_a_function_count(project: Any) -> None:
    main = "def f(row):\n    import helpers\n    return helpers.clean(row)\n"
    first = of(project(helpers="def clean(x):\n    return x\n", main_module=main)[-1].f)
    second = of(project(helpers="def clean(x):\n    return x + 1\n", main_module=main)[-1].f)
    assert first != second


def test_imports_inside_a_function_count_before_they_are_loaded_and_however_they_are_written(
    project: Any, tmp_path: Path
) -> None:
    """Loading is left to the digest: otherwise a helper that changed between two runs would not be seen."""
    package = tmp_path / "bundle"
    package.mkdir()
    (package / "__init__.py").write_text("")
    bodies = {
        "import helpers": "helpers.clean(row)",
        "import bundle.words": "bundle.words.clean(row)",
        "import bundle.words as w": "w.clean(row)",
        "from bundle import words": "words.clean(row)",
        "from bundle.words import clean": "clean(row)",
        "from .words import clean": "clean(row)",
        "from . import words": "words.clean(row)",
    }
    found: dict[str, set[str]] = {line: set() for line in bodies}
    for result in ("x", "x + 1"):
        for line, use in bodies.items():
            for name in [name for name in sys.modules if name.partition(".")[0] in ("helpers", "bundle")]:
                del sys.modules[name]
            source = f"def clean(x):\n    return {result}\n"
            (tmp_path / "helpers.py").write_text(source)
            (package / "words.py").write_text(source)
            (package / "main.py").write_text(f"def f(row):\n    {line}\n    return {use}\n")
            sys.dont_write_bytecode = True
            importlib.invalidate_caches()
            sys.path_importer_cache.clear()
            function = importlib.import_module("bundle.main").f
            assert not {"bundle.words", "helpers"} & {*sys.modules}
            found[line].add(of(function))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("helpers", "bundle")]:
        del sys.modules[name]
    assert {line: len(digests) for line, digests in found.items()} == dict.fromkeys(bodies, 2)


def test_imports_that_fail(project: Any) -> None:
    script = "def f(row):\n    try:\n        from . import a\n    except ImportError:\n        a = 1\n    return a\n"
    assert of(project(main_module=script)[0].f) == of(project(main_module=script)[0].f)
    missing = "def f(row):\n    import no_such_module_anywhere\n    return row\n"
    assert of(project(main_module=missing)[0].f) == of(project(main_module=missing)[0].f)
    (main, _) = project(main_module="def f(row):\n    import broken\n    return row\n", broken="")
    sys.modules.pop("broken")
    Path(str(main.__file__)).with_name("broken.py").write_text("1 / 0\n")
    importlib.invalidate_caches()
    with pytest.raises(Unhashable, match=r"^the module broken, which it imports, fails with ZeroDivisionError: "):
        of(main.f)


_FORMS = {
    "cached helper": (
        "import functools\n@functools.lru_cache\ndef h(x):\n    return x + 1\ndef f(row):\n    return h(row)\n",
        "x + 2",
    ),
    "value of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(row, e=E.A):\n    return e.value\n",
        "A = 2",
    ),
    "method of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 0\n    def m(self):\n        return 1\n"
        "def f(row, e=E.A):\n    return e.m()\n",
        "return 2",
    ),
    "attribute of a function": ("def f(row):\n    return f.scale\nf.scale = 1\n", "f.scale = 2"),
    "name of a builtin": ("import functools\n@functools.wraps(len)\ndef f(row):\n    return 1\n", "return 2"),
    "metaclass": (
        "class M(type):\n    def m(cls):\n        return 1\nclass C(metaclass=M):\n    pass\n"
        "def f(row):\n    return C.m()\n",
        "return 2",
    ),
    "module handed on": (
        "import types\nh = types.ModuleType('h')\nh.K = 1\ndef g(m):\n    return m.K\ndef f(row):\n    return g(h)\n",
        "h.K = 2",
    ),
    "module in a dict": (
        "import types\nh = types.ModuleType('h')\nh.K = 1\nD = {'h': h}\ndef f(row):\n    return D['h'].K\n",
        "h.K = 2",
    ),
    "default of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    a: int = 1\n"
        "def f(row):\n    return C().a\n",
        "int = 2",
    ),
}


@pytest.mark.parametrize("name", list(_FORMS))
def test_a_change_is_seen_in_every_form(project: Any, name: str) -> None:
    source, after = _FORMS[name]
    before = after[:-1] + "1"
    assert source.count(before) == 1
    first = of(project(main_module=source)[0].f)
    assert of(project(main_module=source)[0].f) == first
    assert of(project(main_module=source.replace(before, after))[0].f) != first


def test_values_that_hold_more_than_they_show() -> None:
    class Tagged(str):
        tag = 0

    def tagged(tag: int) -> Tagged:
        text = Tagged("a")
        text.tag = tag
        return text

    assert of(tagged(1)) == of(tagged(1)) != of(tagged(2))
    numbers = [1, 2, 3]
    assert of(np.ma.array(numbers, mask=[0, 0, 1])) != of(np.ma.array(numbers, mask=[0, 1, 0]))
    assert of(np.array(1)) != of(np.array([1]))
    assert of(np.array([(1, "a")], dtype=[("x", "i4"), ("y", object)])) != of(
        np.array([(1, "b")], dtype=[("x", "i4"), ("y", object)])
    )
    sparse = torch.eye(2).to_sparse()
    assert of(sparse) == of(torch.eye(2).to_sparse()) != of(2 * sparse)
    assert of(torch.tensor([1 + 1j])) != of(torch.tensor([1 + 1j]).conj())
    assert of(torch.empty(2, device="meta")) != of(torch.empty(3, device="meta"))
    spaces: list[dict[str, Any]] = [{}, {}]
    for number, space in enumerate(spaces):
        exec(f"class C:\n    def m(self):\n        return {number}\n", space)
    assert of(spaces[0]["C"]) != of(spaces[1]["C"])


def test_what_a_compiled_object_holds_is_not_known() -> None:
    function = np.frompyfunc(lambda x: x + 1, 1, 1)
    with pytest.raises(Unhashable, match=r"^function → closure function is a numpy\.ufunc, whose state is not known$"):
        digest_of(lambda row: function(row))
    assert of(lambda row: np.add(row, 1)) == of(lambda row: np.add(row, 1))
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unhashable, match=r"^function holds values within values, deeper than can be followed$"):
        digest_of(deep)


def test_classes_and_instances_count(project: Any) -> None:
    source = "class C:\n    def __init__(self, k):\n        self.k = k\n"
    source += "    def __call__(self, row):\n        return self.h(row)\n"
    source += "    def h(self, row):\n        return row\n"
    (module,) = project(main_module=source)
    assert of(module.C(1)) == of(module.C(1))
    assert of(module.C(1)) != of(module.C(2))
    assert of(module.C(1).h) != of(module.C(1))
    before = of(module.C(1))
    (module,) = project(main_module=source.replace("return row\n", "return None\n"))
    assert of(module.C(1)) != before


def test_closures_defaults_and_partials_count() -> None:
    def make(k: Any) -> Any:
        return lambda row: k

    assert of(make(1)) == of(make(1)) != of(make(2))
    assert of(make([1, {"a": (2, None)}])) == of(make([1, {"a": (2, None)}])) != of(make([1, {"a": (3, None)}]))
    assert of(make({1, 2, 3})) == of(make({3, 2, 1}))
    assert of(lambda row, k=1: k) != of(lambda row, k=2: k)
    assert of(functools.partial(make, 1)) == of(functools.partial(make, 1)) != of(functools.partial(make, 2))
    assert of(make(np.arange(3))) == of(make(np.arange(3))) != of(make(np.arange(4)))
    assert of(make(np.arange(3))) != of(make(np.arange(3).astype(np.int32)))
    assert of(make(torch.ones(2))) == of(make(torch.ones(2))) != of(make(torch.zeros(2)))
    assert of(make(torch.ones(2, dtype=torch.bfloat16))) != of(make(torch.ones(2)))
    assert of(make(re.compile("a"))) == of(make(re.compile("a"))) != of(make(re.compile("b")))
    assert of(make(logging.getLogger("x"))) == of(make(logging.getLogger("x")))
    assert of(make(Path("a"))) != of(make(Path("b")))
    assert of(make(torch.nn.Linear(2, 2))) != of(make(torch.nn.Linear(2, 2)))
    assert (
        of(make(np.random.default_rng(1))) == of(make(np.random.default_rng(1))) != of(make(np.random.default_rng(2)))
    )
    first, second = Dataset.from_dict({"a": [1]}), Dataset.from_dict({"a": [2]})
    assert of(make(first)) == of(make(Dataset.from_dict({"a": [1]}))) != of(make(second))


def test_true_one_and_one_point_zero_differ() -> None:
    assert len({of(value) for value in (1, True, 1.0, "1", b"1", [1], (1,), {1}, {1: 1})}) == 9


def test_long_plain_values_are_one_part() -> None:
    words = {f"word {index}": index for index in range(1000)}
    found, parts = digest_of(lambda: words)
    assert [name for name in parts if "closure words" in name] == ["function → closure words"]
    assert of(lambda: words) == found
    changed = [words | {"word 7": 7.0}, words | {"word 7": True}, dict(reversed(words.items())), list(words)]
    assert len({of(value) for value in [words, *changed]}) == 5


def test_cycles_end() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert of(lambda: loop) == of(lambda: loop)


def test_recursive_functions_end(project: Any) -> None:
    source = "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    first = of(project(main_module=source)[0].even)
    assert first == of(project(main_module=source)[0].even)
    assert first != of(project(main_module=source.replace("n != 0", "n != 1"))[0].even)


def test_an_object_may_answer_for_itself() -> None:
    class Stateful:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __fingerprint__(self) -> str:
            return "version 3"

    held = Stateful()
    assert of(lambda: held) == of(lambda: held)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(threading.Lock(), "_thread.lock"), ((i for i in range(3)), "builtins.generator"), (sys.stdout, "io|_pytest")],
    ids=["lock", "generator", "file"],
)
def test_what_cannot_be_told_apart_is_named(value: Any, kind: str) -> None:
    held = {"inner": [value]}
    with pytest.raises(
        Unhashable, match=rf"function → closure held → .inner → \[0\].* is a ({kind}).*whose state is not known"
    ):
        digest_of(lambda: held)


def test_tokenizers_count_by_their_content() -> None:
    import tokenizers

    def make(words: dict[str, int]) -> Any:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a"))
        return lambda row: tokenizer.encode(row["t"]).ids

    assert of(make({"a": 0, "b": 1})) == of(make({"a": 0, "b": 1})) != of(make({"a": 1, "b": 0}))


def test_plaits_tokenizer_counts_by_its_content_and_not_by_its_use(minilm: Path) -> None:
    from plait.text import Tokenizer

    def make(tokenizer: Any, **options: Any) -> Any:
        return lambda row: tokenizer(row["t"], **options)

    first = Tokenizer.from_folder(minilm)
    before = of(make(first, truncation=True))
    first(["a", "longer text"], padding=True, truncation=True, max_length=3)
    assert of(make(first, truncation=True)) == before
    assert of(make(Tokenizer.from_folder(minilm), truncation=True)) == before
    assert of(make(first, truncation=False)) != before


def test_tables() -> None:
    dataset = Dataset.from_dict({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    again = Dataset.from_dict({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    assert dataset.fingerprint == again.fingerprint
    different = [
        dataset.select([0, 1]),
        dataset.select([0, 2]),
        dataset.shuffle(seed=1),
        dataset.rename_column("a", "c"),
        dataset.select_columns(["b", "a"]),
        dataset.cast_column("a", "int32"),
        dataset.remove_columns("b"),
        Dataset.from_dict({"a": [1, 2, 4], "b": ["x", "y", "z"]}),
        Dataset.from_dict({"a": [1, 2, None], "b": ["x", "y", "z"]}),
    ]
    assert len({item.fingerprint for item in [dataset, *different]}) == len(different) + 1
    assert dataset.rename_column("a", "c").rename_column("c", "a").fingerprint == dataset.fingerprint


def test_code_of_a_checkout_of_plait_counts_by_what_is_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minilm: Path
) -> None:
    from plait.data import libraries, sources
    from plait.text import Tokenizer

    caches = (sources.sources_digest, sources._imports, sources._source, sources._file)
    package = tmp_path / "plait"
    (package / "text").mkdir(parents=True)
    files = {
        "text/tokenizer.py": "def f():\n    from plait.text.rows import (  # lazily\n        pad,\n    )\n",
        "text/rows.py": "from plait.text import letters as l\n",
        "text/letters.py": "A = 1\n",
        "text/other.py": "B = 1\n",
        "text/__init__.py": "if TYPE_CHECKING:\n    from plait.text.other import B\n",
        "__init__.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)

    def forget() -> None:
        for cache in caches:
            cache.cache_clear()

    def digest_now() -> str:
        forget()
        return of(make(tokenizer))

    def make(value: Any) -> Any:
        return lambda row: value(row)

    tokenizer = Tokenizer.from_folder(minilm)
    monkeypatch.setattr(sources, "_ROOT", package)
    monkeypatch.setattr(sources, "_STARTED", sources._STARTED + 1e6)
    try:
        before = digest_now()
        assert digest_now() == before
        (package / "text" / "other.py").write_text("B = 2\n")
        assert digest_now() == before  # not reached: only a name for type checkers
        (package / "text" / "letters.py").write_text("A = 2\n")
        changed = digest_now()
        assert changed != before
        monkeypatch.setattr(libraries, "_SOURCE", libraries._FOLDERS[0] + "/plait/data/libraries.py")
        installed = digest_now()  # by its version alone
        (package / "text" / "letters.py").write_text("A = 3\n")
        assert digest_now() == installed != changed
        monkeypatch.undo()
        monkeypatch.setattr(sources, "_STARTED", 0.0)
        forget()
        with pytest.raises(
            Unhashable,
            match=r"^/.*\.py was changed while this process ran, so which code of plait\.text\.\w+ is loaded is not "
            r"known; start it again$",
        ):
            of(make(tokenizer))
    finally:
        monkeypatch.undo()
        forget()
