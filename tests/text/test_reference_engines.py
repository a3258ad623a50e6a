"""The engines in plain Python give the ids, tokens and texts of the compiled one, stage by stage and as a whole."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentencepiece import SentencePieceTrainer
from text_samples import corpus, mixtures
from tokenizers import decoders, models, normalizers, pre_tokenizers

from plait.errors import TokenizerError
from plait.text import Tokenizer, sentencepiece, splits
from plait.text.convert import convert
from plait.text.engine import CrateEngine
from plait.text.reference import decode, normalize, split
from plait.text.reference.characters import compiled
from plait.text.reference.engine import ReferenceEngine

TEXTS = corpus() + mixtures(300, seed=9)


def agree(crate: CrateEngine, texts: list[str] = TEXTS) -> None:
    """Equal ids, tokens and decoded texts, with special tokens found and not found, as texts and as words."""
    ours = ReferenceEngine.from_json(crate.to_json())
    for whole in (False, True):
        expected = crate.encode(texts, words=False, split_special=whole)
        for text, row, found in zip(texts, expected, ours.encode(texts, words=False, split_special=whole), strict=True):
            assert found.ids == row.ids, text
            assert found.tokens == row.tokens, text
            for skip in (False, True):
                assert ours.decode(row.ids, skip_special=skip) == crate.decode(row.ids, skip_special=skip), text
    words = [text.split(" ") for text in texts[:60]]
    rows = crate.encode(words, words=True, split_special=False)
    found = ours.encode(words, words=True, split_special=False)
    assert [row.ids for row in found] == [row.ids for row in rows]


def test_wordpiece(bert: Tokenizer) -> None:
    agree(bert.engine)  # type: ignore[arg-type]


def test_byte_level(chat: Tokenizer) -> None:
    agree(chat.engine)  # type: ignore[arg-type]


def test_use_fast_false(minilm: Path, bert: Tokenizer) -> None:
    slow = Tokenizer.from_folder(minilm, fast=False)
    assert not slow.is_fast
    for text in TEXTS[:80]:
        assert slow(text) == bert(text)
        assert slow(text, text, truncation=True, max_length=9) == bert(text, text, truncation=True, max_length=9)
    assert slow(["a", "a b"], padding=True, return_tensors="np")["input_ids"].tolist() == [
        [101, 1037, 102, 0],
        [101, 1037, 1038, 102],
    ]
    assert slow.tokenize("tokenization") == ["token", "##ization"]
    assert slow.add_tokens(["tokeniz"]) == 1
    assert slow.tokenize("tokenization") == ["tokeniz", "at", "##ion"]
    with pytest.raises(
        TokenizerError, match=r"use_fast=False\) gives no offsets and word ids\. Load with use_fast=True"
    ):
        slow("a", return_offsets_mapping=True)
    with pytest.raises(TokenizerError, match="gives no offsets and word ids"):
        slow("a").word_ids()
    with pytest.raises(TokenizerError, match="lone surrogate"):
        slow("a\ud800")


MODELS = {
    "unigram": {"model_type": "unigram"},
    "unigram with bytes": {"model_type": "unigram", "byte_fallback": True},
    "bpe": {"model_type": "bpe"},
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["λx", "[y]"],
    },
}


def trained(path: Path, **options: Any) -> Path:
    lines = [line for text in corpus() for line in text.split("\n") if line.strip() and "<" not in line] * 3
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            **{"vocab_size": 700, "character_coverage": 0.98, "minloglevel": 2, "hard_vocab_limit": False, **options},
        )
    return path


@pytest.mark.parametrize("prefix", ["always", "first"])
@pytest.mark.parametrize("name", MODELS)
def test_sentencepiece(name: str, prefix: str, tmp_path: Path) -> None:
    model = sentencepiece.read(trained(tmp_path / "m.model", **MODELS[name]))
    agree(CrateEngine(sentencepiece.crate(model, prefix=prefix)))


@pytest.mark.parametrize(
    ("stem", "controls"), [("t5", []), ("xlmroberta", []), ("albert", ["[CLS]", "[SEP]", "[MASK]"])]
)
def test_sentencepiece_classes(stem: str, controls: list[str], tmp_path: Path) -> None:
    trained(tmp_path / "spiece.model", model_type="unigram", control_symbols=controls)
    agree(CrateEngine(convert(tmp_path, {}, stem)))


@pytest.mark.parametrize("name", splits.SPLITS)
def test_every_splitting_rule(name: str) -> None:
    rule = splits.SPLITS[name].make()
    ours = split.splitter(json.loads(rule.__getstate__()))
    for text in filter(None, TEXTS[:150]):
        assert list(filter(None, ours(text, True))) == [piece for piece, _ in rule.pre_tokenize_str(text)]


NORMALIZERS: list[Any] = [
    normalizers.BertNormalizer(),
    normalizers.BertNormalizer(lowercase=False, strip_accents=True, handle_chinese_chars=False, clean_text=False),
    normalizers.BertNormalizer(strip_accents=False),
    *(form() for form in (normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD)),
    normalizers.Lowercase(),
    normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    normalizers.Strip(),
    normalizers.Strip(left=False),
    normalizers.Replace("a", "bb"),
    normalizers.Replace(tokenizers.Regex(r"\A +|\s+\z| {2,}"), "_"),
    normalizers.Prepend("▁"),
    normalizers.ByteLevel(),
]


@pytest.mark.parametrize("theirs", NORMALIZERS, ids=str)
def test_every_normalizer(theirs: Any) -> None:
    ours = normalize.normalizer(json.loads(theirs.__getstate__()))
    for text in TEXTS:
        assert ours(text) == theirs.normalize_str(text)


SPLITTERS: list[Any] = [
    pre_tokenizers.BertPreTokenizer(),
    pre_tokenizers.WhitespaceSplit(),
    pre_tokenizers.ByteLevel(),
    pre_tokenizers.ByteLevel(use_regex=False),
    *(pre_tokenizers.Metaspace(prepend_scheme=s, split=b) for s in ("always", "never", "first") for b in (True, False)),
    *(pre_tokenizers.Digits(individual_digits=each) for each in (True, False)),
    *(
        pre_tokenizers.Punctuation(behavior)
        for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
    ),
    *(
        pre_tokenizers.Split(pattern, behavior, invert)
        for pattern in (" ", tokenizers.Regex(r"\s|\p{Lu}"))
        for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")
        for invert in (False, True)
    ),
    pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]),
]


@pytest.mark.parametrize("theirs", SPLITTERS, ids=str)
def test_every_splitter(theirs: Any) -> None:
    ours = split.splitter(json.loads(theirs.__getstate__()))
    for text in filter(None, TEXTS[:200]):
        assert [piece for piece in ours(text, True) if piece] == [
            piece for piece, _ in theirs.pre_tokenize_str(text)
        ], text


DECODERS: list[Any] = [
    decoders.WordPiece(),
    decoders.WordPiece(prefix="▁", cleanup=False),
    decoders.ByteLevel(),
    decoders.Metaspace(),
    decoders.Metaspace(prepend_scheme="never"),
    decoders.BPEDecoder(suffix="n"),
    decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    decoders.Sequence([decoders.Fuse(), decoders.Strip("a", 1, 0)]),
]


@pytest.mark.parametrize("theirs", DECODERS, ids=str)
def test_every_decoder(theirs: Any) -> None:
    ours = decode.decoder(json.loads(theirs.__getstate__()))
    source = random.Random(10)
    pieces = [
        "a",
        "aa",
        "▁",
        "▁a",
        "##b",
        "n't",
        "'",
        "s",
        "do not",
        ".",
        "▁.",
        "<0xE4>",
        "<0xBD>",
        "<0xA0>",
        "<0xFF>",
        "好",
    ]
    pieces += ["Ġ", "ä", "½", "Â", "<s>", "n", "an", " '", "''"]
    for _ in range(500):
        tokens = source.choices(pieces, k=source.randint(1, 8))
        assert "".join(ours(tokens)) == theirs.decode(tokens), tokens


@pytest.mark.parametrize("lstrip", [False, True])
@pytest.mark.parametrize("rstrip", [False, True])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_added_tokens(lstrip: bool, rstrip: bool, single: bool, normalized: bool) -> None:
    crate = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate("abcdefghi ÄÉ.-\n")}, []))
    crate.normalizer = normalizers.Lowercase()
    crate.add_tokens(
        [
            tokenizers.AddedToken(text, lstrip=lstrip, rstrip=rstrip, single_word=single, normalized=normalized)
            for text in ("ab", "abc", "c", "d e")
        ]
    )
    crate.add_special_tokens([tokenizers.AddedToken("<x>", lstrip=lstrip, rstrip=rstrip, normalized=normalized)])
    source = random.Random(11)
    parts = ["ab", "abc", "AB", "c", " ", "  ", "\n", "d e", "<x>", "a", "-", ".", "É", "abab"]
    agree(CrateEngine(crate), ["".join(source.choices(parts, k=source.randint(0, 9))) for _ in range(300)])


@pytest.mark.parametrize(
    "options",
    [
        {"unk_token": "?", "fuse_unk": True},
        {"unk_token": "?", "fuse_unk": False},
        {"continuing_subword_prefix": "##", "unk_token": "?"},
        {"end_of_word_suffix": "</w>", "unk_token": "?"},
        {"byte_fallback": True},
        {"ignore_merges": True},
        {},
    ],
)
def test_byte_pair_options(options: dict[str, Any]) -> None:
    prefix, suffix = options.get("continuing_subword_prefix", ""), options.get("end_of_word_suffix", "")
    letters = [*"abc", *(f"{prefix}{x}" for x in "abc"), *(f"{x}{suffix}" for x in "abc")]
    pairs = [
        ("a", f"{prefix}b"),
        (f"{prefix}b", f"{prefix}c"),
        (f"a{prefix and ''}b", f"{prefix}c"),
        ("c", f"{prefix}c{suffix}"),
    ]
    merged = [left + right.removeprefix(prefix) for left, right in pairs]
    tokens = list(dict.fromkeys(["?", *letters, *merged, "whole", *(f"<0x{b:02X}>" for b in range(256))]))
    model = models.BPE({token: i for i, token in enumerate(tokens)}, pairs, **options)
    crate = tokenizers.Tokenizer(model)
    crate.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    source = random.Random(12)
    agree(
        CrateEngine(crate), ["".join(source.choices(["a", "b", "c", "x", "é", " ", "whole"], k=8)) for _ in range(300)]
    )


def test_expressions_are_written_out() -> None:
    assert compiled(r"\p{Lu}+").findall("aÄBc") == ["ÄB"]
    assert compiled(r"[^\s\p{N}]+").findall("a1 b\u2003c") == ["a", "b", "c"]
    assert compiled(r"[(a[bc])]+").findall("xab(c)") == ["ab(c)"]
    assert not compiled(r"\s").match("\x1c")
    with pytest.raises(ValueError, match="negated class within a class"):
        compiled(r"[a[^b]]")


def test_unicode_is_new_enough() -> None:
    """The classes come from Python's tables; letters younger than those are no letters here."""
    assert tuple(map(int, unicodedata.unidata_version.split("."))) >= (14, 0)


def test_what_the_reference_does_not_know() -> None:
    crate = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(TokenizerError, match=r"The model 'WordLevel' is not in the Python reference.*use_fast=True"):
        ReferenceEngine(CrateEngine(crate))
    with pytest.raises(TokenizerError, match="The normalizer 'Nmt' is not in the Python reference"):
        normalize.normalizer({"type": "Nmt"})
    with pytest.raises(TokenizerError, match="The pre-tokenizer 'UnicodeScripts' is not in the Python reference"):
        split.splitter({"type": "UnicodeScripts"})
    with pytest.raises(TokenizerError, match="The decoder 'CTC' is not in the Python reference"):
        decode.decoder({"type": "CTC"})
