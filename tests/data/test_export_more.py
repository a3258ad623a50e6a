"""Batches as rows, databases, and what tf.data is fed with: equal to the reference library, or counted by hand."""

from __future__ import annotations

import datetime
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import datasets as reference
import duckdb
import numpy as np
import pytest
import sqlalchemy

from plait.data import ClassLabel, Dataset, Features, List, Value
from plait.data.export_tf import batches, parted, planned, shape_of, signature
from plait.errors import ColumnError, DataError, MissingExtraError, OptionError

COLUMNS: dict[str, Any] = {"a": [1, 1, 2, 2, 2, 3, 1], "b": list("xxxyyyy"), "c": [[1], [], [2], [3], [4, 5], [6], []]}


# --- batches as rows ---


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 3},
        {"batch_size": 3, "drop_last_batch": True},
        {"batch_size": 7},
        {"batch_size": 100},
        {"by_column": "a"},
        {"by_column": ["a", "b"]},
    ],
    ids=str,
)
def test_batches_equal_the_reference(options: dict[str, Any]) -> None:
    ours, theirs = Dataset.from_dict(COLUMNS), reference.Dataset.from_dict(COLUMNS)
    assert ours.batch(**options).to_dict() == theirs.batch(**options).to_dict()
    assert repr(ours.batch(**options).features) == repr(theirs.batch(**options).features)
    order = [6, 0, 3, 2, 2, 5, 1]
    assert ours.select(order).batch(**options).to_dict() == theirs.select(order).batch(**options).to_dict()


def test_batches_keep_kinds_of_columns_and_sizes_of_blocks() -> None:
    numbers = np.arange(50_000)
    features = Features({"n": Value("int32"), "y": ClassLabel(names=["p", "q"])})
    whole = Dataset.from_dict({"n": numbers, "y": numbers % 2}, features=features).batch(7)
    assert whole.features == Features({"n": List(Value("int32")), "y": List(ClassLabel(names=["p", "q"]))})
    assert len(whole) == 7143  # 50,000 = 7,142 · 7 + 6
    assert [sum(row) for row in whole["n"]] == [sum(range(i, min(i + 7, 50_000))) for i in range(0, 50_000, 7)]
    assert whole[7142]["y"] == [0, 1, 0, 1, 0, 1]
    large = Dataset.from_dict({"n": numbers}).batch(20_000)  # a batch larger than what is read at once
    assert [len(row) for row in large["n"]] == [20_000, 20_000, 10_000]


def test_missing_values_are_a_value_of_their_own_in_by_column() -> None:
    assert Dataset.from_dict({"a": [1, None, None, 1, 2]}).batch(by_column="a")["a"] == [[1], [None, None], [1], [2]]
    assert Dataset.from_dict({"a": [1]}).take(0).batch(by_column="a").to_dict() == {"a": []}
    assert Dataset.from_dict({"a": [1]}).take(0).batch(2).to_dict() == {"a": []}
    # fewer rows than one batch, and that one is dropped: no rows
    assert Dataset.from_dict({"a": [1]}).batch(2, drop_last_batch=True).to_dict() == {"a": []}


def test_batches_that_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    dataset = Dataset.from_dict(COLUMNS)
    with pytest.raises(OptionError, match="batch needs batch_size, or by_column"):
        dataset.batch()
    with pytest.raises(OptionError, match="batch_size must be at least 1, but is 0"):
        dataset.batch(0)
    with pytest.raises(DataError, match="Rows cannot be put together by column 'c' of type list"):
        dataset.batch(by_column="c")
    with pytest.raises(ColumnError, match="no column 'aa'. Did you mean 'a'"):
        dataset.batch(by_column="aa")
    with pytest.raises(OptionError, match=r"batch\(\) has no argument 'num_procs'. Did you mean 'num_proc'"):
        dataset.batch(2, num_procs=2)
    with caplog.at_level("INFO", logger="plait.data"):
        dataset.batch(2, num_proc=2)
    assert "batch(num_proc=…) has no effect: the work is done in this process" in caplog.text


# --- databases ---

