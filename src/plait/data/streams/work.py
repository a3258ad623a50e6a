"""The methods of a stream, complete: each adds one link to its chain and runs nothing."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from plait.console import logger
from plait.data.apply import Call
from plait.data.encode import to_arrow
from plait.data.features import Features, FeatureType, List, as_feature
from plait.data.schema import as_features, feature_of
from plait.data.streams.columns import Added, Groups, Remove, Rename, Select, Typed, lists_of
from plait.data.streams.functions import Filter, Map, Where, batch_size_of
from plait.data.streams.rows import Repeat, Window
from plait.data.streams.show import Show
from plait.data.streams.shuffle import Shuffle
from plait.data.table import missing_column
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.streams.dataset import IterableDataset

log = logger("data")


def map(
    self: IterableDataset,
    function: Callable[..., Any] | None = None,
    with_indices: bool = False,
    *,
    input_columns: str | list[str] | None = None,
    batched: bool = False,
    batch_size: int | None = 1000,
    drop_last_batch: bool = False,
    remove_columns: str | Iterable[str] | None = None,
    features: Features | Mapping[str, Any] | None = None,
    fn_kwargs: Mapping[str, Any] | None = None,
) -> IterableDataset:
    """The rows with the columns that `function` makes or changes, called when they are read.

    The function gets a row (a dict), or with `batched=True` a dict of lists of `batch_size` rows (`None`: all), and
    returns a dict that updates it, or `None` to change nothing; a batched one may return any number of rows. It may be
    `async`. What it returns is shown as it is; `features` declares types, and then `column_names` are known.
    """
    removed = frozenset(_names(self, remove_columns))
    if function is None:
        return self.derive(Remove(self.stream, removed)) if removed else self
    call = Call(
        function,
        input_columns=None if input_columns is None else _names(self, input_columns),
        with_indices=with_indices,
        options=dict(fn_kwargs or {}),
    )
    link = Map(
        self.stream,
        call,
        Show(self.format_),
        batch_size=batch_size_of(batch_size) if batched else None,
        removed=removed,
        drop_last_batch=drop_last_batch,
    )
    return self.derive(link if features is None else Typed(link, as_features(features)))


def filter(
    self: IterableDataset,
    function: Callable[..., Any] | pc.Expression | None = None,
    with_indices: bool = False,
    *,
    input_columns: str | list[str] | None = None,
    batched: bool = False,
    batch_size: int | None = 1000,
    fn_kwargs: Mapping[str, Any] | None = None,
) -> IterableDataset:
    """The rows for which `function` is true.

    The function gets a row, or with `batched=True` a batch, and returns a truth value, or one per row of the batch; it
    may be `async`. It may also be a `pyarrow.compute` expression over columns, such as `pc.field("label") == 1`.
    """
    if function is None:
        return self
    if isinstance(function, pc.Expression):
        return self.derive(Where(self.stream, function))
    call = Call(
        function,
        input_columns=None if input_columns is None else _names(self, input_columns),
        with_indices=with_indices,
        options=dict(fn_kwargs or {}),
    )
    size = batch_size_of(batch_size) if batched else None
    return self.derive(Filter(self.stream, call, Show(self.format_), batch_size=size))


def shuffle(
    self: IterableDataset,
    seed: int | None = None,
    generator: Any = None,
    *,
    buffer_size: int = 1000,
    max_buffer_input_shards: int = 10,
) -> IterableDataset:
    """The rows in a random order: shards in another order, rows mixed in a buffer of `buffer_size`.

    The buffer is filled from up to `max_buffer_input_shards` shards in turn. Every epoch (`set_epoch`) has another
    order. Without `seed` and `generator` NumPy's global state decides.
    """
    if buffer_size < 1:
        raise OptionError(f"buffer_size must be at least 1, but is {buffer_size}.")
    return self.derive(
        Shuffle(self.stream, (drawn_seed(seed, generator),), size=buffer_size, shards_at_once=max_buffer_input_shards)
    )


def drawn_seed(seed: int | None, generator: Any = None) -> int:
    """The seed given, or one drawn from a copy of the generator given, or from NumPy's global state."""
    if seed is not None and generator is not None:
        raise OptionError("Give seed or generator, not both.")
    if generator is not None:
        if not isinstance(generator, np.random.Generator):
            raise OptionError(f"generator must be a numpy.random.Generator, but is {generator!r}.")
        return int(copy.deepcopy(generator).integers(1 << 62))
    if seed is not None and seed < 0:
        raise OptionError(f"seed must not be negative, but is {seed}.")
    return int(np.random.randint(2**31)) if seed is None else int(seed)


def take(self: IterableDataset, n: int) -> IterableDataset:
    """The first `n` rows, or all when there are fewer."""
    return self.derive(Window(self.stream, 0, _count(n)))


def skip(self: IterableDataset, n: int) -> IterableDataset:
    """All rows but the first `n`."""
    return self.derive(Window(self.stream, _count(n), None))


def repeat(self: IterableDataset, num_times: int | None) -> IterableDataset:
    """The rows `num_times` over; without end for `None`."""
    return self.derive(Repeat(self.stream, None if num_times is None else max(0, num_times)))


def shard(self: IterableDataset, num_shards: int, index: int, *, contiguous: bool = True) -> IterableDataset:
    """Part `index` (from 0) of `num_shards` parts: neighbouring shards, or every `num_shards`-th."""
    if num_shards < 1 or not 0 <= index < num_shards:
        raise OptionError(f"index must be between 0 and num_shards - 1, but is {index} with num_shards={num_shards}.")
    return self.derive(self.stream.shard(num_shards, index, contiguous=contiguous))


