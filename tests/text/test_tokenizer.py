"""Calling a tokenizer: the article's examples, shapes of results, and what happens to input that is not text."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plait.errors import OptionError, TokenizerError
from plait.text import BatchEncoding, Tokenizer

HELLO = [101, 7592, 1010, 2129, 2024, 2017, 1029, 102]


def test_the_articles_example(bert: Tokenizer) -> None:
    tokens = bert("Hello, how are you?")
    assert tokens == {"input_ids": HELLO, "token_type_ids": [0] * 8, "attention_mask": [1] * 8}
    assert list(tokens) == ["input_ids", "token_type_ids", "attention_mask"]
    words = ["[CLS]", "hello", ",", "how", "are", "you", "?", "[SEP]"]
    assert bert.convert_ids_to_tokens(tokens["input_ids"]) == words


def test_the_articles_decoding_example(bert: Tokenizer) -> None:
    tokens = bert("Hello, how are you?", return_tensors="pt", max_length=10, padding="max_length", truncation=True)
    assert tokens["input_ids"].tolist() == [[*HELLO, 0, 0]]
    assert tokens["attention_mask"].tolist() == [[1] * 8 + [0] * 2]
    assert tokens["input_ids"].dtype == torch.int64
    assert bert.decode(tokens["input_ids"][0], skip_special_tokens=True) == "hello, how are you?"


def test_state_in_tokenizer_json_neither_pads_nor_truncates(bert: Tokenizer, minilm: Path) -> None:
    stored = json.loads((minilm / "tokenizer.json").read_text(encoding="utf-8"))
    assert stored["truncation"]["max_length"] == 128
    assert stored["padding"]["strategy"] == {"Fixed": 128}
    assert len(bert("word").input_ids) == 3
    assert len(bert("word " * 300).input_ids) == 302


def test_shapes_of_results(bert: Tokenizer) -> None:
    assert bert(["Hello", "a b"])["input_ids"] == [[101, 7592, 102], [101, 1037, 1038, 102]]
    assert bert([])["input_ids"] == []
    assert bert("a", return_tensors="np")["input_ids"].tolist() == [[101, 1037, 102]]
    assert bert([("a", "b")])["token_type_ids"] == [[0, 0, 0, 1, 1]]
    assert bert("a", "b") == bert([("a", "b")])[:1] | {k: v[0] for k, v in bert([("a", "b")]).items()}
    assert bert(["a", "b"], ["c", "d"])["input_ids"] == bert([("a", "c"), ("b", "d")])["input_ids"]
    assert bert("a", "")["input_ids"] == bert(["a"], [""])["input_ids"][0] == [101, 1037, 102, 102]
    assert bert.encode("Hello, how are you?") == HELLO
    assert bert("a", text_target="b") == {**bert("a"), "labels": [101, 1038, 102]}
    assert bert("a", text_target="b", text_pair_target="a")["labels"] == [101, 1038, 102, 1037, 102]
    everything = bert(["a"], return_special_tokens_mask=True, return_offsets_mapping=True, return_length=True)
    assert list(everything)[3:] == ["special_tokens_mask", "offset_mapping", "length"]
    assert everything["length"] == [3]


def test_texts_may_come_in_any_container(bert: Tokenizer) -> None:
    import pandas as pd

    expected = bert(["a", "b c"])
    for texts in (("a", "b c"), np.array(["a", "b c"]), pd.Series(["a", "b c"]), iter(["a", "b c"])):
        assert bert(texts) == expected
    assert bert(np.str_("a")) == bert("a")
    assert bert([], return_tensors="np")["input_ids"].shape == (0, 0)
    assert bert([], padding=True)["attention_mask"] == []


def test_padding(bert: Tokenizer) -> None:
    texts = ["a", "a b c"]
    assert bert(texts, padding=True)["attention_mask"] == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    left = bert(texts, padding=True, padding_side="left", return_special_tokens_mask=True)
    assert left["input_ids"][0] == [0, 0, 101, 1037, 102]
    assert left["special_tokens_mask"][0] == [1, 1, 1, 0, 1]
    assert left.word_ids(0) == [None, None, None, 0, None]
    assert bert(texts, padding=True, pad_to_multiple_of=8, return_tensors="np")["input_ids"].shape == (2, 8)
    assert bert(texts, padding="max_length", max_length=6, return_tensors="pt")["input_ids"].shape == (2, 6)
    assert [len(row) for row in bert(texts, padding="max_length")["input_ids"]] == [512, 512]
    longer = bert("a b c", padding="max_length", max_length=4, truncation=False, return_tensors="pt")
    assert longer["input_ids"].tolist() == [[101, 1037, 1038, 1039, 102]], "padding shortens nothing"
    assert bert("a b c", padding="do_not_pad", max_length=4) == bert("a b c"), "which says that nothing is done"
    assert bert("a b c", padding=False, max_length=4)["input_ids"] == [101, 1037, 1038, 102]
    assert bert("a", "b", truncation="only_second", max_length=3)["input_ids"] == [101, 102, 102]
    assert bert.padding_side == "right"


def test_pad_fills_ready_rows(bert: Tokenizer) -> None:
    rows = [{"input_ids": [5, 6], "label": 1}, {"input_ids": [7], "label": 0}]
    batch = bert.pad(rows, return_tensors="np")
    assert batch["input_ids"].tolist() == [[5, 6], [7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["label"].tolist() == [1, 0]
    assert bert.pad({"input_ids": [[1], [2, 3]]}, padding_side="left") == {
        "input_ids": [[0, 1], [2, 3]],
        "attention_mask": [[0, 1], [1, 1]],
    }
    tensors = bert.pad({"input_ids": [torch.tensor([1]), torch.tensor([2, 3])]}, return_tensors="pt")
    assert tensors["input_ids"].tolist() == [[1, 0], [2, 3]]
    assert bert.pad({"input_ids": [1, 2]}, padding="max_length", max_length=4) == {
        "input_ids": [1, 2, 0, 0],
        "attention_mask": [1, 1, 0, 0],
    }


def test_words_and_pairs_of_words(bert: Tokenizer) -> None:
    split = bert(["Hello", "tokenization", "x"], is_split_into_words=True)
    assert split.tokens() == ["[CLS]", "hello", "token", "##ization", "x", "[SEP]"]
    assert split.word_ids() == [None, 0, 1, 1, 2, None]
    assert split.word_to_tokens(1) == (2, 4)
    pairs = bert([(["a"], ["b", "c"])], is_split_into_words=True)
    assert pairs.sequence_ids(0) == [None, 0, None, 1, 1, None]


def test_details_are_worked_out_from_the_texts(bert: Tokenizer) -> None:
    text = "Hello, tokenization"
    batch = bert(text)
    assert batch.char_to_token(0) == 1
    assert batch.char_to_token(5) == 2
    assert batch.char_to_token(6) is None
    assert batch.token_to_chars(4) == (12, 19)
    assert text[slice(*batch.word_to_chars(2))] == "tokenization"
    assert batch.token_to_word(4) == 2
    assert batch.char_to_word(18) == 2
    assert batch[0].offsets[1] == (0, 5)
    assert batch.n_sequences == 1
    assert bert("a", "b").token_to_sequence(3) == 1


def test_batch_encoding_is_a_dict(bert: Tokenizer) -> None:
    batch = bert(["a", "b"])
    assert isinstance(batch, dict)
    assert json.loads(json.dumps(batch))["input_ids"] == batch.input_ids
    assert dict(**batch) == batch
    assert batch[:1] == {key: column[:1] for key, column in batch.items()}
    again = pickle.loads(pickle.dumps(batch))
    assert again == batch
    assert isinstance(again, BatchEncoding)
    with pytest.raises(TokenizerError, match=r"holds columns only.*came out of a pickle"):
        again.word_ids()
    with pytest.raises(AttributeError, match=r"has no 'input_id'.*Did you mean 'input_ids'\?"):
        _ = batch.input_id
    moved = bert("a", return_tensors="pt").to("cpu")
    assert moved["input_ids"].device.type == "cpu"
    assert BatchEncoding({"x": [1, 2]}, tensor_type="np", prepend_batch_axis=True)["x"].tolist() == [[1, 2]]


def test_details_survive_truncation_and_overflow(bert: Tokenizer) -> None:
    batch = bert("a b c d e", max_length=4, truncation=True, stride=1, return_overflowing_tokens=True)
    assert batch["overflow_to_sample_mapping"] == [0, 0, 0, 0]
    assert [bert.decode(row, True) for row in batch["input_ids"]] == ["a b", "b c", "c d", "d e"]
    assert batch[2].offsets == [(0, 0), (4, 5), (6, 7), (0, 0)]
    assert batch.char_to_token(2, 4) == 1


def test_ids_and_tokens(bert: Tokenizer) -> None:
    assert bert.convert_tokens_to_ids("hello") == 7592
    assert bert.convert_tokens_to_ids(["hello", "no such token"]) == [7592, 100]
    assert bert.convert_ids_to_tokens(7592) == "hello"
    assert bert.convert_ids_to_tokens(torch.tensor([101, 7592]), skip_special_tokens=True) == ["hello"]
    assert bert.convert_tokens_to_string(["hello", "##s"]) == "hellos"
    assert bert.tokenize("Hello tokenization") == ["hello", "token", "##ization"]
    assert bert.decode(np.array([7592])) == bert.decode(7592) == "hello"
    assert bert.batch_decode(torch.tensor([[7592], [1037]])) == bert.decode([[7592], [1037]]) == ["hello", "a"]
    assert bert.vocab_size == len(bert) == len(bert.get_vocab()) == 30522
    assert bert.num_special_tokens_to_add() == 2
    assert bert.num_special_tokens_to_add(pair=True) == 3
    assert bert.build_inputs_with_special_tokens([5], [6]) == [101, 5, 102, 6, 102]
    assert bert.get_special_tokens_mask([101, 5], already_has_special_tokens=True) == [1, 0]
    assert bert.get_special_tokens_mask([5], [6]) == [1, 0, 1, 0, 1]
    assert bert.create_token_type_ids_from_sequences([5], [6, 7]) == [0, 0, 0, 1, 1, 1]
    assert (bert.max_len_single_sentence, bert.max_len_sentences_pair) == (510, 509)


def test_clean_up(chat: Tokenizer, bert: Tokenizer) -> None:
    ids = chat.encode("it is n't , so .")
    assert chat.decode(ids) == "it is n't , so ."
    assert chat.decode(ids, clean_up_tokenization_spaces=True) == "it isn't, so."
    assert bert.cleans() is False


def test_special_tokens(bert: Tokenizer) -> None:
    assert (bert.cls_token, bert.sep_token_id, bert.bos_token, bert.bos_token_id) == ("[CLS]", 102, None, None)
    assert bert.all_special_ids == [100, 102, 0, 101, 103]
    assert bert.special_tokens_map["mask_token"] == "[MASK]"
    assert bert.model_max_length == 512
    assert bert.is_fast
    assert "WordPiece, 30522 tokens" in repr(bert)


def test_adding_tokens(minilm: Path) -> None:
    own = Tokenizer.from_folder(minilm)
    assert own.add_tokens(["<new>"]) == 1
    assert own.encode("x <new>", add_special_tokens=False) == [1060, 30522]
    assert own.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<a>"]}) == 2
    assert (own.bos_token_id, own.additional_special_tokens_ids) == (30523, [30524])
    assert own.decode([30523, 7592, 30524], skip_special_tokens=True) == "hello"
    assert list(own.get_added_vocab()) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<new>", "<s>", "<a>"]
    own.pad_token = own.sep_token
    assert own(["a", "a b"], padding=True)["input_ids"][0] == [101, 1037, 102, 102]
    own.pad_token_id = 103
    assert own.pad_token == "[MASK]"
    batch = own(["late", "later"])
    own.add_tokens(["lat"])
    with pytest.raises(TokenizerError, match="Tokens were added since this batch was encoded"):
        batch.word_ids()


def test_splitting_special_tokens_is_an_argument(bert: Tokenizer) -> None:
    assert bert.tokenize("[SEP]") == ["[SEP]"]
    assert bert.tokenize("[SEP]", split_special_tokens=True) == ["[", "sep", "]"]
    assert bert.tokenize("[SEP]") == ["[SEP]"]


def test_many_threads_with_different_settings(bert: Tokenizer) -> None:
    """16 threads × 1,000 calls: padding and truncation are arguments, so no call sees another's."""
    texts = ["a", "hello world", "tokenization is fun, is it not?", "x " * 40]
    settings: list[dict[str, Any]] = [
        {},
        {"padding": True},
        {"padding": "max_length", "max_length": 12, "truncation": True},
        {"truncation": "longest_first", "max_length": 5, "padding_side": "left", "padding": True},
        {"add_special_tokens": False},
        {"split_special_tokens": True},
        {"return_overflowing_tokens": True, "max_length": 6, "truncation": True, "stride": 2},
        {"return_offsets_mapping": True},
    ]
    expected = [bert(texts, **setting) for setting in settings]

    def work(thread: int) -> int:
        wrong = 0
        for call in range(1000):
            which = (thread + call) % len(settings)
            wrong += bert(texts, **settings[which]) != expected[which]
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [0] * 16


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((None,), {}, TokenizerError, r"text is None.*takes a str or a list of them\. Drop empty rows, or put ''"),
    ((["a", None],), {}, TokenizerError, r"text\[1\] is None"),
    ((["a", float("nan")],), {}, TokenizerError, r"text\[1\] is nan \(float\).*Drop empty rows"),
    ((b"a",), {}, TokenizerError, r"text is b'a' \(bytes\).*value\.decode\('utf-8'\)"),
    (([3],), {}, TokenizerError, r"text is 3 \(int\).*Convert it with str\(value\)"),
    (([["a", "b", "c"]],), {}, TokenizerError, r"pass is_split_into_words=True; a pair is a tuple of two str"),
    ((["a"],), {"is_split_into_words": True, "text_pair": "b"}, TokenizerError, r"text_pair must be one too"),
    ((["a b", ["c"]],), {"is_split_into_words": True}, TokenizerError, r"a text is a list of words"),
    (("a\ud800",), {}, TokenizerError, r"text\[0\] holds the lone surrogate '\\ud800' at character 1"),
    ((["a", "b"], ["c"]), {}, TokenizerError, r"text has 2 texts and text_pair has 1 texts"),
    ((["a", "b"], "c"), {}, TokenizerError, r"text has 2 texts and text_pair has one text"),
    (([("a", "b"), "c"],), {}, TokenizerError, r"Item 0 of the batch is a pair, but item 1 is 'c'"),
    (("a",), {"max_length": 1}, TokenizerError, r"max_length=1 is less than the 2 special tokens.*Pass max_length=3"),
    (("a",), {"max_length": -1}, OptionError, r"max_length=-1 is below 0"),
    (("a",), {"max_length": "5"}, OptionError, r"max_length='5' is not a whole number"),
    (("a",), {"padding": "longst"}, OptionError, r"padding='longst' is not a choice.*Did you mean 'longest'\?"),
    (("a",), {"truncation": "first"}, OptionError, r"truncation='first' is not a choice"),
    (("a",), {"padding": ["longest"]}, OptionError, r"padding=\['longest'\] is not a choice"),
    (("a",), {"padding_side": "top", "padding": True}, OptionError, r"padding_side='top' is not a side"),
    (("a",), {"padding_side": "up"}, OptionError, r"padding_side='up' is not a side"),
    (("a",), {"pad_to_multiple_of": 0}, OptionError, r"pad_to_multiple_of=0 is below 1"),
    (("a",), {"return_tensors": "jax"}, OptionError, r"return_tensors='jax' is not a choice"),
    (("a",), {"max_lenght": 5}, OptionError, r"no argument 'max_lenght'\. Did you mean 'max_length'\?"),
    (
        (["a", "a b"],),
        {"return_tensors": "np"},
        TokenizerError,
        r"'input_ids' cannot become one tensor: its rows have 3 to 4 items\. Pass padding=True",
    ),
    (
        (["a b c d", "a"],),
        {"padding": "max_length", "max_length": 3, "truncation": False, "return_tensors": "pt"},
        TokenizerError,
        r"Row 0 has 6 tokens and does not fit a tensor 3 wide\. Pass truncation=True",
    ),
    (
        ("a b c d",),
        {"truncation": "only_second", "max_length": 4},
        TokenizerError,
        r"truncation='only_second' needs a pair, but there is no text_pair",
    ),
    (
        ("a", "b c d e f"),
        {"truncation": "only_first", "max_length": 5},
        TokenizerError,
        r"'only_first' cannot bring 6 tokens down to 2: the first text has only 1",
    ),
    (
        ("a b c d",),
        {"truncation": True, "max_length": 4, "stride": 2, "return_overflowing_tokens": True},
        TokenizerError,
        r"stride=2 must be smaller than the 2 tokens that a window has left",
    ),
    (
        ("a",),
        {"truncation": True, "padding": True, "max_length": 10, "pad_to_multiple_of": 8},
        TokenizerError,
        r"max_length=10 is not a multiple of pad_to_multiple_of=8.*Pass max_length=8",
    ),
]