TYPED: dict[str, Any] = {
    "text": ["é", None, 'a "quoted" one'],
    "number": [1, None, -(2**62)],
    "real": [0.5, None, -1.25],
    "flag": [True, False, None],
    "blob": [b"\x00\xff", b"", None],
    "when": [datetime.datetime(2020, 1, 2, 3, 4, 5), None, datetime.datetime(1999, 12, 31)],
}


def rows_of(connection: Any, query: str = "SELECT * FROM t") -> list[Any]:
    return [tuple(row) for row in connection.execute(query).fetchall()]


def test_sqlite_equals_the_reference(tmp_path: Path) -> None:
    ours, theirs = Dataset.from_dict(TYPED), reference.Dataset.from_dict(TYPED)
    with sqlite3.connect(tmp_path / "ours.db") as here, sqlite3.connect(tmp_path / "theirs.db") as there:
        assert ours.to_sql("t", here, batch_size=2) == 3
        theirs.to_sql("t", there, batch_size=3)
        assert rows_of(here) == rows_of(there)
        assert ours.to_sql("t", here, if_exists="append") == 3
        assert rows_of(here, "SELECT count(*) FROM t") == [(6,)]
        ours.to_sql("t", here, if_exists="replace", index=True, index_label="row", batch_size=2)
        theirs.to_sql("t", there, if_exists="replace", index=True, index_label="row", batch_size=3)
        assert rows_of(here) == rows_of(there)
        ours.to_sql("u", here, dtype={"number": "TEXT"})
        assert rows_of(here, "SELECT number FROM u") == [("1",), (None,), (str(-(2**62)),)]
    here.close()
    there.close()


@pytest.mark.parametrize("form", ["path", "sqlite:///"])
def test_a_path_or_an_address_is_opened_and_closed(tmp_path: Path, form: str) -> None:
    path = str(tmp_path / "a.db")
    assert Dataset.from_dict({"a": [1, 2]}).to_sql("t", path if form == "path" else form + path) == 2
    back = reference.Dataset.from_sql("SELECT a FROM t", f"sqlite:///{path}", cache_dir=str(tmp_path / "cache"))
    assert back.to_dict() == {"a": [1, 2]}


def test_nested_values_are_json_in_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    features = Features({"l": List(Value("int64")), "s": {"x": Value("string")}, "y": ClassLabel(names=["n", "p"])})
    data = {"l": [[1, 2], None], "s": [{"x": "中"}, {"x": None}], "y": [1, 0]}
    Dataset.from_dict(data, features=features).to_sql('odd "name"', connection)
    found = rows_of(connection, 'SELECT * FROM "odd ""name"""')
    assert [(None if a is None else json.loads(a), json.loads(b), c) for a, b, c in found] == [
        ([1, 2], {"x": "中"}, 1),
        (None, {"x": None}, 0),
    ]
    connection.close()


def test_a_failed_write_leaves_the_table_as_it_was() -> None:
    connection = sqlite3.connect(":memory:")
    Dataset.from_dict({"a": [1]}).to_sql("t", connection)
    large = Dataset.from_dict({"a": [1, 2**63]}, features=Features({"a": Value("uint64")}))
    with pytest.raises(DataError, match="The rows from 1 on do not fit the table 't': .*too large"):
        large.to_sql("t", connection, batch_size=1, if_exists="replace")
    assert rows_of(connection) == [(1,)]
    with pytest.raises(DataError, match="There is a table 't' already. Pass if_exists='replace' or 'append'"):
        Dataset.from_dict({"a": [2]}).to_sql("t", connection)
    with pytest.raises(OptionError, match="if_exists must be 'fail', 'replace' or 'append', but is 'drop'"):
        Dataset.from_dict({"a": [2]}).to_sql("t", connection, if_exists="drop")
    with pytest.raises(OptionError, match=r"to_sql\(\) has no argument 'schema' for SQLite; arguments are if_exists"):
        Dataset.from_dict({"a": [2]}).to_sql("t", connection, schema="x")
    with pytest.raises(DataError, match="'' cannot be a name in a database"):
        Dataset.from_dict({"a": [2]}).to_sql("", connection)
    connection.close()
    with pytest.raises(DataError, match="none/a.db cannot be opened"):
        Dataset.from_dict({"a": [2]}).to_sql("t", "/none/a.db")


