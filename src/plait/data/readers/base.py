"""What every reader is, complete: files and options in, blocks of Arrow columns out."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa

from plait.data.features import Features, FeatureType
from plait.data.table import Table
from plait.errors import DataError


class Again(Exception):
    """Raised by `blocks` when types found late make the blocks given so far useless; the next call knows them."""


@dataclass
class Reader:
    """A reader of some files. The fields after `features` are its options."""

    files: list[Path]
    features: Features | None = None

    version = "1"  # a change makes what is in the cache unusable
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {}  # names that are known elsewhere -> why they mean nothing here
    of_files: ClassVar[bool] = True  # whether it reads files
    REFUSED: ClassVar[Mapping[str, str]] = {}  # names that are known elsewhere -> what to do instead

    def blocks(self) -> Iterator[dict[str, Any]]:
        """The rows of all files in order, as Arrow arrays by column."""
        raise NotImplementedError

    def blocks_from(self, row: int) -> Iterator[dict[str, Any]]:
        """The rows from number `row` on; a reader that knows where they lie does not go through those before."""
        for block in self.blocks():
            count = len(next(iter(block.values()))) if block else 0
            if row < count:
                yield {name: array[row:] for name, array in block.items()} if row else block
            row = max(row - count, 0)

    def starts(self) -> list[int]:
        """The numbers of rows at which reading may begin without going through those before; none when unknown."""
        return []

    @property
    def cacheable(self) -> bool:
        """Whether the files and the options alone say what the rows are."""
        return True

    @property
    def kinds(self) -> Mapping[str, FeatureType]:
        """The features of columns that are known before anything is read; the others follow from their values."""
        return self.features or {}

    def direct(self) -> tuple[Table, Features] | None:
        """The columns of files that need no reading, because they can be mapped as they are."""
        return None

    @classmethod
    def common(cls, files: list[Path], features: Features | None, options: Mapping[str, Any]) -> Features | None:
        """The features of all splits together, where the files of all of them say more than those of one."""
        return features

    @classmethod
    def option_names(cls) -> list[str]:
        """The names of the options."""
        return [field.name for field in dataclasses.fields(cls) if field.name not in ("files", "features")]

    def options(self) -> dict[str, Any]:
        """The options with their values."""
        return {name: getattr(self, name) for name in self.option_names()}

    @property
    def title(self) -> str:
        """The files, for progress bars."""
        return self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files"


def open_bytes(path: Path) -> BinaryIO:
    """A file as a stream of bytes, decompressed by its suffix (.gz, .bz2, .xz, .zst, .lz4)."""
    suffix = path.suffix.lower()
    if suffix in _UNPACK:
        return io.BufferedReader(_Unpacked(path, _UNPACK[suffix](path)), 1 << 18)
    return open(path, "rb")


def _by_arrow(path: Path) -> Any:
    return pa.input_stream(str(path), compression="detect")


_UNPACK: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _by_arrow,
    ".lz4": _by_arrow,
}


class _Unpacked(io.RawIOBase):
    """A stream that is being unpacked; damage becomes a `DataError` that names the file."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self._stream = path, stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(
                f"{self._path} cannot be unpacked: {error}. It is cut off or damaged; get the file again."
            ) from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        self._stream.close()
        super().close()


# encodings to try, in order, when text does not decode
_SAMPLE = 1 << 20  # bytes
_GUESSES = ("utf-8", "gb18030", "big5", "shift_jis", "euc_kr", "cp1252")


def wrong_encoding(path: Path, encoding: str, error: Exception) -> DataError:
    """The error for text that does not decode: the first byte that does not, and a guess of the encoding."""
    offset = _first_bad_byte(path, encoding)
    with open_bytes(path) as stream:
        if offset is not None and offset > _SAMPLE // 2:
            for size in (*[_SAMPLE] * ((offset - _SAMPLE // 2) // _SAMPLE), (offset - _SAMPLE // 2) % _SAMPLE):
                stream.read(size)  # not every stream that unpacks can seek
            stream.readline()  # a line begins with a whole character
        sample = stream.read(_SAMPLE)
    guess = guessed_encoding(sample, not_this=encoding)
    hint = f" It looks like {guess}: pass encoding={guess!r}." if guess else " Pass encoding= with the right one."
    place = "" if offset is None else f"from byte {offset} on "
    reason = getattr(error, "reason", None) or error
    return DataError(f"{path} is not {encoding} text {place}({reason}).{hint}")


def _first_bad_byte(path: Path, encoding: str) -> int | None:
    """Where decoding a file fails: the offset of the first byte that is no character (before compression)."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    with open_bytes(path) as stream:
        while True:
            data = stream.read(_SAMPLE)
            held = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                return offset - held + error.start
            if not data:
                return None
            offset += len(data)


def guessed_encoding(sample: bytes, *, not_this: str = "") -> str | None:
    """The first usual encoding in which all of a sample makes sense."""
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    for name in _GUESSES:
        if name == not_this.lower().replace("_", "-"):
            continue
        try:
            text = sample.decode(name)
        except UnicodeDecodeError as error:
            if error.start < len(sample) - 4:  # the sample may end inside a character
                continue
            text = sample[: error.start].decode(name)
        strange = sum(not (c.isprintable() or c in "\r\n\t") or "\ue000" <= c <= "\uf8ff" for c in text)
        if strange <= len(text) / 100:
            return name
    return None
