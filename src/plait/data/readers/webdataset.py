"""WebDataset archives, complete: files of one name in a tar archive are the fields of one row, by their endings.

    000.jpg 000.json 000.cls 001.jpg …   ->   {"jpg": picture, "json": {…}, "cls": 3, "__key__": "000", "__url__": …}

Pictures and sounds stay encoded bytes. Pickles and Torch archives are code, and are refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plait.data.encode import to_arrow
from plait.data.features import FeatureType
from plait.data.pictures import Audio, Image
from plait.data.readers.base import Reader, open_bytes
from plait.data.suffixes import IMAGES, SOUNDS
from plait.errors import DataError

_ROWS = 1000
_BYTES = 64 << 20  # of a block
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]*)", re.DOTALL)
_CODE = {"pyd", "pkl", "pickle", "pth", "pt", "ckpt"}
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}


def _array(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False)


def _arrays(data: bytes) -> Any:
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return {name: found[name].tolist() for name in found.files}


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("txt", "text", "transcript"), lambda data: data.decode("utf-8")),
    **dict.fromkeys(("cls", "cls2", "class", "count", "index", "inx", "id"), int),
    **dict.fromkeys(("json", "jsn"), json.loads),
    "npy": _array,
    "npz": _arrays,
}


@dataclass
class WebDatasetReader(Reader):
    """There are no options: the names of the files say everything."""

    def __post_init__(self) -> None:
        self._kinds: dict[str, FeatureType] = {}

    @property
    def kinds(self) -> Mapping[str, FeatureType]:
        return self.features or self._kinds

    def blocks(self) -> Iterator[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        size = 0
        for path in self.files:
            for row, read in self._rows(path):
                rows.append(row)
                size += read
                if len(rows) == _ROWS or size > _BYTES:
                    yield self._block(rows)
                    rows, size = [], 0
        if rows:
            yield self._block(rows)

    def _block(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Rows as columns; what tells rows apart comes last."""
        names = dict.fromkeys(name for row in rows for name in row if not name.startswith("__"))
        block: dict[str, Any] = {}
        for name in [*names, "__key__", "__url__"]:
            values = [row.get(name) for row in rows]
            if self.features is not None and name not in self.features:
                raise DataError(f"features= has no column {name!r}; it has {list(self.features)}.")
            feature = self.kinds.get(name)
            try:
                block[name] = to_arrow(values, feature=feature, column=name)
            except DataError:
                if feature is not None:
                    raise
                block[name] = values  # JSON without a common type
        return block

    def _rows(self, path: Path) -> Iterator[tuple[dict[str, Any], int]]:
        """Every row of an archive, and the bytes that were read for it."""
        row: dict[str, Any] = {}
        size = 0
        for member, data in self._members(path):
            found = _NAME.fullmatch(member)
            if found is None:  # hidden, or without an ending: no field
                continue
            key, name = found.groups()
            if row and row["__key__"] != key:
                yield row, size
                row, size = {}, 0
            if name in row:
                raise DataError(f"{path} has two files {member!r}.")
            row |= {"__key__": key, "__url__": str(path)}
            row[name] = self._decoded(data, name, key, f"{path}, {member}")
            size += len(data)
        if row:
            yield row, size

    def _members(self, path: Path) -> Iterator[tuple[str, bytes]]:
        try:
            with open_bytes(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
                for member in archive:
                    if member.isfile():
                        source = archive.extractfile(member)
                        assert source is not None  # it is a file
                        yield member.name.removeprefix("./"), source.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{path} is not a tar archive that can be read: {error}.") from error

    def _decoded(self, data: bytes, name: str, key: str, place: str) -> Any:
        ending = name.rsplit(".", 1)[-1].lower()
        try:
            if ending in _DECOMPRESS:
                data = _DECOMPRESS[ending](data)
                ending = name.rsplit(".", 2)[-2].lower() if name.count(".") else ""
            if ending in _CODE:
                raise DataError(f"{place} is a pickle, and reading it would run code. Store it as .npy, .json or .txt.")
            if f".{ending}" in IMAGES + SOUNDS:
                self._kinds.setdefault(name, Image() if f".{ending}" in IMAGES else Audio())
                return {"bytes": data, "path": f"{key}.{name}"}
            return _DECODERS[ending](data) if ending in _DECODERS else data
        except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{place} cannot be read as .{ending}: {error}.") from error
