"""Batches for training and evaluation, as torch tensors on the wanted device.

The order and the augmentation of an epoch are a function of the seed and the epoch alone: drawn
on the CPU from a frozen stream, untouched by torch's or numpy's global generators, by the device
or by the number of workers. So students of one seed see identical batches.

Sets in memory live on the device as uint8 and are cropped and mirrored a batch at a time. Sets
that are streamed come from the worker processes of a ``DataLoader``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkd_core.datasets.augmentation import crop_and_flip
from rkd_core.datasets.seeding import stream
from rkd_core.datasets.sets import ImageSet
from rkd_core.datasets.statistics import Statistics, normalization_statistics
from rkd_core.datasets.streamed import StreamedImageSet
from rkd_core.datasets.workers import EVALUATION, Rows, WorkerPool
from rkd_core.specs import Recipe

__all__ = ["Batch", "EvaluationBatches", "TrainingBatches", "normalization_statistics"]


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of images.

    Attributes:
        images: float32 ``(batch, channels, height, width)``, normalised, channels last in memory.
        labels: int64 ``(batch,)``.
        indices: int64 ``(batch,)``, positions in the image set.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class TrainingBatches:
    """The training set in a new random order each epoch, augmented as the recipe says.

    With ``crop_padding``, images in memory are padded with zeros (black) by that many pixels and
    cropped back to size at random; streamed images, which come in all sizes, take a random
    resized crop instead.

    Args:
        image_set: What to train on.
        recipe: Batch size, ``drop_last``, augmentation and normalization.
        seed: Of the order and the augmentation.
        device: Where the batches are wanted.
        statistics: Mean and standard deviation to normalise with; None for those of the set.
        workers: Processes that decode a streamed set; None for one per CPU core, at most 8.
    """

    def __init__(
        self,
        image_set: ImageSet | StreamedImageSet,
        recipe: Recipe,
        *,
        seed: int,
        device: str | torch.device = "cpu",
        statistics: Statistics | None = None,
        workers: int | None = None,
    ) -> None:
        self._recipe, self._seed = recipe, seed
        self._count = len(image_set)
        statistics = statistics or normalization_statistics(image_set, recipe)
        where = torch.device(device)
        self._pixels = _pixels(image_set, recipe, seed, where, statistics, workers)

    def __len__(self) -> int:
        """Steps per epoch: at least one, even if its batch is short."""
        full, rest = divmod(self._count, self._recipe.batch_size)
        return max(full, 1) if self._recipe.drop_last else full + (rest > 0)

    @property
    def single_view(self) -> bool:
        """Whether nothing is augmented, so that every epoch sees the same pixels."""
        return self._recipe.crop_padding == 0 and not self._recipe.flip

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0; the same ones however often it is called."""
        order = stream(self._seed, epoch).permutation(self._count)
        size = self._recipe.batch_size
        return self._pixels.batches(
            [order[start : start + size] for start in range(0, len(self) * size, size)], epoch
        )


class EvaluationBatches:
    """An image set in its own order, not augmented; can be iterated over again and again.

    Args:
        image_set: What to evaluate on.
        recipe: Its normalization.
        batch_size: Images per batch; the last batch may be smaller.
        device: Where the batches are wanted.
        statistics: Mean and standard deviation of the *training* set; None if this is it.
        workers: Processes that decode a streamed set; None for one per CPU core, at most 8.
    """

    def __init__(
        self,
        image_set: ImageSet | StreamedImageSet,
        recipe: Recipe,
        *,
        batch_size: int,
        device: str | torch.device = "cpu",
        statistics: Statistics | None = None,
        workers: int | None = None,
    ) -> None:
        self._count, self._batch_size = len(image_set), batch_size
        statistics = statistics or normalization_statistics(image_set, recipe)
        where = torch.device(device)
        self._pixels = _pixels(image_set, recipe, None, where, statistics, workers)

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows, size = np.arange(self._count), self._batch_size
        return self._pixels.batches(
            [rows[start : start + size] for start in range(0, self._count, size)], EVALUATION
        )


