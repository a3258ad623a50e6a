"""Text fields as numbers and truth values, complete: how a column of text is understood, and when it is not.

Numbers are written as pandas reads them: `1`, `-1.5`, `+2`, `1e5`, with `decimal` and `thousands` as told. Integers
beyond 64 bits are text, so that no digit of an identifier is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

# words for a missing value in columns of numbers; those of pandas
MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"] + [
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
]
_TRUE = ["True", "TRUE", "true"]
_FALSE = ["False", "FALSE", "false"]
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
_INTEGER = r"^[+-]?\d+$"
HEAD = 64  # values


class Writing(Protocol):
    """How fields are written."""

    keep_default_na: bool
    true_values: list[str]
    false_values: list[str]
    decimal: str
    thousands: str | None


def as_kind(text: Any, kind: str, writing: Writing) -> Any:
    """A column of text as "null", "bool", "int", "float" or "text"; `None` when some value is none."""
    if kind == "text" or (kind == "float" and pa.types.is_floating(text.type)):  # parsed as floats already
        return text
    if kind == "null":
        return pa.nulls(len(text)) if _values(text, writing).null_count == len(text) else None
    if kind == "bool":
        return as_bool(text, writing)
    return _as_number(text, kind, writing)


# What spreadsheets make of a date, to be written as ISO does: 2024/1/2, 2024.1.2, 2024年1月2日, 2024-1-2 8:05.
_YEAR_FIRST = (
    (r"^(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?", r"\1-\2-\3"),
    (r"^(\d{4})-(\d)-", r"\1-0\2-"),
    (r"^(\d{4}-\d{2})-(\d)($|[ T])", r"\1-0\2\3"),
    (r"^(\d{4}-\d{2}-\d{2})[ T]+(\d):", r"\1 0\2:"),
)


def as_time(text: Any, kind: Any, format: str | None) -> Any:
    """A column of text as times of an Arrow type; raises `ArrowInvalid`.

    They are written in the ISO format or with the year first, as spreadsheets do, or in a `format` of `strptime`.
    """
    values = pc.utf8_trim_whitespace(text)
    if format is None:
        try:
            return pc.cast(values, kind)
        except pa.ArrowInvalid:
            for pattern, written in _YEAR_FIRST:
                values = pc.replace_substring_regex(values, pattern, written)
            return pc.cast(values, kind)
    found = pc.strptime(values, format=format, unit=getattr(kind, "unit", "us"))
    return pc.cast(found, kind)


def first_kind(text: Any, writing: Writing) -> str:
    """The narrowest kind that the first few values allow: where to begin with a column of which nothing is known."""
    head, kind = text.slice(0, HEAD), "null"
    while as_kind(head, kind, writing) is None:
        kind = kind_after(kind, head, writing)
    return kind


def kind_after(kind: str, text: Any, writing: Writing) -> str:
    """The next kind to try when a column does not fit one."""
    if kind == "null":
        return "bool" if as_bool(text, writing) is not None else "int"
    return {"bool": "text", "int": "float", "float": "text"}[kind]


def as_bool(text: Any, writing: Writing) -> Any:
    """A column of text as truth values; `None` when some value is no word for one."""
    values = _values(text, writing)
    true = pc.is_in(values, value_set=pa.array([*_TRUE, *writing.true_values]))
    false = pc.is_in(values, value_set=pa.array([*_FALSE, *writing.false_values]))
    known = pc.or_(pc.or_(true, false), values.is_null())
    if not pc.all(known).as_py() and len(text):
        return None
    return pc.if_else(values.is_null(), pa.scalar(None, pa.bool_()), true)


def _as_number(text: Any, kind: str, writing: Writing) -> Any:
    if writing.decimal == "." and writing.thousands is None:
        found = _usual_number(text, kind)
        if found is not None:
            return found
    values = _values(text, writing)
    if writing.thousands is not None:
        values = pc.replace_substring(values, writing.thousands, "")
    if writing.decimal != ".":
        values = pc.replace_substring(values, writing.decimal, ".")
    pattern = _INTEGER if kind == "int" else _NUMBER
    if not _all(pc.match_substring_regex(values, pattern)):
        return None
    values = pc.replace_substring_regex(values, r"^\+", "")
    try:
        integers = pc.match_substring_regex(values, _INTEGER)
        pc.cast(pc.if_else(integers, values, pa.scalar(None, pa.string())), pa.int64())
        return pc.cast(values, pa.int64() if kind == "int" else pa.float64())
    except pa.ArrowInvalid:
        return None  # an integer beyond 64 bits


def _usual_number(text: Any, kind: str) -> Any:
    """A column of numbers without signs, spaces or words that need care; `None` when there may be such."""
    try:
        found = pc.cast(text, pa.int64() if kind == "int" else pa.float64())
    except pa.ArrowInvalid:
        return None
    if kind == "int":  # Arrow also takes 0x10, which nobody means
        return None if _any(pc.match_substring(text, "x")) or _any(pc.match_substring(text, "X")) else found
    return found if plain_floats(found) else None


def plain_floats(parsed: Any) -> bool:
    """Whether numbers that Arrow parsed as floats are that: "nan" may be a word for a missing value, and integers
    beyond 64 bits are text."""
    numbers = (parsed.drop_null() if parsed.null_count else parsed).to_numpy()
    if numbers @ numbers < 2.0**126:  # the square of none is larger than their sum
        return True
    return not len(numbers) or bool(numbers.max() < 2.0**63 and numbers.min() > -(2.0**63))


def floats_among(kinds: Mapping[str, str], writing: Writing) -> list[str]:
    """The columns of floats where all columns are numbers, written in the usual way: Arrow may parse them at once.

    Words for missing values mean the same in all of them; a column of text would lose these words.
    """
    if writing.decimal != "." or writing.thousands is not None or not set(kinds.values()) <= {"int", "float"}:
        return []
    return [name for name, kind in kinds.items() if kind == "float"]


def _values(text: Any, writing: Writing) -> Any:
    """A column of text without spaces around values and without words for missing values."""
    values = pc.utf8_trim_whitespace(text)
    words = pa.array(MISSING if writing.keep_default_na else [""])
    return pc.if_else(pc.is_in(values, value_set=words), pa.scalar(None, pa.string()), values)


def _any(mask: Any) -> bool:
    return bool(pc.any(mask).as_py())


def _all(mask: Any) -> bool:
    found = pc.all(mask).as_py()
    return True if found is None else bool(found)
