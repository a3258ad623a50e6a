"""Pre-tokenizers, complete: how a text is split into words, one function for each kind in tokenizer.json.

A splitter takes the pieces of the one before it. Whether a piece is where the whole text begins matters to one kind,
so what is dropped leaves an empty piece in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from plait.errors import TokenizerError
from plait.text.letters import spelled
from plait.text.reference.characters import WHITE, compiled, is_numeric, is_punctuation

Splitter = Callable[[str, bool], list[str]]  # (piece, whether the text begins with it) → pieces
Spans = list[tuple[str, bool]]  # the text in pieces, and whether each is a match

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def splitter(spec: Mapping[str, Any] | None) -> Splitter:
    """The splitter that tokenizer.json describes."""
    if spec is None:
        return lambda text, first: [text]
    kind = spec["type"]
    if kind not in _KINDS:
        raise TokenizerError(f"The pre-tokenizer {kind!r} is not in the Python reference; load with use_fast=True.")
    return _KINDS[kind](spec)


def _sequence(spec: Mapping[str, Any]) -> Splitter:
    steps = [splitter(part) for part in spec["pretokenizers"]]

    def run(text: str, first: bool) -> list[str]:
        pieces = [text]
        for step in steps:
            cut = [step(piece, first and place == 0) if piece else [""] for place, piece in enumerate(pieces)]
            pieces = [part for parts in cut for part in parts]
        return pieces

    return run


def behave(spans: Spans, behavior: str) -> list[str]:
    """Matches and the text between them as pieces: matches dropped, apart, or joined to a neighbour."""
    if behavior == "Removed":
        return ["" if match else text for text, match in spans]
    if behavior == "Isolated":
        return [text for text, _ in spans]
    pieces: list[str] = []
    before: bool | None = None  # whether the last piece ends with a match
    for text, match in spans:
        join = {
            "Contiguous": match == before,
            "MergedWithPrevious": match and before is False,
            "MergedWithNext": not match and before is True,
        }[behavior]
        if join:
            pieces[-1] += text
        else:
            pieces.append(text)
        before = match
    return pieces


def by_class(text: str, inside: Callable[[str], bool]) -> Spans:
    """Every character of a class is a match of its own; the text between them is in one piece."""
    spans: Spans = []
    for character in text:
        match = inside(character)
        if not match and spans and not spans[-1][1]:
            spans[-1] = (spans[-1][0] + character, False)
        else:
            spans.append((character, match))
    return spans


def by_regex(text: str, expression: str) -> Spans:
    """The matches of an expression, and the text between them."""
    spans: Spans = []
    place = 0
    for found in compiled(expression).finditer(text):
        if found.end() == found.start():
            continue
        spans += [(text[place : found.start()], False)] if found.start() > place else []
        spans.append((found.group(), True))
        place = found.end()
    return spans + ([(text[place:], False)] if place < len(text) else [])


def by_string(text: str, pattern: str) -> Spans:
    """The places of a string, and the text between them."""
    spans: Spans = []
    for place, piece in enumerate(text.split(pattern)):
        spans += [(pattern, True)] if place else []
        spans += [(piece, False)] if piece else []
    return spans


def _split(spec: Mapping[str, Any]) -> Splitter:
    pattern, behavior = spec["pattern"], spec["behavior"]

    def run(text: str, first: bool) -> list[str]:
        spans = by_regex(text, pattern["Regex"]) if "Regex" in pattern else by_string(text, pattern["String"])
        return behave([(piece, match != spec["invert"]) for piece, match in spans], behavior)

    return run


def _bert(spec: Mapping[str, Any]) -> Splitter:
    """At white space, and around every punctuation mark."""

    def run(text: str, first: bool) -> list[str]:
        words = behave(by_class(text, WHITE.__contains__), "Removed")
        return [piece for word in words for piece in behave(by_class(word, is_punctuation), "Isolated")]

    return run


def _byte_level(spec: Mapping[str, Any]) -> Splitter:
    """Words by GPT-2's rule, unless that is left to another splitter, and then bytes as letters."""

    def run(text: str, first: bool) -> list[str]:
        if spec["add_prefix_space"] and not text.startswith(" "):
            text = " " + text
        words: Iterable[str] = behave(by_regex(text, GPT2), "Isolated") if spec.get("use_regex", True) else [text]
        return [spelled(word.encode("utf-8")) for word in words]

    return run


def _metaspace(spec: Mapping[str, Any]) -> Splitter:
    """Spaces as ▁, one before the text, and words that begin with it."""
    mark, scheme = spec["replacement"], spec.get("prepend_scheme", "always")

    def run(text: str, first: bool) -> list[str]:
        text = text.replace(" ", mark)
        if (scheme == "always" or (scheme == "first" and first)) and not text.startswith(mark):
            text = mark + text
        return behave(by_string(text, mark), "MergedWithNext") if spec.get("split", True) else [text]

    return run


_KINDS: dict[str, Callable[[Mapping[str, Any]], Splitter]] = {
    "Sequence": _sequence,
    "Split": _split,
    "BertPreTokenizer": _bert,
    "ByteLevel": _byte_level,
    "Metaspace": _metaspace,
    "WhitespaceSplit": lambda spec: lambda text, first: behave(by_class(text, WHITE.__contains__), "Removed"),
    "Punctuation": lambda spec: lambda text, first: behave(by_class(text, is_punctuation), spec["behavior"]),
    "Digits": lambda spec: (
        lambda text, first: behave(
            by_class(text, is_numeric), "Isolated" if spec["individual_digits"] else "Contiguous"
        )
    ),
}
