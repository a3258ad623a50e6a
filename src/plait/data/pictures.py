"""Columns of pictures and sounds, complete: stored as encoded bytes or a path, decoded when a row is read.

Both are stored as the struct `{bytes, path}`, as datasets stores them; `decode=False` gives that dict unread.
A picture reads as a `PIL.Image.Image`; a sound as `{"array": float32 (T,) or (C, T), "sampling_rate": Hz, "path": …}`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from plait.data.features import Feature, FeatureType, Value
from plait.errors import DataError, require

_STORED = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_FIELDS: dict[str, FeatureType] = {"bytes": Value("binary"), "path": Value("string")}


_ORIENTATION = 0x0112  # of EXIF: how the camera was held


def how_to_hold(value: Any) -> str:
    """The end of an error about a value that no column holds by itself."""
    if type(value).__module__.partition(".")[0] == "PIL":
        return " A column of pictures is declared: features=Features({…, name: Image()})."
    return " Make text, numbers, lists or dicts of it."


@dataclass(frozen=True)
class Image(Feature):
    """A column of pictures, read as `PIL.Image.Image`.

    `mode` ("RGB", "L", …) converts what is read; `decode=False` gives bytes and path.
    """

    mode: str | None = None
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    encoded = True

    @property
    def arrow(self) -> pa.DataType:
        return _STORED

    dtype: ClassVar[str] = "PIL.Image.Image"

    def flatten(self) -> FeatureType:
        """The bytes and the path with `decode=False`; else it stays whole."""
        return self if self.decode else dict(_FIELDS)

    def encode_example(self, value: Any) -> Any:
        """A path, bytes, a `{bytes, path}` dict, a PIL picture, or an array (H, W, C) of uint8, as stored.

        Arrays (H, W) may also be bool, uint16, int32 or float32.
        """
        if value is None or isinstance(value, str | Path | bytes | bytearray | Mapping):
            return _stored(value, "picture")
        images = require("PIL.Image", extra="media", purpose="store pictures")
        if not isinstance(value, images.Image):
            import numpy as np

            array = np.asarray(value)
            deep = array.ndim == 2 and array.dtype in (np.bool_, np.uint16, np.int32, np.float32)
            if array.dtype != np.uint8 and not deep:
                raise DataError(f"A picture given as an array must be uint8 (0 … 255), but is {array.dtype}.")
            value = images.fromarray(array)
        if name := getattr(value, "filename", ""):
            return {"bytes": None, "path": name}
        stream = io.BytesIO()
        # PNG loses nothing; modes that PNG cannot hold go to TIFF
        value.save(stream, format="PNG" if value.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF")
        return {"bytes": stream.getvalue(), "path": None}

    def decode_example(self, value: Any) -> Any:
        """The picture, read completely, and upright where a camera noted how it was held.

        Raises `DataError` for what is no picture.
        """
        if value is None or not self.decode:
            return value
        images = require("PIL.Image", extra="media", purpose="read pictures")
        data = _bytes(value, "picture")
        try:
            picture = images.open(io.BytesIO(data))
            picture.load()
            if picture.getexif().get(_ORIENTATION) is not None:
                picture = require("PIL.ImageOps", extra="media", purpose="read pictures").exif_transpose(picture)
        except images.UnidentifiedImageError as error:
            raise DataError(f"{_named(value, data, 'picture')} has no format that is known.") from error
        except (OSError, SyntaxError, ValueError, images.DecompressionBombError) as error:
            raise DataError(f"{_named(value, data, 'picture')} cannot be read: {error}.") from error
        return picture.convert(self.mode) if self.mode and picture.mode != self.mode else picture

    @property
    def decoded(self) -> bool:
        return self.decode


@dataclass(frozen=True)
class Audio(Feature):
    """A column of sounds. `sampling_rate` (Hz) resamples what is read; `num_channels=1` mixes channels down.

    A sound is read as {"path", "array", "sampling_rate"}, with samples (T,) for one channel and (C, T) for several,
    float32 from -1 to 1. `stream_index` picks a stream of a film in datasets; a file of sound has the stream 0 alone.
    """

    sampling_rate: int | None = None
    decode: bool = True
    num_channels: int | None = None
    stream_index: int | None = None
    id: str | None = field(default=None, repr=False)
    encoded = True

    @property
    def arrow(self) -> pa.DataType:
        return _STORED

    dtype: ClassVar[str] = "dict"

    def flatten(self) -> FeatureType:
        """The bytes and the path with `decode=False`; else it stays whole."""
        return self if self.decode else dict(_FIELDS)

    def encode_example(self, value: Any) -> Any:
        """A path, bytes, a `{bytes, path}` dict, or `{"array", "sampling_rate"}` (written as 32-bit float WAV)."""
        if isinstance(value, Mapping) and value.get("array") is not None:
            sounds = require("soundfile", extra="media", purpose="store sounds")
            import numpy as np

            if not value.get("sampling_rate"):
                raise DataError("A sound given as an array needs its sampling_rate (Hz) beside it.")
            # (C, T) or (T,) -> (T, C) or (T,), the order of audio files
            samples = np.asarray(value["array"], dtype=np.float32).T
            stream = io.BytesIO()
            sounds.write(stream, samples, int(value["sampling_rate"]), format="WAV", subtype="FLOAT")
            return {"bytes": stream.getvalue(), "path": None}
        return _stored(value, "sound")

    def decode_example(self, value: Any) -> Any:
        """The samples, their rate and their path. Raises `DataError` for a channel or stream that is not there."""
        if value is None or not self.decode:
            return value
        if self.stream_index:
            raise DataError(f"A file of sound has the stream 0 alone, but stream_index={self.stream_index}.")
        sounds = require("soundfile", extra="media", purpose="read sounds")
        # (T, C) -> (C, T), and (T,) for one channel
        data = _bytes(value, "sound")
        try:
            samples, rate = sounds.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except sounds.LibsndfileError as error:
            raise DataError(f"{_named(value, data, 'sound')} cannot be read: {error.error_string}") from error
        samples = samples.T
        if self.num_channels == 1 and len(samples) > 1:
            samples = samples.mean(axis=0, keepdims=True)
        elif self.num_channels is not None and self.num_channels != len(samples):
            raise DataError(f"A sound has {len(samples)} channels, but num_channels={self.num_channels}.")
        if self.sampling_rate is not None and rate != self.sampling_rate:
            soxr = require("soxr", extra="media", purpose="change the sampling rate of sounds")
            samples = soxr.resample(samples.T, rate, self.sampling_rate).T
            rate = self.sampling_rate
        array = samples[0] if len(samples) == 1 else samples
        return {"path": value["path"], "array": array, "sampling_rate": rate}

    @property
    def decoded(self) -> bool:
        return self.decode


def _stored(value: Any, what: str) -> dict[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, str | Path):
        return {"bytes": None, "path": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, Mapping) and (value.get("bytes") is not None or value.get("path") is not None):
        return {"bytes": value.get("bytes"), "path": None if value.get("path") is None else str(value["path"])}
    raise DataError(f"A {what} is stored from a path, bytes, or {{'bytes': …, 'path': …}}, but got {value!r:.200}.")


def _named(value: Mapping[str, Any], data: bytes, what: str) -> str:
    """A picture or sound in an error."""
    return str(value["path"]) if value["path"] else f"A {what} of {len(data)} bytes"


def _bytes(value: Mapping[str, Any], what: str) -> bytes:
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    path = Path(value["path"])
    if not path.is_file():
        raise DataError(f"The {what} {path} is not there any more. Store the bytes, or bring the file back.")
    return path.read_bytes()
