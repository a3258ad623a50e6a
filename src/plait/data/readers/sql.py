"""The rows of a query, complete: through sqlite3, duckdb, SQLAlchemy or any connection with a cursor.

A database may change at any time, so nothing of it is kept in the cache; what is large lies in unnamed files.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from plait.data.encode import to_arrow
from plait.data.features import arrow_of
from plait.data.readers.base import Reader
from plait.data.table import missing_column
from plait.data.widen import cast
from plait.errors import DataError, NotFoundError, OptionError, PlaitError, require

_ROWS = 10_000  # fetched at once
_TABLE = re.compile(r"\w+(?:\.\w+)*")


@dataclass
class SqlReader(Reader):
    """`sql` is a query, the name of a table, or a statement of SQLAlchemy; `con` a connection (sqlite3, duckdb,
    SQLAlchemy), an engine, the path of a SQLite file, or an address such as `sqlite:///a.db` or `duckdb:///a.duckdb`;
    others go to SQLAlchemy. `params` fill the query; `columns` picks columns of the result; `coerce_float=False` keeps
    decimals as decimals."""

    WITHOUT_EFFECT = {"chunksize": "rows are fetched in blocks"}
    REFUSED = {
        "index_col": "every column stays a column",
        "parse_dates": "declare the times with features=, or convert them with cast_column()",
    }
    of_files = False

    sql: Any = None
    con: Any = None
    params: Any = None
    columns: list[str] | None = None
    coerce_float: bool = True

    def __post_init__(self) -> None:
        if self.sql is None or self.con is None:
            raise OptionError("load_dataset('sql', …) needs sql= (a query or a table) and con= (a connection).")

    @property
    def cacheable(self) -> bool:
        return False  # a table may hold something else by now

    @property
    def title(self) -> str:
        return "rows of a query"

    def blocks(self) -> Iterator[dict[str, Any]]:
        with self._connected() as connection:
            kind = type(connection).__module__.partition(".")[0].lstrip("_")
            rows = self._of_duckdb(connection) if kind == "duckdb" else self._of_rows(connection, kind)
            for block in rows:
                yield self._chosen(block)

    def _chosen(self, block: dict[str, Any]) -> dict[str, Any]:
        for name in [*(self.columns or ()), *(self.features or ())]:
            if name not in block:
                raise missing_column(name, block)
        if self.columns is not None:
            block = {name: block[name] for name in self.columns}
        if self.features is not None and (extra := [name for name in block if name not in self.features]):
            raise DataError(f"The query has columns that features= does not name: {extra}.")
        return block

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """The connection; one that is opened here is closed here."""
        if isinstance(self.con, str | Path):
            connection = opened(self.con)
        elif hasattr(self.con, "connect") and hasattr(self.con, "dialect"):  # an engine of SQLAlchemy
            connection = self.con.connect()
        else:
            yield self.con
            return
        try:
            yield connection
        finally:
            connection.close()

    def _query(self) -> Any:
        if isinstance(self.sql, str) and _TABLE.fullmatch(self.sql):
            name = ".".join(f'"{part}"' for part in self.sql.split("."))
            return f"SELECT * FROM {name}"
        return self.sql

    def _of_duckdb(self, connection: Any) -> Iterator[dict[str, Any]]:
        with self._told():
            found = connection.sql(self._query(), params=self.params or [])
            if found is None:
                raise self._failed("it gives no rows")
            read = getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader  # before DuckDB 1.4
            row = 0
            for batch in read(_ROWS):
                yield {
                    name: self._column(_plain(column), name, row)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                row += len(batch)

    def _of_rows(self, connection: Any, kind: str) -> Iterator[dict[str, Any]]:
        with self._told():
            if kind == "sqlalchemy":
                sqlalchemy = require("sqlalchemy", extra="data", purpose="read databases")
                query = self._query()
                query = sqlalchemy.text(query) if isinstance(query, str) else query
                cursor = connection.execute(query, *([] if self.params is None else [self.params]))
                names = list(cursor.keys())
            else:
                cursor = connection.cursor()
                cursor.execute(self._query(), *([] if self.params is None else [self.params]))
                names = [column[0] for column in cursor.description or ()]
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"The query gives several columns the name {repeated[0]!r}: name them with AS.")
            row = 0
            yield {name: self._column([], name) for name in names}
            while rows := cursor.fetchmany(_ROWS):
                columns = zip(names, zip(*rows, strict=True), strict=True)
                yield {name: self._column(list(values), name, row) for name, values in columns}
                row += len(rows)

    def _column(self, values: Any, name: str, first_row: int = 0) -> Any:
        feature = None if self.features is None else self.features.get(name)
        if self.coerce_float and feature is None:
            if isinstance(values, pa.Array):
                values = cast(values, pa.float64()) if pa.types.is_decimal(values.type) else values
            elif any(isinstance(value, Decimal) for value in values):
                values = [float(value) if isinstance(value, Decimal) else value for value in values]
        array = to_arrow(values, feature=feature, column=name, first_row=first_row)
        return array if feature is None else cast(array, arrow_of(feature))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What a database raises, which for each is of classes of its own, as a `DataError` that shows the query."""
        try:
            yield
        except PlaitError:
            raise
        except Exception as error:
            raise self._failed(_reason(error)) from error

    def _failed(self, reason: str) -> DataError:
        return DataError(f"The query {str(self.sql)!r:.200} failed: {reason}")


def _reason(error: Exception) -> str:
    """The first line of what an error says, or its kind when it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _plain(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def opened(address: str | Path) -> Any:
    """A connection to the database at a path or address; one in a file is opened to read only."""
    text = str(address)
    scheme, found, rest = text.partition("://")
    if found and scheme not in ("sqlite", "duckdb"):
        sqlalchemy = require("sqlalchemy", extra="data", purpose="read databases")
        try:
            return sqlalchemy.create_engine(text).connect()
        except Exception as error:  # a driver that is not installed, a host that does not answer, …
            raise DataError(f"The {scheme} database of con= cannot be opened: {_reason(error)}") from error
    # sqlite:///relative.db, sqlite:////absolute.db
    path = Path(unquote(rest.removeprefix("/")) if found else text).expanduser()
    if not path.is_file():
        raise NotFoundError(
            f"There is no database {path}. con= is a connection, the path of a SQLite file, or an address."
        )
    if scheme == "duckdb" or (not found and path.suffix in (".duckdb", ".ddb")):
        duckdb = require("duckdb", extra="data", purpose="read DuckDB databases")
        return duckdb.connect(str(path), read_only=True)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
