"""Pictures against numbers made by hand, by Pillow, and by transformers' image processors."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from plait.errors import ConfigError, DataError, MissingExtraError, NotFoundError
from plait.media.image import ImageProcessor, center_crop, decode_image, resized_shape


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    image = picture(5, 4)
    (tmp_path / "a.png").write_bytes(as_bytes(image))
    for source in (image, np.asarray(image), as_bytes(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(decode_image(source)), np.asarray(image))


def test_modes_are_converted_and_pictures_stand_upright() -> None:
    grey = Image.new("L", (2, 1), 7)
    assert np.asarray(decode_image(grey)).tolist() == [[[7, 7, 7], [7, 7, 7]]]
    assert decode_image(picture(2, 1), mode="L").mode == "L"
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter clockwise"
    turned = decode_image(as_bytes(picture(6, 4), "PNG", exif=exif))
    assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(picture(6, 4)), -1))


def test_pictures_become_rgb_in_any_case(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="plait"):
        processor = ImageProcessor(do_convert_rgb=False, do_resize=False, do_normalize=False, size={})
    assert "do_convert_rgb=False has no effect: pictures become RGB in any case." in caplog.text
    values = processor(Image.new("L", (1, 1), 51))["pixel_values"]
    assert values.shape == (1, 3, 1, 1)
    assert np.allclose(values, 51 / 255, rtol=1e-6)  # two roundings of float32, 6e-8 each


def test_pictures_of_different_sizes_share_no_array() -> None:
    processor = ImageProcessor(do_resize=False, size={})
    shapes = r"\[\(3, 1, 2\), \(3, 2, 1\)\]"
    with pytest.raises(
        DataError, match=f"^The pictures end in different sizes {shapes} and cannot share an array; set crop_"
    ):
        processor([picture(1, 2), picture(2, 1)])


def test_sizes() -> None:
    assert resized_shape(30, 50, {"height": 7, "width": 9}) == (7, 9)
    assert resized_shape(30, 50, {"shortest_edge": 16}) == (16, 26)  # 16 × 50 / 30 = 26.7, cut
    assert resized_shape(50, 30, {"shortest_edge": 16}) == (26, 16)
    assert resized_shape(10, 100, {"shortest_edge": 16, "longest_edge": 80}) == (8, 80)
    with pytest.raises(ConfigError, match=r"height and width, or shortest_edge, but is \{'edge': 3\}"):
        resized_shape(1, 1, {"edge": 3})


def test_the_centre_is_cut_or_framed() -> None:
    pixels = np.arange(1, 21, dtype=np.uint8).reshape(4, 5, 1)
    assert center_crop(pixels, 2, 2)[..., 0].tolist() == [[7, 8], [12, 13]]
    assert center_crop(pixels[:1, :2], 3, 4)[..., 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]


def test_scaling_and_normalising_by_hand() -> None:
    processor = ImageProcessor(size={"height": 1, "width": 1}, image_mean=[0.5, 0, 0], image_std=[0.5, 1, 0.1])
    values = processor(Image.new("RGB", (3, 3), (255, 51, 0)))["pixel_values"]
    assert values.shape == (1, 3, 1, 1)
    assert values.dtype == np.float32
    # (1 - 0.5) / 0.5, 51 / 255, 0; float32 rounds the products
    np.testing.assert_allclose(values.ravel(), [1.0, 0.2, 0.0], rtol=0, atol=1e-7)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (31, 57), (17, 17), (9, 100)])
@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        (CLIPImageProcessorPil, {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 21}}),
        (CLIPImageProcessorPil, {"size": {"shortest_edge": 15}, "crop_size": {"height": 24, "width": 24}}),
        (ViTImageProcessorPil, {"size": {"height": 16, "width": 24}}),
        (ViTImageProcessorPil, {"size": {"height": 16, "width": 24}, "resample": 3, "do_normalize": False}),
    ],
)
def test_equal_to_transformers(theirs: type, options: dict, width: int, height: int, tmp_path: Path) -> None:
    """Their file, our reading of it; the same Pillow filter on the same bytes, so only the arithmetic may differ."""
    reference = theirs(**options)
    reference.save_pretrained(tmp_path)
    image = picture(width, height, seed=width)
    expected = reference(image, return_tensors="np")["pixel_values"]
    got = ImageProcessor.from_folder(tmp_path)(image)["pixel_values"]
    # One rounding of float32 at values up to 2.7.
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-7)


def test_the_old_spelling_of_sizes(tmp_path: Path) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"size": 8, "do_center_crop": True, "crop_size": 6, "feature_extractor_type": "X"}))
    processor = ImageProcessor.from_folder(tmp_path)
    assert processor.size == {"shortest_edge": 8}
    assert processor([picture(10, 20), picture(20, 10)])["pixel_values"].shape == (2, 3, 6, 6)
    file.write_text(json.dumps({"size": 8}))
    assert ImageProcessor.from_folder(tmp_path).size == {"height": 8, "width": 8}


def bomb(width: int, height: int) -> bytes:
    """57 bytes of PNG that say they are that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_damaged_bytes_are_a_picture_or_an_error_of_plait(form: str) -> None:
    buffer = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(20, 20).save(buffer, form, exif=turned)
    generator = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(buffer.getvalue())
        for place in generator.integers(0, min(len(data), 120), 3):
            data[place] = generator.integers(0, 256)
        with contextlib.suppress(DataError):
            decode_image(bytes(data))


def test_errors_name_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="no picture at 'nowhere.png'"):
        decode_image("nowhere.png")
    with pytest.raises(DataError, match="9 bytes: this is not a picture that Pillow can read"):
        decode_image(b"not a pic")
    with pytest.raises(DataError, match="not a picture that Pillow can read"):
        decode_image(as_bytes(picture(50, 50))[:-2000])
    with pytest.raises(
        DataError, match=r"57 bytes: this picture is too large to be decoded safely \(.*189000000 pixels"
    ):
        decode_image(bomb(14000, 13500))
    with pytest.raises(
        DataError, match=r"array \(4, 4, 3\) of float32 is no picture: give \(height, width, 3\) of uint8"
    ):
        decode_image(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="5 is no picture: give a file, its bytes, an array or a Pillow image"):
        decode_image(5)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="preprocessor_config.json does not exist"):
        ImageProcessor.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="has no `size`"):
        ImageProcessor.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"preprocessor_config.json is not valid JSON \(.*\)\. Fetch it again\."):
        ImageProcessor.from_folder(tmp_path)
    for size in ({"height": 0, "width": 4}, {"height": "4", "width": 4}, {"height": 4}, "4"):
        with pytest.raises(
            ConfigError, match="`size` must hold height and width, or shortest_edge, but is .*; each is above 0"
        ):
            ImageProcessor(size=size)(picture(2, 2))  # type: ignore[arg-type]
    keep = ImageProcessor(size={"shortest_edge": 4}, do_center_crop=True)
    with pytest.raises(ConfigError, match="`do_center_crop` needs `crop_size`"):
        keep(picture(2, 2))
    with pytest.raises(DataError, match=r"different sizes \[\(3, 4, 4\), \(3, 4, 8\)\]"):
        ImageProcessor(size={"shortest_edge": 4})([picture(2, 2), picture(4, 2)])
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"needed to decode pictures.*pip install 'plait\[media\]'"):
        decode_image(b"")