def _pixels(
    image_set: ImageSet | StreamedImageSet,
    recipe: Recipe,
    seed: int | None,
    device: torch.device,
    statistics: Statistics,
    workers: int | None,
) -> _Resident | _Streamed:
    """Where batches of pixels come from; no seed for evaluation only."""
    normalize = _Normalization(statistics, device)
    if isinstance(image_set, ImageSet):
        return _Resident(image_set, recipe, seed or 0, device, normalize)
    pool = WorkerPool(
        image_set,
        seed or 0,
        crop=recipe.crop_padding > 0,
        flip=recipe.flip,
        workers=workers,
        persistent=seed is not None,
        pinned=device.type == "cuda",
    )
    return _Streamed(pool, device, normalize)


class _Normalization:
    """``(x / 255 - mean) / std`` as one multiplication and one subtraction."""

    def __init__(self, statistics: Statistics, device: torch.device) -> None:
        mean, std = (value.to(device, torch.float64) for value in statistics)
        self._scale = (1 / (255 * std)).float()
        self._shift = (mean / std).float()

    def __call__(self, pixels: Tensor) -> Tensor:
        """From uint8 ``(b, h, w, c)`` to float32 ``(b, c, h, w)``, channels last in memory."""
        images = pixels.to(torch.float32).mul_(self._scale).sub_(self._shift)
        return images.permute(0, 3, 1, 2)


class _Resident:
    """An image set in memory, on the device where it fits there."""

    def __init__(
        self,
        image_set: ImageSet,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        normalize: _Normalization,
    ) -> None:
        self._recipe, self._seed, self._device = recipe, seed, device
        self._normalize = normalize
        images, labels = _shared(image_set.images), _shared(image_set.labels)
        self._images = images.to(_home(image_set.nbytes, device))
        self._labels = labels.to(device)

    def batches(self, rows: Rows, epoch: int) -> Iterator[Batch]:
        """One batch for each array of rows; augmented unless the epoch is ``EVALUATION``."""
        shifts = flips = None
        if epoch != EVALUATION:
            shifts, flips = self._draw(epoch)
        for index in rows:
            indices = torch.from_numpy(index).to(self._device)
            pixels = self._images[indices.to(self._images.device)].to(self._device)
            if shifts is not None and flips is not None:
                pixels = crop_and_flip(
                    pixels, self._recipe.crop_padding, shifts[indices], flips[indices]
                )
            yield Batch(self._normalize(pixels), self._labels[indices], indices)

    def _draw(self, epoch: int) -> tuple[Tensor | None, Tensor | None]:
        """For every image of the set: where its crop starts, and whether it is mirrored."""
        padding, flip = self._recipe.crop_padding, self._recipe.flip
        if padding == 0 and not flip:
            return None, None
        rng, count = stream(self._seed, epoch, 1), len(self._labels)
        shifts = torch.from_numpy(rng.randint(0, 2 * padding + 1, size=(count, 2)))
        flips = torch.from_numpy(rng.randint(0, 2, size=count).astype(bool) & flip)
        return shifts.to(self._device), flips.to(self._device)


class _Streamed:
    """An image set that worker processes decode."""

    def __init__(self, pool: WorkerPool, device: torch.device, normalize: _Normalization) -> None:
        self._pool, self._device, self._normalize = pool, device, normalize

    def batches(self, rows: Rows, epoch: int) -> Iterator[Batch]:
        """One batch for each array of rows; augmented unless the epoch is ``EVALUATION``."""
        for views in self._pool.read(rows, epoch):
            pixels, labels, indices = (value.to(self._device, non_blocking=True) for value in views)
            yield Batch(self._normalize(pixels), labels, indices)


def _shared(array: NDArray[Any]) -> Tensor:
    """The array as a tensor on the same memory, which may be a file's or another process's.

    torch warns that it cannot protect read-only memory; nothing here writes to it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _home(nbytes: int, device: torch.device) -> torch.device:
    """The device, unless the pixels would take more than half of its free memory."""
    if device.type == "cuda" and nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return torch.device("cpu")
    return device
