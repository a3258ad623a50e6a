"""Several data sets by the names of their splits, complete: a dict whose methods work on every split."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from plait.data.dataset import Dataset
from plait.data.disk import load_from_disk, saved_folder, write_folder
from plait.data.features import Features
from plait.data.push import push_dict_to_hub
from plait.disk import write_json
from plait.errors import ColumnError, DataError, OptionError, nearest

# arguments that name a file per split here, and one file in the method of `Dataset`
_PER_SPLIT = {"cache_file_names": "cache_file_name", "indices_cache_file_names": "indices_cache_file_name"}


def _on_each(name: str) -> Callable[..., DatasetDict]:
    """The method of `Dataset` with this name, called on every split with the same arguments."""
    method = getattr(Dataset, name)

    @functools.wraps(method)
    def call(self: DatasetDict, *args: Any, **kwargs: Any) -> DatasetDict:
        return DatasetDict(
            {split: method(dataset, *args, **_of_split(kwargs, split)) for split, dataset in self.items()}
        )

    return call


def _of_split(options: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The arguments for one split."""
    found = {name: value for name, value in options.items() if name not in _PER_SPLIT}
    for many, one in _PER_SPLIT.items():
        if options.get(many) is not None:
            found[one] = options[many].get(split)
    return found


def _told(function: Callable[..., Any], split: str) -> Callable[..., Any]:
    """A function that passes the name of the split on, after its other arguments."""
    if inspect.iscoroutinefunction(function):

        async def wait(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, split, **kwargs)

        return wait

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, split, **kwargs)

    return call


def _loading(format: str) -> Any:
    """A class method that loads files of one format: a path, pattern or list of them for each split."""

    def load(
        cls: type[DatasetDict],
        /,
        path_or_paths: Mapping[str, Any],
        features: Features | Mapping[str, Any] | None = None,
        *,
        cache_dir: str | Path | None = None,
        keep_in_memory: bool = False,
        **options: Any,
    ) -> DatasetDict:
        from plait.data.load import load_dataset

        given = {**options, "features": features, "cache_dir": cache_dir, "keep_in_memory": keep_in_memory}
        found: DatasetDict = load_dataset(format, data_files=path_or_paths, **given)
        return found

    load.__name__ = f"from_{format}"
    load.__doc__ = f"""Data sets from {format} files by split: `{{"train": "a.{format}", "test": […]}}`.

        The options are those of `load_dataset("{format}", …)`.
        """
    return classmethod(load)


