"""Several data sets by the names of their splits, complete: a dict whose methods work on every split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.data.dataset import Dataset
from plait.data.disk import load_from_disk, replaced_folder, write_folder
from plait.data.features import Features
from plait.data.files import sync
from plait.errors import ColumnError, DataError, OptionError, nearest


def _on_each(name: str) -> Callable[..., DatasetDict]:
    """The method of `Dataset` with this name, called on every split with the same arguments."""
    method = getattr(Dataset, name)

    def call(self: DatasetDict, *args: Any, **kwargs: Any) -> DatasetDict:
        return DatasetDict({split: method(dataset, *args, **kwargs) for split, dataset in self.items()})

    call.__name__ = name
    call.__doc__ = method.__doc__
    return call


class DatasetDict(dict[str, Dataset]):
    """Data sets by split: `dataset["train"]`. Methods such as `map` and `filter` work on every split."""

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
    def cache_files(self) -> dict[str, list[dict[str, str]]]:
        """The Arrow files that hold the columns, by split."""
        return {name: dataset.cache_files for name, dataset in self.items()}

    map = _on_each("map")
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
        return DatasetDict(
            {
                name: dataset.shuffle(by_split.get(name), generator=(generators or {}).get(name), **ignored)
                for name, dataset in self.items()
            }
        )

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

    def formatted_as(self, type: str | None = None, columns: Any = None, **options: Any) -> Any:
        """Show the rows of every split as `type` inside a `with` block."""
        import contextlib

        @contextlib.contextmanager
        def formatted() -> Iterator[None]:
            with contextlib.ExitStack() as stack:
                for dataset in self.values():
                    stack.enter_context(dataset.formatted_as(type, columns, **options))
                yield

        return formatted()

    def save_to_disk(
        self,
        dataset_dict_path: str | Path,
        max_shard_size: str | int | None = None,
        *,
        num_shards: Mapping[str, int] | None = None,
        num_proc: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write every split to a folder of its own below `dataset_dict_path`."""
        for name in num_shards or {}:
            if name not in self:
                raise OptionError(f"num_shards names the split {name!r}, but the splits are {list(self)}.")
        with replaced_folder(Path(dataset_dict_path).expanduser()) as folder:
            for name, dataset in self.items():
                if not name or "/" in name or name.startswith("."):
                    raise DataError(f"{name!r} cannot be the name of a folder; rename the split.")
                (folder / name).mkdir()
                count = (num_shards or {}).get(name)
                write_folder(dataset, folder / name, max_shard_size=max_shard_size, num_shards=count)
            description = folder / "dataset_dict.json"
            description.write_text(json.dumps({"splits": list(self)}, ensure_ascii=False), encoding="utf-8")
            sync(description)

    @staticmethod
    def load_from_disk(dataset_dict_path: str | Path, **options: Any) -> DatasetDict:
        """The splits in a folder; raises `DataError` for the folder of a single data set."""
        found = load_from_disk(dataset_dict_path, **options)
        if not isinstance(found, DatasetDict):
            raise DataError(f"{dataset_dict_path} holds one data set. Use Dataset.load_from_disk or load_from_disk.")
        return found
