"""Random transforms of batches of training images: crops, colors, RandAugment, erasing, mixing.

They use the functions of ``torchvision.transforms.v2``. Each draw depends on the seed, the epoch
and the step alone, and is made on the CPU.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkd_core.datasets.streamed_set import random_resized_crop_box
from rkd_core.seeds import stream
from rkd_core.spec_options import Augmentation

__all__ = ["LabelMix", "Transforms"]

_STREAM = 2  # third element of the keys of the random streams; views in memory have 1
_BINS = 30  # largest magnitude of the operations
_ERASED_AREA, _ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)  # as in torchvision's RandomErasing

Draws = np.random.RandomState
Operation = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True, eq=False)
class LabelMix:
    """Second labels of the images of a mixed batch.

    Attributes:
        labels: int64 ``(batch,)``.
        share: Share of the first labels, a float32 scalar on the device.
    """

    labels: Tensor
    share: Tensor


class Transforms:
    """Random transforms of the batches of a training.

    Args:
        options: Names and strengths.
        seed: Seed of the draws.
        crops: Whether to apply ``random_resized_crop``; streamed images are cropped when they are
            decoded.
    """

    def __init__(self, options: Augmentation, seed: int, *, crops: bool) -> None:
        self._options, self._seed, self._crops = options, seed, crops

    def transform_pixels(self, pixels: Tensor, epoch: int, step: int) -> Tensor:
        """Transform levels from 0 to 255 before normalization.

        Args:
            pixels: uint8 or float32 ``(batch, height, width, channels)``.
            epoch: Epoch, counted from 0.
            step: Step of the epoch, counted from 0.

        Returns:
            uint8 or float32, of the same shape.
        """
        options = self._options
        if pixels.dtype != torch.uint8:  # a crop may be padded with a level between two integers
            pixels = pixels.round().to(torch.uint8)
        images = pixels.permute(0, 3, 1, 2)
        if options.random_resized_crop is not None and self._crops:
            draws = self._draws(epoch, step, "random_resized_crop")
            images = _crop(images, options.random_resized_crop, draws)
        if options.randaugment is not None:
            draws = self._draws(epoch, step, "randaugment")
            for _ in range(2):
                images = _operate(images, "randaugment", options.randaugment, draws)
        if options.trivial_augment:
            draws = self._draws(epoch, step, "trivial_augment")
            images = _operate(images, "trivial_augment", None, draws)
        if options.color_jitter is not None:
            draws = self._draws(epoch, step, "color_jitter")
            factors = 1 + draws.uniform(-1, 1, size=(3, len(images))) * options.color_jitter
            images = _jitter(images.float(), _on_device(factors, images).float())
        return images.permute(0, 2, 3, 1)

    def transform_images(
        self, images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, LabelMix | None]:
        """Erase rectangles of normalized images, and mix images and labels.

        Args:
            images: float32 ``(batch, channels, height, width)``.
            labels: int64 ``(batch,)``.
            epoch: Epoch, counted from 0.
            step: Step of the epoch, counted from 0.
        """
        options = self._options
        if options.random_erasing is not None:
            draws = self._draws(epoch, step, "random_erasing")
            images = _erase(images, options.random_erasing, draws)
        if options.mixes:
            images, mix = self._mix(images, labels, self._draws(epoch, step, "mixup"))
        else:
            mix = None
        return images.contiguous(memory_format=torch.channels_last), mix

    def _mix(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, LabelMix]:
        """Mix each image with its predecessor in the batch."""
        alphas = [("mixup", self._options.mixup), ("cutmix", self._options.cutmix)]
        given = [(name, alpha) for name, alpha in alphas if alpha is not None]
        name, alpha = given[draws.randint(len(given))]
        share = float(draws.beta(alpha, alpha))
        others = images.roll(1, 0)
        if name == "mixup":
            images = share * images + (1 - share) * others
        else:
            top, bottom, left, right = _cut(images.shape[-2:], share, draws)
            images = images.clone()
            images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
        second = torch.tensor(share, dtype=torch.float32, device=images.device)
        return images, LabelMix(labels.roll(1, 0), second)

    def _draws(self, epoch: int, step: int, name: str) -> Draws:
        """Return the random stream of a transform in a step."""
        number = list(Augmentation.model_fields).index(name)
        return stream(self._seed, epoch, _STREAM, step, number)


def _on_device(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device)


def _crop(images: Tensor, smallest: float, draws: Draws) -> Tensor:
    """Return a random crop of each image, resized to its size."""
    from torchvision.transforms.v2 import functional as F

    height, width = images.shape[-2:]
    crops = []
    for image in images:
        left, top, right, bottom = random_resized_crop_box(width, height, draws, smallest)
        box = top, left, bottom - top, right - left
        crops.append(F.resized_crop(image, *box, size=[height, width], antialias=True))
    return torch.stack(crops)


def _jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of float32 levels by factors ``(3, batch)``."""
    from torchvision.transforms.v2 import functional as F

    brightness, contrast, saturation = factors[:, :, None, None, None]
    images = (images * brightness).clamp(0, 255)
    mean = F.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, contrast).clamp(0, 255)
    gray = F.rgb_to_grayscale(images)
    return torch.lerp(gray.expand_as(images), images, saturation).clamp(0, 255)


