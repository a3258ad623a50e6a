"""Streams made from Python objects, functions, files and data sets, complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.data.features import Features
from plait.data.info import DatasetInfo
from plait.data.make import need_function
from plait.data.schema import as_features
from plait.data.streams.columns import Typed
from plait.data.streams.rows import Window
from plait.data.streams.sources import FileSource, GeneratorSource, Part, TableSource, argument_shards
from plait.errors import DataError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.plan import Plan
    from plait.data.streams.dataset import IterableDataset

# formats whose files can be read one by one; those of others belong together
_SINGLE = {"csv", "json", "parquet", "arrow", "text", "webdataset"}


def to_iterable_dataset(self: Dataset, num_shards: int | None = 1) -> IterableDataset:
    """The rows as a stream with `num_shards` shards of neighbouring rows; nothing is copied."""
    from plait.data.streams.dataset import IterableDataset as Made

    count = 1 if num_shards is None else num_shards
    if count < 1 or (count > len(self) and count > 1):
        raise OptionError(f"num_shards must be from 1 to {max(len(self), 1)}, the number of rows, but is {count}.")
    if self.format_.columns is not None and set(self.format_.columns) != set(self.column_names):
        raise OptionError(
            f"The format shows only {list(self.format_.columns)}, and a stream shows all columns: call "
            f"select_columns({list(self.format_.columns)}) first."
        )
    size, larger = divmod(len(self), count)
    starts = [size * index + min(index, larger) for index in range(count + 1)]
    parts = tuple(zip(starts, starts[1:], strict=False))
    return Made(TableSource(parts, self.with_format(None)), self.info, split=self.split, format=self.format_)


@dataclass(frozen=True)
class _ReaderOf:
    """Makes the reader of a format for some files; it travels to worker processes."""

    format: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, files: list[Path], features: Features | None) -> Any:
        from plait.data.reading import reader_of

        return reader_of(self.format, files, features, self.options)


def stream_files(
    format: str,
    paths: Iterable[Path],
    features: Features | None,
    options: Mapping[str, Any],
    *,
    split: str | None = None,
    info: DatasetInfo | None = None,
) -> IterableDataset:
    """The files of a split as a stream, each a shard; raises `OptionError` for an unknown option of the format."""
    from plait.data.streams.dataset import IterableDataset as Made

    files = list(paths)
    make = _ReaderOf(format, dict(options))
    make(files, features)  # a wrong option is an error now, not when the first row is read
    source = FileSource(
        tuple(Part((file,)) for file in files) if format in _SINGLE else (Part(tuple(files)),),
        make,
        tuple(files),
        known=features,
        declared=features is not None,
        mapped=format == "arrow",
    )
    return Made(source, info or DatasetInfo(builder_name=format), split=split)


def stream_splits(split: Any, plan: Plan) -> Any:
    """The splits that `load_dataset(…, split=split, streaming=True)` names, or all of them.

    Slices count rows from the start; a stream does not know its end, so others raise `OptionError` with the remedy.
    """
    from plait.data.combine import concatenate_datasets
    from plait.data.splits import instruction, wanted
    from plait.data.streams.dataset_dict import IterableDatasetDict

    def stream(name: str) -> IterableDataset:
        return stream_files(plan.format, plan.files[name], plan.features, plan.options, split=name, info=plan.info)

    if split is None:
        return IterableDatasetDict({name: stream(name) for name in plan.files})
    if isinstance(split, Mapping):
        return IterableDatasetDict({str(name): stream_splits(item, plan) for name, item in split.items()})
    if isinstance(split, list | tuple):
        return [stream_splits(item, plan) for item in split]
    wanted(split, plan.files)  # raises for a split that is not there
    found = []
    for part in instruction(split, plan.files).parts:
        low, high = part.from_ or 0, part.to
        if part.unit == "%" or low < 0 or (high is not None and high < 0):
            raise OptionError(
                f"split={str(part)!r} needs the number of rows, which a stream does not know. Count from its start, "
                f"for example {part.split}[:1000], or load the data set without streaming."
            )
        rows = stream(part.split)
        found.append(rows if part.unit is None else rows.derive(Window(rows.stream, low, high)))
    return found[0] if len(found) == 1 else concatenate_datasets(found, split=str(split))


def from_generator(
    generator: Callable[..., Iterable[Mapping[str, Any]]],
    features: Features | Mapping[str, Any] | None = None,
    *,
    gen_kwargs: Mapping[str, Any] | None = None,
    split: str | None = "train",
    info: DatasetInfo | None = None,
) -> IterableDataset:
    """A stream of the rows that a function yields, called with `gen_kwargs` when it is read.

    Lists in `gen_kwargs` are divided into shards, one item each. To go on from a place, the function is called again
    and its rows up to that place are left out, so it must yield the same rows every time.
    """
    from plait.data.streams.dataset import IterableDataset as Made

    need_function(generator)
    source = GeneratorSource(tuple(argument_shards(dict(gen_kwargs or {}))), generator)
    link = source if features is None else Typed(source, as_features(features))
    return Made(link, info, split=split)


def from_file(filename: str | Path) -> IterableDataset:
    """A stream of the rows of an Arrow file (stream or file format), memory-mapped."""
    if not Path(filename).is_file():
        raise DataError(f"There is no file {filename}.")
    return stream_files("arrow", [Path(filename)], None, {})


def from_dict(
    mapping: Mapping[str, Any],
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    num_shards: int | None = 1,
) -> IterableDataset:
    """A stream of the rows of columns in memory; see `Dataset.from_dict`."""
    from plait.data.dataset import Dataset as Made

    return to_iterable_dataset(Made.from_dict(mapping, features, info=info, split=split), num_shards)


def from_list(
    mapping: Iterable[Mapping[str, Any]],
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    num_shards: int | None = 1,
) -> IterableDataset:
    """A stream of rows in memory; see `Dataset.from_list`."""
    from plait.data.dataset import Dataset as Made

    return to_iterable_dataset(Made.from_list(mapping, features, info=info, split=split), num_shards)


def from_pandas(
    df: Any,
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
    preserve_index: bool | None = None,
    num_shards: int | None = 1,
) -> IterableDataset:
    """A stream of the rows of a pandas frame; see `Dataset.from_pandas`."""
    from plait.data.dataset import Dataset as Made

    made = Made.from_pandas(df, features, info=info, split=split, preserve_index=preserve_index)
    return to_iterable_dataset(made, num_shards)


def from_polars(
    df: Any,
    features: Features | Mapping[str, Any] | None = None,
    *,
    info: DatasetInfo | None = None,
    split: str | None = None,
) -> IterableDataset:
    """A stream of the rows of a polars frame; a lazy one is collected."""
    from plait.data.dataset import Dataset as Made

    return to_iterable_dataset(Made.from_polars(df, features, info=info, split=split))


def _loaded(format: str, paths: Any, split: str | None, features: Any, options: Mapping[str, Any]) -> IterableDataset:
    from plait.data.load import load_dataset

    named = {split or "train": paths}
    found: IterableDataset = load_dataset(
        format, data_files=named, split=split or "train", features=features, streaming=True, **options
    )
    return found


def from_csv(path_or_paths: Any, split: str | None = None, *, features: Any = None, **options: Any) -> IterableDataset:
    """A stream of CSV files; the options are those of `load_dataset("csv", …)`."""
    return _loaded("csv", path_or_paths, split, features, options)


def from_json(path_or_paths: Any, split: str | None = None, *, features: Any = None, **options: Any) -> IterableDataset:
    """A stream of JSON files (lines or arrays); the options are those of `load_dataset("json", …)`."""
    return _loaded("json", path_or_paths, split, features, options)


def from_parquet(
    path_or_paths: Any, split: str | None = None, *, features: Any = None, **options: Any
) -> IterableDataset:
    """A stream of Parquet files; the options are those of `load_dataset("parquet", …)`."""
    return _loaded("parquet", path_or_paths, split, features, options)


def from_text(path_or_paths: Any, split: str | None = None, *, features: Any = None, **options: Any) -> IterableDataset:
    """A stream of text files; the options are those of `load_dataset("text", …)`."""
    return _loaded("text", path_or_paths, split, features, options)
