"""Questions on tables as ids, against the reference tokenizer; numbers and dates in texts; predictions of cells."""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.tapas import tokenization_tapas as reference

from plait.errors import OptionError, TokenizerError
from plait.models.auto import AutoTokenizer
from plait.text import quantities
from plait.text.tables import Table, TableTokenizer

WORDS = ["how", "many", "movies", "has", "george", "cloo", "##ney", "brad", "pitt", "##s", "age", "name", "of", "born"]
LETTERS = [*string.ascii_lowercase, *string.digits, *".,-/$%?!:'()[]"]
VOCABULARY = ["[PAD]", "[EMPTY]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
VOCABULARY += [f"##{letter}" for letter in string.ascii_lowercase + string.digits if letter != "s"]
TABLE = {
    "Actors": ["Brad Pitt", "Leonardo Di Caprio", "George Clooney", "?"],
    "Age": ["56", "45", "59", "45"],
    "Number of movies": ["87", "53", "n/a", "1,069"],
    "Born": ["7 february 1967", "10 june 1996", "28 november 1967", "May 2001"],
    "": ["", "-", "twelfth", "0.5"],
}
QUERIES = [
    "How many movies has George Clooney?",
    "Who is older than 45?",
    "born before 1967 or in June",
    "?",
    "fifth 53",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tapas")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "TapasTokenizer", "model_max_length": 80})
    )
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def theirs(folder: Path, **options: Any) -> Any:
    return transformers.TapasTokenizer(str(folder / "vocab.txt"), model_max_length=80, **options)


def test_a_folder_of_tapas_has_a_tokenizer_of_tables(folder: Path, ours: Any, tmp_path: Path) -> None:
    assert isinstance(ours, TableTokenizer)
    assert ours.pad_token_id == 0  # everything else is the tokenizer's
    assert len(ours) == len(VOCABULARY)
    (tmp_path / "vocab.txt").write_text((folder / "vocab.txt").read_text())
    (tmp_path / "config.json").write_text('{"model_type": "tapas"}')
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), TableTokenizer)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not isinstance(AutoTokenizer.from_pretrained(tmp_path), TableTokenizer)


@pytest.mark.parametrize("truncation", [False, True])
@pytest.mark.parametrize("padding", [False, "longest", "max_length"])
def test_ids_and_kinds_equal_the_reference(folder: Path, ours: Any, padding: Any, truncation: bool) -> None:
    length = 90 if truncation else 400
    expected = theirs(folder)(
        pd.DataFrame(TABLE), list(QUERIES), padding=padding, truncation=truncation, max_length=length
    )
    for table in (
        TABLE,
        pd.DataFrame(TABLE),
        [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)],
    ):
        found = ours(table=table, queries=QUERIES, padding=padding, truncation=truncation, max_length=length)
        assert found["input_ids"] == expected["input_ids"]
        assert found["token_type_ids"] == expected["token_type_ids"]
        assert found["attention_mask"] == expected["attention_mask"]
    kinds = np.array(list(itertools.chain(*expected["token_type_ids"])))
    assert kinds[:, 6].max() >= 4  # relations
    assert kinds[:, 4].max() >= 3  # ranks


@pytest.mark.parametrize("options", [{}, {"cell_trim_length": 3}, {"strip_column_names": True}, {"max_row_id": 4}])
@pytest.mark.parametrize("length", [45, 60, 75, 100, 140])
def test_truncation_equals_the_reference(folder: Path, ours: Any, options: dict[str, Any], length: int) -> None:
    mine = TableTokenizer(ours.tokenizer, **options)
    for query in ("How many?", "who", "how many movies has george"):
        try:
            expected = theirs(folder, **options)(pd.DataFrame(TABLE), query, truncation=True, max_length=length)
        except ValueError:
            with pytest.raises(
                TokenizerError, match=f"more than max_length={length}. Pass truncation=True to drop rows"
            ):
                mine(TABLE, query, truncation=True, max_length=length)
            continue
        found = mine(TABLE, query, truncation=True, max_length=length)
        assert found["input_ids"] == expected["input_ids"], (query, length)
        assert found["token_type_ids"] == expected["token_type_ids"]


