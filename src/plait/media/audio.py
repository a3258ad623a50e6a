"""Sounds, complete: decode, mix to one channel, resample, normalise; float32 samples in -1 … 1.

Shapes: N samples.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait.errors import DataError, NotFoundError, OptionError, require

_BLOCK = 1 << 20  # samples of each channel


class Audio(NamedTuple):
    """`samples` (N,) float32 of one channel, `rate` of them per second."""

    samples: NDArray[np.float32]
    rate: int


def decode_audio(source: str | Path | bytes, *, rate: int | None = None) -> Audio:
    """A sound file (WAV, FLAC, OGG, MP3, …) or its bytes; channels are averaged.

    `rate` in samples per second resamples; None keeps the file's own. Raises DataError when it is no sound,
    NotFoundError when there is no file.
    """
    soundfile = require("soundfile", extra="media", purpose="decode sounds")
    label = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, str | Path | bytes):
        raise DataError(f"{source!r:.80} is no sound: give a file or its bytes.")
    if not isinstance(source, bytes):
        if not Path(source).is_file():
            raise NotFoundError(f"There is no sound at {label!r}.")
        source = Path(source).read_bytes()
    try:
        with soundfile.SoundFile(io.BytesIO(source)) as file:
            own_rate, blocks = file.samplerate, [np.zeros(0, np.float32)]
            # By blocks, since a few bytes may say that they are a sound of any length.
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):  # (up to _BLOCK, channels)
                blocks.append(block.mean(axis=1, dtype=np.float32))
    except (soundfile.SoundFileError, TypeError) as error:
        raise DataError(f"{label}: this is not a sound that soundfile can read ({error}).") from error
    samples = np.concatenate(blocks)
    return Audio(samples if rate is None else resample(samples, own_rate, rate), own_rate if rate is None else rate)


def resample(samples: NDArray[np.float32], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Change the rate of samples (N,) through soxr at high quality; nothing to do returns the same array."""
    if source_rate <= 0 or target_rate <= 0:
        raise OptionError(f"Rates must be above 0 samples per second, but are {source_rate} and {target_rate}.")
    if source_rate == target_rate:
        return samples
    soxr = require("soxr", extra="media", purpose="resample sounds")
    out: NDArray[np.float32] = soxr.resample(samples, source_rate, target_rate)
    return out


def normalise(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and variance 1 over the samples (N,), as wav2vec 2.0 expects them (arXiv:2006.11477, §2)."""
    out: NDArray[np.float32] = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return out
