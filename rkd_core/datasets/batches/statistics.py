"""Mean and standard deviation of a training set's pixels, to normalise with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rkd_core.datasets.image_set import ImageSet
from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.errors import UserError
from rkd_core.specs import Recipe

__all__ = ["Statistics", "normalization_statistics"]

Statistics = tuple[Tensor, Tensor]

_FIXED = {"centered": (0.5, 1.0), "symmetric": (0.5, 0.5)}  # mean, standard deviation
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalization_statistics(image_set: ImageSet | StreamedImageSet, recipe: Recipe) -> Statistics:
    """Mean and standard deviation per channel, on the scale where white is 1.

    Sums are of whole numbers, so the result is exact. A streamed set is judged by a sample.

    Args:
        image_set: The training set.
        recipe: For its normalization; all but ``per_channel`` are the same whatever the set:
            ``centered`` is mean 0.5 and deviation 1, ``symmetric`` 0.5 and 0.5, ``imagenet`` what
            torchvision normalises color images with.

    Returns:
        float32 ``(channels,)`` each. The deviation of a constant channel is taken to be 1.

    Raises:
        UserError: ``imagenet``, and the images are not of three channels.
    """
    channels = image_set.shape[2]
    if recipe.normalization in _FIXED:
        mean, deviation = _FIXED[recipe.normalization]
        return torch.full((channels,), mean), torch.full((channels,), deviation)
    if recipe.normalization == "imagenet":
        if channels != len(_IMAGENET[0]):
            raise UserError(f"normalization imagenet is of color images, not of {channels} channel")
        return torch.tensor(_IMAGENET[0]), torch.tensor(_IMAGENET[1])
    counts = image_set.levels
    scale, total = np.arange(256) / 255, counts.sum(axis=1)
    mean = counts @ scale / total
    variance = np.array([c @ (scale - m) ** 2 for c, m in zip(counts, mean, strict=True)]) / total
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
