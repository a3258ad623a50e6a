"""Data sets in SQL, complete: one query over this data set and others, answered by DuckDB from their Arrow columns.

A query sees the data sets that it is given and nothing else: no files, no network, no Python variables. Columns whose
rows lie in order are read where they are, without a copy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from plait.data.features import Features, FeatureType, arrow_of
from plait.data.schema import features_of
from plait.data.table import Table
from plait.data.widen import cast
from plait.errors import DataError, OptionError, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_SETTINGS = {"enable_external_access": "false", "python_enable_replacements": "false", "lock_configuration": "true"}


def sql(self: Dataset, query: str, /, **others: Dataset) -> Dataset:
    """The rows of a query: `ds.sql("SELECT text, count(*) AS n FROM self GROUP BY text")`; the result is in memory.

    `self` is this data set; others go by keyword: `ds.sql("… FROM self JOIN more USING (id)", more=other)`. A column
    that is selected as it is keeps its feature, such as `ClassLabel`; the features of others follow from their types.
    Needs duckdb. Raises `DataError` with the message of DuckDB, `OptionError` for what is no single SELECT.
    """
    duckdb = require("duckdb", extra="data", purpose="answer SQL queries")
    tables = {"self": self, **others}
    for name, other in tables.items():
        if not isinstance(other, type(self)):
            raise OptionError(f"{name}= must be a data set, but is a {type(other).__name__}.")
    connection = duckdb.connect(config=_SETTINGS)
    try:
        for name, other in tables.items():
            connection.register(name, other.table.to_arrow())
        kinds = [statement.type for statement in connection.extract_statements(query)]
        if kinds != [duckdb.StatementType.SELECT]:
            found = ", ".join(kind.name for kind in kinds) or "nothing"
            raise OptionError(f"sql takes one SELECT, but the query is {found}: {query!r:.200}")
        relation = connection.sql(query)
        wide = [name for name, kind in zip(relation.columns, relation.types, strict=True) if str(kind) == "HUGEINT"]
        answer = _narrowed(relation.to_arrow_table(), wide)
        passed = _passed_on(connection, query, {name: other.features for name, other in tables.items()})
    except duckdb.Error as error:
        raise DataError(f"The query over the tables {list(tables)} failed: {error}") from error
    finally:
        connection.close()
    return _data_set(self, answer, passed)


def _data_set(dataset: Dataset, answer: pa.Table, passed: Mapping[str, FeatureType]) -> Dataset:
    table = Table.from_arrow(answer)
    features: dict[str, FeatureType] = dict(features_of(answer.schema))
    columns: dict[str, Any] = {}
    spelled = {name.lower(): name for name in features}
    for asked, feature in passed.items():
        if (name := spelled.get(asked.lower())) is None:
            continue
        kind = arrow_of(feature)
        try:
            chunks = [cast(chunk, kind) for chunk in answer.column(name).chunks]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, DataError):
            continue  # the name means something else in the answer
        columns[name], features[name] = pa.chunked_array(chunks, type=kind), feature
    if columns:
        table = table.with_columns(Table.from_arrow(pa.table(columns)).columns)
    return type(dataset)(table, split=dataset.split, features=Features(features))


def _narrowed(answer: pa.Table, wide: list[str]) -> pa.Table:
    """Sums of integers are 128 bits wide in DuckDB: 64 bits again where they suffice."""
    for name in wide:
        try:
            narrow = pc.cast(answer.column(name), pa.int64())
        except pa.ArrowInvalid:
            continue
        answer = answer.set_column(answer.schema.get_field_index(name), name, narrow)
    return answer


# --- which columns pass through ---------------------------------------------------------------------------------------


def _passed_on(connection: Any, query: str, tables: Mapping[str, Features]) -> dict[str, FeatureType]:
    """The features of the columns of the answer that are columns of a table as they are."""
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0]
    statements = json.loads(text).get("statements", [])
    node = statements[0]["node"] if statements else {}
    if node.get("type") != "SELECT_NODE" or node.get("cte_map", {}).get("map"):
        return {}  # a UNION or a WITH: what a name means there is not looked up
    sources = dict(_sources(node.get("from_table") or {}, tables))
    found: dict[str, FeatureType | None] = {}
    for item in node["select_list"]:
        for name, feature in _selected(item, sources):
            found[name] = None if name in found and found[name] != feature else feature
    return {name: feature for name, feature in found.items() if feature is not None}


def _sources(node: Mapping[str, Any], tables: Mapping[str, Features]) -> Iterator[tuple[str, Features]]:
    """The tables behind FROM, by the name that the query gives them."""
    if node.get("type") == "BASE_TABLE":
        name = node.get("table_name", "")
        if name in tables and not node.get("column_name_alias"):
            yield node.get("alias") or name, tables[name]
    elif node.get("type") == "JOIN":
        yield from _sources(node["left"], tables)
        yield from _sources(node["right"], tables)


def _selected(item: Mapping[str, Any], sources: Mapping[str, Features]) -> Iterator[tuple[str, FeatureType | None]]:
    """The columns of the answer that one item of a SELECT makes, with their features; `None` for what is computed."""
    if item["class"] == "COLUMN_REF":
        *table, name = item["column_names"]
        yield item["alias"] or name, _feature(name, table[-1] if table else None, sources)
    elif item["class"] == "STAR" and not item.get("columns"):
        changed = {str(entry["key"]).lower() for entry in item.get("replace_list", [])}
        renamed = bool(item.get("rename_list"))
        for source, features in sources.items():
            if item.get("relation_name") in ("", None, source):
                for name in features:
                    computed = renamed or name.lower() in changed
                    yield name, None if computed else _feature(name, item.get("relation_name") or None, sources)
    elif item.get("alias"):
        yield item["alias"], None


def _feature(name: str, table: str | None, sources: Mapping[str, Features]) -> FeatureType | None:
    """The feature of a column of the query; `None` where tables differ in it. SQL does not tell A from a."""
    kinds = [
        feature
        for source, features in sources.items()
        if table is None or source.lower() == table.lower()
        for column, feature in features.items()
        if column.lower() == name.lower()
    ]
    return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None
