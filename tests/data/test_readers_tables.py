"""Rows of databases and spreadsheets: types from all rows, files opened to read only, and what is refused."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import Any

import datasets
import duckdb
import openpyxl
import pandas
import pytest
import sqlalchemy

from plait.data import Dataset, Features, Value, load_dataset
from plait.errors import ColumnError, DataError, NotFoundError, OptionError

QUERY = "SELECT * FROM t WHERE a >= :least ORDER BY a"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b TEXT, c REAL, d BLOB)")
        rows = [(index, f"行{index}", None if index == 0 else index / 2, b"\0") for index in range(25_000)]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return path


def test_sqlite_in_every_spelling(database: Path) -> None:
    connection = sqlite3.connect(database)
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    for con in (connection, str(database), database, f"sqlite:///{database}", engine):
        found = Dataset.from_sql(QUERY, con, params={"least": 24_990})
        assert found.features == {
            "a": Value("int64"),
            "b": Value("string"),
            "c": Value("float64"),
            "d": Value("binary"),
        }
        assert found.num_rows == 10
        assert found[-1] == {"a": 24_999, "b": "行24999", "c": 12499.5, "d": b"\0"}
    with engine.connect() as inside:
        assert Dataset.from_sql(sqlalchemy.select(sqlalchemy.text("count(*) AS n FROM t")), inside)[0] == {"n": 25_000}
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (25_000,), "a connection stays open"
    connection.close()


def test_as_datasets_reads_it(database: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{database}"
    expected = datasets.Dataset.from_sql("SELECT a, b, c FROM t", uri, cache_dir=str(tmp_path / "cache"))
    ours = Dataset.from_sql("SELECT a, b, c FROM t", uri)
    assert ours.to_dict() == expected.to_dict()
    table = load_dataset("sql", sql="t", con=uri, columns=["c", "a"], split="train")
    assert table.column_names == ["c", "a"]
    assert table["a"][:] == expected["a"][:]


def test_a_table_that_changes_is_read_again(database: Path) -> None:
    assert len(Dataset.from_sql("t", str(database))) == 25_000
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM t WHERE a > 9")
    connection.close()
    assert len(Dataset.from_sql("t", str(database))) == 10


def test_features_and_empty_results(database: Path) -> None:
    features = Features({"a": Value("int32"), "b": Value("string")})
    found = Dataset.from_sql("SELECT a, b FROM t LIMIT 3", str(database), features=features)
    assert found.features == features
    assert found["a"] == [0, 1, 2]
    empty = Dataset.from_sql("SELECT a, b FROM t WHERE a < 0", str(database), features=features)
    assert (empty.num_rows, empty.features) == (0, features)
    assert Dataset.from_sql("SELECT a FROM t WHERE a < 0", str(database)).column_names == ["a"]
    with pytest.raises(DataError, match=r"column 'b', row 0: '行0' \(str\) does not fit the declared type int64"):
        Dataset.from_sql("SELECT b FROM t", str(database), features=Features({"b": Value("int64")}))
    with pytest.raises(DataError, match=r"The query has columns that features= does not name: \['c', 'd'\]"):
        Dataset.from_sql("t", str(database), features=features)


def test_duckdb(tmp_path: Path) -> None:
    path = tmp_path / "a.duckdb"
    with duckdb.connect(str(path)) as connection:
        columns = "i::INTEGER a, [i, 1] b, (i / 4)::DECIMAL(9, 2) c"
        connection.execute(f"CREATE TABLE t AS SELECT {columns} FROM range(20000) r(i)")
        found = Dataset.from_sql("SELECT * FROM t WHERE a > ?", connection, params=[19_997])
        assert found.to_dict() == {"a": [19_998, 19_999], "b": [[19_998, 1], [19_999, 1]], "c": [4999.5, 4999.75]}
        decimals = Dataset.from_sql("SELECT 1.5::DECIMAL(9, 2) AS d", connection, coerce_float=False)
        assert decimals.features["d"] == Value("decimal128(9, 2)")
    for con in (str(path), f"duckdb:///{path}"):
        assert Dataset.from_sql("t", con).num_rows == 20_000


def test_what_a_database_refuses(database: Path) -> None:
    with pytest.raises(DataError, match=r"^The query 'DROP TABLE t' failed: attempt to write a readonly database$"):
        Dataset.from_sql("DROP TABLE t", str(database))
    with pytest.raises(DataError, match=r"^The query 'SELECT x FROM t' failed: no such column: x$"):
        Dataset.from_sql("SELECT x FROM t", str(database))
    with pytest.raises(DataError, match="several columns the name 'a': name them with AS"):
        Dataset.from_sql("SELECT a, a FROM t", str(database))
    with pytest.raises(NotFoundError, match=r"There is no database nowhere.db. con= is a connection, the path of a"):
        Dataset.from_sql("t", "sqlite:///nowhere.db")
    with pytest.raises(ColumnError, match="There is no column 'bb'. Did you mean 'b'"):
        Dataset.from_sql("t", str(database), columns=["bb"])
    with pytest.raises(OptionError, match="needs sql= .a query or a table. and con= .a connection."):
        load_dataset("sql", sql="t")
    with pytest.raises(OptionError, match=r"reads no files: leave data_files and data_dir out"):
        load_dataset("sql", data_files="a.db", sql="t", con=str(database))
    with pytest.raises(OptionError, match="has no option 'index_col': every column stays a column"):
        Dataset.from_sql("t", str(database), index_col="a")


def test_what_fails_while_rows_are_fetched(database: Path) -> None:
    """The first rows are there already, and the error shows the query all the same."""
    overflow = "SELECT abs(CASE WHEN a = 20000 THEN -9223372036854775807 - 1 ELSE a END) AS n FROM t"
    with pytest.raises(DataError, match=r"^The query 'SELECT abs.* failed: integer overflow$"):
        Dataset.from_sql(overflow, str(database))
    with pytest.raises(
        DataError, match=r'^The query "SELECT CAST.* failed: Conversion Error: Could not convert string'
    ):
        Dataset.from_sql("SELECT CAST(range || 'x' AS INTEGER) FROM range(9)", duckdb.connect())


def test_a_row_of_duckdb_that_does_not_fit_is_named_by_its_number() -> None:
    query = "SELECT CASE WHEN range = 12001 THEN 'x' ELSE '1' END AS n FROM range(20000)"
    with pytest.raises(DataError, match=r"^column 'n', row 12001: 'x' \(str\) does not fit the declared type int64"):
        Dataset.from_sql(query, duckdb.connect(), features=Features({"n": Value("int64")}))


def test_an_error_of_a_database_that_says_nothing(database: Path) -> None:
    class Silent:
        def cursor(self) -> Any:
            raise TimeoutError

    with pytest.raises(DataError, match=r"^The query 't' failed: TimeoutError$"):
        Dataset.from_sql("t", Silent())


# --- spreadsheets ---


def sheet(path: Path, rows: list[list[Any]], **others: list[list[Any]]) -> str:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "first"
    for row in rows:
        book.active.append(row)
    for name, content in others.items():
        added = book.create_sheet(name)
        for row in content:
            added.append(row)
    book.save(path)
    return str(path)


DAY, NOON = dt.datetime(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30)
ROWS: list[list[Any]] = [
    ["whole", "real", "text", "time", "mixed", "truth", "day"],
    [1, 1, "热", NOON, 1, True, dt.date(2024, 2, 29)],
    [None, None, None, None, None, None, None],
    [2, 2.5, None, DAY, "x", False, dt.date(2024, 3, 1)],
    [None, 3, "", None, 2.5, None, None],
]


def test_cells_have_types(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", ROWS)
    found = load_dataset(path, split="train", keep_in_memory=True)
    assert {name: str(kind) for name, kind in found.features.items()} == {
        "whole": "Value('int64')",
        "real": "Value('float64')",
        "text": "Value('string')",
        "time": "Value('timestamp[us]')",
        "mixed": "Value('string')",
        "truth": "Value('bool')",
        "day": "Value('date32')",
    }
    assert found.to_dict() == {
        "whole": [1, 2, None],
        "real": [1.0, 2.5, 3.0],
        "text": ["热", None, None],
        "time": [NOON, DAY, None],
        "mixed": ["1", "x", "2.5"],
        "truth": [True, False, None],
        "day": [dt.date(2024, 2, 29), dt.date(2024, 3, 1), None],
    }
    frame = pandas.read_excel(path, engine="openpyxl").dropna(how="all")
    assert found["real"][:] == frame["real"].tolist()
    assert found["time"][:2] == frame["time"].dt.to_pydatetime().tolist()[:2]


def test_types_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    paths = [sheet(tmp_path / "1.xlsx", [["a", "b"], [1, 2]]), sheet(tmp_path / "2.xlsx", [["a"], ["x"], [1.5]])]
    one = load_dataset("xlsx", data_files=paths, split="train", keep_in_memory=True)
    assert one.to_dict() == {"a": ["1", "x", "1.5"], "b": [2, None, None]}
    other = load_dataset("xlsx", data_files=paths[::-1], split="train", keep_in_memory=True)
    assert other.features == one.features
    assert sorted(other["a"]) == sorted(one["a"])


def test_options_of_sheets(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["about this"], [], ["a", "b"], [1, "-"], [2, "y"]], power=[[1, 2], [3, 4]])

    def read(**options: Any) -> dict[str, list[Any]]:
        found: Dataset = load_dataset("xlsx", data_files=path, split="train", keep_in_memory=True, **options)
        return found.to_dict()

    assert read(skiprows=1, na_values="-") == {"a": [1, 2], "b": [None, "y"]}
    assert read(header=1, usecols=["b"], nrows=1) == {"b": ["-"]}
    assert read(sheet_name="power", header=None, names=["x", "y"]) == {"x": [1, 3], "y": [2, 4]}
    assert read(sheet_name=1, header=None) == {"0": [1, 3], "1": [2, 4]}
    assert read(sheet_name=1, features=Features({"1": Value("int32"), "2": Value("string")})) == {"1": [3], "2": ["4"]}
    features = Features({"a": Value("int64"), "b": Value("int64")})
    with pytest.raises(DataError, match=r"column 'b', row 1: 'y' \(str\) does not fit the declared type int64"):
        read(skiprows=1, na_values="-", features=features)


def test_sheets_that_are_not_there(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["a"], [1]], power=[["b"]])
    with pytest.raises(
        DataError, match=r"has no sheet 'powr'. Did you mean 'power'\? Its sheets are \['first', 'power'\]"
    ):
        load_dataset("xlsx", data_files=path, sheet_name="powr", keep_in_memory=True)
    with pytest.raises(DataError, match=r"has no sheet number 2 \(from 0\)"):
        load_dataset("xlsx", data_files=path, sheet_name=2, keep_in_memory=True)
    with pytest.raises(OptionError, match="sheet_name must be one name or number, but is None: load sheets one by one"):
        load_dataset("xlsx", data_files=path, sheet_name=None, keep_in_memory=True)
    with pytest.raises(ColumnError, match="There is no column 'aa'. Did you mean 'a'"):
        load_dataset("xlsx", data_files=path, usecols=["aa"], keep_in_memory=True)
    (tmp_path / "b.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="b.xlsx is not a spreadsheet that can be read: "):
        load_dataset("xlsx", data_files=str(tmp_path / "b.xlsx"), keep_in_memory=True)
