"""The calls that users of datasets write, on both libraries: the same columns, types, rows and formats come out."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets as reference
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from plait import data as plait
from plait.errors import DataError, OptionError

LIBRARIES = (reference, plait)

ODD: dict[str, Any] = {
    "nulls": [3, 1, None],
    "floats": [1.5, None, 1e300],
    "text": ["x", "", "日本"],
    "bytes": [b"\x00\xff", None, b""],
    "dates": [datetime.date(2020, 1, 1), None, datetime.date(1960, 5, 5)],
    "times": [datetime.datetime(2020, 1, 1, 1, 2, 3, 456), None, None],
    "zoned": [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), None, None],
    "durations": [datetime.timedelta(seconds=3), None, None],
    "decimals": [decimal.Decimal("1.23"), None, decimal.Decimal("-4.00")],
    "structs": [{"a": 1, "b": [1, 2]}, None, {"a": None, "b": []}],
    "lists": [[1, 2], [], None],
    "lists of structs": [[{"a": 1}], [], [{"a": 2}, {"a": None}]],
    "arrays": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
    "half": np.array([1, 2, 3], dtype=np.float16),
    "dictionary": pa.array(["p", "q", "p"]).dictionary_encode(),
    "fixed": pa.array([[1, 2], [3, 4], None], pa.list_(pa.int32(), 2)),
    "large text": pa.array(["a", "b", None], pa.large_string()),
    "text views": pa.array(["a", "b", None], pa.string_view()),
}


def plain(value: Any) -> Any:
    """A value of either library in a form that compares."""
    if type(value).__name__ in ("Dataset", "IterableDataset"):
        return value.column_names, plain(value.features), [plain(row) for row in value.with_format(None)]
    if isinstance(value, torch.Tensor):
        return "tensor", str(value.dtype), plain(value.numpy())
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, str(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "Column":
        return [plain(inner) for inner in value]
    if isinstance(value, str | bytes | int | float | datetime.date | datetime.timedelta | decimal.Decimal | None):
        return value
    return repr(value)


def same(call: Callable[[Any], Any]) -> None:
    expected, found = (plain(call(library)) for library in LIBRARIES)
    assert found == expected


@pytest.mark.parametrize("name", ODD)
def test_values_of_every_kind_are_made_and_read_alike(name: str) -> None:
    same(lambda library: library.Dataset.from_dict({"c": ODD[name]}))
    for key in (0, -1, slice(None, None, 2), [2, 0], np.array([1, 1]), range(1, 3)):
        same(lambda library, key=key: library.Dataset.from_dict({"c": ODD[name]})[key])
    same(lambda library: library.Dataset.from_dict({"c": ODD[name]}).select([2, 0]))
    same(lambda library: library.Dataset.from_dict({"c": ODD[name]}).shuffle(seed=3))
    same(lambda library: library.Dataset.from_dict({"c": ODD[name]}).to_dict())


def odd(library: Any) -> Any:
    return library.Dataset.from_dict(
        {"a": [3, 1, 2, None, 1], "s": ["x", "y", "日", "y", None], "l": [[1], [], [1, 2], None, [3]]}
    )


VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": odd,
    "chosen": lambda library: odd(library).select([4, 2, 0]),
    "slice": lambda library: odd(library).select(range(1, 4)),
    "one": lambda library: odd(library).select([1]),
    "joined": lambda library: library.concatenate_datasets([odd(library), odd(library).select([0])]),
    "none": lambda library: odd(library).select([]),
}

CALLS: dict[str, Callable[[Any], Any]] = {
    "sort": lambda d: d.sort(["a", "s"], reverse=[True, False]),
    "sort with nulls first": lambda d: d.sort("a", null_placement="at_start"),
    "shard": lambda d: [d.shard(2, 1), d.shard(2, 0, contiguous=False)] if len(d) > 1 else None,
    "split": lambda d: d.train_test_split(test_size=0.4, seed=1) if len(d) > 1 else None,
    "repeat": lambda d: d.repeat(2),
    "batch": lambda d: d.batch(2) if len(d) else None,
    "take and skip": lambda d: [d.take(2), d.skip(2), d.take(100)],
    "classes": lambda d: [d.class_encode_column("s"), d.class_encode_column("a", True)] if len(d) else None,
    "rename": lambda d: d.rename_columns({"a": "s", "s": "a"}),
    "choose columns": lambda d: [d.select_columns(["s", "a"]), d.remove_columns("l")],
    "map rows": lambda d: d.map(lambda row, index: {"n": index, "a": 1}, with_indices=True),
    "map batches": lambda d: d.map(
        lambda batch: {"n": [len(batch["s"])]}, batched=True, batch_size=2, remove_columns=["a", "s", "l"]
    ),
    "map columns": lambda d: d.map(lambda a, s: {"n": f"{a}{s}"}, input_columns=["a", "s"]),
    "filter": lambda d: d.filter(lambda row: row["a"] == 1),
    "filter batches": lambda d: d.filter(lambda batch: [a == 1 for a in batch["a"]], batched=True, batch_size=2),
    "add": lambda d: d.add_column("n", np.zeros(len(d), dtype=np.float32)),
    "items": lambda d: d.add_item({"a": 9, "s": "q"}),
    "numpy": lambda d: [d.with_format("numpy", columns=["a"])[:2], d.with_format("numpy")["l"][:]] if len(d) else None,
    "torch": lambda d: d.with_format("torch", columns=["a"], output_all_columns=True)[:] if len(d) else None,
}


@pytest.mark.parametrize("call", CALLS)
def test_methods_of_views_give_the_same(call: str) -> None:
    for make in VIEWS.values():
        same(lambda library, make=make: CALLS[call](make(library)))


STREAMS: dict[str, Callable[[Any], Any]] = {
    "map": lambda s: s.map(lambda row: {"n": row["a"]}, remove_columns=["l"]),
    "map batches": lambda s: s.map(
        lambda batch: {"n": batch["s"] * 2}, batched=True, batch_size=2, remove_columns=["a", "s", "l"]
    ),
    "filter": lambda s: s.filter(lambda row, index: index > 1, with_indices=True),
    "take": lambda s: s.skip(1).take(3),
    "batch": lambda s: s.batch(2, drop_last_batch=True),
    "repeat": lambda s: s.repeat(2),
    "rename": lambda s: s.rename_column("a", "z").select_columns(["s", "z"]),
    "blocks": lambda s: list(s.iter(2)),
    "torch": lambda s: list(s.select_columns(["a"]).with_format("torch").iter(5)),
}


@pytest.mark.parametrize("call", STREAMS)
def test_methods_of_streams_give_the_same(call: str) -> None:
    for shards in (1, 2):
        same(lambda library, shards=shards: STREAMS[call](odd(library).to_iterable_dataset(num_shards=shards)))


def test_a_map_of_no_rows_removes_columns_and_has_the_declared_types() -> None:
    none = odd(plait).select([])
    assert none.map(lambda row: {"n": 1}, remove_columns="a").column_names == ["s", "l"]
    declared = plait.Features({"n": plait.Value("int8")})
    found = none.map(lambda row: {"n": 1}, remove_columns=["a", "s", "l"], features=declared)
    assert (found.features, found.num_rows, found["n"][:]) == (declared, 0, [])


# --- tensors ---


def test_missing_numbers_in_lists_are_nan_and_empty_lists_are_tensors() -> None:
    for kind in ("torch", "numpy"):
        for values in ([[1, None], [], None, [3]], [[1, None], [2, 3]], [[None], [1]]):
            same(lambda library, v=values, k=kind: library.Dataset.from_dict({"c": v}).with_format(k)[:])


def padded(batch: dict[str, Any]) -> dict[str, Any]:
    longest = max(map(len, batch["ids"]))
    return {"ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids in batch["ids"]])}


def test_a_transform_sees_the_rows_of_a_loader_s_batch_together() -> None:
    def batches(library: Any) -> list[Any]:
        dataset = library.Dataset.from_dict({"ids": [[1], [1, 2], [1, 2, 3], [4]], "y": [1, 2, 3, 4]})
        return list(DataLoader(dataset.with_transform(padded), batch_size=2))

    assert [batch["ids"].tolist() for batch in batches(plait)] == [[[1, 0], [1, 2]], [[1, 2, 3], [4, 0, 0]]]
    same(batches)


def test_tables_do_not_mix_with_columns_of_python() -> None:
    with pytest.raises(OptionError, match="output_all_columns needs rows that are dicts, but those of 'arrow' are t"):
        odd(plait).with_format("arrow", columns=["a"], output_all_columns=True)
    assert odd(plait).with_format("pandas", output_all_columns=True)[:2]["a"].tolist() == [3, 1]


def test_rows_are_chosen_by_arrow_arrays_and_not_by_bytes() -> None:
    assert odd(plait).select(pa.array([2, 0]))["a"] == [2, 3]
    for key in (b"a", "ab"):
        with pytest.raises(OptionError, match="Rows are chosen by an integer, a slice, a list of integers or a mask"):
            odd(plait).select(key)


# --- files ---


def test_csv_keeps_integers_beside_missing_values(tmp_path: Path) -> None:
    def written(library: Any) -> str:
        path = tmp_path / "rows.csv"
        library.Dataset.from_dict(
            {"a": [1, None], "b": [True, None], "f": [1.0, None], "s": [{"k": 1}, {"k": None}]}
        ).to_csv(path)
        return path.read_text()

    assert written(plait) == "a,b,f,s\n1,True,1.0,{'k': 1}\n,,,{'k': None}\n"
    same(written)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_written_files_are_compressed_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    rows = odd(plait).remove_columns("l")
    for name, write in (("csv", rows.to_csv), ("jsonl", rows.to_json)):
        path = tmp_path / f"rows.{name}.{suffix}"
        size = write(path)
        plain_size = write(tmp_path / f"rows.{name}")
        assert size == plain_size == (tmp_path / f"rows.{name}").stat().st_size
        assert path.read_bytes()[:2] != (tmp_path / f"rows.{name}").read_bytes()[:2]
        assert plait.load_dataset(str(path), split="train").to_list() == rows.to_list()
        first = path.read_bytes()
        write(path)
        assert path.read_bytes() == first


def test_compression_is_one_that_is_known(tmp_path: Path) -> None:
    assert odd(plait).to_json(tmp_path / "a", compression="gzip") > 0
    assert (tmp_path / "a").read_bytes()[:2] == b"\x1f\x8b"
    with pytest.raises(OptionError, match=r"compression must be 'infer', None or one of \['bz2', 'gzip', 'xz', 'zstd"):
        odd(plait).to_csv(tmp_path / "b", compression="rar")


@pytest.mark.parametrize("orient", ["split", "index", "columns", "values", "table"])
def test_json_in_the_ways_of_pandas(tmp_path: Path, orient: str) -> None:
    def written(library: Any) -> str:
        odd(library).to_json(tmp_path / "rows.json", orient=orient)
        return (tmp_path / "rows.json").read_text()

    same(written)


def test_options_that_pandas_does_not_have() -> None:
    for write, wrong, near in (("to_csv", "quote_char", "quotechar"), ("to_json", "date_formt", "date_format")):
        with pytest.raises(OptionError, match=rf"{write}\(\) has no argument '{wrong}'. Did you mean '{near}'\?"):
            getattr(odd(plait), write)("unwritten", **{wrong: 1})
    with pytest.raises(OptionError, match="An object per line has no indent: pass lines=False as well"):
        odd(plait).to_json("unwritten", indent=2)
    assert not Path("unwritten").exists()


def test_an_array_of_plain_values_is_a_column_of_text(tmp_path: Path) -> None:
    for content in ('["x", "y"]', "[1, 2]"):
        (tmp_path / "rows.json").write_text(content)
        same(
            lambda library: library.load_dataset(
                "json",
                data_files=str(tmp_path / "rows.json"),
                split="train",
                cache_dir=str(tmp_path / library.__name__),
            )
        )
    (tmp_path / "rows.json").write_text('["x", {"a": 1}]')
    with pytest.raises(DataError, match="row 0: a row must be an object, but is 'x'"):
        plait.load_dataset("json", data_files=str(tmp_path / "rows.json"), split="train")


# --- several data sets ---

PARTS: Iterable[tuple[list[int], list[int]]] = [([1, 2, 3], [10, 20]), ([1], [10, 20, 30, 40]), ([5, 6], [7, 8])]


@pytest.mark.parametrize("strategy", ["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"])
@pytest.mark.parametrize("probabilities", [None, [0.5, 0.5], [0.9, 0.1]])
def test_interleaving_draws_the_same_rows(strategy: str, probabilities: list[float] | None) -> None:
    def mixed(library: Any, streams: bool) -> Any:
        found = []
        for parts in PARTS:
            sets = [library.Dataset.from_dict({"x": part}) for part in parts]
            given = [each.to_iterable_dataset() for each in sets] if streams else sets
            found.append(
                library.interleave_datasets(given, probabilities=probabilities, seed=7, stopping_strategy=strategy)
            )
        return found

    same(lambda library: mixed(library, False))
    same(lambda library: mixed(library, True))


@pytest.mark.parametrize("values", [[1, "a"], [True, 1], [{"a": 1}, [2], None]])
def test_generated_values_without_a_common_type_are_json(values: list[Any]) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"a": value} for value in values)

    same(lambda library: library.Dataset.from_generator(rows))
    late = [0] * 1500 + values  # found in the second block only
    assert plait.Dataset.from_generator(lambda: ({"a": value} for value in late))["a"][:] == late
