"""Image sets that are too large to decode in advance: images are decoded on demand."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.preparation.decode_image import (
    NO_SCALES,
    BadImageError,
    Scales,
    decode_image,
    open_image,
    pillow,
)
from rkd_core.datasets.preparation.survey import parallelism
from rkd_core.datasets.readers.base import spread
from rkd_core.datasets.readers.tar_shards import TarImages
from rkd_core.errors import UserError
from rkd_core.seeds import stream

__all__ = [
    "CROP_AREA",
    "RandomAccessImages",
    "StreamedImageSet",
    "count_levels",
    "random_resized_crop_box",
]

DEFAULT_SIDE = 224
RESIZED_SHARE = 256 / 224
"""Shorter side before the center crop of evaluation, as a multiple of the crop's side."""

CROP_AREA = 0.08
RATIO = (3 / 4, 4 / 3)

_SAMPLE = 1024
"""Number of evenly spaced images in which pixel levels are counted."""


class RandomAccessImages(Protocol):
    """Encoded images that can be read in any order, from any process."""

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image."""
        ...

    def describe(self, row: int) -> str:
        """Return the location of an image, for error messages."""
        ...


@dataclass(frozen=True, eq=False)
class StreamedImageSet:
    """Encoded images with their labels, decoded on demand. Can be pickled.

    Attributes:
        source: The encoded images.
        rows: int64 ``(n,)``, rows of this set's images in the source.
        labels: int64 ``(n,)``, from 0 to classes - 1.
        shape: Height, width and channels of a decoded image; height equals width.
        scales: Scales of gray images of more than 8 bits.
    """

    source: RandomAccessImages
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    shape: tuple[int, int, int]
    scales: Scales = NO_SCALES

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image, as a network takes it."""
        height, width, channels = self.shape
        return channels, height, width

    @property
    def nbytes(self) -> int:
        """Bytes of decoded pixels in memory: 0."""
        return 0

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """Occurrences of each pixel level in the evaluation views of a sample of the images.

        int64 ``(channels, 256)``; counted once per set.
        """
        rows = spread(len(self), _SAMPLE).tolist()
        with ThreadPoolExecutor(parallelism()) as pool:
            return count_levels(pool.map(self.evaluation_view, rows), self.shape[2])

    @property
    def shards(self) -> NDArray[np.int64] | None:
        """Number of the shard that holds each image; None for images that are not in shards."""
        if not isinstance(self.source, TarImages):
            return None
        shards: NDArray[np.int64] = self.source.members[self.rows, 0]
        return shards

    def subset(self, rows: NDArray[np.int64]) -> StreamedImageSet:
        """Return the images at ``rows`` of this set."""
        return replace(self, rows=self.rows[rows], labels=self.labels[rows])

    @property
    def resized(self) -> int:
        """Length in pixels of an image's shorter side before the center crop of evaluation."""
        return round(self.shape[0] * RESIZED_SHARE)

    def evaluation_view(self, index: int) -> NDArray[np.uint8]:
        """Return a resized and center-cropped image, uint8 ``(height, width, channels)``.

        Raises:
            UserError: The image cannot be decoded.
        """
        return self._view(index, None, flip=False)

    def training_view(
        self, index: int, seed: int, epoch: int, *, crop: float | None, flip: bool
    ) -> NDArray[np.uint8]:
        """Return a randomly cropped and flipped image, uint8 ``(height, width, channels)``.

        The random draws depend only on seed, epoch and index, not on the process that decodes.

        Args:
            index: Position in this set.
            seed: Seed of the training.
            epoch: Epoch, counted from 0.
            crop: Smallest share of the area of a random resized crop (Szegedy et al. 2015); None
                for the center crop of evaluation.
            flip: Whether to flip horizontally with probability 0.5.

        Raises:
            UserError: The image cannot be decoded.
        """
        rng = stream(seed, epoch, index)
        mirrored = bool(rng.random_sample() < 0.5) and flip
        return self._view(index, None if crop is None else (rng, crop), flip=mirrored)

    def _view(
        self, index: int, crop: tuple[np.random.RandomState, float] | None, *, flip: bool
    ) -> NDArray[np.uint8]:
        from PIL import Image

        preprocess = pillow()
        row, side = int(self.rows[index]), self.shape[0]
        try:
            image = open_image(self.source.read(row))
            image = decode_image(image, self.shape[2], self.scales)
        except BadImageError as error:
            raise UserError(f"{self.source.describe(row)} cannot be decoded: {error}") from error
        if crop is None:
            image = preprocess.center_crop(image, side, self.resized)
        else:
            box = random_resized_crop_box(image.width, image.height, *crop)
            image = image.crop(box).resize((side, side), Image.Resampling.BILINEAR)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels: NDArray[np.uint8] = preprocess.pixels(image)
        return pixels


def random_resized_crop_box(
    width: int, height: int, rng: np.random.RandomState, smallest: float
) -> tuple[int, int, int, int]:
    """Draw a crop of a share of the area from ``smallest`` to 1 and a ratio of 3/4 to 4/3.

    The rule is that of torchvision's ``RandomResizedCrop``: after ten failed draws, the largest
    center crop with an allowed aspect ratio.

    Returns:
        Left, top, right and bottom in pixels.
    """
    for _ in range(10):
        area = width * height * rng.uniform(smallest, 1.0)
        ratio = np.exp(rng.uniform(*np.log(RATIO)))
        w, h = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(width - w + 1), rng.randint(height - h + 1)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def count_levels(chunks: Iterable[NDArray[np.uint8]], channels: int) -> NDArray[np.int64]:
    """Count the occurrences of each level in each channel, int64 ``(channels, 256)``.

    Args:
        chunks: uint8 pixels ``(..., channels)``, in chunks that fit in memory.
        channels: Number of channels.
    """
    counts = np.zeros((channels, 256), dtype=np.int64)
    for chunk in chunks:
        flat = chunk.reshape(-1, channels)
        counts += np.stack([np.bincount(channel, minlength=256) for channel in flat.T])
    return counts
