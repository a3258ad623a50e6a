"""Data sets as JSON, complete: one object per line, or one array of objects.

Columns become JSON text in Arrow, whole blocks at once, and are joined to rows there. Python's encoder writes what
Arrow has no exact text for: strings, dates, pictures, and values that JSON itself does not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plait.data.accepted import no_effect
from plait.data.decode import column_to_python, to_python
from plait.data.encode import simple
from plait.data.features import is_decoded
from plait.data.remote import opened
from plait.data.widen import list_parts
from plait.errors import OptionError, nearest, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

_BATCH = 10_000  # rows written at once
_BYTES = 64 << 20  # of a column in a block: the text of larger ones might not fit into one Arrow array


def to_json(
    self: Dataset,
    path_or_buf: str | Path | BinaryIO,
    batch_size: int | None = None,
    *,
    num_proc: int | None = None,
    storage_options: dict[str, Any] | None = None,
    orient: str = "records",
    lines: bool | None = None,
    indent: int | None = None,
    force_ascii: bool = True,
    compression: str | None = "infer",
    **options: Any,
) -> int:
    """Write JSON, one object per line (or one array with `lines=False`), and return the number of bytes of the text.

    `indent` lays out the objects of an array; `batch_size` rows at most are turned into text at once. A file is
    compressed by its suffix (`.gz`, `.bz2`, `.xz`, `.zst`), or as `compression` says. Another `orient` ("split",
    "index", "columns", "values", "table"), and further options of `pandas.DataFrame.to_json`, are left to pandas, all
    rows at once.
    """
    no_effect("to_json", () if num_proc in (None, 1) else ("num_proc",))
    if options or orient != "records":
        options = {"orient": orient, "force_ascii": force_ascii, "indent": indent, **options}
        if orient in ("split", "table"):  # row numbers are no column
            options = {"index": False, **options}
        text = _by_pandas(self, {**options, "lines": (orient == "records") if lines is None else lines})
        with opened(path_or_buf, storage_options, compression=compression) as stream:
            stream.write(text)
        return len(text)
    lines = True if lines is None else lines
    if lines and indent is not None:
        raise OptionError("An object per line has no indent: pass lines=False as well.")
    size = self.table.block_rows(limit=batch_size or _BATCH)
    # the text of every row ends as the next one begins
    end = b"\n" if lines else b",\n"
    if lines or indent is None:
        blocks = _blocks(self, json.JSONEncoder(ensure_ascii=force_ascii, default=_jsonable), size, end.decode())
    else:
        blocks = _indented(self, json.JSONEncoder(ensure_ascii=force_ascii, indent=indent, default=_jsonable), end)
    written = 0
    with opened(path_or_buf, storage_options, compression=compression) as stream:
        for part in blocks if lines else _array(blocks, end):
            stream.write(part)
            written += len(part)
    return written


def _array(blocks: Iterator[Any], end: bytes) -> Iterator[Any]:
    """Blocks of objects as one array: what stands between two objects is not behind the last."""
    yield b"["
    held = b""
    for block in blocks:
        yield held
        yield memoryview(block)[: -len(end)]
        held = end
    yield b"]\n"


def _by_pandas(dataset: Dataset, options: dict[str, Any]) -> bytes:
    """The text of all rows as pandas writes it."""
    pandas = require("pandas", extra="tabular", purpose="write JSON in the ways of pandas")
    known = [*signature(pandas.DataFrame.to_json).parameters.keys() - {"self", "path_or_buf", "mode"}]
    for name in options:
        if name not in known:
            raise OptionError(f"to_json() has no argument {name!r}.{nearest(name, known)}")
    frame = dataset.with_format("arrow")[:].to_pandas(integer_object_nulls=True)
    try:
        text: str = frame.to_json(None, **options)
    except ValueError as error:
        raise OptionError(f"to_json() was refused by pandas: {error}.") from error
    return text.encode() if text.endswith("\n") else text.encode() + b"\n"


def _blocks(dataset: Dataset, encoder: json.JSONEncoder, size: int, end: str) -> Iterator[Any]:
    """The text of all rows, block by block, as bytes."""
    names = [encoder.encode(name) for name in dataset.column_names]
    for start, arrays in dataset.table.blocks(size=size):
        count = min(size, len(dataset) - start)
        if not names or any(array.nbytes > _BYTES for array in arrays.values()):
            columns = [column_to_python(array, dataset.features[name]) for name, array in arrays.items()]
            rows = [dict(zip(arrays, row, strict=True)) for row in zip(*columns, strict=True)] or [{}] * count
            yield "".join(encoder.encode(row) + end for row in rows).encode()
            continue
        texts = [
            _encoded(column_to_python(array, dataset.features[name]), encoder)
            if is_decoded(dataset.features[name])
            else _text(array, encoder)
            for name, array in arrays.items()
        ]
        yield _bytes(_objects(names, texts, end))


def _indented(dataset: Dataset, encoder: json.JSONEncoder, end: bytes) -> Iterator[bytes]:
    """The text of all rows, row by row."""
    for row in dataset.with_format(None):
        yield encoder.encode(row).encode() + end


# --- columns as text ---


def _text(array: Any, encoder: json.JSONEncoder) -> Any:
    """The JSON text of every value of an Arrow array, as an array of strings without nulls."""
    kind, types = array.type, pa.types
    if types.is_integer(kind):
        found = pc.cast(array, pa.string())
    elif types.is_boolean(kind):
        found = pc.if_else(array, "true", "false")
    elif types.is_floating(kind):
        found = _numbers(array)
    elif types.is_list(kind) or types.is_large_list(kind):
        offsets, items = list_parts(array)
        joined = pc.binary_join(type(array).from_arrays(offsets, _text(items, encoder)), ", ")
        found = pc.binary_join_element_wise("[", joined, "]", "")
        if array.null_count:
            found = pc.if_else(array.is_valid(), found, "null")
    elif types.is_struct(kind) and kind.num_fields:
        names = [encoder.encode(kind.field(index).name) for index in range(kind.num_fields)]
        found = _objects(names, [_text(part, encoder) for part in array.flatten()], "")
        if array.null_count:
            found = pc.if_else(array.is_valid(), found, "null")
    else:
        return _encoded(to_python(array), encoder)
    return pc.fill_null(found, "null") if found.null_count else found


def _numbers(array: Any) -> Any:
    """Floats in the fewest digits that are read back as the same number, and as a float."""
    array = pc.cast(array, pa.float64())
    found = pc.cast(array, pa.string())
    values = array.fill_null(0.5).to_numpy() if array.null_count else array.to_numpy()
    if (values == np.trunc(values)).any():  # Arrow writes 1.0 as 1; infinite numbers are among these
        found = pc.if_else(
            pc.match_substring_regex(found, r"^-?\d+$"), pc.binary_join_element_wise(found, ".0", ""), found
        )
    if not np.isfinite(values).all():  # the words that Python's encoder writes, and parsers know
        for value, word in ((np.inf, "Infinity"), (-np.inf, "-Infinity")):
            found = pc.if_else(pa.array(values == value), word, found)
        found = pc.if_else(pa.array(np.isnan(values)), "NaN", found)
    return found


def _encoded(values: list[Any], encoder: json.JSONEncoder) -> Any:
    """The JSON text of every value, by Python's encoder."""
    return pa.array([*map(encoder.encode, values)], type=pa.string())


def _objects(names: list[str], texts: list[Any], end: str) -> Any:
    """The text of objects from those of their fields, each followed by `end`."""
    parts: list[Any] = []
    for index, (name, text) in enumerate(zip(names, texts, strict=True)):
        parts += [f"{', ' if index else '{'}{name}: ", text]
    return pc.binary_join_element_wise(*parts, "}" + end, "")


def _bytes(text: Any) -> Any:
    """The strings of an array without nulls, one after another: the memory in which they lie."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]] if len(text) else b""


def _jsonable(value: Any) -> Any:
    """What JSON has no form for: dates in ISO 8601, bytes as text, everything else as Python prints it."""
    plain = simple(value)
    if plain is not value:
        return plain
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
