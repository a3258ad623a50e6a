"""Data sets written to databases, complete: SQLite, DuckDB, and whatever SQLAlchemy connects to.

A table appears whole or not at all: everything is one transaction. Lists, structs and JSON columns, for which SQLite
has no type, are stored as JSON text.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plait.data.accepted import no_effect
from plait.data.decode import column_to_python
from plait.data.encode import simple
from plait.data.features import FeatureType, arrow_of, is_decoded
from plait.errors import DataError, OptionError, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_BATCH = 10_000  # rows written at once


def to_sql(
    self: Dataset,
    name: str,
    con: Any,
    batch_size: int | None = None,
    *,
    num_proc: int | None = None,
    **options: Any,
) -> int:
    """Write the rows to the table `name` of a database and return how many there were.

    `con` is a `sqlite3.Connection`, a DuckDB connection, an SQLAlchemy engine or connection, or an address: "a.db" or
    "sqlite:///a.db", "a.duckdb" or "duckdb:///a.duckdb", "postgresql://…" and all others that SQLAlchemy knows.
    `if_exists` is "fail" (the default), "replace" or "append"; `index=True` adds a column of row numbers (named by
    `index_label`); `schema` and `dtype` (types by column) as in pandas. What was opened here is closed again.
    """
    no_effect("to_sql", () if num_proc in (None, 1) else ("num_proc",))
    size = batch_size or _BATCH
    with _connected(con) as (kind, connection):
        if kind == "sqlite":
            return _to_sqlite(self, name, connection, size, **_known(options, "SQLite", "dtype"))
        if kind == "duckdb":
            return _to_duckdb(self, name, connection, size, **_known(options, "DuckDB", "schema"))
        return _to_sqlalchemy(self, name, connection, size, options)


@contextlib.contextmanager
def _connected(con: Any) -> Iterator[tuple[str, Any]]:
    """The kind of a database and an open connection to it."""
    if isinstance(con, sqlite3.Connection):
        yield "sqlite", con
        return
    if not isinstance(con, str):
        yield ("duckdb" if type(con).__module__.partition(".")[0] in ("duckdb", "_duckdb") else "sqlalchemy"), con
        return
    if "://" not in con or con.startswith(("sqlite:///", "duckdb:///")):
        path = con.partition(":///")[2] if "://" in con else con
        if con.startswith("duckdb:") or path.endswith((".duckdb", ".ddb")):
            duckdb = require("duckdb", extra="data", purpose="write DuckDB databases")
            with duckdb.connect(path or ":memory:") as opened:
                yield "duckdb", opened
            return
        try:
            file = sqlite3.connect(path or ":memory:")
        except sqlite3.OperationalError as error:
            raise DataError(f"The database {path} cannot be opened: {error}.") from error
        with contextlib.closing(file):
            yield "sqlite", file
        return
    engine = require("sqlalchemy", extra="data", purpose="write to databases").create_engine(con)
    try:
        yield "sqlalchemy", engine
    finally:
        engine.dispose()


def _known(options: Mapping[str, Any], database: str, further: str) -> dict[str, Any]:
    known = ("if_exists", "index", "index_label", further)
    for name in options:
        if name not in known:
            raise OptionError(f"to_sql() has no argument {name!r} for {database}; arguments are {', '.join(known)}.")
    if options.get("if_exists", "fail") not in ("fail", "replace", "append"):
        raise OptionError(f"if_exists must be 'fail', 'replace' or 'append', but is {options['if_exists']!r}.")
    return dict(options)


def _quoted(name: str) -> str:
    if not name or "\0" in name:
        raise DataError(f"{name!r} cannot be a name in a database.")
    return '"' + name.replace('"', '""') + '"'


def _exists(name: str) -> DataError:
    return DataError(f"There is a table {name!r} already. Pass if_exists='replace' or 'append', or another name.")


# --- SQLite -----------------------------------------------------------------------------------------------------------


def _to_sqlite(
    dataset: Dataset,
    name: str,
    connection: sqlite3.Connection,
    size: int,
    *,
    if_exists: str = "fail",
    index: bool = False,
    index_label: str | None = None,
    dtype: Mapping[str, str] | None = None,
) -> int:
    table, names = _quoted(name), dataset.column_names
    label = [index_label or "index"] if index else []
    kinds = {column: _sqlite_type(dataset.features[column]) for column in names}
    kinds = {**dict.fromkeys(label, "INTEGER"), **kinds, **(dtype or {})}
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?", [name])
    exists = there.fetchone() is not None
    if exists and if_exists == "fail":
        raise _exists(name)
    columns = ", ".join(f"{_quoted(column)} {kinds[column]}" for column in [*label, *names])
    insert = f"INSERT INTO {table} ({', '.join(map(_quoted, [*label, *names]))}) VALUES ({', '.join('?' * len(kinds))})"
    with _transaction(connection):
        if exists and if_exists == "replace":
            connection.execute(f"DROP TABLE {table}")
        if not exists or if_exists == "replace":
            connection.execute(f"CREATE TABLE {table} ({columns})")
        for start, arrays in dataset.table.blocks(size=size):
            values = [_sqlite_values(array, dataset.features[column]) for column, array in arrays.items()]
            numbers = [range(start, start + size)] if index else []
            try:
                connection.executemany(insert, zip(*numbers, *values, strict=False))
            except (OverflowError, sqlite3.Error) as error:
                raise DataError(f"The rows from {start} on do not fit the table {name!r}: {error}.") from error
    return len(dataset)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything or nothing, tables included; what the caller had not committed yet is committed before."""
    connection.commit()
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _sqlite_type(feature: FeatureType) -> str:
    kind = arrow_of(feature)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    if pa.types.is_floating(kind):
        return "REAL"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "BLOB"
    return {True: "TIMESTAMP", False: "TEXT"}[pa.types.is_timestamp(kind)]


