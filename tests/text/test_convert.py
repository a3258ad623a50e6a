"""Older files against the libraries that own them: sentencepiece and tiktoken themselves, and transformers' classes."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
import transformers
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from text_samples import corpus, mixtures
from tokenizers import decoders, models, pre_tokenizers, trainers

from plait.errors import NotFoundError, TokenizerError
from plait.text import Tokenizer, sentencepiece
from plait.text.letters import bytes_of_letters
from plait.text.splits import LLAMA3, QWEN2

SPELLED_OUT = ("<s>", "</s>", "<unk>", "<pad>", "<mask>", "[CLS]", "[SEP]", "[MASK]", "<|", "<extra")


def texts(count: int = 400, *, special: bool = False) -> Iterator[str]:
    """The corpus and mixtures of it; without `special` only texts that spell out no special token."""
    for text in corpus() + mixtures(count, seed=6):
        if special or not any(token in text for token in SPELLED_OUT):
            yield text


def unigram(path: Path, **options: Any) -> Path:
    return trained(path, model_type="unigram", **options)


def trained(path: Path, **options: Any) -> Path:
    """A small sentencepiece model, trained on the corpus."""
    lines = [line for text in corpus() for line in text.split("\n") if line.strip() and "<" not in line] * 3
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            **{"vocab_size": 700, "character_coverage": 0.98, "minloglevel": 2, "hard_vocab_limit": False, **options},
        )
    return path


LLAMA = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
}
MODELS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "normalization_rule_name": "identity"},
    "unigram with bytes": {"model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "identity"},
    "unigram over spaces": {
        "model_type": "unigram",
        "split_by_whitespace": False,
        "normalization_rule_name": "identity",
    },
    "bpe": {"model_type": "bpe", "normalization_rule_name": "identity"},
    "llama": LLAMA,
    "gemma": {**LLAMA, "add_dummy_prefix": False, "user_defined_symbols": ["λx", "[y]"]},
}


@pytest.mark.parametrize("name", MODELS)
def test_sentencepiece_models(name: str, tmp_path: Path) -> None:
    path = trained(tmp_path / "m.model", **MODELS[name])
    theirs = SentencePieceProcessor(model_file=str(path))
    model = sentencepiece.read(path)
    assert [piece.text for piece in model.pieces] == [theirs.id_to_piece(i) for i in range(len(theirs))]
    assert [piece.score for piece in model.pieces] == [theirs.get_score(i) for i in range(len(theirs))]
    ours = sentencepiece.crate(model)
    for text in texts():
        ids, own = theirs.encode(text), ours.encode(text, add_special_tokens=False).ids
        if own != ids:
            # Two cuts of equal likelihood: sentencepiece adds scores in 32 bits, the crate in 64.
            assert name.startswith("unigram"), text
            scores = [sum(model.pieces[index].score for index in row) for row in (own, ids)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-6), text
        if model.unknown not in ids:  # sentencepiece writes an unknown piece as " ⁇ "
            assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids)


def test_sentencepiece_character_maps(tmp_path: Path) -> None:
    """The crate applies the map by graphemes and so drops marks that follow a mapped letter; else ids are the same."""
    path = unigram(tmp_path / "m.model")
    theirs = SentencePieceProcessor(model_file=str(path))
    ours = sentencepiece.crate(sentencepiece.read(path))
    different = [text for text in texts() if ours.encode(text, add_special_tokens=False).ids != theirs.encode(text)]
    assert len(different) <= 0.05 * len(list(texts()))
    assert ours.encode("ﬁ① ｈｅ\u3000x\t", add_special_tokens=False).ids == theirs.encode("ﬁ① ｈｅ\u3000x\t")


def test_broken_sentencepiece_files(tmp_path: Path) -> None:
    path = trained(tmp_path / "m.model", **LLAMA)
    data = path.read_bytes()
    for broken in (data[:-3], b"not a model at all", b"\x0a\xff\xff\xff\xff\x0f"):
        path.write_bytes(broken)
        with pytest.raises(TokenizerError, match="is not a sentencepiece model, or it is cut short"):
            sentencepiece.read(path)
    path.write_bytes(b"")
    with pytest.raises(TokenizerError, match="it has no pieces"):
        sentencepiece.read(path)
    trained(path, model_type="char")
    with pytest.raises(TokenizerError, match=r"of type 4; only unigram \(1\) and BPE \(2\)"):
        sentencepiece.read(path)
    trained(path, **{**LLAMA, "treat_whitespace_as_suffix": True})
    with pytest.raises(TokenizerError, match="that write spaces as suffixes"):
        sentencepiece.crate(sentencepiece.read(path))


ALBERT = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "pad_piece": "<pad>",
    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
}


@pytest.mark.parametrize(
    ("name", "file", "options", "config"),
    [
        ("T5Tokenizer", "spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, {}),
        ("XLMRobertaTokenizer", "sentencepiece.bpe.model", {}, {}),
        ("AlbertTokenizer", "spiece.model", ALBERT, {}),
        ("AlbertTokenizer", "spiece.model", ALBERT, {"do_lower_case": False, "keep_accents": True}),
    ],
)
def test_sentencepiece_classes(
    name: str, file: str, options: dict[str, Any], config: dict[str, Any], tmp_path: Path
) -> None:
    """What a class adds, against transformers' own conversion of the same folder."""
    unigram(tmp_path / file, **options)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **config}))
    ours = Tokenizer.from_folder(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(str(tmp_path))
    for text in texts():
        if any(letter in text for letter in "\u200b\ufeff\u0000\u0007\u001b\u0301\u0303\u0308\u0327"):
            continue  # where transformers' conversions leave the model's own settings
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
    assert ours("a b", "c d")["input_ids"] == theirs("a b", "c d")["input_ids"]
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert getattr(ours, f"{role}_token_id") == getattr(theirs, f"{role}_token_id"), role
    assert len(ours) == len(theirs)


def test_llama_model_file(tmp_path: Path) -> None:
    path = trained(tmp_path / "tokenizer.model", **LLAMA)
    theirs = SentencePieceProcessor(model_file=str(path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    ours = Tokenizer.from_folder(tmp_path)
    assert (ours.bos_token, ours.eos_token, ours.padding_side) == ("<s>", "</s>", "left")
    for text in texts():
        assert ours(text)["input_ids"] == [1, *theirs.encode(text)]
        assert ours.decode(ours.encode(text), skip_special_tokens=True) == text
    assert ours.tokenize("</s>a") == ["</s>", "▁a"]
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "legacy": false}')
    assert Tokenizer.from_folder(tmp_path).tokenize("</s>a") == ["</s>", "a"]
    assert Tokenizer.from_folder(tmp_path, legacy=True).tokenize("</s>a") == ["</s>", "▁a"]
    with_end = Tokenizer.from_folder(tmp_path, add_bos_token=False, add_eos_token=True)
    assert with_end("")["input_ids"] == [2]


def test_sentencepiece_models_of_no_known_class(tmp_path: Path) -> None:
    path = trained(tmp_path / "tokenizer.model", **LLAMA)
    ours = Tokenizer.from_folder(tmp_path)
    assert ours("a b")["input_ids"] == SentencePieceProcessor(model_file=str(path)).encode("a b")


def test_bert_vocabulary(minilm: Path, bert: Tokenizer, tmp_path: Path) -> None:
    """vocab.txt alone gives what tokenizer.json gives."""
    shutil.copy(minilm / "vocab.txt", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    ours = Tokenizer.from_folder(tmp_path)
    for text in texts(special=True):
        assert dict(ours(text)) == dict(bert(text))
    assert ours.all_special_ids == bert.all_special_ids
    for config in ({"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
        ours, theirs = Tokenizer.from_folder(tmp_path), transformers.BertTokenizer.from_pretrained(str(tmp_path))
        for text in texts(100, special=True):
            assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_broken_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\na\n")
    with pytest.raises(TokenizerError, match="holds a token twice: 5 lines are 4 tokens"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")
    with pytest.raises(
        TokenizerError, match=r"The vocabulary lacks \[CLS\], \[SEP\]; a BERT tokenizer cannot do without"
    ):
        Tokenizer.from_folder(tmp_path)


def byte_pairs(folder: Path, *, regex: str | None = None, special: tuple[str, ...] = ("<|endoftext|>",)) -> Any:
    """vocab.json and merges.txt, learned from the corpus; returns the crate's tokenizer."""
    crate = tokenizers.Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    split = [pre_tokenizers.Split(tokenizers.Regex(regex), "isolated")] if regex else []
    crate.pre_tokenizer = pre_tokenizers.Sequence([*split, level])
    crate.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=list(special))
    crate.train_from_iterator(corpus() * 3, trainer)
    crate.model.save(str(folder))
    return crate


@pytest.mark.parametrize(
    ("name", "special"),
    [
        ("GPT2Tokenizer", ("<|endoftext|>",)),
        ("RobertaTokenizer", ("<s>", "<pad>", "</s>", "<unk>", "<mask>")),
        ("Qwen2Tokenizer", ("<|endoftext|>",)),
    ],
)
def test_vocabulary_and_merges(name: str, special: tuple[str, ...], tmp_path: Path) -> None:
    byte_pairs(tmp_path, regex=QWEN2 if name.startswith("Qwen") else None, special=special)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    # The space before <mask> belongs to it, as roberta-base's tokenizer.json has it.
    mask = {"mask_token": tokenizers.AddedToken("<mask>", lstrip=True)} if name.startswith("Roberta") else {}
    ours = Tokenizer.from_folder(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(str(tmp_path), **mask)
    for text in texts(special=True):
        assert dict(ours(text, return_offsets_mapping=True)) == dict(theirs(text, return_offsets_mapping=True)), text
    assert dict(ours("a", "b")) == dict(theirs("a", "b"))
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert getattr(ours, f"{role}_token") == getattr(theirs, f"{role}_token"), role


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "RobertaTokenizer"])
def test_a_space_before_every_text(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    byte_pairs(tmp_path, special=("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "add_prefix_space": None}))
    theirs = getattr(transformers, name).from_pretrained(str(tmp_path), add_prefix_space=True)
    asked = Tokenizer.from_folder(tmp_path, add_prefix_space=True)
    asked.save_pretrained(tmp_path / "saved")
    plain = Tokenizer.from_folder(tmp_path / "saved", add_prefix_space=False)
    (tmp_path / "saved" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    again = Tokenizer.from_folder(tmp_path / "saved")
    for text in ["word", " word", "tokens and words", *texts(50)]:
        expected = dict(theirs(text, return_offsets_mapping=True))
        assert dict(asked(text, return_offsets_mapping=True)) == expected, text
        assert dict(again(text, return_offsets_mapping=True)) == expected, text
        assert dict(plain(text)) == dict(Tokenizer.from_folder(tmp_path)(text)), text
    assert "no effect" not in caplog.text


def test_opt_begins_every_text(tmp_path: Path) -> None:
    byte_pairs(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true}')
    ours, theirs = Tokenizer.from_folder(tmp_path), transformers.GPT2Tokenizer.from_pretrained(str(tmp_path))
    for text in texts(50):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours("a", "b")["input_ids"] == theirs("a", "b")["input_ids"]
    without = Tokenizer.from_folder(tmp_path, add_bos_token=False)
    assert without("a")["input_ids"] == ours("a")["input_ids"][1:]


def test_a_class_that_is_not_known_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crate = byte_pairs(tmp_path)
    ours = Tokenizer.from_folder(tmp_path)
    assert "its texts are split by the rule of GPT-2" in caplog.text
    assert all(ours(text)["input_ids"] == crate.encode(text).ids for text in texts(50))


def test_broken_merges(tmp_path: Path) -> None:
    byte_pairs(tmp_path)
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8")
    (tmp_path / "merges.txt").write_text(merges + "Ġ\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"Line \d+ of .*merges\.txt is 'Ġ'; a merge is two tokens with a space"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a</w>": 0,')
    with pytest.raises(TokenizerError, match=r"vocab.json is not valid JSON: .* Fetch or write the file again"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a</w>": 0, "a": 1}')
    with pytest.raises(TokenizerError, match=r"is not a byte-level vocabulary: it lacks the letters .*\(CLIP, CTRL"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(("file", "regex"), [("qwen.tiktoken", QWEN2), ("tokenizer.model", LLAMA3)])
def test_tiktoken_files(file: str, regex: str, tmp_path: Path) -> None:
    bytes_of = bytes_of_letters()
    crate = byte_pairs(tmp_path, regex=regex, special=())
    vocabulary = crate.get_vocab()
    ranks = {bytes(bytes_of[letter] for letter in token): rank for token, rank in vocabulary.items()}
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    (tmp_path / file).write_text("\n".join(lines) + "\n")
    ours = Tokenizer.from_folder(tmp_path)
    theirs = tiktoken.Encoding("own", pat_str=regex, mergeable_ranks=ranks, special_tokens={})
    first = [] if file.startswith("qwen") else [600]
    for text in texts(special=True):
        if "<|" in text or (first == [] and not text.isascii()):
            continue  # Qwen composes letters and marks first, which tiktoken leaves to the caller
        assert ours(text)["input_ids"] == first + theirs.encode(text, disallowed_special=()), text
        assert ours.decode(ours.encode(text), skip_special_tokens=True) == text
    if first:
        assert ours.tokenize("<|start_header_id|><|eot_id|>x") == ["<|start_header_id|>", "<|eot_id|>", "x"]
        assert ours.convert_tokens_to_ids("<|eot_id|>") == 609
        assert len(ours) == 856
    else:
        assert ours.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|extra_204|>"]) == [600, 601, 807]
        assert ours.tokenize("e\u0301") == ours.tokenize("é")
    (tmp_path / file).write_text("\n".join(lines[:-2]) + "\nIQ== x\n")
    with pytest.raises(TokenizerError, match=r"Line 599 of .* is b'IQ== x'; a tiktoken file holds base64 and a rank"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / file).write_text("\n".join(lines[:10] + lines[11:]) + "\n")
    with pytest.raises(TokenizerError, match="are not 0 to 598; the file is cut short or edited"):
        Tokenizer.from_folder(tmp_path)


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(NotFoundError, match=r"no tokenizer\.json, vocab\.txt.*There is: weights\.bin"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(NotFoundError, match=r"There is: no such folder"):
        Tokenizer.from_folder(tmp_path / "none")
