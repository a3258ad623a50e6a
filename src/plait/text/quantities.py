"""Numbers and dates in texts, complete as TAPAS reads them (arXiv:2004.02349, appendix B).

A value is a float, or a date: (year, month, day), None for what the text does not say. English names of months.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

Date = tuple[float | None, float | None, float | None]
Value = float | Date
Key = Callable[[Any], Any]  # numbers for numbers, or tuples of numbers for dates: they compare among themselves
Span = tuple[int, int]

_CARDINALS = "zero,one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve"
_ORDINALS = "zeroth,first,second,third,fourth,fifth,sixth,seventh,eighth,ninth,tenth,eleventh,twelfth"
_NAMED = {word: float(n) for words in (_CARDINALS, _ORDINALS) for n, word in enumerate(words.split(","))}
_NUMBER = re.compile(r"(?:(?:^|\s)[+-])?(?:\.\d+|\d+(?:,\d\d\d)*(?:\.\d*)?)")
_YEARS = range(1700, 2017)  # others are seldom dates
_LONGEST_DATE = 5  # words
# How dates are written, in the order in which they are tried, and which of year, month and day that says.
_FORMS = (
    *(("%B", "m"), ("%Y", "y"), ("%Ys", "y"), ("%b %Y", "ym"), ("%B %Y", "ym"), ("%B %d", "md"), ("%b %d", "md")),
    *(("%d %b", "md"), ("%d %B", "md"), ("%B %d, %Y", "ymd"), ("%d %B %Y", "ymd"), ("%m-%d-%Y", "ymd")),
    *(("%Y-%m-%d", "ymd"), ("%Y-%m", "ym"), ("%d %b %Y", "ymd"), ("%b %d, %Y", "ymd"), ("%d.%m.%Y", "ymd")),
    *(("%A, %b %d", "md"), ("%A, %B %d", "md")),
)
_PARTS = {"%A": r"\w+", "%B": r"\w+", "%Y": r"\d{4}", "%b": r"\w{3}", "%d": r"\d{1,2}", "%m": r"\d{1,2}", " ": r"\s+"}


def _shape(form: str) -> re.Pattern[str]:
    """What a text of that form looks like, told sooner than by reading it as a date."""
    pieces = re.findall(r"%.|.", form)
    return re.compile("".join(_PARTS.get(piece) or re.escape(piece) for piece in pieces) + "$")


_SHAPES = tuple((form, said, _shape(form)) for form, said in _FORMS)


def simple(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def number(text: str) -> float | None:
    """The number that a text is: "1,234.5", "3rd"; None for another text."""
    for ending in ("st", "nd", "rd", "th"):
        if text.endswith(ending):
            text = text.removesuffix(ending)
            break
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return None if math.isnan(value) or value == math.inf else value


def date(text: str) -> Date | None:
    """The date that a text is, from 1700 to 2016 where it has a year; None for another text."""
    text = re.sub(r"Sept\b", "Sep", text)
    for form, said, shape in _SHAPES:
        if not shape.match(text):
            continue
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            continue
        if "y" not in said or found.year in _YEARS:
            parts = (("y", found.year), ("m", found.month), ("d", found.day))
            year, month, day = (float(part) if letter in said else None for letter, part in parts)
            return year, month, day
    return None


def values(text: str) -> list[Value]:
    """All numbers and dates of a text, in order; where they overlap, the longest."""
    found: dict[Span, list[Value]] = {}
    for match in _NUMBER.finditer(text):
        if (value := number(match[0])) is not None:
            found.setdefault(match.span(), []).append(value)
    plain = set(found)
    for begin, end in _spans(text, words=1):
        word = text[begin:end]
        if (begin, end) not in plain:
            named = [value for value in (number(word), _NAMED.get(word)) if value is not None]
            if named:
                found.setdefault((begin, end), []).extend(named)
    for begin, end in _spans(text, words=_LONGEST_DATE):
        if (day := date(text[begin:end])) is not None:
            found.setdefault((begin, end), []).append(day)
    kept: list[Span] = []
    for span in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
        if not any(other[0] <= span[0] and span[1] <= other[1] for other in kept):
            kept.append(span)
    return [value for span in sorted(kept) for value in found[span]]


def _spans(text: str, *, words: int) -> Iterator[Span]:
    """Up to `words` neighbouring words, which are runs of letters and digits."""
    begins: list[int] = []
    for index, letter in enumerate(text):
        if not letter.isalnum():
            continue
        if index == 0 or not text[index - 1].isalnum():
            begins.append(index)
        if index + 1 == len(text) or not text[index + 1].isalnum():
            yield from ((begin, index + 1) for begin in begins[-words:])


def column(cells: Sequence[str]) -> dict[int, Value]:
    """The value of each row of a column of texts: numbers or dates, whichever seven tenths of the cells have, dates
    where both do; none for a column with neither."""
    read = {row: values(simple(cell)) for row, cell in enumerate(cells)}
    kinds = Counter(kind for found in read.values() for kind in {isinstance(value, tuple) for value in found})
    most = max(kinds.values(), default=0)
    if not most or most < len(cells) * 0.7:
        return {}
    dates = kinds[True] == most
    first = {row: [value for value in found if isinstance(value, tuple) == dates] for row, found in read.items()}
    return {row: found[0] for row, found in first.items() if found}


def comparable(found: Iterable[Value]) -> Key | None:
    """What sorts values: numbers by themselves, dates by the parts that all of them have; None where nothing does."""
    found = list(found)
    dates = [value for value in found if isinstance(value, tuple)]
    if not found or 0 < len(dates) < len(found):
        return None
    if not dates:
        return lambda value: value
    parts = [part for part in range(3) if all(day[part] is not None for day in dates)]
    return (lambda day: tuple(day[part] for part in parts)) if parts else None


def ranks(found: Mapping[int, Value]) -> dict[int, tuple[int, int]]:
    """For each row its place from below and from above, from 1; equal values share theirs."""
    key = comparable(found.values())
    if key is None:
        return {}
    order = sorted({key(value) for value in found.values()})
    return {row: (order.index(key(value)) + 1, len(order) - order.index(key(value))) for row, value in found.items()}


def relations(asked: Iterable[Value], found: Mapping[int, Value]) -> dict[int, int]:
    """How the values of a question compare with each row's: the sum of 1 for an equal one, 2 for a smaller one, 4 for
    a larger one."""
    related: dict[int, int] = {}
    for value in asked:
        key = comparable([*found.values(), value]) if found else None
        if key is None:
            continue
        for row, other in found.items():
            mine, theirs = key(value), key(other)
            bit = 1 if mine == theirs else 2 if mine < theirs else 4
            related[row] = related.get(row, 0) | bit
    return related
