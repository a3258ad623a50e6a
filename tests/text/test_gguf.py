"""GGUF metadata: every kind of vocabulary, every splitting rule, and files that cannot be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import regex
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from text_samples import corpus, mixtures

from plait.errors import OptionError, TokenizerError
from plait.text import Tokenizer, sentencepiece, splits
from plait.text.letters import bytes_of_letters, letters_of_bytes
from plait.text.splits import SPLITS

TALK = [{"role": "user", "content": "x"}]


@pytest.fixture(scope="module")
def metadata(smollm2: Path) -> dict[str, Any]:
    from plait.weights.gguf import read_metadata

    return read_metadata(smollm2)


def small(**changes: Any) -> dict[str, Any]:
    """A byte-level vocabulary of 256 bytes, one merge, one control and one user-defined token."""
    tokens = [*letters_of_bytes(), "ab", "<|end|>", "<think>"]
    values = {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3, 4],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 257,
        "tokenizer.ggml.eos_token_id": 257,
    }
    for key, value in changes.items():
        name = "tokenizer." + key if key.startswith("chat_template") else "tokenizer.ggml." + key
        if value is None:
            values.pop(name)
        else:
            values[name] = value
    return values


def test_smollm2(chat: Tokenizer, their_chat: Any) -> None:
    for role in ("bos", "eos", "unk", "pad"):
        assert getattr(chat, f"{role}_token_id") == getattr(their_chat, f"{role}_token_id")
    assert (chat.model_max_length, chat.padding_side, len(chat)) == (8192, "right", 49152)
    assert chat.added_tokens_decoder == dict(sorted(their_chat.added_tokens_decoder.items()))
    assert chat.get_vocab() == their_chat.get_vocab()
    for text in corpus() + mixtures(300, seed=7):
        if not any(letter.isnumeric() for letter in text):  # transformers leaves the splitting of digits out
            assert chat(text) == dict(their_chat(text))


def test_token_types_and_ends() -> None:
    own = Tokenizer.from_gguf(small())
    assert own.tokenize("ab<|end|><think>") == ["ab", "<|end|>", "<think>"]
    assert own.decode(own.encode("a<|end|><think>"), skip_special_tokens=True) == "a<think>"
    assert own.model_max_length == 64
    assert own.encode("b") == [bytes_id("b")]
    assert Tokenizer.from_gguf(small(pre="llama-bpe")).encode("b") == [257, bytes_id("b")]
    assert Tokenizer.from_gguf(small(pre="llama-bpe", add_bos_token=False)).encode("b") == [bytes_id("b")]
    assert Tokenizer.from_gguf(small(add_eos_token=True)).encode("b") == [bytes_id("b"), 257]
    assert Tokenizer.from_gguf(small(), add_bos_token=True, bos_token="ab").encode("b") == [256, bytes_id("b")]


def bytes_id(letter: str) -> int:
    return letters_of_bytes().index(letter)


def test_the_python_reference() -> None:
    own, slow = Tokenizer.from_gguf(small()), Tokenizer.from_gguf(small(), fast=False)
    assert not slow.is_fast
    assert slow("ab<|end|><think> ü") == own("ab<|end|><think> ü")


def test_chat_templates() -> None:
    own = Tokenizer.from_gguf(small(chat_template="d"))
    assert own.apply_chat_template(TALK, tokenize=False) == "d"
    named = small(chat_template="d", chat_templates=["tool_use"]) | {"tokenizer.chat_template.tool_use": "t"}
    own = Tokenizer.from_gguf(named)
    assert own.apply_chat_template(TALK, tools=[{"name": "f"}], tokenize=False) == "t"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "smolm"}, r"tokenizer\.ggml\.pre is 'smolm'.*Did you mean 'smollm'\?"),
        ({"pre": None}, r"tokenizer\.ggml\.pre is None, and how it splits a text is not known here"),
        ({"model": "rwkv"}, r"tokenizer\.ggml\.model is 'rwkv', which is not a kind.*gpt2, llama, t5, bert"),
        ({"tokens": []}, r"has 0 tokens, 259 token types"),
        ({"token_type": [1]}, r"259 tokens, 1 token types and 259 scores.*cut short"),
        ({"tokens": ["a"] * 259}, r"tokenizer\.ggml\.tokens holds 'a' more than once"),
        ({"eos_token_id": 999}, r"eos_token_id is 999, but the vocabulary has 259 tokens"),
        ({"merges": ["ab"]}, r"merges holds 'ab'; a merge is two tokens with a space between"),
    ],
)
def test_files_that_cannot_be_trusted(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_gguf(small(**changes))


def test_overrides_are_checked() -> None:
    with pytest.raises(OptionError, match=r"no setting 'pad_tokn'.*Did you mean 'pad_token'\?"):
        Tokenizer.from_gguf(small(), pad_tokn="x")


def test_wordpiece(bert: Tokenizer) -> None:
    """llama.cpp's converter writes "▁word" and "piece" for "word" and "##piece"."""

    def converted(token: str) -> str:
        if token.startswith("[") and token.endswith("]"):
            return token
        return token[2:] if token.startswith("##") else "▁" + token

    vocabulary = sorted(bert.get_vocab().items(), key=lambda item: item[1])
    own = Tokenizer.from_gguf(
        {
            "general.architecture": "bert",
            "bert.context_length": 512,
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": [converted(token) for token, _ in vocabulary],
            "tokenizer.ggml.token_type": [3 if index in bert.all_special_ids else 1 for _, index in vocabulary],
            "tokenizer.ggml.unknown_token_id": 100,
            "tokenizer.ggml.seperator_token_id": 102,
            "tokenizer.ggml.cls_token_id": 101,
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.ggml.mask_token_id": 103,
        }
    )
    for text in corpus():
        assert own(text) == bert(text)
    assert own.get_vocab() == bert.get_vocab()
    assert own.special_tokens_map == bert.special_tokens_map


