"""Name templates, complete: "encoder.layer.{i}.output.{wb}" as a pattern for whole names and as a form to fill.

| placeholder | stands for |
|---|---|
| `{i}`, `{j}`, … (one letter) | an index: 0, 1, 2, … without leading zeros |
| `{wb}` | `weight` or `bias` |
| `{p:query\\|key}` | one of the words listed; `{p}` alone refers to the list on the other side of the rule |
| `{rest}` | anything, dots included; for names that are ignored |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from itertools import product

from plait.errors import OptionError

Binding = Mapping[str, str]

_PLACEHOLDER = re.compile(r"\{([a-z]+)(?::([\w|]+))?\}")
_INDEX = r"(?:0|[1-9][0-9]*)"


def declared_words(text: str) -> dict[str, tuple[str, ...]]:
    """The lists of words that a template declares, by placeholder."""
    return {name: tuple(listed.split("|")) for name, listed in _PLACEHOLDER.findall(text) if listed}


class Template:
    """A name with placeholders. `words` gives the choices of placeholders that are declared elsewhere."""

    def __init__(self, text: str, *, words: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.text = text
        self.words = {**(words or {}), **declared_words(text)}
        names = [name for name, _ in _PLACEHOLDER.findall(text)]
        if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
            raise OptionError(
                f"Name template {text!r} has a brace that belongs to no placeholder; write {{i}} or {{wb}}."
            )
        if len(set(names)) != len(names):
            raise OptionError(f"Name template {text!r} uses a placeholder twice.")
        self.placeholders = frozenset(names)
        self._pattern = re.compile(self._expression())

    def _expression(self) -> str:
        parts, end = [], 0
        for found in _PLACEHOLDER.finditer(self.text):
            parts += [re.escape(self.text[end : found.start()]), f"(?P<{found[1]}>{self._values_of(found[1])})"]
            end = found.end()
        return "".join(parts) + re.escape(self.text[end:])

    def _values_of(self, placeholder: str) -> str:
        if placeholder in self.words:
            return "|".join(self.words[placeholder])
        if placeholder == "wb":
            return "weight|bias"
        if placeholder == "rest":
            return ".+"
        if len(placeholder) == 1:
            return _INDEX
        raise OptionError(
            f"Name template {self.text!r} has the unknown placeholder {{{placeholder}}}. Known are one letter for an "
            f"index, {{wb}}, {{rest}}, and a list of words such as {{{placeholder}:query|key}}."
        )

    def match(self, name: str) -> Binding | None:
        """What the placeholders stand for in `name`, or None when the whole name does not fit."""
        found = self._pattern.fullmatch(name)
        return found.groupdict() if found else None

    def fill(self, binding: Binding) -> str:
        """The name with every placeholder replaced."""
        return _PLACEHOLDER.sub(lambda found: binding[found[1]], self.text)

    @cached_property
    def examples(self) -> tuple[str, ...]:
        """Names that match, at least one for each choice of words, to find templates that overlap."""
        choices = {
            name: self.words.get(name) or {"wb": ("weight", "bias"), "rest": ("x", "x.y")}.get(name, ("0", "1"))
            for name in sorted(self.placeholders)
        }
        return tuple(self.fill(dict(zip(choices, values, strict=True))) for values in product(*choices.values()))

    def __repr__(self) -> str:
        return repr(self.text)