@pytest.mark.parametrize(("arguments", "named", "kind", "message"), WRONG, ids=[row[3][:40] for row in WRONG])
def test_wrong_input_is_named(
    bert: Tokenizer, arguments: tuple[Any, ...], named: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bert(*arguments, **named)


def test_wrong_ids_are_named(bert: Tokenizer, chat: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"Token id -100 at position 1 is negative.*pad_token_id"):
        bert.decode([5, -100])
    with pytest.raises(TokenizerError, match=r"whole numbers, but item 1 is 'x'"):
        bert.decode([5, "x"])
    with pytest.raises(TokenizerError, match=r"Token ids are whole numbers or lists of them, but found 'abc'"):
        bert.decode("abc")
    with pytest.raises(TokenizerError, match=r"Tokens are str or lists of str, but found 5 \(int\)"):
        bert.convert_tokens_to_ids(["a", 5])  # type: ignore[list-item]
    with pytest.raises(OptionError, match=r"'pad_tokn' is not a role.*Did you mean 'pad_token'\?"):
        bert.add_special_tokens({"pad_tokn": "x"})
    with pytest.raises(TokenizerError, match="pad\\(\\) needs a column 'input_ids', but the columns are labels"):
        bert.pad({"labels": [1]})
    assert bert.decode([7592, 10**6]) == bert.decode([7592, 10**12]) == "hello"
    assert bert.batch_decode([[7592, 10**12], [10**6]]) == ["hello", ""]
    with pytest.raises(TokenizerError, match=r"Row 0 holds \[1\] where ids are; flatten lists that are deeper"):
        bert.decode([[[1]]])
    assert bert.convert_ids_to_tokens([10**6]) == [None]


def test_padding_without_a_pad_token(minilm: Path) -> None:
    own = Tokenizer.from_folder(minilm)
    own.pad_token = None
    with pytest.raises(TokenizerError, match=r"pad_token is None.*tokenizer\.pad_token = tokenizer\.eos_token"):
        own(["a", "b"], padding=True)
    own.model_max_length = int(1e30)
    with pytest.raises(TokenizerError, match=r"no length to pad to.*no model_max_length"):
        own("a", padding="max_length")
    assert own("a b", truncation=True)["input_ids"] == [101, 1037, 1038, 102]


def test_too_long_is_said_once(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = Tokenizer.from_folder(minilm, model_max_length=4)
    own("a b c d")
    own("a b c d")
    assert [record.getMessage()[:58] for record in caplog.records] == [
        "A row has 6 tokens, more than the 4 that the model reads ("
    ]


def test_pickles_and_copies_are_the_same(bert: Tokenizer, minilm: Path) -> None:
    bert(["some use"], padding=True, split_special_tokens=True)
    for again in (pickle.loads(pickle.dumps(bert)), copy.deepcopy(bert), Tokenizer.from_folder(minilm)):
        assert again("Hello, how are you?") == bert("Hello, how are you?")
        assert again.special_tokens_map == bert.special_tokens_map
        assert again.__fingerprint__() == bert.__fingerprint__()
    for change in ({"pad_token": "[SEP]"}, {"padding_side": "left"}, {"model_max_length": 3}):
        assert Tokenizer.from_folder(minilm, **change).__fingerprint__() != bert.__fingerprint__()
    again.add_tokens(["<new>"])
    assert again.__fingerprint__() != bert.__fingerprint__()


def test_a_fresh_process_loads_nothing_heavy(minilm: Path) -> None:
    """The first call needs neither torch nor numpy nor jinja2; the module table guards the start-up time."""
    code = (
        "import sys; from plait.text import Tokenizer; print(Tokenizer.from_folder(sys.argv[1])('hello').input_ids, "
        "sorted({'torch', 'numpy', 'jinja2', 'httpx', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code, str(minilm)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[101, 7592, 102] []"


def test_the_steps_of_a_tokenizer_can_be_looked_at(bert: Tokenizer, their_bert: Any) -> None:
    text = "Héllo, how are you?"
    ours, theirs = (each.backend_tokenizer for each in (bert, their_bert))
    assert ours.normalizer.normalize_str(text) == theirs.normalizer.normalize_str(text) == "hello, how are you?"
    assert ours.pre_tokenizer.pre_tokenize_str(text) == theirs.pre_tokenizer.pre_tokenize_str(text)
    ours.enable_truncation(3)
    assert len(bert(text)["input_ids"]) == 8, "it is a copy"
