"""SQL over data sets: what comes back, which features stay, and that a query reaches nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from plait.data import ClassLabel, Dataset, Features, List, Value, load_from_disk
from plait.errors import DataError, OptionError

LABEL = ClassLabel(names=["bad", "good"])


@pytest.fixture
def films() -> Dataset:
    features = {"id": Value("int32"), "text": Value("string"), "label": LABEL, "ids": List(Value("int32"))}
    columns = {
        "id": [1, 2, 3, 4],
        "text": ["a", "bb", None, "d"],
        "label": [0, 1, 1, 0],
        "ids": [[1], [2, 3], [], None],
    }
    return Dataset.from_dict(columns, features=Features(features))


@pytest.fixture
def years() -> Dataset:
    return Dataset.from_dict({"id": [4, 2, 9], "year": [1999, 2001, 2020]})


def test_rows_and_features(films: Dataset) -> None:
    found = films.sql("SELECT text, label, ids, id FROM self WHERE label = 1 ORDER BY id DESC")
    assert found.to_dict() == {"text": [None, "bb"], "label": [1, 1], "ids": [[], [2, 3]], "id": [3, 2]}
    assert found.features == Features({name: films.features[name] for name in ("text", "label", "ids", "id")})
    everything = films.sql("SELECT * FROM self")
    assert everything.to_dict() == films.to_dict()
    assert everything.features == films.features


FEATURES: dict[str, dict[str, Any]] = {
    "SELECT label AS l, s.label FROM self s": {"l": LABEL, "label": LABEL},
    "SELECT label + 1 AS label FROM self": {"label": Value("int64")},
    "SELECT max(label) AS label FROM self": {"label": Value("int64")},
    "SELECT * REPLACE (label * 2 AS label) FROM self": {"label": Value("int64"), "id": Value("int32")},
    "SELECT * EXCLUDE (ids) FROM self": {"label": LABEL, "text": Value("string")},
    "SELECT LABEL FROM self": {"label": LABEL},
    "SELECT label, count(*) AS n, sum(id) AS s, avg(id) AS m FROM self GROUP BY label": {
        "label": LABEL,
        "n": Value("int64"),
        "s": Value("int64"),
        "m": Value("float64"),
    },
    "SELECT label FROM self UNION ALL SELECT 7": {"label": Value("int64")},
    "WITH q AS (SELECT id AS label FROM self) SELECT label FROM q": {"label": Value("int32")},
    "SELECT label FROM (SELECT 5 AS label FROM self)": {"label": Value("int32")},
    "SELECT self.*, year FROM self LEFT JOIN years USING (id)": {"label": LABEL, "year": Value("int64")},
    "SELECT 1 AS one, [id] AS l, {'x': id} AS d FROM self": {"l": List(Value("int32")), "d": {"x": Value("int32")}},
}


@pytest.mark.parametrize("query", FEATURES)
def test_a_feature_stays_where_a_column_passes_through(query: str, films: Dataset, years: Dataset) -> None:
    found = films.sql(query, years=years)
    assert {name: found.features[name] for name in FEATURES[query]} == FEATURES[query]


def test_other_data_sets_go_by_keyword(films: Dataset, years: Dataset) -> None:
    found = films.sql("SELECT id, text, year FROM self JOIN years USING (id) ORDER BY year", years=years)
    assert found.to_list() == [{"id": 4, "text": "d", "year": 1999}, {"id": 2, "text": "bb", "year": 2001}]
    sums = films.sql("SELECT sum(9000000000000000000 + year) AS s FROM years", years=years)
    assert sums[0]["s"] == 27 * 10**18 + 6020  # wider than 64 bits
    with pytest.raises(OptionError) as error:
        films.sql("SELECT 1", years={"id": [1]})
    assert str(error.value) == "years= must be a data set, but is a dict."


def test_views_and_mapped_files(films: Dataset, tmp_path: Path) -> None:
    films.save_to_disk(tmp_path / "films")
    stored = load_from_disk(tmp_path / "films").shuffle(seed=1).select([0, 3])
    assert stored.sql("SELECT id, label FROM self").to_dict() == stored.select_columns(["id", "label"]).to_dict()
    empty = films.select([]).sql("SELECT * FROM self")
    assert (len(empty), empty.features) == (0, films.features)


def test_columns_in_order_are_not_copied(tmp_path: Path) -> None:
    Dataset.from_dict({"a": list(range(1_000_000)), "t": ["x" * 20] * 1_000_000}).save_to_disk(tmp_path / "d")
    stored = load_from_disk(tmp_path / "d")
    before = pa.total_allocated_bytes()
    assert stored.table.to_arrow().nbytes > 30e6
    assert stored.sql("SELECT sum(a) AS s FROM self")["s"] == [499_999_500_000]
    assert pa.total_allocated_bytes() - before < 1e6


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT nope FROM self", 'Referenced column "nope" not found'),
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM film", "Table with name film does not exist"),
        ("SELECT * FROM films", "Table with name films does not exist"),  # a Python variable of this name
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
    ],
)
def test_errors_are_those_of_the_query(query: str, text: str, films: Dataset) -> None:
    with pytest.raises(DataError) as error:
        films.sql(query)
    assert str(error.value).startswith("The query over the tables ['self'] failed: ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("COPY self TO 'x.csv'", "COPY"),
        ("CREATE TABLE t AS SELECT * FROM self", "CREATE"),
        ("SELECT 1; SELECT 2", "SELECT, SELECT"),
        ("SET enable_external_access = true", "SET"),
        ("", "nothing"),
    ],
)
def test_only_one_select_is_answered(query: str, kind: str, films: Dataset) -> None:
    with pytest.raises(OptionError) as error:
        films.sql(query)
    assert str(error.value) == f"sql takes one SELECT, but the query is {kind}: {query!r}"


def test_two_columns_of_one_name(films: Dataset) -> None:
    with pytest.raises(DataError, match="^Two columns are called 'id'"):
        films.sql("SELECT id, id FROM self")
