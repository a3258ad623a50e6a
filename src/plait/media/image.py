"""Pictures, complete: decode, resize, crop in the centre, scale and normalise to (C, H, W) float32.

The parameters are those of `preprocessor_config.json`. Shapes: C channels (3), H height, W width, B pictures.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plait.console import logger
from plait.errors import ConfigError, DataError, NotFoundError, require

if TYPE_CHECKING:
    from PIL.Image import Image

Source: TypeAlias = "str | Path | bytes | NDArray[np.uint8] | Image"

BILINEAR = 2  # numbers of Pillow's filters, as the files write them


def decode_image(source: Source, *, mode: str = "RGB") -> Image:
    """A file, its bytes, an array (H, W, 3) uint8 or a Pillow image, as an upright Pillow image of `mode`.

    A small file can hide a huge picture: what Pillow holds for such a bomb (more than 179 million pixels) is refused
    before it is decoded. Raises DataError when it is no picture, NotFoundError when there is no file.
    """
    pillow = require("PIL.Image", extra="media", purpose="decode pictures")
    operations = require("PIL.ImageOps", extra="media", purpose="decode pictures")
    label = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    if isinstance(source, np.ndarray):
        try:
            return _as_image(pillow.fromarray(source), mode, operations)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"An array {source.shape} of {source.dtype} is no picture: give (height, width, 3) of uint8."
            ) from error
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise NotFoundError(f"There is no picture at {str(source)!r}.")
        source = Path(source).read_bytes()
    if isinstance(source, pillow.Image):
        return _as_image(source, mode, operations)
    if not isinstance(source, bytes):
        raise DataError(f"{source!r:.80} is no picture: give a file, its bytes, an array or a Pillow image.")
    try:
        return _as_image(pillow.open(io.BytesIO(source)), mode, operations)
    except pillow.DecompressionBombError as error:
        raise DataError(f"{label}: this picture is too large to be decoded safely ({error}).") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise DataError(f"{label}: this is not a picture that Pillow can read ({error}).") from error


def _as_image(image: Any, mode: str, operations: Any) -> Image:
    upright: Image = operations.exif_transpose(image)  # cameras store the picture lying and note how to turn it
    return upright if upright.mode == mode else upright.convert(mode)


def resized_shape(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """The (height, width) that `size` asks for: both given, or `shortest_edge` with the proportions kept.

    `longest_edge` beside it caps the longer side.
    """
    given = [edge for edge in size.values() if edge is not None] if isinstance(size, Mapping) else [None]
    counts = all(isinstance(edge, int) and edge > 0 for edge in given)
    if not counts or not ("shortest_edge" in size or {"height", "width"} <= size.keys()):
        raise ConfigError(f"`size` must hold height and width, or shortest_edge, but is {size!r}; each is above 0.")
    if "height" in size and "width" in size:
        return size["height"], size["width"]
    edge, (short, long) = size["shortest_edge"], sorted((height, width))
    if size.get("longest_edge") and edge * long / short > size["longest_edge"]:
        edge = round(size["longest_edge"] * short / long)
    longer = int(edge * long / short)
    return (longer, edge) if width <= height else (edge, longer)


def center_crop(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle `height` × `width` of (H, W, C); where the picture is smaller it is surrounded by zeros."""
    rows, columns = pixels.shape[:2]
    out = np.zeros((height, width, *pixels.shape[2:]), dtype=pixels.dtype)
    # With an odd difference, a crop leaves the extra pixel at the end and a frame adds it at the beginning.
    top, left = (rows - height) // 2, (columns - width) // 2
    source = pixels[max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    out[max(-top, 0) : max(-top, 0) + source.shape[0], max(-left, 0) : max(-left, 0) + source.shape[1]] = source
    return out


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Pictures to `pixel_values` (B, C, H, W) float32, by the steps that are switched on, in this order.

    `size` and `crop_size` are {"height": …, "width": …} or, for `size`, {"shortest_edge": …}; `resample` is the number
    of a Pillow filter. Pictures become RGB in any case: `do_convert_rgb=False` has no effect.
    """

    do_convert_rgb: bool = True
    do_resize: bool = True
    size: Mapping[str, int]
    resample: int = BILINEAR
    do_center_crop: bool = False
    crop_size: Mapping[str, int] | None = None
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    image_std: Sequence[float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if not self.do_convert_rgb:
            logger("media").info("do_convert_rgb=False has no effect: pictures become RGB in any case.")

    @classmethod
    def from_folder(cls, folder: str | Path) -> ImageProcessor:
        """From `preprocessor_config.json`; names in it that concern no step above are left alone.

        Raises NotFoundError when there is no such file, ConfigError when it names no size.
        """
        file = Path(folder) / "preprocessor_config.json"
        if not file.is_file():
            raise NotFoundError(f"{file} does not exist, so nothing says how the model wants its pictures.")
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file} is not valid JSON ({error}). Fetch it again.") from error
        if not isinstance(given, dict) or "size" not in given:
            raise ConfigError(f"{file} has no `size`, so the pictures cannot be resized for the model.")
        names = {field.name for field in fields(cls)}
        options = {name: value for name, value in given.items() if name in names and value is not None}
        for name in {"size", "crop_size"} & options.keys():
            if isinstance(options[name], int):  # the old spelling: one number
                edge = options[name]
                square = name == "crop_size" or not options.get("do_center_crop", False)
                options[name] = {"height": edge, "width": edge} if square else {"shortest_edge": edge}
        return cls(**options)

    def __call__(self, images: Source | list[Source] | tuple[Source, ...]) -> dict[str, NDArray[np.float32]]:
        """One picture, or a list of pictures of equal final size -> {"pixel_values": (B, C, H, W)}."""
        arrays = [self.process(image) for image in (images if isinstance(images, list | tuple) else [images])]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise DataError(
                f"The pictures end in different sizes {sorted(shapes)} and cannot share an array; set crop_size."
            )
        return {"pixel_values": np.stack(arrays)}

    def process(self, image: Source) -> NDArray[np.float32]:
        """One picture -> (C, H, W)."""
        picture = decode_image(image)
        if self.do_resize:
            height, width = resized_shape(picture.height, picture.width, self.size)
            picture = picture.resize((width, height), resample=self.resample)
        pixels = np.asarray(picture)  # (H, W, C) uint8
        if self.do_center_crop:
            if self.crop_size is None:
                raise ConfigError("`do_center_crop` needs `crop_size`: {'height': …, 'width': …}.")
            pixels = center_crop(pixels, self.crop_size["height"], self.crop_size["width"])
        values = pixels.astype(np.float32)
        if self.do_rescale:
            values *= np.float32(self.rescale_factor)
        if self.do_normalize:
            values -= np.asarray(self.image_mean, np.float32)
            values /= np.asarray(self.image_std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))  # (H, W, C) -> (C, H, W)
