"""Images as in torchvision's CIFAR10, and the loaders that read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rkd_core.datasets import Dataset as Splits
from rkd_core.datasets import ImageSet
from rkd_core.specs import Recipe

__all__ = ["Images", "Loaders", "mean_and_deviation"]

Transform = Callable[[Image.Image], Tensor]


class Images(Dataset[tuple[Tensor, int]]):
    """uint8 pixels in memory, each image converted to a PIL image when it is read."""

    def __init__(self, images: ImageSet, transform: Transform) -> None:
        # A gray image is two-dimensional in PIL.
        gray = images.images.shape[3] == 1
        self.pixels: NDArray[np.uint8] = images.images[..., 0] if gray else images.images
        self.labels: list[int] = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class Loaders:
    """The loaders of one training: its augmented batches, and each split without augmentation.

    The pixels are read in this process (``num_workers`` is 0). A training has one core, and a
    second process on it only adds copying (9,300 images per second instead of 12,700).
    """

    def __init__(self, data: Splits, recipe: Recipe) -> None:
        assert isinstance(data.train, ImageSet)  # all three are in memory, not streamed
        assert isinstance(data.val, ImageSet)
        assert isinstance(data.test, ImageSet)
        mean, deviation = mean_and_deviation(data.train, recipe)
        plain = [transforms.ToTensor(), transforms.Normalize(mean, deviation)]
        augmented: list[Transform] = []
        if recipe.crop_padding:
            size = data.image_size
            fill = round(255 * recipe.crop_fill)
            augmented.append(transforms.RandomCrop(size, padding=recipe.crop_padding, fill=fill))
        if recipe.flip:
            augmented.append(transforms.RandomHorizontalFlip())
        self.training = DataLoader(
            Images(data.train, transforms.Compose([*augmented, *plain])),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=recipe.drop_last and len(data.train) >= recipe.batch_size,
        )
        self.train, self.val, self.test = (
            DataLoader(Images(images, transforms.Compose(plain)), batch_size=256)
            for images in (data.train, data.val, data.test)
        )


def mean_and_deviation(images: ImageSet, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel, where white is 1."""
    if recipe.normalization == "centered":
        channels = images.images.shape[3]
        return [0.5] * channels, [1.0] * channels
    pixels = torch.from_numpy(images.images.copy()).flatten(0, 2)
    counts = [torch.bincount(channel, minlength=256).double() for channel in pixels.T]
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = [float(count @ levels / count.sum()) for count in counts]
    deviation = [
        float((count @ (levels - m) ** 2 / count.sum()).sqrt())
        for count, m in zip(counts, mean, strict=True)
    ]
    return mean, deviation
