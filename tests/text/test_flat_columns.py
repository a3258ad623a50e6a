"""Encodings that `Dataset.map` stores without a list per row: to everybody who looks they are dicts of lists."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait import AutoTokenizer, flat
from plait.data import Dataset, Features, List, Value
from plait.flat import Flat
from plait.text import BatchEncoding, Tokenizer, encoding
from plait.text.encoding import FlatEncoding

TEXTS = ["Hello, how are you?", "", "Straße 中文 tokenizers", "a b c " * 40]


def flatly(tokenizer: Tokenizer, *texts: Any, **options: Any) -> FlatEncoding:
    """The encoding as a function for `map` gets it."""
    with flat.welcome():
        made = tokenizer(*texts, **options)
    assert type(made) is FlatEncoding
    return made


def taking(**columns: Any) -> dict[str, Any]:
    return columns


def matched(batch: Any) -> Any:
    match batch:
        case {"input_ids": ids}:
            return ids


# Ways to look into a batch; each gives something that can be compared.
LOOKS: dict[str, Callable[[Any], Any]] = {
    "key": lambda b: b["input_ids"],
    "attribute": lambda b: b.attention_mask,
    "getattr": lambda b: getattr(b, "token_type_ids", None),
    "slice": lambda b: b[1:3],
    "row": lambda b: b[0].ids,
    "get": lambda b: b.get("input_ids"),
    "get of none": lambda b: b.get("labels", 3),
    "items": lambda b: list(b.items()),
    "values": lambda b: list(b.values()),
    "keys": lambda b: [b[name] for name in b.keys()],  # noqa: SIM118
    "iter": lambda b: [b[name] for name in b],
    "reversed": lambda b: [b[name] for name in reversed(b)],
    "pop": lambda b: (b.pop("input_ids"), dict(b)),
    "popitem": lambda b: b.popitem(),
    "setdefault": lambda b: b.setdefault("input_ids", None),
    "copy method": lambda b: b.copy(),
    "data": lambda b: b.data,
    "dict": dict,
    "OrderedDict": OrderedDict,
    "ChainMap": lambda b: dict(ChainMap({}, b)),
    "dict with more": lambda b: dict(b, labels=[1]),
    "stars": lambda b: {**b},
    "stars of a call": lambda b: taking(**b),
    "stars with more": lambda b: taking(labels=[1], **b),
    "match": matched,
    "or": lambda b: b | {"labels": [1]},
    "or from the right": lambda b: {"labels": [1]} | b,
    "update of another": lambda b: ({} if (other := {}).update(b) is None else None, other),
    "in-place or of another": lambda b: (other := {}, other.__ior__(b)),
    "itself with more": lambda b: b.__ior__({"labels": [[1]]})["input_ids"],
    "equal": lambda b: (b == dict(b), b == {}, b != {}, b is None),
    "equal first": lambda b: b == {"input_ids": []},
    "equal from the right": lambda b: b == {"input_ids": []},
    "unequal": lambda b: b != {"input_ids": []},
    "repr": repr,
    "str": str,
    "format": lambda b: f"{b}",
    "json": json.dumps,
    "indented json": lambda b: json.dumps(b, indent=1),
    "sorted json": lambda b: json.dumps({"batch": b}, sort_keys=True),
    "pickle": lambda b: dict(pickle.loads(pickle.dumps(b))),
    "old pickle": lambda b: dict(pickle.loads(pickle.dumps(b, protocol=0))),
    "copy": lambda b: dict(copy.copy(b)),
    "deepcopy": lambda b: dict(copy.deepcopy({"batch": b})["batch"]),
    "vars": lambda b: (sorted(set(vars(b)) - {"_looking"}), b["input_ids"]),
    "arrays": lambda b: {k: np.asarray(v).tolist() for k, v in b[1:2].items()},
    "table": lambda b: pa.table(b).to_pydict(),
    "rows of a table": lambda b: pa.Table.from_pylist([b]).to_pydict(),
    "to": lambda b: b.to("cpu")["input_ids"],
    "tokens": lambda b: b.tokens(2),
    "word_ids": lambda b: b.word_ids(0),
    "is_fast": lambda b: (b.is_fast, b.n_sequences, dict(b)),
}


@pytest.mark.parametrize("name", LOOKS)
def test_every_look_finds_lists(name: str, bert: Tokenizer) -> None:
    look = LOOKS[name]
    batch = flatly(bert, TEXTS)
    expected = look(BatchEncoding(**vars_of(bert(TEXTS))))
    found = look(batch)
    assert found == expected
    assert type(found) is type(expected)
    assert type(batch) is BatchEncoding, "after a look it is what it seemed to be"
    for column in dict.values(batch):
        assert type(column) is list
        assert all(type(row) is list and all(type(item) is int for item in row) for row in column)


def vars_of(batch: BatchEncoding) -> dict[str, Any]:
    return {"data": dict(batch), "encoding": batch.encodings}


def test_names_and_writing_are_no_look(bert: Tokenizer) -> None:
    batch, expected = flatly(bert, TEXTS), dict(bert(TEXTS))
    assert [len(batch), "input_ids" in batch, "labels" in batch, bool(batch)] == [3, True, False, True]
    assert [isinstance(batch, kind) for kind in (dict, Mapping, BatchEncoding, list)] == [True, True, True, False]
    batch["labels"] = [1, 2, 3, 4]
    batch.update(weight=[0.5] * 4)
    batch |= {"number": [1] * 4}
    del batch["token_type_ids"]
    assert type(batch) is FlatEncoding
    stored = batch.flat_columns()
    assert type(stored["input_ids"]) is Flat
    assert stored["labels"] == [1, 2, 3, 4]
    assert list(stored) == ["input_ids", "attention_mask", "labels", "weight", "number"]
    del expected["token_type_ids"]
    assert batch == {**expected, "labels": [1, 2, 3, 4], "weight": [0.5] * 4, "number": [1] * 4}
    with pytest.raises(TypeError, match="unhashable"):
        hash(flatly(bert, TEXTS))


def test_what_was_looked_at_stays_the_same_object(bert: Tokenizer) -> None:
    batch = flatly(bert, TEXTS)
    column = batch["input_ids"]
    column[0][1] = 7
    assert batch["input_ids"] is column
    assert dict(batch)["input_ids"] is column
    assert batch["input_ids"][0][1] == 7
    with pytest.raises(KeyError, match="labels"):
        flatly(bert, TEXTS)["labels"]
    with pytest.raises(AttributeError, match="This encoding has no 'labels'"):
        _ = flatly(bert, TEXTS).labels


def test_threads_find_one_list(bert: Tokenizer) -> None:
    looks = [lambda b: b["input_ids"], lambda b: b.input_ids, lambda b: dict(b)["input_ids"], lambda b: b.data]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            batch, barrier = flatly(bert, TEXTS * 20), Barrier(8)

            def look(number: int, batch: Any = batch, barrier: Barrier = barrier) -> Any:
                barrier.wait()
                found = looks[number % 4](batch)
                return found["input_ids"] if isinstance(found, dict) else found

            found = list(pool.map(look, range(8)))
            assert all(column is found[0] for column in found)


def test_only_a_batch_in_map_is_flat(bert: Tokenizer) -> None:
    kinds: list[type] = []

    def kept(row: Any) -> Any:
        made = bert(row["text"])
        kinds.append(type(made))
        return made

    dataset = Dataset.from_dict({"text": TEXTS})
    kept({"text": TEXTS})
    dataset.map(kept)
    list(dataset.to_iterable_dataset().map(kept, batched=True))
    assert set(kinds) == {BatchEncoding}
    kinds.clear()
    dataset.map(kept, batched=True)
    assert kinds == [FlatEncoding]
    assert not flat.is_welcome(), "neither afterwards"

    def fails(batch: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        dataset.map(fails, batched=True)
    assert not flat.is_welcome()


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "cut": {"truncation": True, "max_length": 6},
    "cut from the left": {"truncation": True, "max_length": 6, "truncation_side": "left"},
    "padded": {"padding": True},
    "padded and cut": {"padding": "max_length", "truncation": True, "max_length": 8},
    "padded from the left": {"padding": "max_length", "truncation": True, "max_length": 8, "padding_side": "left"},
    "padded, some longer": {"padding": "max_length", "max_length": 4, "truncation": False},
    "without special tokens": {"add_special_tokens": False},
    "overflowing": {"truncation": True, "max_length": 8, "stride": 1, "return_overflowing_tokens": True},
    "with masks and lengths": {"return_special_tokens_mask": True, "return_length": True},
    "with offsets": {"return_offsets_mapping": True},
    "multiples": {"padding": True, "pad_to_multiple_of": 8},
}


def agree(dataset: Dataset, function: Callable[[Any], Any], **arguments: Any) -> Dataset:
    """The table of a function is the same, to the types, when its result is made of plain lists."""

    def plainly(batch: Any) -> Any:
        found = function(batch)
        assert type(found) is FlatEncoding
        return dict(found)

    mine = dataset.map(function, batched=True, **arguments)
    lists = dataset.map(plainly, batched=True, **arguments)
    assert mine.features == lists.features
    assert mine.data.schema.equals(lists.data.schema, check_metadata=True)
    assert mine.to_dict() == lists.to_dict()
    return mine


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=6), batch_size=st.integers(1, 4))
def test_the_table_is_that_of_lists(name: str, bert: Tokenizer, texts: list[str], batch_size: int) -> None:
    options = OPTIONS[name]
    dataset = Dataset.from_dict({"text": texts, "second": texts[::-1]})
    gone = {"remove_columns": ["text", "second"], "batch_size": batch_size}
    agree(dataset, lambda batch: bert(batch["text"], verbose=False, **options), **gone)
    agree(dataset, lambda batch: bert(batch["text"], batch["second"], verbose=False, **options), **gone)


def test_types_are_small(bert: Tokenizer, chat: Tokenizer) -> None:
    dataset = Dataset.from_dict({"text": TEXTS})
    made = agree(dataset, lambda batch: bert(batch["text"]), remove_columns=["text"])
    assert made.features == Features(
        input_ids=List(Value("int32")), token_type_ids=List(Value("int8")), attention_mask=List(Value("int8"))
    )
    agree(dataset, lambda batch: chat(batch["text"]))
    agree(dataset, lambda batch: bert([text.split() for text in batch["text"]], is_split_into_words=True))


def test_plain_python_engines_are_stored_alike(minilm: Path) -> None:
    slow = AutoTokenizer.from_pretrained(str(minilm), use_fast=False)
    agree(Dataset.from_dict({"text": TEXTS}), lambda batch: slow(batch["text"]))


def test_declared_features_and_columns_that_are_replaced(bert: Tokenizer) -> None:
    dataset = Dataset.from_dict({"text": TEXTS, "input_ids": [[1], [2], [3], [4]], "attention_mask": [*"abcd"]})
    made = agree(dataset, lambda batch: bert(batch["text"]))
    assert made.features["input_ids"] == List(Value("int64")), "a column that is replaced keeps its type"
    wide = List(Value("int16"))
    features = Features(input_ids=wide, token_type_ids=wide, attention_mask=List(Value("string")))
    made = agree(dataset, lambda batch: bert(batch["text"]), features=features, remove_columns=["text"])
    assert made[0]["attention_mask"] == ["1"] * 8


def test_labels_beside_flat_columns(bert: Tokenizer) -> None:
    dataset = Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]})

    def with_labels(batch: Any) -> Any:
        made = bert(batch["text"])
        made["labels"] = bert(text_target=batch["text"])["input_ids"]
        made["label"] = batch["label"]
        return made

    made = agree(dataset, with_labels)
    assert made["labels"][:] == made["input_ids"][:]
    assert made.features["labels"] == List(Value("int64"))
    again = dataset.map(lambda b: {**bert(b["text"]), "labels": [1, 2, 3, 4]}, batched=True)
    assert again["input_ids"][:] == made["input_ids"][:]
    assert again["labels"][:] == [1, 2, 3, 4]


def test_what_the_function_changed_is_stored(bert: Tokenizer) -> None:
    def changed(batch: Any) -> Any:
        made = bert(batch["text"])
        made["input_ids"][0][0] = -100
        return made

    made = Dataset.from_dict({"text": TEXTS}).map(changed, batched=True)
    assert made[0]["input_ids"][:2] == [-100, 7592]


def test_encodings_inside_other_values(bert: Tokenizer) -> None:
    def nested(batch: Any) -> Any:
        return {"both": [bert([text, "b"]) for text in batch["text"]]}

    made = Dataset.from_dict({"text": ["a", "b c"]}).map(nested, batched=True)
    assert made["both"][:] == [dict(bert(["a", "b"])), dict(bert(["b c", "b"]))]


def test_kept_until_after_map_it_still_is_a_dict_of_lists(bert: Tokenizer) -> None:
    seen: list[Any] = []

    def tokenize(batch: Any) -> Any:
        seen.append(bert(batch["text"]))
        return seen[-1]

    made = Dataset.from_dict({"text": TEXTS}).map(tokenize, batched=True)
    assert dict(seen[0]) == dict(bert(TEXTS)) == {name: made[name][:] for name in dict(seen[0])}


def test_workers_store_the_same(bert: Tokenizer) -> None:
    dataset = Dataset.from_dict({"text": TEXTS * 5})
    options: dict[str, Any] = {"batched": True, "batch_size": 3, "remove_columns": ["text"]}
    alone = dataset.map(lambda batch: bert(batch["text"]), **options)
    assert dataset.map(lambda batch: bert(batch["text"]), num_proc=2, **options).to_dict() == alone.to_dict()


def test_no_list_per_row_is_made(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 rows with three columns there would be 30,000 lists; what else makes lists, makes far below 1,000."""
    dataset = Dataset.from_dict({"text": [f"text number {number}" for number in range(10_000)]})

    def looked(batch: Any) -> Any:
        raise AssertionError("somebody looked")

    monkeypatch.setattr(encoding, "_looked_at", looked)
    lists: list[int] = []

    def count() -> int:
        return sum(type(thing) is list for thing in gc.get_objects())

    def tokenize(batch: Any) -> Any:
        before = count()
        made = bert(batch["text"], truncation=True, max_length=64)
        lists.append(count() - before)
        return made

    before = count()
    made = dataset.map(tokenize, batched=True, batch_size=10_000)
    lists.append(count() - before)
    assert max(lists) < 1000, lists
    monkeypatch.undo()
    assert made[9_999]["input_ids"] == bert("text number 9999")["input_ids"]
    assert made[17] == {"text": "text number 17", **bert("text number 17")}