class DatasetDict(dict[str, Dataset]):
    """Data sets by split: `dataset["train"]`. Methods such as `map` and `filter` work on every split."""

    def __init__(self, *splits: Any, **more: Any) -> None:
        super().__init__(*splits, **more)
        for name, dataset in self.items():
            if not isinstance(dataset, Dataset):
                raise DataError(
                    f"Split {name!r} is a {type(dataset).__name__}, not a Dataset. Make one with Dataset.from_dict, "
                    "from_list or from_pandas."
                )

    def __missing__(self, name: object) -> Dataset:
        known = list(self)
        for dataset in self.values():
            if name in dataset.features:
                raise ColumnError(f"{name!r} is a column; choose a split first, for example [{known[0]!r}][{name!r}].")
        raise ColumnError(f"There is no split {name!r}.{nearest(str(name), known)} Splits are {known}.")

    def __repr__(self) -> str:
        inner = "\n".join(f"{name}: {dataset!r}" for name, dataset in self.items())
        return "DatasetDict({\n" + "\n".join(f"    {line}" for line in inner.splitlines()) + "\n})"

    @property
    def column_names(self) -> dict[str, list[str]]:
        """The names of the columns, by split."""
        return {name: dataset.column_names for name, dataset in self.items()}

    @property
    def num_rows(self) -> dict[str, int]:
        """The number of rows, by split."""
        return {name: dataset.num_rows for name, dataset in self.items()}

    @property
    def num_columns(self) -> dict[str, int]:
        """The number of columns, by split."""
        return {name: dataset.num_columns for name, dataset in self.items()}

    @property
    def shape(self) -> dict[str, tuple[int, int]]:
        """Rows and columns, by split."""
        return {name: dataset.shape for name, dataset in self.items()}

    @property
    def features(self) -> dict[str, Features]:
        """The features, by split."""
        return {name: dataset.features for name, dataset in self.items()}

    @property
    def data(self) -> dict[str, pa.Table]:
        """All columns as an Arrow table, by split."""
        return {name: dataset.data for name, dataset in self.items()}

    @property
    def cache_files(self) -> dict[str, list[dict[str, str]]]:
        """The Arrow files that hold the columns, by split."""
        return {name: dataset.cache_files for name, dataset in self.items()}

    from_csv = _loading("csv")
    from_json = _loading("json")
    from_parquet = _loading("parquet")
    from_text = _loading("text")

    def map(self, function: Any = None, *args: Any, with_split: bool = False, **kwargs: Any) -> DatasetDict:
        """Every split with what `function` makes of its rows; the arguments are those of `Dataset.map`.

        `with_split=True` passes the name of the split to the function, as its last argument.
        """
        return DatasetDict(
            {
                split: dataset.map(
                    _told(function, split) if with_split else function, *args, **_of_split(kwargs, split)
                )
                for split, dataset in self.items()
            }
        )

    filter = _on_each("filter")
    sort = _on_each("sort")
    rename_column = _on_each("rename_column")
    rename_columns = _on_each("rename_columns")
    remove_columns = _on_each("remove_columns")
    select_columns = _on_each("select_columns")
    cast = _on_each("cast")
    cast_column = _on_each("cast_column")
    class_encode_column = _on_each("class_encode_column")
    align_labels_with_mapping = _on_each("align_labels_with_mapping")
    flatten = _on_each("flatten")
    flatten_indices = _on_each("flatten_indices")
    with_format = _on_each("with_format")
    with_transform = _on_each("with_transform")

    def shuffle(
        self,
        seeds: int | Mapping[str, int | None] | None = None,
        *,
        seed: int | None = None,
        generators: Mapping[str, Any] | None = None,
        **ignored: Any,
    ) -> DatasetDict:
        """Every split in a random order: with one `seed`, or with a seed or generator per split."""
        if seed is not None and seeds is not None:
            raise OptionError("Give seed or seeds, not both.")
        chosen = seeds if seeds is not None else seed
        by_split = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(self, chosen)
        found = DatasetDict()
        for name, dataset in self.items():
            generator = (generators or {}).get(name)
            found[name] = dataset.shuffle(by_split.get(name), generator=generator, **_of_split(ignored, name))
        return found

    def cleanup_cache_files(self) -> dict[str, int]:
        """Remove results that were made from the same data as the splits, but for their own; their number by split.

        Results that other live processes use stay.
        """
        return {name: dataset.cleanup_cache_files() for name, dataset in self.items()}

    def unique(self, column: str) -> dict[str, list[Any]]:
        """The distinct values of a column, by split."""
        return {name: dataset.unique(column) for name, dataset in self.items()}

    def set_format(self, type: str | None = None, columns: Any = None, **options: Any) -> None:
        """Show the rows of every split as `type`, in place."""
        for dataset in self.values():
            dataset.set_format(type, columns, **options)

    def reset_format(self) -> None:
        """Show the rows of every split as plain Python again, in place."""
        for dataset in self.values():
            dataset.reset_format()

    def set_transform(self, transform: Any, columns: Any = None, **options: Any) -> None:
        """Pass every batch that is read through a function, in place."""
        for dataset in self.values():
            dataset.set_transform(transform, columns, **options)

    @contextlib.contextmanager
    def formatted_as(self, type: str | None = None, columns: Any = None, **options: Any) -> Iterator[None]:
        """Show the rows of every split as `type` inside a `with` block."""
        with contextlib.ExitStack() as stack:
            for dataset in self.values():
                stack.enter_context(dataset.formatted_as(type, columns, **options))
            yield

    push_to_hub = push_dict_to_hub

    def save_to_disk(
        self,
        dataset_dict_path: str | Path,
        max_shard_size: str | int | None = None,
        *,
        num_shards: Mapping[str, int] | None = None,
        num_proc: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write every split to a folder of its own below `dataset_dict_path`; the arguments are those of `Dataset`'s.

        `num_shards` counts the files of each split: `{"train": 8, "test": 1}`.
        """
        for name in num_shards or {}:
            if name not in self:
                raise OptionError(f"num_shards names the split {name!r}, but the splits are {list(self)}.")
        with saved_folder(dataset_dict_path, storage_options) as folder:
            for name, dataset in self.items():
                if not name or "/" in name or name.startswith("."):
                    raise DataError(f"{name!r} cannot be the name of a folder; rename the split.")
                (folder / name).mkdir()
                count = (num_shards or {}).get(name)
                size = None if count is not None else max_shard_size
                write_folder(dataset, folder / name, max_shard_size=size, num_shards=count, num_proc=num_proc)
            write_json(folder / "dataset_dict.json", {"splits": list(self)})

    @staticmethod
    def load_from_disk(
        dataset_dict_path: str | Path,
        keep_in_memory: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> DatasetDict:
        """The splits in a folder; raises `DataError` for the folder of a single data set."""
        found = load_from_disk(dataset_dict_path, keep_in_memory, storage_options)
        if not isinstance(found, DatasetDict):
            raise DataError(f"{dataset_dict_path} holds one data set. Use Dataset.load_from_disk or load_from_disk.")
        return found
