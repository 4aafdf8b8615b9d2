"""Mean and standard deviation of a training set's pixels, to normalise with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkd_core.datasets.decoded import parallelism
from rkd_core.datasets.sets import ImageSet
from rkd_core.datasets.sources import spread
from rkd_core.datasets.streamed import StreamedImageSet
from rkd_core.specs import Recipe

__all__ = ["Statistics", "normalization_statistics"]

Statistics = tuple[Tensor, Tensor]

CHUNK = 1024
STREAMED_SAMPLE = 1024
"""Images, at even distances, that stand for a set that is streamed."""


def normalization_statistics(image_set: ImageSet | StreamedImageSet, recipe: Recipe) -> Statistics:
    """Mean and standard deviation per channel, on the scale where white is 1.

    Sums are of whole numbers, so the result is exact. A streamed set is judged by the evaluation
    views of 1,024 of its images at even distances.

    Args:
        image_set: The training set.
        recipe: For its normalization; ``centered`` is mean 0.5 and deviation 1 whatever the set.

    Returns:
        float32 ``(channels,)`` each. The deviation of a constant channel is taken to be 1.
    """
    channels = image_set.shape[2]
    if recipe.normalization == "centered":
        return torch.full((channels,), 0.5), torch.ones(channels)
    counts = np.zeros((channels, 256), dtype=np.int64)
    if isinstance(image_set, ImageSet):
        for start in range(0, len(image_set), CHUNK):
            counts += _histogram(image_set.images[start : start + CHUNK])
    else:
        rows = spread(len(image_set), STREAMED_SAMPLE).tolist()
        with ThreadPoolExecutor(parallelism()) as pool:
            for view in pool.map(image_set.evaluation_view, rows):
                counts += _histogram(view)
    levels, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ levels / total
    variance = np.array([c @ (levels - m) ** 2 for c, m in zip(counts, mean, strict=True)]) / total
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each level occurs, int64 ``(channels, 256)``."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    return np.stack([np.bincount(channel, minlength=256) for channel in flat.T])
