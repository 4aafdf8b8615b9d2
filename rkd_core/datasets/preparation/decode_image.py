"""Opening, inspection and decoding of an encoded image to 8-bit pixels."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from rkd_core.datasets.readers.base import Encoded
from rkd_core.errors import first_line

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "NO_SCALES",
    "BadImageError",
    "Scale",
    "Scales",
    "Traits",
    "Values",
    "check_fit",
    "decode_image",
    "is_gray",
    "open_image",
    "pillow",
    "traits",
]

GRAY_MODES = ("1", "L", "LA", "La", "I", "F")

_BITS, _LOWEST, _HIGHEST = 258, 340, 341  # TIFF: BitsPerSample, SMinSampleValue, SMaxSampleValue

T = TypeVar("T")

Scale = tuple[float, float]
"""Values that map to 0 and 255."""


class Scales(NamedTuple):
    """Scales of gray images of more than 8 bits; None if no training image has such values."""

    integers: Scale | None = None
    floats: Scale | None = None


NO_SCALES = Scales()


class BadImageError(ValueError):
    """Error for an image that cannot be decoded; the message gives the reason, not the path."""


@dataclass(frozen=True)
class Values:
    """Range of the values of a gray image of more than 8 bits.

    Attributes:
        floating: Whether the values are floating-point numbers.
        bits: Bits per sample in the file.
        low: Lowest value.
        high: Highest value.
        declared: Ends of the scale that the file states, if any.
    """

    floating: bool
    bits: int
    low: float
    high: float
    declared: Scale | None


@dataclass(frozen=True)
class Traits:
    """Traits of an image that affect decoding or are reported to the user.

    Attributes:
        gray: Whether its mode has no color.
        turned: Whether its EXIF orientation is not upright.
        transparent: Whether some of its pixels are not opaque.
        values: Range of the values of a deep gray image; None for others.
        deep_color: Highest level, of 255, of a color image of 16 bits per channel; None for
            others.
    """

    gray: bool
    turned: bool
    transparent: bool
    values: Values | None
    deep_color: int | None


@functools.cache
def pillow() -> ModuleType:
    """Import ``preprocess`` on first use, and silence Pillow's warnings on damaged metadata."""
    from rkd_core.datasets import preprocess

    warnings.filterwarnings("ignore", module=r"PIL\.")
    return preprocess


def _guarded(function: Callable[..., T]) -> Callable[..., T]:
    """Convert the errors that Pillow's decoders raise for damaged files to BadImageError."""

    @functools.wraps(function)
    def guarded(*arguments: Any) -> T:
        from PIL import UnidentifiedImageError

        try:
            return function(*arguments)
        except BadImageError:
            raise
        except UnidentifiedImageError as error:
            formats = ", ".join(pillow().formats())
            raise BadImageError(f"it is not an image of a known format ({formats})") from error
        except Exception as error:
            raise BadImageError(first_line(error)) from error

    return guarded


@_guarded
def open_image(encoded: Encoded) -> Image:
    """Open an image and read its header.

    Args:
        encoded: A file's bytes, or uint8 pixels ``(height, width, channels)``.

    Raises:
        BadImageError: The image is damaged, of no supported format, or so large that decoding it
            could exhaust the memory (Pillow's limit against decompression bombs).
    """
    preprocess = pillow()
    if isinstance(encoded, np.ndarray):
        from PIL import Image

        return Image.fromarray(encoded[..., 0] if encoded.shape[-1] == 1 else encoded)
    if not encoded:
        raise BadImageError("it is empty or missing")
    image: Image.Image = preprocess.open_file(io.BytesIO(encoded))
    return image


@_guarded
def decode_image(image: Image, channels: int, scales: Scales) -> Image:
    """Decode an opened image to mode L for 1 channel, RGB for 3.

    Raises:
        BadImageError: The image is damaged, or its values do not fit the scales.
    """
    decoded: Image = pillow().decode(image, channels, *scales)
    return decoded


def is_gray(image: Image) -> bool:
    """Return whether the mode of an image has no color, at any depth."""
    return image.mode in GRAY_MODES or image.mode.startswith("I;16")


@_guarded
def traits(image: Image) -> Traits:
    """Describe an opened image; decode it first unless it is a JPEG file.

    Raises:
        BadImageError: The image is damaged, or has values that are not finite.
    """
    preprocess = pillow()
    deep_color = not is_gray(image) and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )
    if image.format != "JPEG":
        image.load()
    return Traits(
        is_gray(image),
        preprocess.needs_turning(image),
        preprocess.is_transparent(image),
        _values(image) if preprocess.is_deep(image) else None,
        int(np.asarray(image.convert("RGB")).max()) if deep_color else None,
    )


def _values(image: Image) -> Values:
    preprocess = pillow()
    values, floating = preprocess.sample_values(image), preprocess.is_floating(image)
    low, high = float(values.min()), float(values.max())
    preprocess.check_values(low, high, (low, high), floating)
    tags = getattr(image, "tag_v2", {})

    def tag(number: int) -> float | None:
        found = np.ravel(tags.get(number, ()))
        return float(found[0]) if len(found) else None

    bits = int(tag(_BITS) or 16)
    lowest, highest = tag(_LOWEST), tag(_HIGHEST)
    declared = None if highest is None else (lowest or 0.0, highest)
    if declared is None and not floating and 8 < bits < 16:
        declared = (0.0, 2.0**bits - 1)
    return Values(floating, bits, low, high, declared)


@_guarded
def check_fit(values: Values, scales: Scales) -> None:
    """Refuse values that do not fit the scales.

    Raises:
        BadImageError: Some values do not fit.
    """
    scale = scales.floats if values.floating else scales.integers
    pillow().check_values(values.low, values.high, scale, values.floating)
