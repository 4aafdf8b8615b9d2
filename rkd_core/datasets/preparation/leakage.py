"""Detection of images that occur in two splits, by comparing pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rkd_core.datasets.readers.base import SPLIT_ADJECTIVES
from rkd_core.text.nouns import counted

__all__ = ["shared_images"]

_PAIRS = (("test", "train"), ("val", "train"), ("test", "val"))


def shared_images(images: Mapping[str, NDArray[Any]]) -> list[str]:
    """Count the images of one split that also occur in another.

    Args:
        images: uint8 ``(n, height, width, channels)`` or float arrays of each split, by its name.

    Returns:
        A sentence for each pair of splits with images in common.
    """
    arrays = any(split.dtype.kind == "f" for split in images.values())
    noun, how = ("example", "value for value") if arrays else ("image", "pixel for pixel")
    digests = {name: [_digest(image) for image in split] for name, split in images.items()}
    known = {name: frozenset(values) for name, values in digests.items()}
    lines = []
    for name, other in _PAIRS:
        if name in digests and other in digests:
            shared = sum(digest in known[other] for digest in digests[name])
            if shared:
                count = counted(shared, f"{SPLIT_ADJECTIVES[name]} {noun}")
                lines.append(
                    f"{count} of {len(digests[name])} {'is' if shared == 1 else 'are'} in the "
                    f"{SPLIT_ADJECTIVES[other]} split, too, {how}"
                )
    return lines


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