def _sqlite_values(array: Any, feature: FeatureType) -> list[Any]:
    kind = array.type
    as_it_is = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_string(kind)
    if (as_it_is or pa.types.is_binary(kind)) and not is_decoded(feature):
        found: list[Any] = array.to_pylist()
        return found
    return [_sqlite_value(value) for value in column_to_python(array, feature)]


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, int | float | str | bytes):
        return value
    if isinstance(value, dict | list):
        return json.dumps(simple(value), ensure_ascii=False, default=str)
    return str(value)  # dates as "2020-01-01 12:00:00", decimals as "1.25"


# --- DuckDB and SQLAlchemy --------------------------------------------------------------------------------------------


def _to_duckdb(
    dataset: Dataset,
    name: str,
    connection: Any,
    size: int,
    *,
    if_exists: str = "fail",
    index: bool = False,
    index_label: str | None = None,
    schema: str | None = None,
) -> int:
    table = f"{_quoted(schema)}.{_quoted(name)}" if schema else _quoted(name)
    found = (
        "SELECT 1 FROM information_schema.tables WHERE table_name = ? AND table_schema = coalesce(?, current_schema())"
    )
    exists = connection.execute(found, [name, schema]).fetchone() is not None
    if exists and if_exists == "fail":
        raise _exists(name)
    create = not exists or if_exists == "replace"
    connection.execute("BEGIN")
    try:
        for start in range(0, max(1, len(dataset)), size):
            block = dataset.table.view(range(start, min(start + size, len(dataset)))).to_arrow()
            if index:
                block = block.add_column(
                    0, index_label or "index", pa.array(range(start, start + len(block)), pa.int64())
                )
            connection.register("plait_rows", block)
            if create:
                connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM plait_rows")
                create = False
            else:
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM plait_rows")
            connection.unregister("plait_rows")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(dataset)


def _to_sqlalchemy(dataset: Dataset, name: str, connection: Any, size: int, options: dict[str, Any]) -> int:
    """Through pandas, which knows the types of every dialect; a connection given is left to its own transaction."""
    require("pandas", extra="tabular", purpose="write to databases")
    require("sqlalchemy", extra="data", purpose="write to databases")
    options = {"index": False, **options}

    def write(target: Any) -> None:
        for start in range(0, max(1, len(dataset)), size):
            block = dataset.table.view(range(start, min(start + size, len(dataset)))).to_arrow()
            frame = block.to_pandas(integer_object_nulls=True)
            frame.index = range(start, start + len(frame))
            frame.to_sql(name, target, **(options if start == 0 else {**options, "if_exists": "append"}))

    try:
        if hasattr(connection, "begin") and hasattr(connection, "dispose"):  # an engine
            with connection.begin() as opened:
                write(opened)
        else:
            write(connection)
    except ValueError as error:
        if "already exists" in str(error):
            raise _exists(name) from error
        raise
    return len(dataset)
