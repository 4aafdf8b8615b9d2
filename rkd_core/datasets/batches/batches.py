"""Batches for training and evaluation, as torch tensors on a device.

The order and the augmentation of an epoch depend on the seed and the epoch alone: they are drawn
on the CPU from a frozen stream, independent of the global generators of torch and NumPy, of the
device and of the number of workers. Students of one seed therefore see identical batches.

Sets in memory are kept on the device as uint8 and are cropped and flipped batch by batch. Streamed
sets are decoded by the worker processes of a ``DataLoader``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rkd_core.datasets.array_set import ArraySet, check_recipe
from rkd_core.datasets.batches import heartbeat
from rkd_core.datasets.batches.augmentation import Augmentation
from rkd_core.datasets.batches.order import buffered_order, class_uniform_order
from rkd_core.datasets.batches.statistics import Statistics, normalization_statistics
from rkd_core.datasets.batches.transfer import ahead, to_device
from rkd_core.datasets.batches.transforms import LabelMix, Transforms
from rkd_core.datasets.batches.workers import EVALUATION, Rows, WorkerPool
from rkd_core.datasets.image_set import AnySet, ImageSet
from rkd_core.datasets.streamed_set import CROP_AREA, StreamedImageSet
from rkd_core.seeds import stream
from rkd_core.specs import Recipe

__all__ = ["Batch", "EvaluationBatches", "TrainingBatches", "normalization_statistics"]

_AHEAD = 2  # batches that are gathered before they are needed

PixelTransform = Callable[[Tensor, int], Tensor]
"""Function from pixels ``(batch, height, width, channels)`` and the number of the batch."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of images.

    Attributes:
        images: float32 ``(batch, channels, height, width)``, normalized, channels last in memory;
            or standardized arrays ``(batch, ...)``.
        labels: int64 ``(batch,)``.
        indices: int64 ``(batch,)``, positions in the image set.
        views: int64 ``(batch,)``, number of the view of each image (see ``augmentation``); None
            for evaluation and for streamed sets, whose views are not numbered.
        mix: Second labels of mixed images; None if images are not mixed.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    views: Tensor | None = None
    mix: LabelMix | None = None


class TrainingBatches:
    """Batches of the training set, in a new random order each epoch, with augmentation.

    With ``crop_padding``, images in memory are padded with ``crop_fill`` by that many pixels and
    randomly cropped to the original size; streamed images, which differ in size, are randomly
    cropped and resized instead.

    Args:
        image_set: Training images.
        recipe: Batch size, ``drop_last``, augmentation and normalization.
        seed: Seed of the order and the augmentation.
        sampling: ``all``: an epoch is a permutation of the set, of shards one that reads them in
            turn through a shuffle buffer. ``class_uniform``: an epoch has
            as many images, each drawn with replacement from a uniformly drawn class; an image
            that is drawn twice in an epoch shows the same view.
        device: Device of the batches.
        statistics: Mean and standard deviation for normalization; None for those of the set.
        workers: Processes that decode a streamed set; None for one per CPU core, at most 8.
    """

    def __init__(
        self,
        image_set: AnySet,
        recipe: Recipe,
        *,
        seed: int,
        sampling: Literal["all", "class_uniform"] = "all",
        device: str | torch.device = "cpu",
        statistics: Statistics | None = None,
        workers: int | None = None,
    ) -> None:
        self._recipe, self._seed = recipe, seed
        self._count = len(image_set)
        self._shards = image_set.shards if isinstance(image_set, StreamedImageSet) else None
        self._by_class: list[NDArray[np.int64]] | None = None
        if sampling == "class_uniform":
            labels = np.asarray(image_set.labels)
            self._by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        statistics = statistics or normalization_statistics(image_set, recipe)
        where = torch.device(device)
        self._pixels = _pixels(image_set, recipe, seed, where, statistics, workers)
        self._transforms: Transforms | None = None
        if not recipe.numbers_views:
            in_memory = not isinstance(image_set, StreamedImageSet)
            self._transforms = Transforms(recipe.augmentation, seed, crops=in_memory)

    def __len__(self) -> int:
        """Return the number of steps per epoch, at least one even if its batch is short."""
        full, rest = divmod(self._count, self._recipe.batch_size)
        return max(full, 1) if self._recipe.drop_last else full + (rest > 0)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch; every call returns the same ones.

        Args:
            epoch: Epoch, counted from 0.
            first: Number of the first batch to return, counted from 0.
        """
        order, size = self._order(epoch), self._recipe.batch_size
        starts = range(first * size, len(order), size)
        rows = [order[start : start + size] for start in starts]
        if self._transforms is None:
            return self._pixels.batches(rows, epoch)
        return self._transformed(self._transforms, rows, epoch, first)

    def _transformed(
        self, transforms: Transforms, rows: Rows, epoch: int, first: int
    ) -> Iterator[Batch]:
        """Yield transformed batches."""

        def transform(pixels: Tensor, number: int) -> Tensor:
            return transforms.transform_pixels(pixels, epoch, first + number)

        for step, batch in enumerate(self._pixels.batches(rows, epoch, transform), first):
            images, mix = transforms.transform_images(batch.images, batch.labels, epoch, step)
            yield replace(batch, images=images, mix=mix)

    def view_keys(self, epochs: int) -> NDArray[np.int64]:
        """Return the keys ``index * views + view`` of all views in a number of epochs.

        Keys are unique and ascending.

        Raises:
            ValueError: The set is streamed, so its views are not numbered.
        """
        if not isinstance(self._pixels, _Resident):
            raise ValueError("the views of a streamed set are not numbered")
        per_image = self._recipe.views
        seen = np.zeros(self._count * per_image, dtype=bool)
        for epoch in range(epochs):
            order = self._order(epoch)
            seen[order * per_image + self._pixels.draw(epoch)[order]] = True
        return np.flatnonzero(seen)

    def view_batches(self, keys: NDArray[np.int64], batch_size: int) -> Iterator[Batch]:
        """Return batches of the views with these keys; see ``view_keys``.

        Raises:
            ValueError: The set is streamed, so its views are not numbered.
        """
        if not isinstance(self._pixels, _Resident):
            raise ValueError("the views of a streamed set are not numbered")
        parts = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        return self._pixels.view_batches(parts)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return positions in the order of the epoch, without those that ``drop_last`` drops."""
        random = stream(self._seed, epoch)
        if self._by_class is not None:
            order = class_uniform_order(random, self._by_class)
        elif self._shards is not None:
            order = buffered_order(random, self._shards)
        else:
            order = random.permutation(self._count)
        return order[: len(self) * self._recipe.batch_size].astype(np.int64)


