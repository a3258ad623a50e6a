"""Data sets for several processes, complete: each reads a part, and together they read every row once."""

from __future__ import annotations

from typing import Any

from plait.data.dataset import Dataset
from plait.data.streams.dataset import IterableDataset
from plait.data.streams.rows import Ranked
from plait.errors import OptionError


def split_dataset_by_node(dataset: Any, rank: int, world_size: int, *, strategy: str = "auto") -> Any:
    """The part of process `rank` (from 0) of `world_size` processes.

    Of a `Dataset` it is a run of neighbouring rows. Of a stream it is every `world_size`-th shard, if the number of
    shards is a multiple of `world_size` ("auto") or always ("shards"); else every `world_size`-th row ("examples").
    A shuffled stream needs the same seed in all processes.
    """
    if isinstance(dataset, IterableDataset):
        return dataset.derive(Ranked(dataset.stream, rank, world_size, strategy))
    if not isinstance(dataset, Dataset):
        raise OptionError(f"split_dataset_by_node takes a data set or a stream, not a {type(dataset).__name__}.")
    if strategy != "auto":
        raise OptionError(f"strategy={strategy!r} is for streams; a data set is divided by rows.")
    return dataset.shard(world_size, rank)