def test_duckdb(tmp_path: Path) -> None:
    dataset = Dataset.from_dict({"a": [1, 2, None], "l": [[1], [], None], "s": [{"x": 1}] * 3})
    with duckdb.connect() as connection:
        assert dataset.to_sql("t", connection, batch_size=2) == 3
        assert rows_of(connection) == [(1, [1], {"x": 1}), (2, [], {"x": 1}), (None, None, {"x": 1})]
        with pytest.raises(DataError, match="There is a table 't' already"):
            dataset.to_sql("t", connection)
        dataset.take(1).to_sql("t", connection, if_exists="append")
        assert rows_of(connection, "SELECT count(*) FROM t") == [(4,)]
        dataset.select([2, 1]).to_sql("t", connection, if_exists="replace", index=True)
        assert rows_of(connection, 'SELECT "index", a FROM t') == [(0, None), (1, 2)]
        with pytest.raises(duckdb.Error):
            dataset.remove_columns("a").rename_column("l", "other").to_sql("t", connection, if_exists="append")
        assert rows_of(connection, "SELECT count(*) FROM t") == [(2,)]
    dataset.to_sql("t", f"duckdb:///{tmp_path}/b.duckdb")
    with duckdb.connect(str(tmp_path / "b.duckdb")) as connection:
        assert rows_of(connection, "SELECT a FROM t") == [(1,), (2,), (None,)]


def test_sqlalchemy_equals_the_reference(tmp_path: Path) -> None:
    ours, theirs = Dataset.from_dict(TYPED), reference.Dataset.from_dict(TYPED)
    found = []
    for name, dataset in (("ours", ours), ("theirs", theirs)):
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/{name}.db")
        assert dataset.to_sql("t", engine, batch_size=3) == 3
        with engine.connect() as connection:
            found.append([tuple(row) for row in connection.execute(sqlalchemy.text("SELECT * FROM t"))])
        engine.dispose()
    assert found[0] == found[1]
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/ours.db")
    with pytest.raises(DataError, match="There is a table 't' already"):
        ours.to_sql("t", engine)
    with engine.begin() as connection:
        assert ours.to_sql("u", connection, batch_size=2) == 3
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM u")).scalar() == 3
    engine.dispose()


# --- what tf.data is fed with ---


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict(
        {"x": [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]], "n": [1, 2, 3], "label": [0, 1, 1], "text": ["a", "bb", "c"]}
    )


def test_batches_of_arrays(rows: Dataset) -> None:
    found = list(batches(rows, planned(rows, columns=None, labels=None, batch_size=2)))
    assert [len(batch["n"]) for batch in found] == [2, 1]
    assert found[0]["x"].tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert {name: array.dtype.kind for name, array in found[0].items()} == {
        "x": "f",
        "n": "i",
        "label": "i",
        "text": "U",
    }
    assert found[0]["x"].dtype == np.float32
    assert found[0]["n"].dtype == np.int64
    dropped = planned(rows, columns="n", labels=None, batch_size=2, drop_remainder=True)
    assert [batch["n"].tolist() for batch in batches(rows, dropped)] == [[1, 2]]
    single = planned(rows, columns=["n", "x"], labels="label", batch_size=None)
    assert [int(row["n"]) for row in batches(rows, single)] == [1, 2, 3]
    assert parted(next(batches(rows, single)), ["n"], ["label"]) == (1, 0)
    assert set(parted(next(batches(rows, single)), ["n", "x"], [])) == {"n", "x"}


def test_shuffling_gives_every_row_once_and_another_order_each_time() -> None:
    dataset = Dataset.from_dict({"n": list(range(100))})
    plan = planned(dataset, columns=None, labels=None, batch_size=10, shuffle=True)
    np.random.seed(0)
    passes = [np.concatenate([batch["n"] for batch in batches(dataset, plan)]).tolist() for _ in range(2)]
    assert [sorted(found) for found in passes] == [list(range(100))] * 2
    assert passes[0] != passes[1]


