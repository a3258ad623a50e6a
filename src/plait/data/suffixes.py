"""The formats of files, complete: the reader of each, and which suffixes belong to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

from plait.console import logger
from plait.errors import DataError

log = logger("data")

IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".ico", ".tga")
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aiff", ".aif", ".au", ".caf", ".w64", ".rf64")

# name of a format -> its module and class, and the suffixes of its files
READERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "csv": ("plait.data.readers.csv", "CsvReader", (".csv", ".tsv")),
    "json": ("plait.data.readers.json", "JsonReader", (".json", ".jsonl", ".ndjson")),
    "parquet": ("plait.data.readers.parquet", "ParquetReader", (".parquet",)),
    "arrow": ("plait.data.readers.arrow", "ArrowReader", (".arrow",)),
    "text": ("plait.data.readers.text", "TextReader", (".txt",)),
    "sql": ("plait.data.readers.sql", "SqlReader", ()),
    "xlsx": ("plait.data.readers.xlsx", "XlsxReader", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")),
    "imagefolder": ("plait.data.readers.folder", "ImageFolderReader", IMAGES),
    "audiofolder": ("plait.data.readers.folder", "AudioFolderReader", SOUNDS),
    "webdataset": ("plait.data.readers.webdataset", "WebDatasetReader", (".tar", ".tgz")),
}
_SUFFIXES = {suffix: name for name, (_, _, suffixes) in READERS.items() for suffix in suffixes}
COMPRESSIONS = {".gz", ".bz2", ".xz", ".zst", ".lz4"}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # what is said about the pictures or sounds beside it


def format_named(name: str, *, suffix: bool = False) -> str | None:
    """The format that is called `name`; with `suffix` also the one whose files end in it, as "jsonl" is json."""
    return name if name in READERS else _SUFFIXES.get(f".{name.lower()}") if suffix else None


def plain_suffix(name: str | PurePath) -> str:
    """The suffix of a file without that of its compression: `.csv` for `a.csv.gz`."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def format_of(names: Iterable[str | PurePath]) -> str:
    """The one format of files that a person named, by their suffixes; raises `DataError` when there are several."""
    found = {suffix: _SUFFIXES.get(suffix) for suffix in sorted({plain_suffix(name) for name in names})}
    formats = {format for format in found.values() if format is not None}
    unknown = [suffix for suffix, format in found.items() if format is None]
    if len(formats) != 1 or unknown:
        raise DataError(
            f"The files have the suffixes {list(found)}; to read them, name the format: one of {', '.join(READERS)}, "
            f"for example load_dataset('csv', data_files=…)."
        )
    return formats.pop()


def main_format(names: Iterable[str]) -> str | None:
    """The format that most of the files in a folder have; `None` when none has a known one.

    Raises `DataError` when two are equally common. What lies beside pictures or sounds as metadata does not count.
    """
    names = list(names)
    found = [_SUFFIXES.get(plain_suffix(name)) for name in names]
    if {"imagefolder", "audiofolder"} & set(found):
        pairs = zip(names, found, strict=True)
        found = [format for name, format in pairs if PurePath(name).name not in METADATA]
    counts = Counter(format for format in found if format is not None).most_common(2)
    if not counts:
        return None
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        raise DataError(
            f"There are as many {counts[0][0]} files as {counts[1][0]} files. Name the format: "
            f"load_dataset({counts[0][0]!r}, data_dir=…), or the files: data_files=…."
        )
    return counts[0][0]


def is_data_file(name: str | PurePath) -> bool:
    """Whether a name is that of a file of a known format."""
    return plain_suffix(name) in _SUFFIXES or plain_suffix(name) == ".zip"


def has_format(name: str | PurePath, format: str | None) -> bool:
    """Whether a file is read by the reader of a format, or is an archive that may hold such files."""
    suffix = plain_suffix(name)
    if format is None:
        return suffix == ".zip"
    beside = format in ("imagefolder", "audiofolder") and PurePath(name).name in METADATA
    return suffix in READERS[format][2] or suffix == ".zip" or beside