def reshard(self: IterableDataset) -> IterableDataset:
    """The rows in as many shards as their source can be divided into: the blocks in which a data set is stored."""
    return self.derive(self.stream.resharded())


def batch(
    self: IterableDataset,
    batch_size: int | None = None,
    by_column: str | list[str] | None = None,
    *,
    drop_last_batch: bool = False,
) -> IterableDataset:
    """Rows of lists: of `batch_size` rows each, or of neighbouring rows with equal values in `by_column`."""
    if by_column is not None:
        names = tuple(_names(self, by_column))
        if batch_size is not None or drop_last_batch:
            log.info("with by_column, batch_size and drop_last_batch have no effect: a batch is as long as its value")
        return self.derive(_declared(Groups(self.stream, names), lists_of(self.features)))
    if batch_size is None or batch_size < 1:
        raise OptionError(f"batch() needs batch_size of at least 1, or by_column, but batch_size is {batch_size}.")
    link = Map(self.stream, Call(_as_one_row), Show(), batch_size=batch_size, drop_last_batch=drop_last_batch)
    return self.derive(_declared(link, lists_of(self.features)))


def _as_one_row(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [values] for name, values in batch.items()}


def _declared(link: Any, features: Features | None) -> Any:
    return link if features is None else Typed(link, features)


# --- columns ---


def add_column(self: IterableDataset, name: str, column: Any, *, feature: Any = None) -> IterableDataset:
    """The rows with one more column: a list, NumPy array, tensor, series or Arrow array with a value per row."""
    known = self.features
    if known is not None and name in known:
        raise DataError(f"There is a column {name!r} already. Remove or rename it first.")
    kind = None if feature is None else as_feature(feature)
    array = to_arrow(column, feature=kind, column=name)
    return self.derive(Added(self.stream, name, array, kind if kind is not None else feature_of(array.type)))


def rename_column(self: IterableDataset, original_column_name: str, new_column_name: str) -> IterableDataset:
    """The rows with one column under another name."""
    return rename_columns(self, {original_column_name: new_column_name})


def rename_columns(self: IterableDataset, column_mapping: Mapping[str, str]) -> IterableDataset:
    """The rows with columns under other names: `{old: new}`."""
    known = _names(self, column_mapping) and self.features
    for name in [column_mapping.get(name, name) for name in known or ()]:
        if (count := sum(column_mapping.get(other, other) == name for other in known or ())) > 1:
            raise DataError(f"There would be {count} columns called {name!r} after renaming {dict(column_mapping)}.")
    return self.derive(Rename(self.stream, dict(column_mapping)))


def remove_columns(self: IterableDataset, column_names: str | Iterable[str]) -> IterableDataset:
    """The rows without some columns."""
    return self.derive(Remove(self.stream, frozenset(_names(self, column_names))))


def select_columns(self: IterableDataset, column_names: str | Iterable[str]) -> IterableDataset:
    """The rows with some columns only, in the order given."""
    return self.derive(Select(self.stream, tuple(dict.fromkeys(_names(self, column_names)))))


def cast(self: IterableDataset, features: Features | Mapping[str, Any]) -> IterableDataset:
    """The rows in the given types; a value that does not fit raises `DataError` with its row when it is read."""
    declared = as_features(features)
    known = self.features
    if known is not None and set(declared) != set(known):
        raise DataError(
            f"cast needs a type for each of the columns {list(known)}, but got {list(declared)}. "
            f"To change one column use cast_column."
        )
    return self.derive(Typed(self.stream, declared))


def cast_column(self: IterableDataset, column: str, feature: Any) -> IterableDataset:
    """The rows with one column in another type."""
    known = _known(self, "cast_column")
    if column not in known:
        raise missing_column(column, known)
    return self.derive(Typed(self.stream, Features({**known, column: as_feature(feature)})))


def decode(self: IterableDataset, enable: bool = True, num_threads: int | None = None) -> IterableDataset:
    """The rows with pictures and sounds opened, or with `enable=False` as the bytes that are stored."""
    if num_threads is not None:
        log.info("num_threads has no effect: pictures and sounds are opened by the process that reads them")
    known = _known(self, "decode")
    changed = Features({name: _decoding(kind, enable) for name, kind in known.items()})
    return self.derive(Typed(self.stream, changed))


def _decoding(kind: FeatureType, enable: bool) -> FeatureType:
    if isinstance(kind, dict):
        return {name: _decoding(inner, enable) for name, inner in kind.items()}
    if isinstance(kind, List):
        return type(kind)(_decoding(kind.feature, enable), length=kind.length)
    if hasattr(kind, "decode"):
        made: FeatureType = dataclasses.replace(kind, decode=enable)  # type: ignore[type-var]
        return made
    return kind


# --- arguments ---


def _known(dataset: IterableDataset, method: str) -> Features:
    features = dataset.features
    if features is None:
        raise DataError(
            f"{method} needs the types of the columns, which are not known behind a function. Declare them with "
            f"map(…, features=…) or cast(…)."
        )
    return features


def _names(dataset: IterableDataset, names: str | Iterable[str] | None) -> list[str]:
    found = [names] if isinstance(names, str) else list(names or ())
    known = dataset.features if found else None
    for name in found:
        if known is not None and name not in known:
            raise missing_column(name, known)
    return found


def _count(n: int) -> int:
    if n < 0:
        raise OptionError(f"The number of rows must not be negative, but is {n}.")
    return int(n)
