"""One image: from an encoded file to 8-bit pixels of the wanted size, with Pillow."""

from __future__ import annotations

import functools
import io
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.sources import Encoded

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BadImageError", "center_crop", "is_grey", "open_image", "pixels", "to_channels"]

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""What Pillow may open. For some others, such as EPS, it would run a program on the content."""

GREY_MODES = ("1", "L", "LA", "La", "I", "F")


class BadImageError(ValueError):
    """An image that cannot be decoded; the message says why, not which."""


@functools.cache
def pillow() -> ModuleType:
    """``PIL.Image``, imported when it is needed, which stays silent about damaged metadata."""
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


def open_image(encoded: Encoded, channels: int | None = None) -> Image:
    """Open an image; with ``channels`` also decode it to 8 bits.

    Args:
        encoded: A file's bytes, or uint8 pixels ``(height, width, channels)``.
        channels: 1 for mode L, 3 for mode RGB, None to read no more than the header.

    Raises:
        BadImageError: It is damaged, of no known format, or so large that decoding it could
            exhaust the memory (Pillow's limit against decompression bombs).
    """
    Image = pillow()
    if isinstance(encoded, np.ndarray):
        image = Image.fromarray(encoded[..., 0] if encoded.shape[-1] == 1 else encoded)
        return image if channels is None else to_channels(image, channels)
    if not encoded:
        raise BadImageError("it is empty or missing")
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise BadImageError(f"{image.width} x {image.height} pixels are too many")
        return image if channels is None else to_channels(image, channels)
    except BadImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImageError(f"it is no image of a known format ({', '.join(FORMATS)})") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadImageError(reason) from error


def is_grey(image: Image) -> bool:
    """Whether an image's mode has no color, whatever its depth."""
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def to_channels(image: Image, channels: int) -> Image:
    """Decode to 8 bits a channel: mode L for 1 channel, RGB for 3. Alpha is dropped.

    Integer grey of more than 8 bits is scaled from 16 to 8; floating-point grey is clipped to
    0..255, which is what Pillow takes it to hold.

    Raises:
        BadImageError: It has floating-point pixels that are not numbers.
    """
    from PIL import Image

    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(np.rint(np.clip(deep, 0, 255)).astype(np.uint8))
    elif image.mode == "F":
        levels = np.asarray(image)
        if np.isnan(levels).any():
            raise BadImageError("some of its pixels are not numbers")
        image = Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns of lost transparency
    return image.convert("L" if channels == 1 else "RGB")


def center_crop(image: Image, side: int, resized: int | None = None) -> Image:
    """Resize the shorter side (bilinear, antialiased), then cut a square from the middle.

    Args:
        image: Of any size.
        side: Width and height of the result.
        resized: Length of the shorter side before the cut; None for ``side``.
    """
    from PIL import Image

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


def pixels(image: Image) -> NDArray[np.uint8]:
    """uint8 ``(height, width, channels)`` of a decoded image."""
    array = np.asarray(image, dtype=np.uint8)
    return array[..., None] if array.ndim == 2 else array