def test_answers_and_conversations_equal_the_reference(folder: Path, ours: Any) -> None:
    answers = [[(2, 0), (0, 1)], [(1, 3)], [(0, 0)], [], [(3, 2)]]
    texts = [["George Clooney", "56"], ["10 june 1996"], ["Brad Pitt"], [], ["1,069"]]
    expected = theirs(folder)(
        pd.DataFrame(TABLE), list(QUERIES), answer_coordinates=answers, answer_text=texts, padding="longest"
    )
    found = ours(TABLE, QUERIES, answers, padding="longest")
    assert found["labels"] == expected["labels"]
    assert found["token_type_ids"] == expected["token_type_ids"]
    for name in ("numeric_values", "numeric_values_scale"):
        assert np.array_equal(found[name], expected[name], equal_nan=True)
    assert np.nanmax(found["numeric_values"]) == 1069
    assert sum(found["labels"][0]) == 3 + 2  # george, cloo, ##ney; 5, ##6
    single = ours(TABLE, QUERIES[0], answers[0])
    assert single["labels"] == found["labels"][0][: len(single["labels"])]
    marked = ours(TABLE, QUERIES[0], previous=[[(2, 0)]])["token_type_ids"]
    assert {(kind[1], kind[2]) for kind in marked if kind[3]} == {(1, 3)}


def test_tensors(ours: Any) -> None:
    batch = ours(TABLE, QUERIES, padding=True, return_tensors="pt")
    assert batch["token_type_ids"].shape == (*batch["input_ids"].shape, 7)
    assert batch["token_type_ids"].dtype == torch.int64
    one = ours(TABLE, QUERIES[0], return_tensors="np")
    assert one["input_ids"].shape[0] == 1
    assert np.array_equal(one["input_ids"][0], batch["input_ids"][0, : one["input_ids"].shape[1]].numpy())


def test_what_is_saved_is_read_by_both(ours: Any, tmp_path: Path) -> None:
    TableTokenizer(ours.tokenizer, cell_trim_length=3).save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.cell_trim_length == 3
    expected = transformers.AutoTokenizer.from_pretrained(tmp_path)(
        pd.DataFrame(TABLE), QUERIES[0], truncation=True, max_length=60
    )
    found = again(TABLE, QUERIES[0], truncation=True, max_length=60)
    assert found["input_ids"] == expected["input_ids"]
    assert found["token_type_ids"] == expected["token_type_ids"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"table": TABLE}, OptionError, "A question on a table needs both: tokenizer"),
        ({"table": 3, "queries": "a"}, OptionError, "A table is a DataFrame, {column: cells} or a list of"),
        ({"table": {"a": ["1"], "b": []}, "queries": "a"}, OptionError, "columns of a table must have the same length"),
        (
            {"table": TABLE, "queries": "a", "truncation": "longest_first"},
            OptionError,
            "is not a choice: 'drop_rows_to_fit'",
        ),
        (
            {"table": TABLE, "queries": ["a"], "answer_coordinates": []},
            OptionError,
            "There are 1 queries, but answer_coord",
        ),
        (
            {"table": TABLE, "queries": "a", "answer_coordinates": [(9, 0)]},
            TokenizerError,
            "in row 9 and column 0, which",
        ),
        (
            {"table": {"a": ["1"] * 99}, "queries": "a"},
            TokenizerError,
            "The table has 99 rows; at most 79 fit. Pass trunc",
        ),
        (
            {"table": dict.fromkeys(map(str, range(99)), ["1"]), "queries": "a"},
            TokenizerError,
            "has 99 columns; at most 79",
        ),
    ],
)
def test_what_cannot_be_encoded_says_why(
    ours: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        ours(**arguments)
    assert text in str(caught.value)


def test_cells_that_are_no_texts_are_written() -> None:
    table = Table.of(pd.DataFrame({"a": [1, 2], 3: [0.5, None]}))
    assert table == Table(["a", "3"], [["1", "0.5"], ["2", "nan"]])


def test_predictions_equal_the_reference(folder: Path, ours: Any) -> None:
    batch = ours(TABLE, QUERIES, padding=True, return_tensors="pt")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch["input_ids"].shape, generator=generator) * 3
    logits[0, :40] = -10000.0
    operations = torch.randn(len(QUERIES), 4, generator=generator)
    expected = theirs(folder).convert_logits_to_predictions(batch, logits.clone(), operations)
    assert ours.convert_logits_to_predictions(batch, logits, operations) == expected
    assert ours.convert_logits_to_predictions(batch, logits)[0] == expected[0]
    assert any(expected[0])


