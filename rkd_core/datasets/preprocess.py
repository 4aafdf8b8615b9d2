"""Decoding of image files to the pixels that a network is trained on, with NumPy and Pillow only.

Training decodes with this module, and an exported model contains a copy of it next to its
``preprocessing.json``, so that both see the same pixels::

    from preprocess import load_image

    pixels = load_image("image.png")  # uint8 (height, width, channels)
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "center_crop",
    "check_values",
    "decode",
    "formats",
    "is_deep",
    "is_floating",
    "is_transparent",
    "load_image",
    "needs_turning",
    "open_file",
    "pixels",
    "sample_values",
]

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "HEIF")
"""Formats that Pillow may open. For some others, such as EPS, it would run an external program."""

_PLUGINS = ("pillow_heif", "pi_heif")  # either reads HEIF

TOLERANCE = 0.05
"""Share of the scale by which values may exceed its ends; such values are clipped."""

_ORIENTATION = 0x0112  # EXIF tag
_SAMPLE_FORMAT, _SIGNED = 339, 2  # TIFF tag, and its value for signed integers

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats of ``FORMATS`` that this installation of Pillow supports."""
    Image.init()
    for plugin in _PLUGINS:
        with contextlib.suppress(ImportError):
            importlib.import_module(plugin).register_heif_opener()
            break
    return tuple(name for name in FORMATS if name in Image.OPEN)


def load_image(file: str | Path | BinaryIO) -> NDArray[np.uint8]:
    """Read an image and convert it to the input of the model in the folder of this file.

    Args:
        file: A path or a binary file.

    Returns:
        uint8 ``(height, width, channels)``.

    Raises:
        ValueError: Images are not resized and this one has the wrong size, or its values do not
            fit the scale of the training images.
    """
    settings = json.loads(Path(__file__).with_name("preprocessing.json").read_bytes())
    _, height, width, channels = settings["input"]["shape"]
    image = decode(open_file(file), channels, **settings["decoding"])
    if settings["resize"] is not None:
        image = center_crop(image, height, settings["resize"]["shorter_side"])
    if image.size != (width, height):
        raise ValueError(
            f"{file} is {image.width} x {image.height} pixels; the model takes {width} x {height}"
        )
    return pixels(image).copy()  # writable, as torch requires


def open_file(file: str | Path | BinaryIO) -> Image.Image:
    """Open an image and read its header.

    Raises:
        OSError: The image is in none of ``FORMATS``.
        ValueError: The image has more pixels than Pillow's limit against decompression bombs.
    """
    image = Image.open(file, formats=formats())
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width} x {image.height} pixels are too many")
    return image


def decode(
    image: Image.Image,
    channels: int,
    integers: tuple[float, float] | None = None,
    floats: tuple[float, float] | None = None,
    upright: bool = True,
    over_white: bool = True,
) -> Image.Image:
    """Convert an image to 8 bits per channel.

    Args:
        image: Image in any mode.
        channels: 1 for gray (mode L), 3 for color (RGB).
        integers: Values that map to 0 and 255 in gray images of more than 8 bits.
        floats: The same for floating-point images.
        upright: Turn the image upright by its EXIF orientation.
        over_white: Show transparent pixels over white; otherwise drop the alpha channel.

    Raises:
        ValueError: Values do not fit the scale, or are not finite.
    """
    image.load()
    values = sample_values(image)
    if values is not None:
        scale = floats if is_floating(image) else integers
        levels = _to_8_bits(values, scale, is_floating(image))
        if over_white and is_transparent(image):
            levels[np.asarray(image) == image.info["transparency"]] = 255
        flat = Image.fromarray(levels)
    elif over_white and is_transparent(image):
        white = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(white, _with_alpha(image))
    elif image.mode in ("P", "PA"):
        flat = image.convert("RGBA")  # a direct conversion to RGB warns of lost transparency
    else:
        flat = image
    if upright and needs_turning(image):
        flat = flat.transpose(_TURNS[_orientation(image)])
    return flat.convert("L" if channels == 1 else "RGB")


def needs_turning(image: Image.Image) -> bool:
    """Return whether the EXIF orientation of a loaded image is not upright."""
    return _orientation(image) in _TURNS


