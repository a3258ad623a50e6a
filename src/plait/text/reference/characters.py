r"""What kind a character is, complete: the Unicode classes that rules speak of, and regular expressions over them.

The expressions of tokenizers are written for the Oniguruma engine, with classes such as `\p{L}`. Python's `re` has
none of these, so `compiled` writes each class out as the ranges of its characters.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

# The property White_Space. Python's str.isspace() counts four control characters (U+001C–U+001F) more.
WHITE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | {chr(c) for c in range(0x2000, 0x200B)}


def is_numeric(character: str) -> bool:
    """Digits, letter-like numbers and fractions of any script."""
    return unicodedata.category(character)[0] == "N"


def is_punctuation(character: str) -> bool:
    """Punctuation of any script, and all ASCII characters that are neither letter, digit, space nor control."""
    ascii_mark = character in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    return ascii_mark or unicodedata.category(character)[0] == "P"


def is_control(character: str) -> bool:
    """Control, format and private-use characters, except tab, line feed and carriage return."""
    return character not in "\t\n\r" and unicodedata.category(character) in ("Cc", "Cf", "Co")


def is_word(character: str) -> bool:
    r"""What `\w` matches: letters, marks, decimal digits, connecting punctuation."""
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc") or character in "\u200c\u200d"


@lru_cache(maxsize=64)
def ranges(category: str) -> str:
    r"""The characters of a category ("L", "Lu", …) as the inside of a regular expression's class."""
    found: list[tuple[int, int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)).startswith(category):
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in found)


_WHITE = "".join(map(re.escape, sorted(WHITE)))
_TOKEN = re.compile(r"\\p\{(\w+)\}|\\([sSAzZ])|\\.|\[\^?|\]|.", re.DOTALL)


@lru_cache(maxsize=64)
def compiled(expression: str) -> re.Pattern[str]:
    r"""An Oniguruma expression for Python: `\p{…}`, `\s`, `\A`, `\z` and classes within classes are written out."""
    made: list[str] = []
    depth = 0
    for found in _TOKEN.finditer(expression):
        text, category, escape = found.group(), found.group(1), found.group(2)
        if category:
            made.append(ranges(category) if depth else f"[{ranges(category)}]")
        elif escape in ("s", "S"):
            if depth and escape == "S":
                raise ValueError(f"\\S within a class is not known: {expression!r}")
            made.append(_WHITE if depth else f"[{'^' if escape == 'S' else ''}{_WHITE}]")
        elif escape in ("z", "Z"):
            made.append(r"\Z")
        elif text in ("[", "[^"):
            if depth and text == "[^":
                raise ValueError(f"A negated class within a class is not known: {expression!r}")
            made.append(text if not depth else "")  # a class within a class adds its characters
            depth += 1
        elif text == "]":
            depth -= 1
            made.append("]" if not depth else "")
        else:
            made.append(text)
    return re.compile("".join(made))
