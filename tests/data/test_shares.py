"""Rows shared out: whoever calls the function for which rows, the result is that of one process."""

from __future__ import annotations

import random
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_map import ARGUMENTS, ROWWISE

from plait.data import ClassLabel, Dataset, Features, Json, Value, shares
from plait.errors import DataError, OptionError


def run(job: Any, parts: list[range], workers: int, folder: Path, title: str, bar: Any) -> Generator[Any, None, None]:
    for number, part in enumerate(parts):
        yield job.run(job.call, part, folder / f"share-{number}", bar)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pieces are done one by one in this process, as a worker does them."""
    monkeypatch.setattr(shares, "_engine", lambda sharing: (run, sharing.workers or 1))


def rows(count: int) -> Dataset:
    return Dataset.from_dict(
        {
            "t": ["a" * (i % 5) for i in range(count)],
            "i": list(range(1, count + 1)),
            "n": [[i] * (i % 3) for i in range(count)],
        }
    )


def same(ours: Dataset, theirs: Dataset) -> None:
    assert ours.to_dict() == theirs.to_dict()
    assert ours.column_names == theirs.column_names
    assert ours.features == theirs.features


@pytest.mark.parametrize("name", ROWWISE)
def test_rows(name: str, shared: Any) -> None:
    dataset = rows(47)
    same(dataset.map(ROWWISE[name], num_proc=3), dataset.map(ROWWISE[name]))


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"batch of all"}))  # one batch is not shared out
def test_arguments(name: str, shared: Any) -> None:
    function, options = ARGUMENTS[name]
    dataset = rows(47)
    same(dataset.map(function, num_proc=3, **options), dataset.map(function, **options))


def late(value: Any) -> Any:
    return lambda row: {"z": value if row["i"] == 40 else row["i"], "i": row["i"]}


@pytest.mark.parametrize("value", [None, 1.5, "text", [1], {"x": 1}, np.float32(3.5)], ids=str)
def test_types_are_those_of_all_rows(value: Any, shared: Any) -> None:
    dataset = rows(47)
    same(dataset.map(late(value), num_proc=4), dataset.map(late(value)))


def test_mixed_types_without_json_are_the_same_error(shared: Any) -> None:
    dataset = rows(47)
    with pytest.raises(DataError) as ours:
        dataset.map(late("text"), num_proc=4, on_mixed_types=None)
    with pytest.raises(DataError) as theirs:
        dataset.map(late("text"), on_mixed_types=None)
    assert "without a common type" in str(ours.value)
    assert "without a common type" in str(theirs.value)
    assert isinstance(dataset.map(late("text"), num_proc=4).features["z"], Json)


def test_a_changed_column_keeps_its_type_while_all_values_fit(shared: Any) -> None:
    dataset = rows(47).cast_column("i", "int8")
    for value in (7, 300, 0.5):
        found = dataset.map(lambda row, value=value: {"i": value if row["i"] == 40 else row["i"]}, num_proc=4)
        same(found, dataset.map(lambda row, value=value: {"i": value if row["i"] == 40 else row["i"]}))
    assert dataset.map(lambda row: {"i": row["i"]}, num_proc=4).features["i"] == Value("int8")
    wide = dataset.map(lambda row: {"i": row["i"] + 1}, num_proc=4, try_original_type=False)
    assert wide.features["i"] == Value("int64")


def test_declared_features_and_labels(shared: Any) -> None:
    dataset = rows(47)
    declared = Features({**dataset.features, "z": ClassLabel(names=["even", "odd"]), "i": Value("int16")})

    def function(row: dict[str, Any]) -> dict[str, Any]:
        return {"z": "odd" if row["i"] % 2 else "even"}

    same(dataset.map(function, features=declared, num_proc=3), dataset.map(function, features=declared))


def test_unchanged_columns_stay_shared(shared: Any) -> None:
    dataset = rows(47)
    made = dataset.map(lambda row: {**row, "z": 1}, num_proc=3)
    assert all(made.table.columns[name].store is dataset.table.columns[name].store for name in ("t", "i", "n"))


def test_views_formats_and_nothing_returned(shared: Any) -> None:
    dataset = rows(47).shuffle(seed=3).select(range(30))
    seen: list[int] = []
    same(dataset.map(lambda row: seen.append(row["i"]), num_proc=3), dataset)
    assert seen == dataset["i"][:]
    arrays = dataset.with_format("numpy")
    same(
        arrays.map(lambda row: {"z": row["i"] * np.float32(2)}, num_proc=3),
        arrays.map(lambda row: {"z": row["i"] * np.float32(2)}),
    )


@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 20),
    workers=st.integers(2, 5),
    keep=st.integers(1, 4),
    drop=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_division(count: int, batch: int, workers: int, keep: int, drop: bool) -> None:
    dataset = rows(count)

    def some(columns: dict[str, Any]) -> dict[str, Any]:
        return {"i": columns["i"][::keep], "first": [columns["i"][0]] * len(columns["i"][::keep])}

    options: dict[str, Any] = {"batched": True, "batch_size": batch, "remove_columns": ["t", "n"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "_engine", lambda sharing: (run, sharing.workers or 1))
        ours = dataset.map(some, num_proc=workers, drop_last_batch=drop, **options)
        chosen = dataset.filter(lambda row: row["i"] % keep == 0, num_proc=workers)
    same(ours, dataset.map(some, drop_last_batch=drop, **options))
    same(chosen, dataset.filter(lambda row: row["i"] % keep == 0))


@pytest.mark.parametrize(("count", "unit", "workers"), [(3, 1, 2), (100, 7, 3), (1000, 1000, 2), (10**6, 1000, 2)])
def test_pieces_hold_whole_batches_of_about_equal_number(count: int, unit: int, workers: int) -> None:
    found = shares.pieces(count, unit, workers)
    assert [row for part in found for row in (part.start, part.stop)][1:-1:2] == [part.start for part in found[1:]]
    assert (found[0].start, found[-1].stop) == (0, count)
    assert all(part.start % unit == 0 and len(part) for part in found)
    sizes = {-(-len(part) // unit) for part in found}
    assert max(sizes) - min(sizes) <= 1
    owners = [shares.owner(piece, len(found), workers) for piece in range(len(found))]
    assert owners == sorted(owners)


def test_options_are_checked() -> None:
    dataset = rows(3)
    with pytest.raises(OptionError, match=r"^num_proc must be at least 1, but is 0\.$"):
        dataset.map(len, num_proc=0)
    with pytest.raises(OptionError) as found:
        dataset.filter(len, engine="rya")
    assert str(found.value) == "There is no engine 'rya'. Did you mean 'ray'? Engines are ['processes', 'ray']."


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars"])
def test_whole_tables(kind: str, shared: Any) -> None:
    dataset = rows(47).with_format(kind)

    def function(table: Any) -> Any:
        if kind == "arrow":
            return table.select(["i", "t"]).rename_columns(["j", "t"])
        names = {"i": "j"}
        return table[["i", "t"]].rename(names) if kind == "polars" else table[["i", "t"]].rename(columns=names)

    ours = dataset.map(function, batched=True, batch_size=5, num_proc=3)
    theirs = dataset.map(function, batched=True, batch_size=5)
    ours.reset_format()
    theirs.reset_format()
    same(ours, theirs)
    assert ours.column_names == ["t", "j"]
    if kind == "arrow":  # frames come back with another type of text
        assert ours.table.columns["t"].store is dataset.table.columns["t"].store


def test_pictures(shared: Any) -> None:
    from PIL import Image as Pillow

    from plait.data import Image

    pictures = [Pillow.new("RGB", (3, 2), (i, 0, 0)) for i in range(12)]
    dataset = Dataset.from_dict({"p": pictures}, features=Features({"p": Image()}))

    def function(row: dict[str, Any]) -> dict[str, Any]:
        return {"p": row["p"].rotate(90, expand=True), "q": row["p"].getpixel((0, 0))[0]}

    ours, theirs = dataset.map(function, num_proc=3), dataset.map(function)
    assert ours.features == theirs.features
    assert ours["q"][:] == list(range(12))
    assert [picture.tobytes() for picture in ours["p"]] == [picture.tobytes() for picture in theirs["p"]]
    assert ours[0]["p"].size == (2, 3)


def changes(seed: int, *, batched: bool) -> Any:
    """A function that sets, deletes and returns columns, each row (or batch) other ones, the same at every call."""
    source = random.Random(seed)
    chances = [source.random() ** 3 for _ in range(8)]
    alike = source.random() < 0.3

    def function(row: dict[str, Any]) -> dict[str, Any]:
        first = 0 if alike else row["i"][0] if batched else row["i"]
        chosen = random.Random(seed * 1000 + first)

        def happens(index: int) -> bool:
            return chosen.random() < chances[index]

        def cell(value: Any) -> Any:
            return [value] * count if batched else value

        count = len(row["i"]) if batched else 1
        given = row if happens(0) else {}
        if happens(1):
            row.pop("t", None)
        if happens(2):
            row["n"] = cell([5])
        if happens(3):
            row["q"] = cell(3)
        if happens(4):
            given["z"] = cell(chosen.choice([1, 2, None]))
        if happens(5):
            given["i"] = cell(chosen.choice([7, 3]))
        if happens(6):
            given["t"] = cell("new")
        if happens(7):
            row.pop("n", None)
        return {**row} if chosen.random() < 0.1 else given

    return function


def applied(dataset: Dataset, function: Any, size: int | None) -> dict[str, list[Any]]:
    """What a map is, written down plainly: what a row holds afterwards, and over it what was returned."""
    found = []
    for start in range(0, len(dataset), size or 1):
        part = [dict(row) for row in dataset.to_list()[start : start + (size or 1)]]
        if size is None:
            returned = function(part[0])
            found.append({**part[0], **returned})
        else:
            batch = {name: [row[name] for row in part] for name in dataset.column_names}
            returned = function(batch)
            whole = {**batch, **returned}
            found += [{name: whole[name][index] for name in whole} for index in range(len(part))]
    names = dict.fromkeys(name for row in found for name in row)
    return {name: [row.get(name) for row in found] for name in names}


@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("wide", [False, True])
def test_any_function(size: int | None, wide: bool, shared: Any) -> None:
    # around 100 rows, where the second block begins, and with a column that is decoded only when it is looked at
    for seed in range(40):
        dataset = rows(60 + 2 * seed)
        if wide:
            dataset = dataset.add_column("x", ["y" * 300] * len(dataset))
        function = changes(seed, batched=size is not None)
        options: dict[str, Any] = {} if size is None else {"batched": True, "batch_size": size}
        alone = dataset.map(function, **options)
        assert alone.to_dict() == applied(dataset, function, size), seed
        together = dataset.map(function, num_proc=3, **options)
        same(together, alone)