def _orientation(image: Image.Image) -> int:
    try:
        exif = image.getexif()
        return int(exif[_ORIENTATION]) if _ORIENTATION in exif else 1
    except Exception:  # an undamaged image may have damaged metadata
        return 1


def is_transparent(image: Image.Image) -> bool:
    """Return whether some pixel of a loaded image is not opaque."""
    if is_deep(image):
        key = image.info.get("transparency")
        return isinstance(key, int) and bool((np.asarray(image) == key).any())
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(_with_alpha(image).getchannel("A")).min() < 255)


def _with_alpha(image: Image.Image) -> Image.Image:
    """Return the image in mode RGBA."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # 16 bits, of which Pillow reads the upper 8
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def is_deep(image: Image.Image) -> bool:
    """Return whether an image is gray and its values are not unsigned 8-bit integers."""
    return image.mode[0] in "IF" or (image.mode == "L" and _sample_format(image) == _SIGNED)


def is_floating(image: Image.Image) -> bool:
    """Return whether an image has floating-point values."""
    return image.mode == "F"


def sample_values(image: Image.Image) -> NDArray[Any] | None:
    """Return the values of a deep gray image, int64 or float64 ``(height, width)``; else None."""
    if not is_deep(image):
        return None
    if is_floating(image):
        with np.errstate(invalid="ignore"):  # NumPy warns of signaling NaNs, refused later
            return np.asarray(image).astype(np.float64)
    form = _sample_format(image)
    if image.mode == "L":
        return np.asarray(image).view(np.int8).astype(np.int64)
    values = np.asarray(image).astype(np.int64)
    return values if form in (None, _SIGNED) else values & 0xFFFFFFFF  # Pillow's are signed


def _sample_format(image: Image.Image) -> int | None:
    """Return TIFF's SampleFormat, 1 (unsigned) by default; None for another file format."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else int(np.ravel(tags.get(_SAMPLE_FORMAT, 1))[0])


def _to_8_bits(
    values: NDArray[Any], scale: tuple[float, float] | None, floating: bool
) -> NDArray[np.uint8]:
    low, high = check_values(values.min(), values.max(), scale, floating)
    return np.rint(np.clip((values - low) * 255 / (high - low), 0, 255)).astype(np.uint8)


def check_values(
    lowest: float, highest: float, scale: tuple[float, float] | None, floating: bool
) -> tuple[float, float]:
    """Return the scale if an image's values fit it.

    Args:
        lowest: Lowest value of the image.
        highest: Highest value of the image.
        scale: Values that map to 0 and 255, determined from the training images.
        floating: Whether the values are floats, which may also be slightly below the scale.

    Raises:
        ValueError: There is no scale, or values are not finite or beyond its ends.
    """
    if np.isnan(lowest) or np.isnan(highest):
        raise ValueError("some of its pixels are not numbers")
    if not np.isfinite([lowest, highest]).all():
        raise ValueError("some of its pixels are infinite")
    kind = "floating-point gray" if floating else "gray of more than 8 bits"
    if scale is None:
        raise ValueError(f"it is {kind}, unlike any training image, so its scale is not known")
    low, high = scale
    margin = TOLERANCE * (high - low)
    if highest > high + margin or lowest < low - (margin if floating else 0):
        raise ValueError(
            f"its values are {lowest:.10g} to {highest:.10g}, outside the scale of the training "
            f"images, {low:.10g} to {high:.10g}"
        )
    return low, high


def center_crop(image: Image.Image, side: int, resized: int | None = None) -> Image.Image:
    """Resize the shorter side (bilinear, antialiased) and crop a square from the center.

    Args:
        image: Image of any size.
        side: Width and height of the result.
        resized: Length of the shorter side before the crop; None for ``side``.
    """
    resized = side if resized is None else resized
    short = min(image.size)
    if short != resized:
        width, height = (max(resized, resized * length // short) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if image.size == (side, side):
        return image
    left = round((image.width - side) / 2)
    top = round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a decoded image, uint8 ``(height, width, channels)``."""
    array = np.asarray(image, dtype=np.uint8)
    return array[..., None] if array.ndim == 2 else array