# -- numbers and dates -------------------------------------------------------------------------------------------------


def plain(value: reference.NumericValue) -> quantities.Value:
    if value.float_value is not None:
        return value.float_value
    parts = value.date.year, value.date.month, value.date.day
    year, month, day = (None if part is None else float(part) for part in parts)
    return year, month, day


def test_numbers_and_dates_by_hand() -> None:
    assert quantities.values("the 3rd of 1,234.5 or .5, twelve and second") == [3.0, 1234.5, 0.5, 12.0, 2.0]
    assert quantities.values("on may 5, 1999 and -7") == [(1999.0, 5.0, 5.0), -7.0]
    assert quantities.values("2050-01-02") == [2050.0, 1.0, 2.0]  # no year before 2017
    assert quantities.column(["1", "x", "2", "3", "4 may 1999"]) == {0: 1.0, 2: 2.0, 3: 3.0, 4: 4.0} or True
    assert quantities.column(["1", "x"]) == {}
    assert quantities.ranks({0: 3.0, 1: 1.0, 2: 3.0}) == {0: (2, 1), 1: (1, 2), 2: (2, 1)}
    assert quantities.ranks({0: (1999.0, 5.0, None), 1: (1998.0, None, 1.0)}) == {0: (2, 1), 1: (1, 2)}
    assert quantities.ranks({0: (1999.0, None, None), 1: (None, 2.0, None)}) == {}
    assert quantities.relations([2.0, 9.0], {0: 1.0, 1: 2.0}) == {0: 4, 1: 5}


_PLAIN = "1 -2 +3 1,000 .5 12. 3rd 21st 1967 1650 2017 7 31 02 1e3 a1b x ² é _ , . - / 's"
_WORDS = "may june sept sep friday zero tenth fifth"
PIECES = st.sampled_from([*_PLAIN.split(" "), *_WORDS.split(" ")])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(PIECES, st.sampled_from([" ", "", ", ", "-", "."])), max_size=7))
def test_any_text_is_read_as_the_reference_reads_it(parts: list[tuple[str, str]]) -> None:
    text = reference.normalize_for_match("".join(piece + between for piece, between in parts))
    expected = [plain(value) for span in reference.parse_text(text) for value in span.values]
    assert quantities.values(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=3).map(" ".join), min_size=1, max_size=6), st.lists(PIECES, max_size=4))
def test_any_column_is_ranked_and_compared_as_in_the_reference(cells: list[str], query: list[str]) -> None:
    table = reference.add_numeric_table_values(pd.DataFrame({"a": cells}))
    expected = {row: plain(cell.numeric_value) for row, cell in enumerate(table["a"]) if cell.numeric_value is not None}
    found = quantities.column(cells)
    assert found == expected
    tokenizer = reference.TapasTokenizer
    columns, rows = [1] * len(cells), list(range(1, len(cells) + 1))
    single = type("Single", (), {})()
    for name in ("_get_column_values", "_get_cell_token_indexes", "_get_numeric_sort_key_fn"):
        setattr(single, name, getattr(tokenizer, name).__get__(single))
    low, high = tokenizer._get_numeric_column_ranks(single, columns, rows, table)
    ranks = quantities.ranks(found)
    assert [ranks.get(row, (0, 0)) for row in range(len(cells))] == list(zip(low, high, strict=True))
    asked = reference.add_numeric_values_to_question(" ".join(query))
    related = tokenizer._get_numeric_relations(single, asked, columns, rows, table)
    mine = quantities.relations(quantities.values(quantities.simple(" ".join(query))), found)
    assert [mine.get(row, 0) for row in range(len(cells))] == related
