"""Nearest rows by their vectors: numbers equal to those of the reference library, and what indexes do on the way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets as reference
import faiss
import numpy as np
import pytest

from plait.data import Dataset, Features, List, Value
from plait.errors import DataError, MissingExtraError, NotFoundError, OptionError

VECTORS = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)


@pytest.fixture
def ours() -> Dataset:
    return Dataset.from_dict({"number": list(range(300)), "vector": VECTORS})


@pytest.fixture
def theirs() -> Any:
    return reference.Dataset.from_dict({"number": list(range(300)), "vector": VECTORS})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metric_type": faiss.METRIC_INNER_PRODUCT},
        {"string_factory": "IVF4,Flat", "train_size": 200},
        {"string_factory": "HNSW8", "metric_type": faiss.METRIC_INNER_PRODUCT, "batch_size": 300},
        {"dtype": np.float16, "batch_size": 7},
    ],
    ids=str,
)
def test_results_equal_the_reference(ours: Dataset, theirs: Any, options: dict[str, Any]) -> None:
    assert ours.add_faiss_index("vector", **options) is ours
    theirs.add_faiss_index("vector", **options)
    for k in (1, 10):
        here, there = ours.search("vector", QUERIES[0], k), theirs.search("vector", QUERIES[0], k)
        assert type(here)._fields == type(there)._fields
        # the same FAISS on the same vectors: equal to the bit
        assert np.array_equal(here.scores, there.scores)
        assert np.array_equal(here.indices, there.indices)
        assert here.indices.dtype == there.indices.dtype
        many, those = ours.search_batch("vector", QUERIES, k), theirs.search_batch("vector", QUERIES, k)
        assert np.array_equal(many.total_scores, those.total_scores)
        assert np.array_equal(many.total_indices, those.total_indices)
    scores, rows = ours.get_nearest_examples("vector", QUERIES[:1], k=4)
    wanted_scores, wanted = theirs.get_nearest_examples("vector", QUERIES[:1], k=4)
    assert np.array_equal(scores, wanted_scores)
    assert rows == wanted
    found = ours.get_nearest_examples_batch("vector", QUERIES, k=3)
    those = theirs.get_nearest_examples_batch("vector", QUERIES, k=3)
    assert found._fields == those._fields
    assert found.total_examples == those.total_examples
    assert all(np.array_equal(a, b) for a, b in zip(found.total_scores, those.total_scores, strict=True))


def test_the_nearest_row_is_computed_by_hand() -> None:
    dataset = Dataset.from_dict({"v": [[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]]})
    assert dataset.add_faiss_index("v", "places").list_indexes() == ["places"]
    scores, rows = dataset.search("places", np.array([1.0, 0.5]), k=5)
    assert rows.tolist() == [2, 0, 1, -1, -1]
    assert scores[:3].tolist() == [0.25, 1.25, 16.25]  # squared distances, exact in binary
    examples = dataset.get_nearest_examples("places", [1.0, 0.5], k=5).examples
    assert examples == {"v": [[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]]}


def test_a_filled_index_answers_for_fewer_rows_than_asked(ours: Dataset, theirs: Any) -> None:
    for dataset in (ours, theirs):
        dataset.add_faiss_index("vector")
    few, those = (
        ours.get_nearest_examples("vector", QUERIES[0], 400),
        theirs.get_nearest_examples("vector", QUERIES[0], 400),
    )
    assert len(few.scores) == len(those.scores) == 300
    assert few.examples == those.examples


def test_lists_of_every_kind_and_views_are_indexed(ours: Dataset) -> None:
    plain = ours.add_faiss_index("vector").search("vector", QUERIES[0], 9)
    for feature in (List(Value("float32"), length=8), List(Value("float64"))):
        cast = ours.cast_column("vector", feature)
        cast.add_faiss_index("vector", "again", batch_size=13)
        assert np.array_equal(cast.search("again", QUERIES[0], 9).indices, plain.indices)
    order = np.random.default_rng(2).permutation(300)
    mixed = ours.select(order)
    mixed.add_faiss_index("vector")
    assert np.array_equal(order[mixed.search("vector", QUERIES[0], 9).indices], plain.indices)
    bytes_ = Dataset.from_dict({"v": [[0, 1], [200, 3]]}, features=Features({"v": List(Value("uint8"))}))
    assert bytes_.add_faiss_index("v").search("v", [199, 3], 1).indices.tolist() == [1]


def test_external_arrays_and_own_indexes(ours: Dataset, theirs: Any) -> None:
    for dataset in (ours, theirs):
        dataset.add_faiss_index_from_external_arrays(VECTORS * 2, "double", batch_size=50)
        dataset.add_faiss_index("vector", "own", custom_index=faiss.IndexFlatIP(8))
    for name in ("double", "own"):
        assert np.array_equal(ours.search(name, QUERIES[1], 5).scores, theirs.search(name, QUERIES[1], 5).scores)
    assert ours.list_indexes() == theirs.list_indexes() == ["double", "own"]
    assert type(ours.get_index("own").faiss_index) is faiss.IndexFlatIP
    ours.drop_index("own")
    assert not ours.is_index_initialized("own")
    assert ours.is_index_initialized("double")


def test_indexes_go_along_with_the_rows(ours: Dataset) -> None:
    ours.add_faiss_index("vector")
    for same in (
        ours.with_format("numpy"),
        ours.remove_columns("vector"),
        ours.rename_column("number", "n"),
        ours.add_column("more", list(range(300))),
    ):
        assert same.list_indexes() == ["vector"]
    assert ours.with_format("numpy").get_nearest_examples("vector", QUERIES[0], 2).examples["number"].dtype == np.int64
    same = ours.with_format("numpy")
    same.drop_index("vector")
    assert ours.list_indexes() == ["vector"]
    for other in (ours.select([1, 0]), ours.sort("number"), ours.shuffle(seed=0), ours.filter(lambda row: True)):
        assert other.list_indexes() == []
    with pytest.raises(NotFoundError, match="no index 'vector'. There is none yet. Call add_faiss_index first.*leaves"):
        ours.take(3).search("vector", QUERIES[0])


@pytest.mark.parametrize("place", ["file", "memory://plait-index/a.faiss"])
def test_files_both_ways(ours: Dataset, theirs: Any, tmp_path: Path, place: str) -> None:
    file = str(tmp_path / "below" / "a.faiss") if place == "file" else place
    ours.add_faiss_index("vector", string_factory="IVF4,Flat", train_size=300)
    ours.save_faiss_index("vector", file)
    theirs.load_faiss_index("back", file)
    ours.load_faiss_index("back", file)
    assert np.array_equal(theirs.search("back", QUERIES[2], 6).scores, ours.search("vector", QUERIES[2], 6).scores)
    assert np.array_equal(ours.search("back", QUERIES[2], 6).scores, ours.search("vector", QUERIES[2], 6).scores)
    theirs.save_faiss_index("back", file)
    ours.load_faiss_index("theirs", file)
    assert np.array_equal(ours.search("theirs", QUERIES[2], 6).indices, ours.search("vector", QUERIES[2], 6).indices)
    with pytest.raises(DataError, match="holds 300 vectors, but the data set has 2 rows"):
        ours.take(2).load_faiss_index("back", file)


def test_what_cannot_be_indexed_says_why(ours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match="Column 'number' of type int64 cannot be indexed: it must hold lists of numbers"
    ):
        ours.add_faiss_index("number")
    with pytest.raises(DataError, match="Column 'v' has vectors of 1 to 2 numbers in the rows from 0 on"):
        Dataset.from_dict({"v": [[1.0], [1.0, 2.0]]}).add_faiss_index("v")
    with pytest.raises(DataError, match="Column 'v' has a missing value in the rows from 0 on"):
        Dataset.from_dict({"v": [[1.0], None]}).add_faiss_index("v")
    with pytest.raises(DataError, match="A data set without rows cannot be indexed"):
        ours.take(0).add_faiss_index("vector")
    with pytest.raises(OptionError, match="IVF4,Flat. learns from vectors before it takes any: give train_size"):
        ours.add_faiss_index("vector", string_factory="IVF4,Flat")
    with pytest.raises(OptionError, match="string_factory='Nonsense' describes no index"):
        ours.add_faiss_index("vector", string_factory="Nonsense")
    with pytest.raises(OptionError, match="custom_index is an index already made, so string_factory has no part in it"):
        ours.add_faiss_index("vector", string_factory="Flat", custom_index=faiss.IndexFlatL2(8))
    with pytest.raises(OptionError, match="custom_index is an index already made, so metric_type has no part in it"):
        ours.add_faiss_index("vector", metric_type=faiss.METRIC_L2, custom_index=faiss.IndexFlatL2(8))
    with pytest.raises(DataError, match="The vectors have 8 numbers, but custom_index holds vectors of 3"):
        ours.add_faiss_index("vector", custom_index=faiss.IndexFlatL2(3))
    with pytest.raises(OptionError, match="device=0 needs a FAISS built for GPUs"):
        ours.add_faiss_index("vector", device=0)
    with pytest.raises(DataError, match=r"external_arrays must be \(300, D\), one vector per row, but has \(3, 2\)"):
        ours.add_faiss_index_from_external_arrays(np.zeros((3, 2)), "x")
    ours.add_faiss_index("vector")
    with pytest.raises(NotFoundError, match="no index 'vectr'. Did you mean 'vector'"):
        ours.get_index("vectr")
    with pytest.raises(DataError, match=r"A query is one vector, \(D,\) or \(1, D\), but has the shape \(5, 8\)"):
        ours.search("vector", QUERIES)
    with pytest.raises(DataError, match=r"below each other, \(queries, D\), but have the shape \(8,\)"):
        ours.search_batch("vector", QUERIES[0])
    with pytest.raises(DataError, match="A query has 2 numbers, but the index holds vectors of 8"):
        ours.search("vector", [1.0, 2.0])
    with pytest.raises(OptionError, match="k must be at least 1, but is 0"):
        ours.search("vector", QUERIES[0], 0)
    with pytest.raises(NotFoundError, match="There is no file .*none.faiss"):
        ours.load_faiss_index("x", tmp_path / "none.faiss")
    (tmp_path / "bad.faiss").write_bytes(b"no index at all")
    with pytest.raises(DataError, match="bad.faiss is not an index that FAISS wrote"):
        ours.load_faiss_index("x", tmp_path / "bad.faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"`faiss` is needed to search rows by vectors.*'plait\[data\]'"):
        ours.add_faiss_index("vector")
