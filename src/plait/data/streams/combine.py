"""Several streams as one, complete: what `concatenate_datasets` and `interleave_datasets` make of them."""

from __future__ import annotations

from collections.abc import Sequence

from plait.data.features import Features
from plait.data.info import DatasetInfo
from plait.data.streams.chain import Stream
from plait.data.streams.columns import Typed
from plait.data.streams.dataset import IterableDataset
from plait.data.streams.mix import Beside, Concatenate, Interleave
from plait.data.streams.work import drawn_seed
from plait.errors import DataError


def concatenate_streams(
    dsets: Sequence[IterableDataset], info: DatasetInfo | None, split: str | None, axis: int
) -> IterableDataset:
    """The rows of streams one after another, or their columns side by side."""
    if axis == 1:
        known = [name for dataset in dsets for name in dataset.column_names or ()]
        if repeated := sorted({name for name in known if known.count(name) > 1}):
            raise DataError(f"Two of the streams have a column {repeated[0]!r}. Rename or remove one of them first.")
        return _made(dsets, Beside(tuple(dataset.stream for dataset in dsets)), info, split)
    return _made(dsets, Concatenate(_alike(dsets)), info, split)


def interleave_streams(
    dsets: Sequence[IterableDataset],
    probabilities: Sequence[float] | None,
    seed: int | None,
    info: DatasetInfo | None,
    split: str | None,
    stopping_strategy: str,
) -> IterableDataset:
    """A row of one stream after a row of another."""
    link = Interleave(
        _alike(dsets),
        probabilities=None if probabilities is None else tuple(probabilities),
        seeds=(0 if probabilities is None else drawn_seed(seed),),
        stopping_strategy=stopping_strategy,
    )
    return _made(dsets, link, info, split)


def _alike(dsets: Sequence[IterableDataset]) -> tuple[Stream, ...]:
    """The streams in types that hold the rows of all, where all types are known; else as they are."""
    from plait.data.combine import common_features

    features: list[Features] = []
    for dataset in dsets:
        if dataset.features is None:
            return tuple(item.stream for item in dsets)
        features.append(dataset.features)
    common = common_features(features)
    return tuple(
        dataset.stream if known == common else Typed(dataset.stream, common)
        for dataset, known in zip(dsets, features, strict=True)
    )


def _made(
    dsets: Sequence[IterableDataset], link: Stream, info: DatasetInfo | None, split: str | None
) -> IterableDataset:
    first = dsets[0]
    same = all(dataset.format_ == first.format_ for dataset in dsets)
    splits = {dataset.split for dataset in dsets}
    return IterableDataset(
        link,
        info or first.info,
        split=split if split is not None else first.split if len(splits) == 1 else None,
        format=first.format_ if same else None,
    )
