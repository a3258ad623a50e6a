"""Decoders, complete: how tokens become text again, one function for each kind in tokenizer.json.

A decoder takes the tokens as strings and gives strings, which are joined at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plait.errors import TokenizerError
from plait.text.letters import bytes_of_letters
from plait.text.reference.characters import compiled

Decoder = Callable[[list[str]], list[str]]


def decoder(spec: Mapping[str, Any] | None) -> Decoder:
    """The decoder that tokenizer.json describes; without one, tokens are joined with spaces."""
    if spec is None:
        return lambda tokens: [" ".join(tokens)]
    kind = spec["type"]
    if kind not in _KINDS:
        raise TokenizerError(f"The decoder {kind!r} is not in the Python reference; load with use_fast=True.")
    return _KINDS[kind](spec)


def _sequence(spec: Mapping[str, Any]) -> Decoder:
    steps = [decoder(part) for part in spec["decoders"]]

    def run(tokens: list[str]) -> list[str]:
        for step in steps:
            tokens = step(tokens)
        return tokens

    return run


# The spaces that WordPiece leaves within a token, each closed in turn.
_SPACES = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"))
_MORE_SPACES = ((" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


def _wordpiece(spec: Mapping[str, Any]) -> Decoder:
    def run(tokens: list[str]) -> list[str]:
        made = []
        for place, token in enumerate(tokens):
            if place:
                continues = token.startswith(spec["prefix"])
                token = token.removeprefix(spec["prefix"]) if continues else " " + token
            if spec["cleanup"]:
                for spaced, closed in _SPACES + _MORE_SPACES:
                    token = token.replace(spaced, closed)
            made.append(token)
        return made

    return run


def _byte_level(spec: Mapping[str, Any]) -> Decoder:
    """Letters as bytes; a token with other letters, an added one, is text as it stands."""
    known = bytes_of_letters()

    def run(tokens: list[str]) -> list[str]:
        data = b"".join(
            bytes(known[letter] for letter in token)
            if all(letter in known for letter in token)
            else token.encode("utf-8")
            for token in tokens
        )
        return [data.decode("utf-8", errors="replace")]

    return run


def _byte_fallback(spec: Mapping[str, Any]) -> Decoder:
    """A run of byte tokens is text when it is valid UTF-8 as a whole, and else one U+FFFD for each byte."""

    def run(tokens: list[str]) -> list[str]:
        made: list[str] = []
        run_of_bytes = bytearray()

        def close() -> None:
            if run_of_bytes:
                try:
                    made.append(run_of_bytes.decode("utf-8"))
                except UnicodeDecodeError:
                    made.extend("\ufffd" for _ in run_of_bytes)
                run_of_bytes.clear()

        for token in tokens:
            if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
                run_of_bytes.append(int(token[3:5], 16))
            else:
                close()
                made.append(token)
        close()
        return made

    return run


def _metaspace(spec: Mapping[str, Any]) -> Decoder:
    mark, prepends = spec["replacement"], spec.get("prepend_scheme", "always") != "never"

    def run(tokens: list[str]) -> list[str]:
        made = []
        for place, token in enumerate(tokens):
            text = token.replace(mark, " ")
            made.append(text[1:] if place == 0 and prepends and token.startswith(mark) else text)
        return made

    return run


def _replace(spec: Mapping[str, Any]) -> Decoder:
    pattern, content = spec["pattern"], spec["content"]
    if "String" in pattern:
        return lambda tokens: [token.replace(pattern["String"], content) for token in tokens]
    expression = compiled(pattern["Regex"])
    return lambda tokens: [expression.sub(lambda _: content, token) for token in tokens]


def _strip(spec: Mapping[str, Any]) -> Decoder:
    """Up to so many times a character off the beginning and the end of each string."""
    mark, left, right = spec["content"], spec["start"], spec["stop"]

    def run(tokens: list[str]) -> list[str]:
        made = []
        for token in tokens:
            start, stop = 0, len(token)
            while start < min(left, stop) and token[start] == mark:
                start += 1
            while stop > start and len(token) - stop < right and token[stop - 1] == mark:
                stop -= 1
            made.append(token[start:stop])
        return made

    return run


def _bpe(spec: Mapping[str, Any]) -> Decoder:
    """The end-of-word suffix as a space, except behind the last word."""

    def run(tokens: list[str]) -> list[str]:
        last = len(tokens) - 1
        return [token.replace(spec["suffix"], "" if place == last else " ") for place, token in enumerate(tokens)]

    return run


_KINDS: dict[str, Callable[[Mapping[str, Any]], Decoder]] = {
    "Sequence": _sequence,
    "WordPiece": _wordpiece,
    "ByteLevel": _byte_level,
    "ByteFallback": _byte_fallback,
    "Metaspace": _metaspace,
    "Replace": _replace,
    "Strip": _strip,
    "BPEDecoder": _bpe,
    "Fuse": lambda spec: lambda tokens: ["".join(tokens)],
}
