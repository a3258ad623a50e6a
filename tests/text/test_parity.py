"""Every argument against transformers on generated texts: padding, truncation, overflow, pairs, words, details."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import TokenizerError
from plait.text import Tokenizer

MANY = settings(max_examples=150, deadline=None, derandomize=True)

WORDS = st.sampled_from(
    [
        "hello",
        "tokenization",
        "Émigré",
        "你好",
        "مرحبا",
        "👩‍🚀",
        "x_1",
        "12345",
        "don't",
        "[SEP]",
        "<|im_end|>",
        "\u200d",
        "…",
    ]
)
TEXTS = st.one_of(
    st.lists(WORDS, max_size=12).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
DETAILS = {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_length": True}


def arguments() -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of a call that transformers takes as well; combinations that cannot be met are compared as errors."""
    return st.fixed_dictionaries(
        {
            "padding": st.sampled_from([False, True, "max_length"]),
            "truncation": st.sampled_from([None, False, True, "only_first"]),
            "max_length": st.integers(4, 16),
            "add_special_tokens": st.booleans(),
            "padding_side": st.sampled_from(["left", "right"]),
            "pad_to_multiple_of": st.sampled_from([None, 4]),
        }
    )


def both(ours: Tokenizer, theirs: Any, *inputs: Any, side: str, **named: Any) -> None:
    """Equal results, or an error from both.

    transformers' truncation side is an attribute, so it is set there and passed here.
    """
    theirs.truncation_side = side
    try:
        expected = dict(theirs(*inputs, **named))
    except BaseException as error:  # the crate panics, which is no Exception, where a stride is too large
        if not any(word in repr(error) for word in ("runcat", "stride", "multiple", "Panic")):
            raise
        with pytest.raises(TokenizerError):
            ours(*inputs, **named, truncation_side=side)
        return
    found = ours(*inputs, **named, truncation_side=side)
    assert found == expected
    assert list(found) == list(expected)


@MANY
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), named=arguments(), side=st.sampled_from(["left", "right"]))
def test_texts(bert: Tokenizer, their_bert: Any, texts: list[str], named: dict[str, Any], side: str) -> None:
    both(bert, their_bert, texts, side=side, **named, **DETAILS)
    both(bert, their_bert, texts[0], side=side, **named, **DETAILS)


@MANY
@given(
    pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
    named=arguments(),
    side=st.sampled_from(["left", "right"]),
)
def test_pairs(
    bert: Tokenizer, their_bert: Any, pairs: list[tuple[str, str]], named: dict[str, Any], side: str
) -> None:
    both(bert, their_bert, pairs, side=side, **named, **DETAILS)
    both(bert, their_bert, *map(list, zip(*pairs, strict=True)), side=side, **named, **DETAILS)
    if named["truncation"] == "only_first":
        both(bert, their_bert, pairs, side=side, **{**named, "truncation": "only_second"})


@MANY
@given(
    text=TEXTS,
    pair=st.one_of(st.none(), TEXTS.filter(bool)),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
    max_length=st.integers(6, 12),
    stride=st.integers(0, 3),
    side=st.sampled_from(["left", "right"]),
)
def test_overflow(
    bert: Tokenizer,
    their_bert: Any,
    text: str,
    pair: str | None,
    strategy: str,
    max_length: int,
    stride: int,
    side: str,
) -> None:
    both(
        bert,
        their_bert,
        text,
        pair,
        side=side,
        truncation=strategy if pair is not None else "longest_first",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        padding=True,
        **DETAILS,
    )


@MANY
@given(words=st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=3), named=arguments())
def test_words(bert: Tokenizer, their_bert: Any, words: list[list[str]], named: dict[str, Any]) -> None:
    both(bert, their_bert, words, side="right", is_split_into_words=True, **named, **DETAILS)
    both(bert, their_bert, words[0], words[-1], side="right", is_split_into_words=True, **named)


@MANY
@given(text=TEXTS, pair=st.one_of(st.none(), TEXTS.filter(bool)), words=st.lists(WORDS, min_size=1, max_size=5))
def test_details(bert: Tokenizer, their_bert: Any, text: str, pair: str | None, words: list[str]) -> None:
    for inputs, named in (((text, pair), {}), ((words,), {"is_split_into_words": True})):
        ours, theirs = bert(*inputs, **named), their_bert(*inputs, **named)
        assert ours.tokens() == theirs.tokens()
        assert ours.word_ids() == theirs.word_ids()
        assert ours.sequence_ids() == theirs.sequence_ids()
        for sequence in {index for index in ours.sequence_ids() if index is not None}:
            for char in range(len(text)):
                assert ours.char_to_token(0, char, sequence) == theirs.char_to_token(0, char, sequence)
                assert ours.char_to_word(0, char, sequence) == theirs.char_to_word(0, char, sequence)
            for word in {index for index in ours.word_ids() if index is not None}:
                span = ours.word_to_tokens(0, word, sequence)
                assert span == theirs.word_to_tokens(0, word, sequence)
                if span is not None:
                    assert ours.word_to_chars(0, word, sequence) == theirs.word_to_chars(0, word, sequence)
        for token in range(len(ours.input_ids)):
            assert ours.token_to_chars(token) == theirs.token_to_chars(token)
            assert ours.token_to_sequence(token) == theirs.token_to_sequence(token)
            assert ours.token_to_word(token) == theirs.token_to_word(token)


@MANY
@given(rows=st.lists(st.lists(st.integers(0, 30521), max_size=9), min_size=1, max_size=5), left=st.booleans())
def test_pad(bert: Tokenizer, their_bert: Any, rows: list[list[int]], left: bool) -> None:
    batch = {"input_ids": rows, "token_type_ids": [[1] * len(row) for row in rows], "label": list(range(len(rows)))}
    for tensors in (None, "np", "pt"):
        named = {"padding_side": "left" if left else "right", "return_tensors": tensors, "pad_to_multiple_of": 3}
        ours, theirs = bert.pad(batch, **named), their_bert.pad(batch, **named)
        assert list(ours) == list(theirs)
        for key in ours:
            assert (ours[key] == theirs[key]) if tensors is None else (ours[key] == theirs[key]).all()
            assert tensors is None or ours[key].dtype == theirs[key].dtype


@MANY
@given(ids=st.lists(st.integers(0, 30521), max_size=20), skip=st.booleans(), clean=st.booleans())
def test_decode(bert: Tokenizer, their_bert: Any, ids: list[int], skip: bool, clean: bool) -> None:
    assert bert.decode(ids, skip, clean) == their_bert.decode(
        ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean
    )
    assert bert.decode(ids) == their_bert.decode(ids)
    assert bert.convert_ids_to_tokens(ids, skip) == their_bert.convert_ids_to_tokens(ids, skip_special_tokens=skip)


@MANY
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), named=arguments(), side=st.sampled_from(["left", "right"]))
def test_byte_level(chat: Tokenizer, digits: Any, texts: list[str], named: dict[str, Any], side: str) -> None:
    both(chat, digits, texts, side=side, **named, **DETAILS)
    assert chat.batch_decode(chat(texts)["input_ids"]) == digits.batch_decode(digits(texts)["input_ids"])


@MANY
@given(text=TEXTS)
def test_tensors(bert: Tokenizer, their_bert: Any, text: str) -> None:
    ours, theirs = (
        tokenizer([text, "hello world"], padding=True, return_tensors="pt", return_offsets_mapping=True)
        for tokenizer in (bert, their_bert)
    )
    for key in theirs:
        assert ours[key].dtype == theirs[key].dtype
        assert ours[key].equal(theirs[key])
