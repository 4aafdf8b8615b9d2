"""File name extensions of supported image formats."""

from __future__ import annotations

import functools

__all__ = ["endings", "is_image_file"]

_ENDINGS = {  # by Pillow's name for the format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "HEIF": (".heic", ".heif", ".hif"),
}
_FEATURES = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Pillow features that a format requires."""


@functools.cache
def endings() -> tuple[str, ...]:
    """Return the extensions of the formats that this installation of Pillow reads, lower-case."""
    from PIL import features  # imported here, because scanning a folder does not need Pillow

    from rkd_core.datasets.preprocess import formats

    readable = [
        name for name in formats() if name not in _FEATURES or features.check(_FEATURES[name])
    ]
    return tuple(ending for name in readable for ending in _ENDINGS[name])


def is_image_file(path: str) -> bool:
    """Return whether a file name has an image extension, in upper or lower case."""
    return path.lower().endswith(endings())
