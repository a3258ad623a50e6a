"""Data sets as `tf.data.Dataset`, complete: batches of NumPy arrays, what their shapes and types are, and the wrapping.

`batches` and `signature` know nothing of TensorFlow; `to_tf_dataset` puts them together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from plait.console import logger
from plait.data.table import missing_column
from plait.errors import DataError, OptionError, require

if TYPE_CHECKING:
    from plait.data.dataset import Dataset

log = logger("data")

Arrays = dict[str, Any]
_LABELS = ("label", "label_ids", "labels")  # collators look for labels under these names, so they are kept


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which rows and columns a batch is made of. `batch_size=None` gives single rows; `columns=()` all columns."""

    batch_size: int | None
    columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    shuffle: bool = False
    drop_remainder: bool = False
    collate: Callable[..., Mapping[str, Any]] | None = None
    collate_options: Mapping[str, Any] = field(default_factory=dict)


def batches(dataset: Dataset, plan: Plan) -> Iterator[Arrays]:
    """All rows as NumPy arrays by column: int64, float32, text or bool; in a new order each time with `shuffle`.

    The default collator stacks; one of your own gets a list of rows and returns arrays by name.
    """
    shown = dataset if dataset.format_.kind in ("numpy", "custom") else dataset.with_format("numpy")
    rows = np.random.permutation(len(shown)) if plan.shuffle else np.arange(len(shown))
    size = plan.batch_size or 1
    end = len(rows) - len(rows) % size if plan.drop_remainder else len(rows)
    for start in range(0, end, size):
        found = _collated(shown[rows[start : start + size]], plan)
        yield found if plan.batch_size is not None else {name: array[0] for name, array in found.items()}


def _collated(batch: Mapping[str, Any], plan: Plan) -> Arrays:
    if plan.columns:
        kept = {*plan.columns, *plan.labels, *_LABELS}
        batch = {name: values for name, values in batch.items() if name in kept}
    if plan.collate is not None:
        names = list(batch)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        batch = plan.collate(rows, **plan.collate_options)
    return {name: _array(name, values) for name, values in batch.items()}


def _array(name: str, values: Any) -> Any:
    try:
        array = np.asarray(values)
        if array.dtype == object and array.size and not isinstance(array.flat[0], str | bytes):
            array = np.stack([np.asarray(value) for value in array])
    except ValueError as error:
        raise DataError(
            f"Column {name!r} has rows of different shapes, which do not stack into one array. Pass a collate_fn that "
            f"pads them, such as DataCollatorWithPadding(tokenizer, return_tensors='np')."
        ) from error
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    return array


def signature(found: Iterable[Arrays], *, batched: bool, drop_remainder: bool) -> dict[str, tuple[Any, Any]]:
    """The shape and type of every column of some batches; a length that differs between them, or may, is `None`."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    kinds: dict[str, Any] = {}
    for batch in found:
        for name, array in batch.items():
            shapes.setdefault(name, set()).add(array.shape)
            kinds[name] = array.dtype.type if array.dtype.kind in "ifb" else np.str_
    signatures = {}
    for name, seen in shapes.items():
        if len({len(shape) for shape in seen}) > 1:
            raise DataError(f"Column {name!r} has arrays of {sorted(map(len, seen))} axes; they must have one number.")
        lengths = [length.pop() if len(length) == 1 else None for length in map(set, zip(*seen, strict=True))]
        if batched and not drop_remainder:
            lengths[0] = None  # the last batch may be shorter
        signatures[name] = (tuple(lengths), kinds[name])
    return signatures


def parted(batch: Arrays, columns: Iterable[str], labels: Iterable[str]) -> Any:
    """A batch as (features, labels), each bare when it is one column; features alone without labels."""
    chosen = {name: batch[name] for name in columns}
    answers = {name: batch[name] for name in labels}
    first = next(iter(chosen.values())) if len(chosen) == 1 else chosen
    if not answers:
        return first
    return first, next(iter(answers.values())) if len(answers) == 1 else answers


def to_tf_dataset(
    self: Dataset,
    batch_size: int | None = None,
    columns: str | list[str] | None = None,
    *,
    shuffle: bool = False,
    collate_fn: Callable[..., Any] | None = None,
    drop_remainder: bool = False,
    collate_fn_args: Mapping[str, Any] | None = None,
    label_cols: str | list[str] | None = None,
    prefetch: bool = True,
    num_workers: int = 0,
    num_test_batches: int = 20,
) -> Any:
    """A `tf.data.Dataset` of batches for Keras: a dict of tensors, or with `columns` features and labels.

    `batch_size=None` gives single rows. `collate_fn` gets a list of rows and `collate_fn_args`; shapes are those of
    `num_test_batches` batches. Raises `MissingExtraError` without TensorFlow.
    """
    tf = require("tensorflow", extra="tf", purpose="feed tf.data")
    if num_workers:
        log.info("num_workers=%d has no effect: batches are made in this process", num_workers)
    plan = planned(
        self,
        batch_size=batch_size,
        columns=columns,
        labels=label_cols,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        collate=collate_fn,
        collate_options=dict(collate_fn_args or {}),
    )
    names, labels, found = shape_of(self, plan, num_test_batches)
    specs = {
        name: tf.TensorSpec(shape, tf.string if kind is np.str_ else tf.as_dtype(kind))
        for name, (shape, kind) in found.items()
    }
    made = tf.data.Dataset.from_generator(lambda: batches(self, plan), output_signature=specs)
    if plan.columns:
        made = made.map(lambda batch: parted(batch, names, labels))
    return made.prefetch(tf.data.AUTOTUNE) if prefetch else made


def planned(dataset: Dataset, *, columns: Any, labels: Any, batch_size: int | None, **options: Any) -> Plan:
    """The plan that the arguments describe. Raises `ColumnError`, `OptionError`."""
    if labels and not columns:
        raise OptionError("label_cols needs columns= as well: which columns are the features?")
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, but is {batch_size}.")
    if not len(dataset):
        raise DataError("A data set without rows has no batches.")
    found = []
    for names in (columns, labels):
        listed = (names,) if isinstance(names, str) else tuple(names or ())
        if len(set(listed)) < len(listed):
            raise OptionError(f"A column is named twice in {list(listed)}.")
        found.append(listed)
    if options.get("collate") is None:
        for name in (*found[0], *found[1]):
            if name not in dataset.features:
                raise missing_column(name, dataset.features)
    return Plan(batch_size=batch_size, columns=found[0], labels=found[1], **options)


def shape_of(dataset: Dataset, plan: Plan, tests: int) -> tuple[list[str], list[str], dict[str, tuple[Any, Any]]]:
    """The names of features and labels as they come out of the collator, and the shape and type of every column."""
    # two batches at least: one length seen once says nothing
    trial = (batch for batch, _ in zip(batches(dataset, plan), range(max(2, tests)), strict=False))
    found = signature(trial, batched=plan.batch_size is not None, drop_remainder=plan.drop_remainder)
    lists = []
    for names in (plan.columns, plan.labels):
        # a collator turns "label" into "labels"
        renamed = [name if name in found or name not in _LABELS else "labels" for name in names]
        for name in renamed:
            if name not in found:
                raise missing_column(name, found)
        lists.append(list(dict.fromkeys(renamed)))
    return lists[0], lists[1], found