class EvaluationBatches:
    """Batches of an image set in its own order, without augmentation; can be iterated repeatedly.

    Args:
        image_set: Images.
        recipe: Recipe with the normalization.
        batch_size: Images per batch; the last batch may be smaller.
        device: Device of the batches.
        statistics: Mean and standard deviation of the *training* set; None if ``image_set`` is
            the training set.
        workers: Processes that decode a streamed set; None for one per CPU core, at most 8.
    """

    def __init__(
        self,
        image_set: AnySet,
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
        return self.at(np.arange(self._count))

    def at(self, positions: NDArray[np.int64]) -> Iterator[Batch]:
        """Return batches of the images at these positions of the set, in this order."""
        starts = range(0, len(positions), self._batch_size)
        rows = [positions[start : start + self._batch_size] for start in starts]
        return self._pixels.batches(rows, EVALUATION)


def _pixels(
    image_set: AnySet,
    recipe: Recipe,
    seed: int | None,
    device: torch.device,
    statistics: Statistics,
    workers: int | None,
) -> _Resident | _Streamed:
    """Return an object that yields batches of an image set; without a seed, for evaluation only."""
    if isinstance(image_set, ArraySet):
        check_recipe(recipe, "the data set")
        standardize = _Standardization(statistics, len(image_set.input_shape), device)
        return _Resident(image_set.values, image_set.labels, recipe, seed or 0, device, standardize)
    normalize = _Normalization(statistics, device)
    if isinstance(image_set, ImageSet):
        return _Resident(image_set.images, image_set.labels, recipe, seed or 0, device, normalize)
    pool = WorkerPool(
        image_set,
        seed or 0,
        crop=CROP_AREA if recipe.crop_padding else recipe.augmentation.random_resized_crop,
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
        """Normalize levels ``(b, h, w, c)``; return float32 ``(b, c, h, w)``, channels last.

        Levels are uint8, or float32, which is then overwritten.
        """
        count, height, width, channels = pixels.shape
        # Process whole image rows: three channels are too few for vector instructions.
        lines = pixels.reshape(count * height, width * channels).to(torch.float32)
        lines.mul_(self._scale.repeat(width)).sub_(self._shift.repeat(width))
        return lines.view(count, height, width, channels).permute(0, 3, 1, 2)


class _Standardization:
    """``(x - mean) / std`` for each channel of float arrays."""

    def __init__(self, statistics: Statistics, ndim: int, device: torch.device) -> None:
        shape = (-1, *[1] * (ndim - 1))
        self._mean, self._std = (value.to(device).view(shape) for value in statistics)

    def __call__(self, values: Tensor) -> Tensor:
        """Standardize arrays ``(b, channels, ...)``; return float32 of the same shape."""
        return (values - self._mean).div_(self._std)


class _Resident:
    """Batches of images or arrays in memory, on the device if they fit there."""

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        recipe: Recipe,
        seed: int,
        device: torch.device,
        normalize: Callable[[Tensor], Tensor],
    ) -> None:
        self._seed, self._device = seed, device
        self.augmentation = Augmentation(recipe)
        self._normalize = normalize
        self._images = _shared(images).to(_storage_device(images.nbytes, device))
        self._labels = _shared(labels).to(device)
        self._apart = self._images.device.type != device.type

    def batches(
        self, rows: Rows, epoch: int, transform: PixelTransform | None = None
    ) -> Iterator[Batch]:
        """Yield a batch for each array of rows, augmented unless the epoch is ``EVALUATION``."""
        if epoch == EVALUATION:
            for indices, pixels in self._read(rows):
                yield self._batch(indices, pixels, None)
        else:
            views = to_device(self.draw(epoch), self._device)
            for number, (indices, pixels) in enumerate(self._read(rows)):
                yield self._batch(indices, pixels, views[indices], transform, number)

    def view_batches(self, keys: Rows) -> Iterator[Batch]:
        """Yield a batch for each array of keys ``index * views + view``."""
        count = self.augmentation.views
        views = self._to_device([key % count for key in keys])
        for seen, (indices, pixels) in zip(
            views, self._read([key // count for key in keys]), strict=True
        ):
            yield self._batch(indices, pixels, seen)

    def draw(self, epoch: int) -> NDArray[np.int64]:
        """Return the view of every image of the set in an epoch, int64 ``(n,)``."""
        return self.augmentation.draw(stream(self._seed, epoch, 1), len(self._labels))

    def _read(self, rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield positions in the set and pixels of each batch, on the device.

        If the images are not on the device, a thread gathers the next batches in page-locked
        memory, from which they are copied while the device computes.
        """
        parts = self._to_device(rows)
        if not self._apart:
            for indices in parts:
                yield indices, self._images.index_select(0, indices)
            return
        for indices, pixels in zip(parts, ahead(self._gather, rows, _AHEAD), strict=True):
            yield indices, pixels.to(self._device, non_blocking=True)

    def _gather(self, rows: NDArray[np.int64]) -> Tensor:
        shape, pinned = (len(rows), *self._images.shape[1:]), self._device.type == "cuda"
        pixels = torch.empty(shape, dtype=self._images.dtype, pin_memory=pinned)
        return torch.index_select(self._images, 0, torch.from_numpy(rows), out=pixels)

    def _batch(
        self,
        indices: Tensor,
        pixels: Tensor,
        views: Tensor | None,
        transform: PixelTransform | None = None,
        number: int = 0,
    ) -> Batch:
        heartbeat.beat()
        if views is not None:
            pixels = self.augmentation.apply(pixels, views)
        if transform is not None:
            pixels = transform(pixels, number)
        return Batch(self._normalize(pixels), self._labels[indices], indices, views)

    def _to_device(self, rows: Rows) -> tuple[Tensor, ...]:
        """Copy all rows at once; a copy in every step would wait for the previous step."""
        whole = to_device(np.concatenate(rows), self._device)
        return whole.split([len(part) for part in rows])


class _Streamed:
    """Batches of an image set that worker processes decode."""

    def __init__(self, pool: WorkerPool, device: torch.device, normalize: _Normalization) -> None:
        self._pool, self._device, self._normalize = pool, device, normalize

    def batches(
        self, rows: Rows, epoch: int, transform: PixelTransform | None = None
    ) -> Iterator[Batch]:
        """Yield a batch for each array of rows, augmented unless the epoch is ``EVALUATION``."""
        for number, views in enumerate(self._pool.read(rows, epoch)):
            heartbeat.beat()
            pixels, labels, indices = (value.to(self._device, non_blocking=True) for value in views)
            if transform is not None:
                pixels = transform(pixels, number)
            yield Batch(self._normalize(pixels), labels, indices)


def _shared(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of an array, which may be read-only.

    torch warns that it cannot protect read-only memory; nothing here writes to it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _storage_device(nbytes: int, device: torch.device) -> torch.device:
    """Return the device, or the CPU if the pixels exceed half of the device's free memory."""
    if device.type == "cuda" and nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return torch.device("cpu")
    return device
