"""Ids put together from remembered pieces are the crate's, whatever the text; and when no memory is kept."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from text_samples import corpus, mixtures
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from plait.text import Tokenizer
from plait.text import memory as memories
from plait.text.letters import letters_of_bytes
from plait.text.memory import Memory, memory_of
from plait.text.packed import unpack
from plait.text.splits import BAILING, GPT4O, LLAMA3, QWEN2, QWEN35, SEED_CODER, SPLITS, TEKKEN, by_regex, gpt2

# Pieces in which a rule about white space, digits, marks or added tokens could go wrong.
PARTS = [
    *(" ", " ", "  ", "   ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2009", "\u200b", "\u3000", "\0"),
    *("a", "word", "Word", "WORDS", "don't", "'S", "x'", "12", "3", "½", "３", "é", "e\u0301", "\u0301", "ß", "Σ", "ﬁ"),
    *("中文", "。", "ไทย", "👩\u200d🔬", "\U0001f1e8", "ſ", "İ", "\ufeff", "_", "/", "//\n", "...", "?!", "<", "##ing"),
    *("<s>", "<mask>", "[MASK]", "[mask]"),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).map("".join) | st.text(max_size=20)


def byte_level(splitter: Any, *, normalizer: Any = None) -> tokenizers.Tokenizer:
    """Byte-level BPE whose merges join letters, digits and spaces greedily, so that a wrong cut changes the ids."""
    letters = letters_of_bytes()
    vocabulary = {letters[byte]: byte for byte in range(256)}
    merges = []
    space = letters[32]
    line = letters[10]
    words = [("w", "o"), ("wo", "r"), ("wor", "d"), (space, "word"), ("a", "b"), ("'", "s"), ("1", "2")]
    for pair in [(space, space), (space, "a"), (line, line), (space, line), (".", "."), (space, "."), *words]:
        vocabulary["".join(pair)] = len(vocabulary)
        merges.append(pair)
    crate = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    crate.pre_tokenizer = splitter
    if normalizer is not None:
        crate.normalizer = normalizer
    crate.add_special_tokens(["<s>", AddedToken("<mask>", lstrip=True, special=True)])
    return crate


RULES = {
    "gpt2": gpt2,
    "gpt2 with a space before": lambda: gpt2(prefix=True),
    "digits": SPLITS["smollm"].make,
    **{
        name: by_regex(rule)
        for name, rule in {
            "llama3": LLAMA3,
            "qwen2": QWEN2,
            "qwen35": QWEN35,
            "tekken": TEKKEN,
            "gpt4o": GPT4O,
            "seed": SEED_CODER,
        }.items()
    },
}
BYTE_LEVEL = {name: byte_level(make()) for name, make in RULES.items()}
BYTE_LEVEL["qwen2, composed"] = byte_level(by_regex(QWEN2)(), normalizer=normalizers.NFC())


def ids(memory: Memory, texts: list[str]) -> list[list[int]]:
    return list(map(unpack, memory.packed(texts)))


def crate_ids(crate: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [row.ids for row in crate.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("name", BYTE_LEVEL)
@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["a b", "a  b", " a", "a ", "a\n b", "a \nb", "a\n \nb", "x's 12 3", "a <mask> b", "<s> a<s>"])
def test_byte_level(name: str, texts: list[str]) -> None:
    memory = memory_of(BYTE_LEVEL[name])
    assert memory is not None
    expected = crate_ids(BYTE_LEVEL[name], texts)
    assert ids(memory, texts) == expected
    assert ids(memory, texts) == expected, "the second time, from memory"


@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["a\nb", "a\tb  c", "[MASK] x", "x[MASK]", "e\u0301 \u0301", "a\x1cb", "a\x85b", "中文 word"])
def test_wordpiece(bert: Tokenizer, texts: list[str]) -> None:
    crate = bert.engine._crate  # type: ignore[attr-defined]
    memory = memory_of(crate)
    assert memory is not None
    expected = crate_ids(crate, texts)
    assert ids(memory, texts) == expected
    assert ids(memory, texts) == expected


def test_real_tokenizers(bert: Tokenizer, chat: Tokenizer) -> None:
    texts = corpus() + mixtures(2000, seed=3)
    for tokenizer in (bert, chat):
        crate = tokenizer.engine._crate  # type: ignore[attr-defined]
        memory = memory_of(crate)
        assert memory is not None
        for start in range(0, len(texts), 300):
            assert ids(memory, texts[start : start + 300]) == crate_ids(crate, texts[start : start + 300])


def test_a_full_memory_starts_anew(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "_ROOM", 300)
    monkeypatch.setattr(memories, "_TRIAL", 10**9)
    crate = bert.engine._crate  # type: ignore[attr-defined]
    memory = memory_of(crate)
    assert memory is not None
    source = random.Random(0)
    held = []
    for _ in range(200):
        texts = [" ".join(f"w{source.randrange(60)}" for _ in range(8)) for _ in range(3)]
        assert ids(memory, texts) == crate_ids(crate, texts)
        held.append(sum(map(len, memory._known)))
    assert max(held) <= 300
    assert min(held[1:]) < max(held), "it was emptied on the way"


def test_long_pieces_are_not_kept(bert: Tokenizer) -> None:
    crate = bert.engine._crate  # type: ignore[attr-defined]
    memory = memory_of(crate)
    assert memory is not None
    texts = ["short words " + "x" * 65, "short"]
    assert ids(memory, texts) == crate_ids(crate, texts)
    assert set(memory._known) == {"short", "words"}


def test_it_stops_where_nothing_comes_again(bert: Tokenizer) -> None:
    crate = bert.engine._crate  # type: ignore[attr-defined]
    memory = memory_of(crate)
    assert memory is not None
    ids(memory, [f"word{number}" for number in range(10_000)])
    assert memory.quick  # 90,000 characters are too few to judge by
    ids(memory, [f"word{number}" for number in range(10_000, 20_000)])
    assert not memory.quick


@pytest.mark.parametrize(
    "change",
    [
        lambda crate: crate.add_tokens(["two words"]),
        lambda crate: crate.add_tokens([AddedToken("<r>", rstrip=True)]),
        lambda crate: setattr(crate, "normalizer", normalizers.Replace(" ", "_")),
        lambda crate: setattr(crate, "normalizer", normalizers.NFKC()),
        lambda crate: setattr(crate, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda crate: setattr(crate, "pre_tokenizer", by_regex(BAILING)()),
        lambda crate: setattr(crate, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)),
        lambda crate: setattr(crate, "pre_tokenizer", None),
        lambda crate: setattr(crate, "model", models.BPE(vocab={"a": 0}, merges=[], dropout=0.1)),
    ],
)
def test_no_memory_where_a_word_may_reach_over_a_space(change: Any) -> None:
    crate = byte_level(gpt2())
    assert memory_of(crate) is not None
    change(crate)
    assert memory_of(crate) is None


def test_tokens_added_later(minilm: Any) -> None:
    tokenizer = Tokenizer.from_folder(minilm)
    before = tokenizer("zyx power")["input_ids"]
    tokenizer.add_tokens(["zyx"])
    after = tokenizer("zyx power")["input_ids"]
    assert len(before) > 4, "several pieces before it was a token"
    assert after == [before[0], len(tokenizer) - 1, *before[-2:]]


def test_a_pickled_memory_is_empty_and_right(bert: Tokenizer) -> None:
    memory = memory_of(bert.engine._crate)  # type: ignore[attr-defined]
    assert memory is not None
    expected = ids(memory, ["hello there"])
    again: Memory = pickle.loads(pickle.dumps(memory))
    assert again._known == {}
    assert ids(again, ["hello there"]) == expected
