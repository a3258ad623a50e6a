"""Rows of different lengths into one array, complete: `fill`, tensors of each framework, and `pad` for ready columns.

A padded batch is one preallocated int64 array: the rows' values are poured in as one flat run through the mask of valid
places, so the cost per row is that of a list iterator. NumPy is imported here, and only when an array is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from plait.errors import MissingExtraError, OptionError, TokenizerError, nearest
from plait.text.options import Plan, Side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Framework = Literal["pt", "np", "tf"]


def framework(value: object) -> Framework | None:
    """A checked `return_tensors`."""
    value = getattr(value, "value", value)  # an enum member stands for its value
    if value is None or value in ("pt", "np", "tf"):
        return value
    raise OptionError(
        f"return_tensors={value!r} is not a choice. Choose 'pt' (PyTorch), 'np' (NumPy), 'tf' (TensorFlow) or None "
        f"(lists).{nearest(str(value), ('pt', 'np', 'tf'))}"
    )


def valid(lengths: Sequence[int], width: int, *, side: Side) -> NDArray[np.bool_]:
    """True where a row of the padded (B, width) batch holds a token."""
    import numpy as np

    places, counts = np.arange(width), np.asarray(lengths, dtype=np.int64)[:, None]
    return places < counts if side == "right" else places >= width - counts


def flat(values: NDArray[Any] | int, total: int) -> NDArray[Any]:
    """Values as they are, or one of them `total` times."""
    import numpy as np

    return np.full(total, values, dtype=np.int64) if isinstance(values, int) else values


def pour(
    values: NDArray[Any] | int, lengths: Sequence[int], width: int, *, value: int, side: Side
) -> NDArray[np.int64]:
    """The (B, width) int64 array of rows of `lengths`, which lie one after the other in `values`, or all hold it.

    `value` comes in the places left over. Rows of one length that is beyond `width` stay as long; a row longer than
    others and than `width` is a `TokenizerError`.
    """
    import numpy as np

    if len(set(lengths)) == 1:
        width = max(width, lengths[0])
    if max(lengths, default=0) > width:
        raise TokenizerError(
            f"Row {lengths.index(max(lengths))} has {max(lengths)} tokens and does not fit a tensor {width} wide. "
            "Pass truncation=True, a larger max_length, or padding='longest'."
        )
    shape = (len(lengths), width)
    if isinstance(values, int):
        if values == value:
            return np.full(shape, value, dtype=np.int64)
    elif len(values) == len(lengths) * width:
        # (B * width,) -> (B, width)
        return values.reshape(shape).astype(np.int64, copy=not values.flags.writeable)
    array = np.full(shape, value, dtype=np.int64)
    array[valid(lengths, width, side=side)] = values
    return array


def fill(rows: Sequence[Sequence[int]], width: int, *, value: int, side: Side) -> NDArray[np.int64]:
    """The same of `rows` as they are."""
    import numpy as np

    lengths = [len(row) for row in rows]
    values = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(lengths))
    return pour(values, lengths, width, value=value, side=side)


def fill_lists(rows: Sequence[Sequence[Any]], width: int, *, value: Any, side: Side) -> list[list[Any]]:
    """The same as nested lists."""
    if side == "right":
        return [[*row, *[value] * (width - len(row))] for row in rows]
    return [[*[value] * (width - len(row)), *row] for row in rows]


def wrap(array: NDArray[Any], kind: Framework) -> Any:
    """An array as a tensor of a framework, without a copy where the framework allows it."""
    if kind == "np":
        return array
    if kind == "pt":
        import torch

        return torch.from_numpy(array)
    try:
        tensorflow = importlib.import_module("tensorflow")
    except ImportError as error:
        raise MissingExtraError(
            "return_tensors='tf' needs TensorFlow, which is not installed. Install it with: pip install tensorflow, "
            "or ask for return_tensors='np'."
        ) from error
    return tensorflow.constant(array)


def is_tensor(value: object) -> bool:
    """Whether a value is an array or tensor already."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def as_tensor(key: str, value: Any, kind: Framework) -> Any:
    """A (nested) list of numbers as a tensor; ragged lists raise a `TokenizerError` that names the key."""
    import numpy as np

    if is_tensor(value):
        if kind == "np":
            return np.asarray(value)
        return wrap(value, kind) if isinstance(value, np.ndarray) else value
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype == object or array.dtype.kind in "US":
        lengths = (
            sorted({len(row) for row in value if isinstance(row, Sequence)}) if isinstance(value, Sequence) else []
        )
        raise TokenizerError(
            f"{key!r} cannot become one tensor: "
            + (
                f"its rows have {lengths[0]} to {lengths[-1]} items. "
                if len(lengths) > 1
                else "it is not made of numbers. "
            )
            + "Pass padding=True (and truncation=True with max_length=…), or return_tensors=None."
        )
    return wrap(array.astype(np.int64) if array.size == 0 else array, kind)


def pad(
    columns: Mapping[str, Any],
    plan: Plan,
    *,
    main: str,
    values: Mapping[str, int],
    attention: bool,
    tensors: Framework | None,
) -> dict[str, Any]:
    """Pad ready columns to one width: the call behind `Tokenizer.pad`.

    `main` is the column that decides the length, `values` the padding value of every column that is padded with it
    (token ids, types, masks); other columns pass through. A single row stays a single row. With `attention` a missing
    attention mask is made.
    """
    rows, single = _rows(main, columns[main])
    lengths = [len(row) for row in rows]
    width = plan.width(max(lengths, default=0)) if plan.padding else None
    out: dict[str, Any] = {}
    source = dict(columns)
    if attention and "attention_mask" not in source:
        ones = [[1] * length for length in lengths]
        source["attention_mask"] = ones[0] if single else ones
    for key, column in source.items():
        if key not in values or (key != main and not _parallel(column, lengths, single)):
            out[key] = as_tensor(key, column, tensors) if tensors else column
            continue
        items = rows if key == main else (_rows(key, column)[0])
        if width is None:
            padded: Any = [list(row) for row in items]
            padded = as_tensor(key, padded, tensors) if tensors else padded
        elif tensors:
            padded = wrap(fill(items, width, value=values[key], side=plan.padding_side), tensors)
        else:
            padded = fill_lists(items, width, value=values[key], side=plan.padding_side)
        out[key] = padded[0] if single else padded
    return out


def _rows(key: str, column: Any) -> tuple[list[Any], bool]:
    """A column as a list of rows, and whether it was a single row."""
    if hasattr(column, "tolist"):
        column = column.tolist()
    if not isinstance(column, Sequence) or isinstance(column, str):
        raise TokenizerError(f"pad() needs lists of ids under {key!r}, but found {column!r}.")
    single = bool(column) and hasattr(column[0], "__index__") and not is_tensor(column[0])
    rows = [column] if single else list(column)
    return [row.tolist() if hasattr(row, "tolist") else row for row in rows], single


def _parallel(column: Any, lengths: Sequence[int], single: bool) -> bool:
    """Whether a column has an item for each token."""
    rows = [column] if single else column
    return len(rows) == len(lengths) and all(
        hasattr(row, "__len__") and len(row) == length for row, length in zip(rows, lengths, strict=True)
    )
