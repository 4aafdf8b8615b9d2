"""Mean and standard deviation of the pixels of a training set, for normalization."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rkd_core.datasets.array_set import ArraySet
from rkd_core.datasets.image_set import AnySet
from rkd_core.errors import UserError
from rkd_core.specs import Recipe

__all__ = ["Statistics", "normalization_statistics"]

Statistics = tuple[Tensor, Tensor]

_FIXED = {"centered": (0.5, 1.0), "symmetric": (0.5, 0.5)}  # mean, standard deviation
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalization_statistics(image_set: AnySet, recipe: Recipe) -> Statistics:
    """Return the mean and standard deviation per channel, on the scale where white is 1.

    They are computed from integer counts of pixel levels, which for a streamed set come from a
    sample of its images. Those of float arrays are on the scale of the arrays.

    Args:
        image_set: The training set.
        recipe: Recipe with the normalization. Only ``per_channel`` depends on the set:
            ``centered`` is mean 0.5 and deviation 1, ``symmetric`` 0.5 and 0.5, ``imagenet`` the
            values that torchvision uses for color images.

    Returns:
        Mean and standard deviation, each float32 ``(channels,)``. The deviation of a constant
        channel is set to 1.

    Raises:
        UserError: The normalization is ``imagenet`` and the images do not have three channels.
    """
    if isinstance(image_set, ArraySet):
        means, deviations = (torch.from_numpy(v).float() for v in image_set.moments)
        return means, torch.where(deviations > 0, deviations, 1.0)
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