@pytest.mark.parametrize(("kind", "name"), [("bpe", "llama"), ("unigram", "t5")])
def test_sentencepiece(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.model"
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(line for line in corpus() * 3 if line.strip() and "<" not in line),
            model_writer=file,
            model_type=kind,
            byte_fallback=kind == "bpe",
            vocab_size=700,
            hard_vocab_limit=False,
            minloglevel=2,
            normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc",
            remove_extra_whitespaces=kind != "bpe",
        )
    model, theirs = sentencepiece.read(path), SentencePieceProcessor(model_file=str(path))
    own = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": name,
            "tokenizer.ggml.tokens": [piece.text for piece in model.pieces],
            "tokenizer.ggml.scores": [piece.score for piece in model.pieces],
            "tokenizer.ggml.token_type": [piece.type for piece in model.pieces],
            "tokenizer.ggml.precompiled_charsmap": list(model.charsmap),
            "tokenizer.ggml.remove_extra_whitespaces": model.squeeze,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
        }
    )
    for text in ["", "Hello, how are you?", "你好，世界！", "  two  spaces ", "x = 12345", "line\nline"]:
        ids = theirs.encode(text)
        assert own.encode(text) == ([1, *ids] if kind == "bpe" else [*ids, 2]), text


def test_runs_of_spaces_are_spelled_as_such() -> None:
    """A file in which "  " is a user-defined token of two spaces, as Gemma's is."""
    tokens = ["<unk>", "<s>", "▁", "a", "  ", "▁a", *(f"<0x{byte:02X}>" for byte in range(256))]
    own = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [0.0, 0.0, -3.0, -4.0, -1000.0, -5.0, *[0.0] * 256],
            "tokenizer.ggml.token_type": [2, 3, 1, 1, 4, 1, *[6] * 256],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.add_space_prefix": False,
        }
    )
    assert len(own) == len(tokens)
    assert own.tokenize("a  a a\n") == ["a", "▁▁", "a", "▁a", "<0x0A>"]
    assert own.decode(own.encode("a  a a\n"), skip_special_tokens=True) == "a  a a\n"


def words(name: str, text: str) -> list[bytes]:
    """How a rule cuts a text."""
    byte = bytes_of_letters()
    return [bytes(byte[letter] for letter in piece) for piece, _ in SPLITS[name].make().pre_tokenize_str(text)]


def by_expressions(text: str, *expressions: str) -> list[bytes]:
    """The same with the `regex` module: each expression cuts the pieces of the one before."""
    pieces = [text]
    for expression in expressions:
        cut: list[str] = []
        for piece in pieces:
            place = 0
            for match in regex.finditer(expression, piece):
                cut += [piece[place : match.start()], match.group()]
                place = match.end()
            cut.append(piece[place:])
        pieces = [piece for piece in cut if piece]
    return [piece.encode() for piece in pieces]


@pytest.mark.parametrize(
    ("name", "expressions"),
    [
        ("llama-bpe", [splits.LLAMA3]),
        ("megrez", [splits.QWEN2]),
        ("tekken", [splits.TEKKEN]),
        ("gpt-4o", [splits.GPT4O]),
        ("seed-coder", [splits.SEED_CODER]),
        ("bailingmoe", [splits.BAILING]),
        ("deepseek-v3", splits.DEEPSEEK3),
        ("deepseek-coder", splits.DEEPSEEK_CODER),
        ("bloom", [r" ?[^\s|.,!?…。，、।۔،()]+"]),
        ("gpt-2", [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]),
        ("smollm", [r"\p{N}", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"]),
    ],
)
def test_splitting_rules(name: str, expressions: list[str]) -> None:
    for text in corpus() + mixtures(200, seed=8):
        assert words(name, text) == by_expressions(text, *expressions), text


def test_every_rule_keeps_the_text() -> None:
    for name in SPLITS:
        for text in ["Hello, it's 12345 tests!\n\n  x", "你好，世界 ٣½ é"]:
            assert b"".join(words(name, text)).decode() == text
