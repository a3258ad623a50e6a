"""Every public name and argument of datasets 5.2 is here, or docs/datasets.md says why not, and nothing in vain."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets as reference
import pytest

import plait.data
from plait.compat.names import value_of
from plait.data.accepted import NO_EFFECT, reason
from plait.data.dataset_dict import _PER_SPLIT
from plait.data.load import load_dataset
from plait.data.reading import reader_class

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
CLASSES = (
    *("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict", "Column", "Features", "DatasetInfo"),
    *("Value", "ClassLabel", "List", "LargeList", "Array2D", "Array3D", "Array4D", "Array5D"),
    *("Translation", "TranslationVariableLanguages", "Json", "Image", "Audio", "SplitInfo", "NamedSplit", "Split"),
)
# what `**` of a method passes on to: the method takes all arguments of that one as well
PASSED_ON = {"DatasetDict": "Dataset", "IterableDatasetDict": "IterableDataset", "IterableDataset": "Dataset"}
FORMATS = ("csv", "json", "parquet", "text", "sql")


def public(owner: Any) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {name: item for name, item in inspect.signature(function).parameters.items() if name not in ("self", "cls")}


def accepted(owner: str, method: str) -> set[str]:
    """The names of the arguments that a method of ours takes, with those that its `**` lets through."""
    found = parameters(getattr(getattr(plait.data, owner), method))
    names = set(found)
    if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in found.values()):
        return names
    if owner == "Dataset":
        names |= set(NO_EFFECT.get(method, ()))
    format = method.removeprefix("from_")
    if method.startswith("from_") and format in FORMATS:
        reader = reader_class(format)
        names |= {*parameters(load_dataset), *reader.option_names(), *reader.WITHOUT_EFFECT}
    other = PASSED_ON.get(owner)
    if other and hasattr(getattr(plait.data, other), method):
        names |= accepted(other, method)
        names |= {many for many, one in _PER_SPLIT.items() if one in names}
    return names


def missing_arguments(
    label: str, theirs: Callable[..., Any], ours: Callable[..., Any], known: set[str]
) -> Iterator[str]:
    those = list(parameters(theirs).values())
    here = list(parameters(ours).values())
    for place, item in enumerate(those):
        if item.kind is inspect.Parameter.VAR_KEYWORD:
            if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in here):
                yield f"{label}(**{item.name})"
        elif item.name not in known and item.kind is not inspect.Parameter.VAR_POSITIONAL:
            # the first argument of a method is passed by its place, whatever it is called
            first = place == 0 and here and here[0].kind is not inspect.Parameter.KEYWORD_ONLY and label[0].islower()
            if not first:
                yield f"{label}({item.name}=)"


def gaps() -> set[str]:
    """All that datasets has and we have not, named as docs/datasets.md names it."""
    found: set[str] = set()
    for name in public(reference):
        value = getattr(reference, name)
        if not inspect.ismodule(value) and not hasattr(plait.data, name):
            found.add(name)
    for name in ("load_dataset", "load_from_disk", "concatenate_datasets", "interleave_datasets"):
        ours = getattr(plait.data, name)
        found |= set(missing_arguments(name, getattr(reference, name), ours, set(parameters(ours))))
    for owner in CLASSES:
        theirs, ours = getattr(reference, owner), getattr(plait.data, owner)
        attributes = {item.name for item in dataclasses.fields(ours)} if dataclasses.is_dataclass(ours) else set()
        attributes |= set(parameters(ours.__init__))  # what an instance is made of, it has
        if owner not in ("NamedSplit", "Split", "IterableDataset"):  # nobody makes a stream by its class
            found |= set(missing_arguments(owner, theirs.__init__, ours.__init__, set(parameters(ours.__init__))))
        for method in public(theirs):
            if not hasattr(ours, method):
                if method not in attributes:
                    found.add(f"{owner}.{method}")
                continue
            there = inspect.getattr_static(theirs, method)
            if isinstance(there, property) or not callable(getattr(theirs, method)):
                continue
            if issubclass(ours, str) or getattr(ours, method) is getattr(dict, method, None):
                continue  # a method of every text, or dict
            known = accepted(owner, method)
            found |= set(missing_arguments(method, getattr(theirs, method), getattr(ours, method), known))
    return found


def listed(heading: str) -> list[str]:
    """The names in the first column of the tables below a heading."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_what_is_not_there_is_said_and_nothing_else() -> None:
    names = listed("What is not there, and why")
    assert len(names) == len(set(names))
    assert gaps() == set(names)


def test_every_reason_is_a_sentence() -> None:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    for row in rows:
        assert len(row.split("|")[2].strip()) > 15, row


def table_without_effect() -> str:
    """The table of arguments without effect, as docs/datasets.md holds it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for method, arguments in NO_EFFECT.items():
        for argument in arguments:
            rows.setdefault((argument, reason(method, argument)), []).append(method)
    lines = [f"| `{name}` | {why} | {', '.join(methods)} |" for (name, why), methods in sorted(rows.items())]
    return "\n".join(["| argument | why | methods |", "|---|---|---|", *lines, ""])


def test_arguments_without_effect_are_listed() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.endswith(table_without_effect()), f"docs/datasets.md must end with:\n{table_without_effect()}"


def test_arguments_without_effect_are_those_of_datasets() -> None:
    for method, arguments in NO_EFFECT.items():
        there = parameters(getattr(reference.Dataset, method))
        for argument in arguments:
            open_ended = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in there.values())
            assert argument in there or open_ended or method == "filter", f"{method}({argument}=) is not in datasets"


@pytest.mark.parametrize("name", plait.data.__all__)
def test_scripts_for_datasets_find_every_name(name: str) -> None:
    assert value_of("datasets", name) is getattr(plait.data, name)


def test_the_walk_sees_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a method taken away and an argument taken away are found."""
    before = gaps()
    monkeypatch.delattr(plait.data.Dataset, "train_test_split")
    monkeypatch.setattr(plait.data.Dataset, "sort", lambda self, column_names, reverse=False: self)
    assert {"Dataset.train_test_split", "sort(null_placement=)"} <= gaps() - before


def test_progress_bars_are_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAIT_PROGRESS", raising=False)
    assert plait.data.is_progress_bar_enabled()
    plait.data.disable_progress_bars()
    assert plait.data.are_progress_bars_disabled()
    plait.data.enable_progress_bar()
    assert not plait.data.are_progress_bars_disabled()
