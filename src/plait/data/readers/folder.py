"""Folders of pictures or sounds, complete: one row per file, with the folder's name as its label, or with metadata.

Files stay where they are: a row holds the path, and is decoded when it is read. metadata.csv, metadata.jsonl or
metadata.parquet beside the files name them in a column `file_name` (or `<column>_file_name`, `file_names` for lists).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from plait.console import logger
from plait.data.encode import to_arrow
from plait.data.features import ClassLabel, Features, FeatureType, List
from plait.data.locate import split_in
from plait.data.pictures import Audio, Image
from plait.data.readers.base import Reader
from plait.data.suffixes import IMAGES, METADATA, SOUNDS, format_of
from plait.errors import DataError, NotFoundError
from plait.hub.names import path_problem

log = logger("data")

_ROWS = 10_000


@dataclass
class FolderReader(Reader):
    """`drop_labels=True` makes no labels of the folders' names, False makes them in any case; `None` when there are
    several folders, all at one depth, and no metadata. `drop_metadata=True` reads no metadata."""

    REFUSED = {"filters": "filter the rows afterwards with filter()"}
    COLUMN: ClassVar[str] = ""
    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    FEATURE: ClassVar[FeatureType]  # of a file

    drop_labels: bool | None = None
    drop_metadata: bool | None = None
    metadata_filenames: list[str] | None = None

    version = "1"

    def __post_init__(self) -> None:
        names = tuple(self.metadata_filenames or METADATA)
        self._described = [] if self.drop_metadata else [path for path in self.files if path.name in names]
        self._media = [path for path in self.files if path.suffix.lower() in self.SUFFIXES]
        self._kinds: dict[str, FeatureType] = {}

    @classmethod
    def common(cls, files: list[Path], features: Features | None, options: Mapping[str, Any]) -> Features | None:
        names = tuple(options.get("metadata_filenames") or METADATA)
        described = not options.get("drop_metadata") and any(path.name in names for path in files)
        if features is not None or described:
            return features
        media = [path for path in files if path.suffix.lower() in cls.SUFFIXES]
        if not media:
            kinds = ", ".join(cls.SUFFIXES)
            raise NotFoundError(f"None of the {len(files)} files is of a kind that {cls.COLUMN}folder reads: {kinds}.")
        labels = sorted({path.parent.name for path in media})
        drop = options.get("drop_labels")
        if drop is None:
            one_depth = len({len(path.parts) for path in media}) == 1
            # folders that are called after splits say which split their files belong to, and nothing else
            drop = not (len(labels) > 1 and one_depth) or all(split_in([label]) for label in labels)
        found: dict[str, FeatureType] = {cls.COLUMN: cls.FEATURE}
        return Features(found if drop else {**found, "label": ClassLabel(names=labels)})

    @property
    def kinds(self) -> Mapping[str, FeatureType]:
        return self.features or self._kinds

    def blocks(self) -> Iterator[dict[str, Any]]:
        if self._described:
            yield from self._with_metadata()
            return
        features = self.features or Features({self.COLUMN: self.FEATURE})
        for start in range(0, len(self._media), _ROWS):
            files = self._media[start : start + _ROWS]
            block: dict[str, Any] = {}
            for name, kind in features.items():
                if name not in (self.COLUMN, "label"):
                    raise DataError(
                        f"features= has a column {name!r}, but files have {self.COLUMN!r} and 'label' alone."
                    )
                values = [str(path.absolute()) if name == self.COLUMN else path.parent.name for path in files]
                block[name] = to_arrow(values, feature=kind, column=name, first_row=start)
            yield block

    # --- metadata ---

    def _with_metadata(self) -> Iterator[dict[str, Any]]:
        here = {path.absolute() for path in self._media}
        for path in self._described:
            table = self._table(path)
            found = [name for name in table.column_names if _target(name, self.COLUMN) is not None]
            if not found:
                raise DataError(
                    f"{path} has no column file_name, *_file_name, file_names or *_file_names; it has "
                    f"{table.column_names}."
                )
            keep, columns = self._files(path, table, found, here)
            block = {}
            for name in table.column_names:
                if name in columns:
                    target, kind, values = columns[name]
                    self._kinds[target] = kind
                    chosen = [value for value, kept in zip(values, keep, strict=True) if kept]
                    block[target] = to_arrow(chosen, feature=kind, column=target)
                else:
                    block[name] = self._declared(table.column(name).combine_chunks().filter(pa.array(keep)), name)
            yield block

    def _declared(self, array: Any, name: str) -> Any:
        if self.features is None:
            return array
        return to_arrow(array, feature=self.features[name], column=name)

    def _files(
        self, path: Path, table: Any, found: list[str], here: set[Path]
    ) -> tuple[list[bool], dict[str, tuple[str, FeatureType, list[Any]]]]:
        """Which rows are of this split, and the paths in the columns that name files."""
        keep = [True] * table.num_rows
        columns: dict[str, tuple[str, FeatureType, list[Any]]] = {}
        for name in found:
            target, several = _target(name, self.COLUMN) or ("", False)
            values: list[Any] = []
            for row, value in enumerate(table.column(name).to_pylist()):
                given = value if several else [value]
                paths = [None if each is None else self._path(path, each, row) for each in given or ()]
                if any(each is not None and each not in here for each in paths):
                    keep[row] = False  # of another split
                shown = [None if each is None else str(each) for each in paths]
                values.append((shown if value is not None else None) if several else shown[0])
            kind = List(self.FEATURE) if several else self.FEATURE
            columns[name] = (target, kind, values)
        return keep, columns

    def _path(self, described: Path, name: str, row: int) -> Path:
        """The file that a row of metadata names, which lies beside the metadata or below."""
        plain = str(name).removeprefix("./")
        if problem := path_problem(plain):
            raise DataError(f"{described}, row {row}: {name!r} is not a file beside it: {problem}.")
        path = described.parent.absolute() / plain
        if not path.is_file():
            raise DataError(f"{described}, row {row}: there is no file {name!r}.")
        return path

    def _table(self, path: Path) -> Any:
        """The rows of a metadata file, as an Arrow table."""
        from plait.data.info import DatasetInfo
        from plait.data.reading import read_dataset, reader_of

        format = format_of([path])
        reader = reader_of(format, [path], None, {})
        return read_dataset(format, reader, split="", info=DatasetInfo(), keep_in_memory=True).table.to_arrow()


def _target(name: str, column: str) -> tuple[str, bool] | None:
    """The column that a column of metadata becomes, and whether it names several files; `None` when it names none."""
    if name == "file_name" or name.endswith("_file_name"):
        return name.removesuffix("file_name").removesuffix("_") or column, False
    if name == "file_names" or name.endswith("_file_names"):
        return name.removesuffix("file_names").removesuffix("_") or f"{column}s", True
    return None


@dataclass
class ImageFolderReader(FolderReader):
    """Pictures in folders, in a column `image`."""

    COLUMN = "image"
    SUFFIXES = IMAGES
    FEATURE = Image()


@dataclass
class AudioFolderReader(FolderReader):
    """Sounds in folders, in a column `audio`."""

    COLUMN = "audio"
    SUFFIXES = SOUNDS
    FEATURE = Audio()
