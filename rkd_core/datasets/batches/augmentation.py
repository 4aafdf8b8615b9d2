"""Random crop and horizontal flip of a batch of images.

A crop at (top, left) of the padded image, flipped or not, is a *view*. Views are numbered: with
four pixels of padding and flips, an image has 9 * 9 * 2 = 162 views.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rkd_core.specs import Recipe

__all__ = ["Augmentation", "crop_and_flip"]


class Augmentation:
    """Views of images: all crops of the padded image, and their mirror images.

    Args:
        recipe: ``crop_padding``, ``crop_fill`` and ``flip``.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.padding, self.flip, self.views = recipe.crop_padding, recipe.flip, recipe.views
        self.fill = 255 * recipe.crop_fill

    def draw(self, rng: np.random.RandomState, count: int) -> NDArray[np.int64]:
        """Draw a random view for each of ``count`` images, int64 ``(count,)``."""
        if self.views == 1:
            return np.zeros(count, dtype=np.int64)
        side = 2 * self.padding + 1
        shifts = rng.randint(0, side, size=(count, 2))
        flips = rng.randint(0, 2, size=count)
        views = shifts[:, 0] * side + shifts[:, 1]
        return (views * 2 + flips if self.flip else views).astype(np.int64)

    def apply(self, pixels: Tensor, views: Tensor) -> Tensor:
        """Return the view with the given number of each image; see ``crop_and_flip``.

        Args:
            pixels: uint8 ``(batch, height, width, channels)``.
            views: int64 ``(batch,)``, each below ``self.views``.
        """
        if self.views == 1:
            return pixels
        flips, crops = views % 2 == 1, views // 2
        if not self.flip:
            flips, crops = torch.zeros_like(views, dtype=torch.bool), views
        side = 2 * self.padding + 1
        shifts = torch.stack([crops // side, crops % side], dim=1)
        return crop_and_flip(pixels, self.padding, shifts, flips, self.fill)


def crop_and_flip(
    pixels: Tensor, padding: int, shifts: Tensor, flips: Tensor, fill: float = 0
) -> Tensor:
    """Pad images with one value, crop them to the original size, and flip them horizontally.

    Args:
        pixels: uint8 ``(batch, height, width, channels)``.
        padding: Pixels on every side; 0 for no crop.
        shifts: int64 ``(batch, 2)``, top and left of each crop in the padded image, from 0 to
            ``2 * padding``.
        flips: bool ``(batch,)``, whether each crop is flipped.
        fill: Level of the padding, from 0 (black) to 255.

    Returns:
        ``(batch, height, width, channels)``: uint8, or float32 levels if ``fill`` lies between
            two uint8 levels, as mid gray does.
    """
    batch, height, width, channels = pixels.shape
    if fill != round(fill):
        pixels = pixels.float()
    padded = F.pad(pixels, (0, 0, padding, padding, padding, padding), value=fill)
    tall, wide = height + 2 * padding, width + 2 * padding
    # A row for every run of `width` pixels of the padded batch. Crops consist of such rows, so they
    # are copied in pieces of `width * channels` bytes rather than pixel by pixel.
    stretches = padded.view(-1).as_strided(
        (batch * tall * wide - width + 1, width * channels), (channels, 1)
    )
    place = torch.arange(batch, device=pixels.device)
    rows = torch.arange(height, device=pixels.device) + shifts[:, :1]
    starts = (place[:, None] * tall + rows) * wide + shifts[:, 1:]
    crops = stretches.index_select(0, starts.view(-1)).view(batch, height, width, channels)
    # Flipping all images and selecting among both moves whole images, and no shape depends on the
    # data, which would require a synchronization with the GPU.
    return torch.cat([crops, crops.flip(2)]).index_select(0, place + batch * flips)
