"""Added tokens, complete: finding them whole in a text, before anything else is done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from plait.text.reference.characters import WHITE, is_word

Section = tuple[str, Mapping[str, Any] | None]  # a stretch of the text, and the added token that it is


class AddedTokens:
    """A set of added tokens, searched from the left, the longest first."""

    def __init__(self, tokens: Iterable[Mapping[str, Any]], *, spelled: Callable[[str], str]) -> None:
        # A trie: letters lead from table to table, and the entry "" marks a token's end.
        self._root: dict[str, Any] = {}
        for token in tokens:
            if text := spelled(token["content"]):
                node = self._root
                for letter in text:
                    node = node.setdefault(letter, {})
                node.setdefault("", token)  # of two that are spelled alike the first stays

    def sections(self, text: str, *, skip_special: bool) -> list[Section]:
        """The text cut at the added tokens in it; with `skip_special` special ones are not looked for."""
        found: list[Section] = []
        done = place = 0
        while place < len(text):
            token, stop = self._longest(text, place)
            if token is None:
                place += 1
                continue
            start, place = place, stop
            if skip_special and token["special"]:
                continue
            if token["single_word"] and (
                is_word(text[start - 1 : start] or " ") or is_word(text[stop : stop + 1] or " ")
            ):
                continue
            while token["lstrip"] and start > done and text[start - 1] in WHITE:
                start -= 1
            while token["rstrip"] and stop < len(text) and text[stop] in WHITE:
                stop += 1
            found += [(text[done:start], None)] if start > done else []
            found.append((text[start:stop], token))
            done = place = stop
        return found + ([(text[done:], None)] if done < len(text) else [])

    def _longest(self, text: str, place: int) -> tuple[Mapping[str, Any] | None, int]:
        """The longest token that begins at a place, and where it ends."""
        node, longest, stop = self._root, None, place
        for end in range(place, len(text)):
            node = node.get(text[end], {})
            if not node:
                break
            if "" in node:
                longest, stop = node[""], end + 1
        return longest, stop