def test_shapes_and_types(rows: Dataset) -> None:
    plan = planned(rows, columns=["x", "text"], labels=["label"], batch_size=2)
    names, labels, found = shape_of(rows, plan, 20)
    assert (names, labels) == (["x", "text"], ["label"])
    assert found == {"x": ((None, 2), np.float32), "label": ((None,), np.int64), "text": ((None,), np.str_)}
    assert signature(batches(rows, plan), batched=True, drop_remainder=True)["x"] == ((None, 2), np.float32)
    whole = planned(rows, columns=["x"], labels=None, batch_size=1, drop_remainder=True)
    assert shape_of(rows, whole, 20)[2]["x"] == ((1, 2), np.float32)
    alone = planned(rows, columns=None, labels=None, batch_size=None)
    assert shape_of(rows, alone, 20)[2]["x"] == ((2,), np.float32)


def test_a_collator_pads_and_renames_labels() -> None:
    dataset = Dataset.from_dict({"ids": [[1], [1, 2, 3]], "label": [0, 1]})

    def collate(rows: list[dict[str, Any]], pad: int) -> dict[str, Any]:
        longest = max(len(row["ids"]) for row in rows)
        ids = [list(row["ids"]) + [pad] * (longest - len(row["ids"])) for row in rows]
        return {"ids": ids, "labels": [row["label"] for row in rows]}

    options = {"collate": collate, "collate_options": {"pad": 9}}
    plan = planned(dataset, columns=["ids"], labels=["label"], batch_size=2, **options)
    (batch,) = batches(dataset, plan)
    assert batch["ids"].tolist() == [[1, 9, 9], [1, 2, 3]]
    names, labels, _ = shape_of(dataset, plan, 5)
    assert (names, labels) == (["ids"], ["labels"])
    plain = planned(dataset, columns=["ids"], labels=None, batch_size=2)
    with pytest.raises(DataError, match="Column 'ids' has rows of different shapes.*Pass a collate_fn that pads them"):
        list(batches(dataset, plain))


def test_to_tf_dataset_names_what_is_missing(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="label_cols needs columns= as well"):
        planned(rows, columns=None, labels=["label"], batch_size=2)
    with pytest.raises(OptionError, match=r"A column is named twice in \['n', 'n'\]"):
        planned(rows, columns=["n", "n"], labels=None, batch_size=2)
    with pytest.raises(ColumnError, match="no column 'labl'. Did you mean 'label'"):
        planned(rows, columns=["n"], labels="labl", batch_size=2)
    with pytest.raises(DataError, match="A data set without rows has no batches"):
        planned(rows.take(0), columns=None, labels=None, batch_size=2)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match="`tensorflow` is needed to feed tf.data, but is not installed"):
        rows.to_tf_dataset(batch_size=2)


class StandIn:
    """The part of `tf.data` that is called, as its documentation says; TensorFlow itself is a large install."""

    string = "string"

    def __init__(self) -> None:
        self.data = self
        self.Dataset = self
        self.AUTOTUNE = -1

    def TensorSpec(self, shape: Any, dtype: Any) -> tuple[Any, Any]:
        return tuple(shape), dtype

    def as_dtype(self, kind: Any) -> str:
        return str(np.dtype(kind))

    def from_generator(self, generator: Any, output_signature: Any) -> Any:
        self.signature = output_signature
        return Elements(generator)


class Elements:
    def __init__(self, make: Any) -> None:
        self.make = make
        self.ahead: int | None = None

    def map(self, function: Any) -> Elements:
        return Elements(lambda: (function(item) for item in self.make()))

    def prefetch(self, size: int) -> Elements:
        self.ahead = size
        return self


def test_to_tf_dataset_hands_over_generator_and_signature(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = StandIn()
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    made = rows.to_tf_dataset(batch_size=2, columns=["x", "text"], label_cols="label")
    assert tf.signature == {
        "x": ((None, 2), "float32"),
        "text": ((None,), "string"),
        "label": ((None,), "int64"),
    }
    assert made.ahead == -1
    for _ in range(2):  # a pass per epoch
        features, labels = next(iter(made.make()))
        assert features["x"].tolist() == [[0.5, 1.0], [2.0, 3.0]]
        assert labels.tolist() == [0, 1]
    whole = rows.to_tf_dataset(batch_size=2, prefetch=False, drop_remainder=True)
    assert tf.signature["x"] == ((2, 2), "float32")
    assert [batch["n"].tolist() for batch in whole.make()] == [[1, 2]]
    assert whole.ahead is None
