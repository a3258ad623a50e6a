"""Sounds against sines known in closed form, soxr itself, and transformers' normalisation."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from transformers import Wav2Vec2FeatureExtractor

from plait.errors import DataError, NotFoundError, OptionError
from plait.media.audio import decode_audio, normalise, resample


def sine(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def wav(samples: np.ndarray, rate: int, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def test_samples_arrive_as_they_were_written(tmp_path: Path) -> None:
    samples = sine(440, 8000)
    (tmp_path / "a.wav").write_bytes(wav(samples, 8000))
    for source in (wav(samples, 8000), tmp_path / "a.wav", str(tmp_path / "a.wav")):
        audio = decode_audio(source)
        assert audio.rate == 8000
        assert audio.samples.dtype == np.float32
        assert np.array_equal(audio.samples, samples)


def test_channels_are_averaged_and_integers_scaled() -> None:
    both = np.array([[16384, 0], [-32768, -32768]], dtype=np.int16)
    assert decode_audio(wav(both, 8000, "PCM_16")).samples.tolist() == [0.25, -1.0]


def test_resampling_keeps_the_sine() -> None:
    audio = decode_audio(wav(sine(440, 44100), 44100), rate=16000)
    assert audio.rate == 16000
    assert np.array_equal(audio.samples, soxr.resample(sine(440, 44100), 44100, 16000))
    # Away from the ends, where the filter lacks neighbours, high quality means an error near 16-bit rounding (3e-5).
    np.testing.assert_allclose(audio.samples[500:-500], sine(440, 16000)[500:-500], rtol=0, atol=1e-4)
    same = sine(440, 8000)
    assert resample(same, 8000, 8000) is same


def test_normalised_as_transformers_does() -> None:
    samples = sine(300, 16000) + 0.2
    expected = Wav2Vec2FeatureExtractor()(samples, sampling_rate=16000)["input_values"][0]
    np.testing.assert_allclose(normalise(samples), expected, rtol=0, atol=1e-6)
    assert abs(float(normalise(samples).std()) - 1) < 1e-5


def test_a_sound_that_claims_to_be_endless_is_refused() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, sine(440, 8000), 8000, format="FLAC", subtype="PCM_24")
    flac = bytearray(buffer.getvalue())
    flac[21] |= 15  # the count of samples, 36 bits in the head of the stream (RFC 9639, 8.2): 256 GiB of them
    flac[22:26] = b"\xff" * 4
    with pytest.raises(DataError, match="this is not a sound that soundfile can read"):
        decode_audio(bytes(flac))


def test_errors_name_the_cause() -> None:
    with pytest.raises(NotFoundError, match="no sound at 'nowhere.wav'"):
        decode_audio("nowhere.wav")
    with pytest.raises(DataError, match="5 is no sound: give a file or its bytes"):
        decode_audio(5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="7 bytes: this is not a sound that soundfile can read"):
        decode_audio(b"silence")
    with pytest.raises(OptionError, match="must be above 0 samples per second, but are 8000 and 0"):
        resample(sine(1, 8000), 8000, 0)
