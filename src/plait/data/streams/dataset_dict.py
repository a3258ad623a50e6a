"""Several streams by the names of their splits, complete: a dict whose methods work on every split."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from plait.data.features import Features
from plait.data.streams.dataset import IterableDataset
from plait.data.streams.export import collected
from plait.errors import ColumnError, nearest


def _on_each(name: str) -> Callable[..., IterableDatasetDict]:
    """The method of `IterableDataset` with this name, called on every split with the same arguments."""
    method = getattr(IterableDataset, name)

    def call(self: IterableDatasetDict, *args: Any, **kwargs: Any) -> IterableDatasetDict:
        return IterableDatasetDict({split: method(stream, *args, **kwargs) for split, stream in self.items()})

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call


class IterableDatasetDict(dict[str, IterableDataset]):
    """Streams by split: `streams["train"]`. Methods such as `map` and `filter` work on every split."""

    def __missing__(self, name: object) -> IterableDataset:
        known = list(self)
        raise ColumnError(f"There is no split {name!r}.{nearest(str(name), known)} Splits are {known}.")

    def __repr__(self) -> str:
        inner = "\n".join(f"{name}: {stream!r}" for name, stream in self.items())
        return "IterableDatasetDict({\n" + "\n".join(f"    {line}" for line in inner.splitlines()) + "\n})"

    @property
    def column_names(self) -> dict[str, list[str] | None]:
        """The names of the columns, by split."""
        return {name: stream.column_names for name, stream in self.items()}

    @property
    def num_columns(self) -> dict[str, int | None]:
        """The number of columns, by split."""
        return {name: stream.num_columns for name, stream in self.items()}

    @property
    def features(self) -> dict[str, Features | None]:
        """The types of the columns, by split."""
        return {name: stream.features for name, stream in self.items()}

    def map(
        self, function: Any = None, with_indices: bool = False, *, with_split: bool = False, **options: Any
    ) -> IterableDatasetDict:
        """Every split mapped; see `IterableDataset.map`. With `with_split=True` the function gets its name last."""
        found = {}
        for split, stream in self.items():
            chosen = _WithSplit(function, split) if with_split else function
            found[split] = stream.map(chosen, with_indices, **options)
        return IterableDatasetDict(found)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of every split."""
        for stream in self.values():
            stream.set_epoch(epoch)

    filter = _on_each("filter")
    shuffle = _on_each("shuffle")
    take = _on_each("take")
    skip = _on_each("skip")
    repeat = _on_each("repeat")
    batch = _on_each("batch")
    with_format = _on_each("with_format")
    rename_column = _on_each("rename_column")
    rename_columns = _on_each("rename_columns")
    remove_columns = _on_each("remove_columns")
    select_columns = _on_each("select_columns")
    cast = _on_each("cast")
    cast_column = _on_each("cast_column")
    decode = _on_each("decode")

    def push_to_hub(self, repo_id: str, config_name: str = "default", **options: Any) -> Any:
        """Upload all splits to a repository of a hub; the options are those of `DatasetDict.push_to_hub`."""
        from plait.data.dataset_dict import DatasetDict

        read = DatasetDict({split: collected(stream) for split, stream in self.items()})
        return read.push_to_hub(repo_id, config_name, **options)


class _WithSplit(functools.partial[Any]):
    """A function that gets the name of its split as its last argument."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.func(*args, *self.args, **options)
