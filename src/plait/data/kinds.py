"""The less common kinds of columns, complete: arrays of fixed rank, translations, and JSON of any shape.

`Array2D` … `Array5D` are stored as nested lists, as datasets stores them; `Translation` is a struct of one text per
language; `Json` is text holding any JSON value, for columns whose rows have no common type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from plait.data.dtypes import arrow_type
from plait.data.features import Feature, FeatureType, List, Value
from plait.data.pictures import how_to_hold
from plait.errors import DataError, nearest


@dataclass(frozen=True)
class ArrayFeature(Feature):
    """A column of arrays with a fixed number of axes: `Array2D(shape=(28, 28), dtype="uint8")`.

    The first axis may be `None`: its length then differs from row to row.
    """

    shape: tuple[int | None, ...]
    dtype: str
    id: str | None = field(default=None, repr=False)
    rank: ClassVar[int] = 0
    encoded = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        arrow_type(self.dtype)
        if len(self.shape) != self.rank:
            raise DataError(
                f"{type(self).__name__} has {self.rank} axes, but shape={self.shape} has {len(self.shape)}. "
                f"Use Array{len(self.shape)}D, or give {self.rank} lengths."
            )
        if None in self.shape[1:]:
            raise DataError(f"Only the first axis may have no fixed length, but shape={self.shape}.")

    @property
    def arrow(self) -> pa.DataType:
        kind = arrow_type(self.dtype)
        for _ in self.shape:
            kind = pa.list_(kind)
        return kind

    def encode_example(self, value: Any) -> Any:
        if value is None:
            return None
        import numpy as np

        array = np.asarray(value)
        if array.ndim != self.rank or any(
            want is not None and want != have for want, have in zip(self.shape, array.shape, strict=True)
        ):
            raise DataError(f"An array of shape {array.shape} does not fit {self!r}.")
        return array.tolist()


class Array2D(ArrayFeature):
    """Arrays with two axes: `Array2D(shape=(28, 28), dtype="uint8")`; the first may be `None`."""

    rank = 2


class Array3D(ArrayFeature):
    """Arrays with three axes: `Array3D(shape=(3, 28, 28), dtype="uint8")`; the first may be `None`."""

    rank = 3


class Array4D(ArrayFeature):
    """Arrays with four axes: `Array4D(shape=(8, 3, 28, 28), dtype="uint8")`; the first may be `None`."""

    rank = 4


class Array5D(ArrayFeature):
    """Arrays with five axes: `Array5D(shape=(2, 8, 3, 28, 28), dtype="uint8")`; the first may be `None`."""

    rank = 5


@dataclass(frozen=True)
class Translation(Feature):
    """One text per language: `Translation(languages=["en", "zh"])`, stored as a struct."""

    languages: list[str]
    id: str | None = field(default=None, repr=False)

    def __hash__(self) -> int:
        return hash(tuple(self.languages))

    @property
    def arrow(self) -> pa.DataType:
        return pa.struct([pa.field(language, pa.string()) for language in sorted(self.languages)])

    dtype: ClassVar[str] = "dict"

    def flatten(self) -> FeatureType:
        """One column of text per language."""
        return {language: Value("string") for language in sorted(self.languages)}


@dataclass(frozen=True)
class TranslationVariableLanguages(Feature):
    """Any number of texts per language, stored as two parallel lists, `language` and `translation`."""

    languages: list[str] | None = None
    num_languages: int | None = None
    id: str | None = field(default=None, repr=False)
    encoded = True

    def __post_init__(self) -> None:
        languages = sorted(set(self.languages)) if self.languages else None
        object.__setattr__(self, "languages", languages)
        object.__setattr__(self, "num_languages", len(languages) if languages else None)

    def __hash__(self) -> int:
        return hash(tuple(self.languages or ()))

    @property
    def arrow(self) -> pa.DataType:
        return pa.struct([pa.field(name, pa.list_(pa.string())) for name in ("language", "translation")])

    dtype: ClassVar[str] = "dict"

    def flatten(self) -> FeatureType:
        """The two parallel lists."""
        return {"language": List(Value("string")), "translation": List(Value("string"))}

    def encode_example(self, value: Any) -> Any:
        if value is None or set(value) == {"language", "translation"}:
            return value
        pairs: list[tuple[str, str]] = []
        for language, texts in value.items():
            if self.languages and language not in self.languages:
                raise DataError(f"{language!r} is not one of the languages.{nearest(language, self.languages)}")
            pairs += [(language, text) for text in ([texts] if isinstance(texts, str) else texts)]
        pairs.sort()
        return {"language": [pair[0] for pair in pairs], "translation": [pair[1] for pair in pairs]}


@dataclass(frozen=True)
class Json(Feature):
    """Any JSON value, stored as text: for columns whose rows have no common type. `decode=False` gives the text."""

    decode: bool = True
    id: str | None = field(default=None, repr=False)
    encoded = True

    @property
    def arrow(self) -> pa.DataType:
        return pa.string()

    def encode_example(self, value: Any) -> Any:
        return None if value is None else json.dumps(value, ensure_ascii=False, default=_plain)

    def decode_example(self, value: Any) -> Any:
        return json.loads(value) if self.decode and value is not None else value

    @property
    def decoded(self) -> bool:
        return self.decode


def _plain(value: Any) -> Any:
    """What `json` cannot write itself: NumPy scalars and arrays, mappings."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise DataError(f"{value!r:.100} ({type(value).__name__}) is no value that a column can hold.{how_to_hold(value)}")
