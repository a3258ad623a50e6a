"""Texts that tokenizers get wrong: digits, scripts, emoji, code, white space, special tokens spelled out."""

from __future__ import annotations

import random
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def corpus() -> list[str]:
    r"""The lines of golden/corpus.txt, with \n, \t, \r, \\ and \uXXXX read as escapes, and the empty text."""
    lines = (GOLDEN / "corpus.txt").read_text(encoding="utf-8").split("\n")[:-1]
    return [_unescape(line) for line in lines] + [""]


def _unescape(line: str) -> str:
    parts = line.split("\\")
    text, place = parts[0], 1
    while place < len(parts):
        part = parts[place]
        if part.startswith("u"):
            text += chr(int(part[1:5], 16)) + part[5:]
        elif part:
            text += {"n": "\n", "t": "\t", "r": "\r"}[part[0]] + part[1:]
        else:  # two backslashes
            place += 1
            text += "\\" + parts[place]
        place += 1
    return text


def mixtures(count: int, *, seed: int) -> list[str]:
    """`count` texts of 0–10 pieces cut from the corpus at random places, the same on every run."""
    source = random.Random(seed)
    lines = [line for line in corpus() if line]
    texts = []
    for _ in range(count):
        pieces = []
        for line in source.choices(lines, k=source.randint(0, 10)):
            start = source.randrange(len(line))
            pieces.append(line[start : start + source.randint(1, 12)])
        texts.append("".join(pieces))
    return texts
