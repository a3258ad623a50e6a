"""Streams of text: no half characters, and joined pieces equal the whole decode, for every kind of decoder."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Crate
from tokenizers import decoders, models, normalizers, pre_tokenizers

from plait.text import Tokenizer
from plait.text.detokenizer import StreamingDetokenizer
from plait.text.engine import CrateEngine

# Han, kana, hangul, emoji with modifiers, ZWJ sequences, flags, combining marks, plain text and white space.
PARTS = [
    *"你好世界龘𠮷かなカナ한국어",
    *"😀👍🏽❤️",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👨🏾‍🚀",
    "🇨🇳",
    "e\u0301",
    "\u200d",
    "\ufe0f",
    "n't",
    " '",
    " .",
    " ,",
    "a",
    " word",
    "\n",
    "  ",
]


def strings(count: int, seed: int) -> Iterable[str]:
    """`count` random strings of 1–12 parts, the same on every run."""
    source = random.Random(seed)
    for _ in range(count):
        yield "".join(source.choices(PARTS, k=source.randint(1, 12)))


def streamed(tokenizer: Tokenizer, ids: Iterable[int], **options: Any) -> list[str]:
    stream = StreamingDetokenizer(tokenizer, **options)
    return [*map(stream.add, ids), stream.finish()]


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """Sentencepiece-like BPE with byte fall-back: 256 byte tokens, a few pieces."""
    pieces = ["▁", "a", "▁word", "n", "'", "t", "好", "▁.", "▁'"]
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
    vocabulary |= {piece: 257 + place for place, piece in enumerate(pieces)}
    crate = Crate(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    crate.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    crate.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    crate.add_special_tokens(["<s>"])
    return Tokenizer(CrateEngine(crate))


@pytest.fixture(scope="module")
def metaspace() -> Tokenizer:
    """Unigram with spaces as ▁ and an unknown token, as T5 has."""
    scored = [("<unk>", 0.0), ("▁", -1.0), ("▁word", -2.0), *((letter, -3.0) for letter in "abn't.,你好世界")]
    crate = Crate(models.Unigram(scored, unk_id=0, byte_fallback=False))
    crate.pre_tokenizer = pre_tokenizers.Metaspace()
    crate.decoder = decoders.Metaspace()
    return Tokenizer(CrateEngine(crate))


def test_ten_thousand_strings(chat: Tokenizer) -> None:
    """Byte-level BPE: every string comes back whole, and no piece ever holds a replacement character."""
    for text in strings(10_000, seed=1):
        ids = chat.encode(text)
        pieces = streamed(chat, ids)
        assert "".join(pieces) == chat.decode(ids) == text
        assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("name", ["bert", "bytewise", "metaspace"])
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_every_decoder(name: str, clean: bool, skip: bool, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    for text in strings(1000, seed=2):
        ids = tokenizer.encode(text)
        pieces = streamed(tokenizer, ids, clean_up_tokenization_spaces=clean, skip_special_tokens=skip)
        assert "".join(pieces) == tokenizer.decode(ids, skip, clean)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data(), clean=st.booleans(), skip=st.booleans())
def test_any_ids(
    chat: Tokenizer, bert: Tokenizer, bytewise: Tokenizer, metaspace: Tokenizer, data: Any, clean: bool, skip: bool
) -> None:
    """A model may write anything: broken UTF-8, special tokens in the middle, ids beyond the vocabulary."""
    for tokenizer in (chat, bert, bytewise, metaspace):
        ids = data.draw(st.lists(st.integers(0, len(tokenizer) + 3), max_size=30))
        pieces = streamed(tokenizer, ids, clean_up_tokenization_spaces=clean, skip_special_tokens=skip)
        assert "".join(pieces) == tokenizer.decode(ids, skip, clean)


def test_no_half_characters(chat: Tokenizer, bytewise: Tokenizer) -> None:
    """你 is three bytes; its text comes with the last of them, and never before."""
    ids = chat.encode("你")
    assert len(ids) > 1
    assert streamed(chat, ids) == [*[""] * (len(ids) - 1), "你", ""]
    broken = StreamingDetokenizer(chat)
    assert [broken.add(index) for index in ids[:-1]] == [""] * (len(ids) - 1)
    assert broken.finish() == "\ufffd"
    # With byte fall-back a run of bytes is valid or invalid as a whole, so it waits for the token after it.
    run = [1 + byte for byte in "你".encode()]
    assert streamed(bytewise, [*run, 258]) == ["", "", "", "你a", ""]
    assert streamed(bytewise, [*run, 256]) == ["", "", "", "", "\ufffd" * 4]


def test_clean_up_waits_for_what_follows(chat: Tokenizer) -> None:
    ids = chat.encode("no .")
    assert streamed(chat, ids, clean_up_tokenization_spaces=True) == ["no", ".", ""]
    space = chat.encode("no ")
    assert streamed(chat, space, clean_up_tokenization_spaces=True) == ["no", "", " "]


def test_special_tokens_are_left_out(chat: Tokenizer) -> None:
    ids = chat.encode("hi<|im_end|>")
    assert streamed(chat, ids) == ["hi", "", ""]
    assert streamed(chat, ids, skip_special_tokens=False) == ["hi", "<|im_end|>", ""]
    stream = StreamingDetokenizer(chat)
    assert stream.add_all(chat.encode("a b")) == "a b"