def _operate(images: Tensor, space: str, magnitude: float | None, draws: Draws) -> Tensor:
    """Apply one random operation to each image; images with the same one are one call.

    Args:
        images: uint8 ``(batch, channels, height, width)``.
        space: ``randaugment`` or ``trivial_augment``.
        magnitude: Magnitude from 0 to 30; None to draw it for each image.
        draws: Random stream.
    """
    operations = _operations(images.shape[-1], images.shape[-2], wide=space == "trivial_augment")
    count = len(images)
    chosen = draws.randint(len(operations), size=count)
    magnitudes = draws.randint(_BINS + 1, size=count).astype(float)
    if magnitude is not None:
        magnitudes[:] = magnitude
    signs = 2 * draws.randint(2, size=count) - 1
    groups: dict[tuple[int, float, int], list[int]] = defaultdict(list)
    for place in range(count):
        groups[chosen[place], magnitudes[place], signs[place]].append(place)
    images = images.contiguous().clone()
    for (number, level, sign), members in groups.items():
        operation, largest, signed = operations[number]
        value = largest * level / _BINS * (sign if signed else 1)
        rows = torch.tensor(members, device=images.device)
        images[rows] = operation(images[rows], value)
    return images


def _operations(width: int, height: int, *, wide: bool) -> list[tuple[Operation, float, bool]]:
    """Return the operations of RandAugment, or the wide ones of TrivialAugment.

    Returns:
        For each, the function of images and a magnitude, the largest magnitude, and whether the
        magnitude has a random sign.
    """
    from torchvision.transforms.v2 import functional as F

    def affine(images: Tensor, x: float = 0, y: float = 0, *, shears: bool = False) -> Tensor:
        if not shears:
            return F.affine(images, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0])
        shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
        return F.affine(images, 0.0, [0, 0], 1.0, shear, center=[0, 0])

    shift = (32, 32) if wide else (150 / 331 * width, 150 / 331 * height)
    shear, turn, change, bits = (0.99, 135.0, 0.99, 6) if wide else (0.3, 30.0, 0.9, 4)
    return [
        (lambda images, value: images, 0.0, False),
        (lambda images, value: affine(images, x=value, shears=True), shear, True),
        (lambda images, value: affine(images, y=value, shears=True), shear, True),
        (lambda images, value: affine(images, x=value), shift[0], True),
        (lambda images, value: affine(images, y=value), shift[1], True),
        (F.rotate, turn, True),
        (lambda images, value: F.adjust_brightness(images, 1 + value), change, True),
        (lambda images, value: F.adjust_saturation(images, 1 + value), change, True),
        (lambda images, value: F.adjust_contrast(images, 1 + value), change, True),
        (lambda images, value: F.adjust_sharpness(images, 1 + value), change, True),
        (lambda images, value: F.posterize(images, 8 - round(value)), bits, False),
        (lambda images, value: F.solarize(images, 255 * (1 - value)), 1.0, False),
        (lambda images, value: F.autocontrast(images), 0.0, False),
        (lambda images, value: F.equalize(images), 0.0, False),
    ]


def _erase(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Set a random rectangle of each image to zero, the mean of the training set."""
    height, width = images.shape[-2:]
    erased = torch.zeros(len(images), 1, height, width, dtype=torch.bool)
    for mask in erased:
        if draws.random_sample() >= probability:
            continue
        for _ in range(10):
            area = height * width * draws.uniform(*_ERASED_AREA)
            ratio = math.exp(draws.uniform(*np.log(_ERASED_RATIO)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = draws.randint(height - h + 1), draws.randint(width - w + 1)
                mask[:, top : top + h, left : left + w] = True
                break
    return images.masked_fill(erased.to(images.device), 0.0)


def _cut(size: torch.Size, share: float, draws: Draws) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a rectangle of about ``1 - share`` of the area."""
    height, width = size
    row, column = draws.randint(height), draws.randint(width)
    half = 0.5 * math.sqrt(1 - share)
    h, w = int(half * height), int(half * width)
    return max(row - h, 0), min(row + h, height), max(column - w, 0), min(column + w, width)
