"""Data sets that are read as they come, complete: what one is, how it is read, and where it stopped.

Its methods are functions of their own files: making in `make.py`, work and columns in `work.py`, export in `export.py`.
A stream never changes, except for its epoch and the place where the next iteration begins.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

from plait.console import logger
from plait.data.features import Features
from plait.data.formats import Format, kind_named
from plait.data.info import DatasetInfo, Described, NamedSplit
from plait.data.streams import export, make, work
from plait.data.streams.block import Block
from plait.data.streams.chain import Cursor, Stream
from plait.data.streams.columns import Learned
from plait.data.streams.mix import Concatenate
from plait.data.streams.shared import SharedNumber
from plait.data.streams.show import Show
from plait.data.table import missing_column
from plait.errors import DataError, OptionError, nearest

log = logger("data")

_OPTIONS = ("dtype", "device", "copy", "transform")  # of formats


class IterableDataset(Described):
    """Rows that are read as they come, from files, a data set or a function, and never all held in memory.

    Made by `load_dataset(…, streaming=True)`, `Dataset.to_iterable_dataset()`, `from_generator`, …. It is an
    `IterableDataset` of torch as well, so a `DataLoader` divides it among its workers. `state_dict()` says at any row
    where the stream is; a stream that loads it goes on with exactly the next row.
    """

    def __init__(
        self,
        stream: Stream,
        info: DatasetInfo | None = None,
        *,
        split: str | None = None,
        format: Format | None = None,
    ) -> None:
        self.stream = stream
        self._info = copy.copy(info) if info is not None else DatasetInfo()
        self.split = None if split is None else NamedSplit(split)
        self.format_ = format or Format()
        self._loaded: dict[str, Any] | None = None  # where the next iteration begins
        self._at: _Reading | None = None  # the iteration under way, or the last one
        self._epoch = SharedNumber()
        _known_to_torch()

    def derive(self, stream: Stream, *, format: Format | None = None) -> IterableDataset:
        """This data set over another stream: the same description, split, format and epoch."""
        other = IterableDataset(stream, self._info, split=self.split, format=format or self.format_)
        if self.epoch:
            other.set_epoch(self.epoch)
        if self._loaded is not None and stream is not self.stream:
            log.warning(
                "a stream is made of one into which a state was loaded; the state does not go along, so the new stream "
                "begins at its first row. Call load_state_dict() of the last stream, which is iterated over"
            )
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_at": None}

    # --- what it is ---

    @property
    def info(self) -> DatasetInfo:
        """What is said about the data set, and the types of its columns."""
        self._info.features = self.features
        return self._info

    @info.setter
    def info(self, info: DatasetInfo) -> None:
        self._info = info

    @property
    def features(self) -> Features | None:
        """The types of the columns; `None` behind a function, unless they are declared.

        Files whose types are not declared are looked into: the types are those of the first rows.
        """
        return self.stream.features

    @property
    def column_names(self) -> list[str] | None:
        """The names of the columns, in order; `None` when they are not known."""
        features = self.features
        return None if features is None else list(features)

    @property
    def num_columns(self) -> int | None:
        """How many columns there are; `None` when they are not known."""
        features = self.features
        return None if features is None else len(features)

    @property
    def num_shards(self) -> int:
        """Into how many parts it can be divided without reading anything twice."""
        return self.stream.shards

    @property
    def n_shards(self) -> int:
        """The older name of `num_shards`."""
        return self.num_shards

    @property
    def epoch(self) -> int:
        """The epoch, which `set_epoch` changes."""
        return self._epoch.get()

    @property
    def format(self) -> dict[str, Any]:
        """The format as a dict: `type`, `format_kwargs`."""
        return {"type": self.format_.kind, "format_kwargs": dict(self.format_.options)}

    @property
    def dataset_size(self) -> int | None:
        """Bytes of the rows, as published."""
        return self.info.dataset_size

    def __repr__(self) -> str:
        features = self.features
        names = "Unknown" if features is None else list(features)
        return f"IterableDataset({{\n    features: {names},\n    num_shards: {self.num_shards}\n}})"

    # --- reading ---

    def __iter__(self) -> Iterator[Any]:
        reading = self._read()
        show = reading.show
        while (block := reading.cursor.take()) is not None:
            reading.ahead = len(block)
            for row in show.rows(block):
                reading.ahead -= 1
                yield row

    def iter(self, batch_size: int, *, drop_last_batch: bool = False) -> Iterator[Any]:
        """All rows in order, `batch_size` at a time."""
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, but is {batch_size}.")
        reading = self._read()
        while (block := reading.cursor.exactly(batch_size)) is not None:
            if drop_last_batch and len(block) < batch_size:
                return
            yield reading.show.batch(block)

    def __getitem__(self, name: str) -> IterableColumn:
        if not isinstance(name, str):
            raise OptionError(
                f"A stream has no rows by number ({name!r:.50}). Iterate over it, take(n) of it, or load the data set "
                f"without streaming."
            )
        features = self.features
        if features is not None and name not in features:
            raise missing_column(name, features)
        return IterableColumn(self, name)

    def blocks(self) -> Iterator[Block]:
        """All rows as they come: as Arrow columns, or as dicts behind a function."""
        reading = self._read()
        while (block := reading.cursor.take()) is not None:
            yield block

    def _read(self) -> _Reading:
        """Begin an iteration: at the loaded place, or at the first row."""
        show = Show(self.format_)
        stream = self.stream.at_epoch(self.epoch)
        reader = _worker()
        if reader is not None:
            count, index = reader
            if index == 0 and count > stream.shards:
                log.info(
                    "%d of %d workers of the DataLoader have nothing to do: the data set has %d shards",
                    count - stream.shards,
                    count,
                    stream.shards,
                )
            divisible = index < min(count, stream.shards)
            part = stream.shard(min(count, stream.shards), index, contiguous=False) if divisible else Concatenate(())
            stream = part
        if show.table and stream.features is None:
            stream = Learned(stream)
        place, self._loaded = self._loaded, None
        chain = stream.described()
        if place is not None and (place["reader"] != reader or place["chain"] not in (None, chain)):
            raise DataError(
                f"The loaded state belongs to another stream. It is of reader {place['reader']} of {place['chain']}, "
                f"this is reader {reader} of {chain}. Build the stream as it was when state_dict() was called."
            )
        self._at = _Reading(Cursor(stream, None if place is None else place["place"]), show, self.epoch, reader, chain)
        return self._at

    # --- places ---

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch: a shuffled stream has another order in each. Workers of a DataLoader follow."""
        if self._loaded is not None and self._loaded["epoch"] != epoch:
            self._loaded = None
        self._epoch.set(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, behind the last row that it gave: a value that JSON can hold."""
        if self._loaded is not None:
            return self._loaded
        if self._at is None:
            return {"epoch": self.epoch, "reader": None, "chain": None, "place": None}
        return self._at.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration begin where `state_dict` was taken, in its epoch; those after it begin anew.

        The stream must be built as it was then; otherwise the iteration raises `DataError`.
        """
        if missing := {"epoch", "reader", "chain", "place"} - set(state_dict):
            raise DataError(f"This is no state of a stream: it lacks {sorted(missing)}.")
        reader = state_dict["reader"]
        self._loaded = {**state_dict, "reader": None if reader is None else list(reader)}
        self._epoch.set(int(state_dict["epoch"]))

    # --- formats ---

    def with_format(self, type: str | None = None, **format_kwargs: Any) -> IterableDataset:
        """The same rows shown as `type`: python (`None`), numpy, torch, jax, tf, pandas, polars or arrow.

        Functions of later `map` and `filter` calls get rows of this format. `dtype`, `device` and `copy` go to the
        format.
        """
        for name in format_kwargs:
            if name in ("columns", "output_all_columns"):
                raise OptionError(f"with_format() of a stream has no {name}: call select_columns() before it.")
            if name not in _OPTIONS:
                raise OptionError(f"with_format() has no argument {name!r}.{nearest(name, _OPTIONS)}")
        other = self.derive(self.stream, format=Format(kind_named(type), options=format_kwargs))
        other._loaded = self._loaded
        return other

    # --- making one ---

    from_generator = staticmethod(make.from_generator)
    from_file = staticmethod(make.from_file)
    from_dict = staticmethod(make.from_dict)
    from_list = staticmethod(make.from_list)
    from_pandas = staticmethod(make.from_pandas)
    from_polars = staticmethod(make.from_polars)
    from_csv = staticmethod(make.from_csv)
    from_json = staticmethod(make.from_json)
    from_parquet = staticmethod(make.from_parquet)
    from_text = staticmethod(make.from_text)

    # --- work ---

    map = work.map
    filter = work.filter
    shuffle = work.shuffle
    take = work.take
    skip = work.skip
    repeat = work.repeat
    shard = work.shard
    reshard = work.reshard
    batch = work.batch

    # --- columns ---

    add_column = work.add_column
    rename_column = work.rename_column
    rename_columns = work.rename_columns
    remove_columns = work.remove_columns
    select_columns = work.select_columns
    cast = work.cast
    cast_column = work.cast_column
    decode = work.decode

    # --- export ---

    to_dict = export.to_dict
    to_list = export.to_list
    to_pandas = export.to_pandas
    to_polars = export.to_polars
    to_csv = export.to_csv
    to_json = export.to_json
    to_parquet = export.to_parquet
    to_sql = export.to_sql
    push_to_hub = export.push_to_hub


class _Reading:
    """An iteration under way; `ahead` are the rows that it took from the stream and did not give yet."""

    def __init__(self, cursor: Cursor, show: Show, epoch: int, reader: list[int] | None, chain: str) -> None:
        self.cursor = cursor
        self.show = show
        self.ahead = 0
        self._about = {"epoch": epoch, "reader": reader, "chain": chain}

    def state(self) -> dict[str, Any]:
        """Where it is."""
        return {**self._about, "place": self.cursor.position(back=self.ahead)}


class IterableColumn:
    """One column of a stream, or a field of one: an iterable of its values."""

    def __init__(self, source: IterableDataset | IterableColumn, name: str) -> None:
        self.source = source
        self.name = name

    def __iter__(self) -> Iterator[Any]:
        for row in self.source:
            yield row[self.name]

    def __getitem__(self, name: str) -> IterableColumn:
        return IterableColumn(self, name)


def _worker() -> list[int] | None:
    """The number of workers of a DataLoader and which of them this process is; `None` outside, and for a single one."""
    if "torch" not in sys.modules:
        return None
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    return None if info is None or info.num_workers == 1 else [info.num_workers, info.id]


def _known_to_torch() -> None:
    """Tell torch that the class is an iterable data set, which a DataLoader iterates over instead of indexing."""
    from torch.utils.data import IterableDataset as Iterable

    Iterable.register(IterableDataset)
