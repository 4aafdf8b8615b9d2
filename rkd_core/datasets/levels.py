"""How often each pixel level occurs in a set: all that normalization needs to know of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["count_levels"]


def count_levels(chunks: Iterable[NDArray[np.uint8]], channels: int) -> NDArray[np.int64]:
    """Occurrences of each level in each channel, int64 ``(channels, 256)``.

    Args:
        chunks: uint8 pixels ``(..., channels)``, few enough at a time to count them at once.
        channels: Of the images.
    """
    counts = np.zeros((channels, 256), dtype=np.int64)
    for chunk in chunks:
        flat = chunk.reshape(-1, channels)
        counts += np.stack([np.bincount(channel, minlength=256) for channel in flat.T])
    return counts
