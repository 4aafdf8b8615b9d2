"""Images with labels, and a dataset of training, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.array_set import ArraySet
from rkd_core.datasets.preparation.pixel_scales import AS_THEY_ARE, Decoding
from rkd_core.datasets.readers.base import Inventory, Provenance
from rkd_core.datasets.streamed_set import StreamedImageSet, count_levels

__all__ = ["AnySet", "Dataset", "ImageSet"]

_CHUNK = 1024  # images per pass when pixel levels are counted


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images with their labels, in memory or memory-mapped.

    Attributes:
        images: uint8 ``(n, height, width, channels)``, 1 or 3 channels.
        labels: int64 ``(n,)``, from 0 to classes - 1.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images are uint8 NHWC, not {self.images.dtype} {self.images.shape}")
        if self.images.shape[3] not in (1, 3):
            raise ValueError(f"images have 1 or 3 channels, not {self.images.shape[3]}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            raise ValueError(f"labels are int64 (n,), not {self.labels.dtype} {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of each image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image, as a network takes it."""
        height, width, channels = self.shape
        return channels, height, width

    @property
    def nbytes(self) -> int:
        """Bytes of decoded pixels."""
        return self.images.nbytes

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """Occurrences of each pixel level, int64 ``(channels, 256)``; counted once per set."""
        chunks = (self.images[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))
        return count_levels(chunks, self.images.shape[3])

    def subset(self, rows: NDArray[np.int64]) -> ImageSet:
        """Return the images at ``rows``: the set itself for all rows in order, else a copy."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return ImageSet(self.images[rows], self.labels[rows])


AnySet = ImageSet | StreamedImageSet | ArraySet


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset of images or arrays, split into training, validation and test sets.

    Attributes:
        name: Name shown to users; see ``display_name``.
        class_names: Class names in label order.
        train: Training set, after the long-tail profile and the limit.
        val: Validation set of the source, or half of its test set; used for selection.
        test: Test set of the source, or the other half of it; used by reports only.
        fingerprint: SHA-256 of the content of the source, independent of its path.
        skipped_images: Number of undecodable images that were left out.
        train_indices: int64 rows of ``train`` in the source's training set, ascending.
        val_indices: int64 rows of ``val`` in the source's validation set if it has one, else
            in its test set, ascending.
        test_indices: int64 rows of ``test`` in the source's test set, ascending. In a source that
            has only a training set, both are rows of that.
        decoding: Rules of decoding, and counts of images that they apply to.
        provenance: Origin of the splits in the source.
        inventory: Inventory of the source.
        source_rows: Number of rows of each split of the source (``train``, ``val``, ``test``),
            including those that are left out.
    """

    name: str
    class_names: tuple[str, ...]
    train: AnySet
    val: AnySet
    test: AnySet
    fingerprint: str
    skipped_images: int
    train_indices: NDArray[np.int64] = field(repr=False)
    val_indices: NDArray[np.int64] = field(repr=False)
    test_indices: NDArray[np.int64] = field(repr=False)
    decoding: Decoding = AS_THEY_ARE
    provenance: Provenance = field(default=Provenance(), repr=False)
    inventory: Inventory = field(default_factory=Inventory, repr=False)
    source_rows: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def origins(self) -> dict[str, str]:
        """Origin of each split in the source, such as ``half of val``."""
        source = self.provenance
        if source.test is None:
            return dict.fromkeys(("train", "val", "test"), f"part of {source.train}")
        half = f"half of {source.test}"
        if source.val is None:
            return {"train": source.train, "val": half, "test": half}
        return {"train": source.train, "val": source.val, "test": source.test}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for gray images, 3 for color; the first dimension of an array."""
        return self.train.input_shape[0]

    @property
    def image_size(self) -> tuple[int, ...]:
        """Height and width in pixels; the other dimensions of an array."""
        return self.train.input_shape[1:]

    @property
    def of_images(self) -> bool:
        """Whether the sets hold images rather than float arrays."""
        return not isinstance(self.train, ArraySet)

    @property
    def noun(self) -> str:
        """Word for one of its items in texts: ``image``, or ``example`` of float arrays."""
        return "image" if self.of_images else "example"

    def with_training_rows(self, rows: NDArray[np.int64]) -> Dataset:
        """Return this dataset with only these rows of ``train``, in ascending order."""
        return replace(self, train=self.train.subset(rows), train_indices=self.train_indices[rows])

    @property
    def nbytes(self) -> int:
        """Bytes of pixels or values in the three sets; 0 for sets that are streamed."""
        return self.train.nbytes + self.val.nbytes + self.test.nbytes

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Return the number of images per class, int64 ``(classes,)``.

        Args:
            split: ``train``, ``val`` or ``test``.
        """
        sets = {"train": self.train, "val": self.val, "test": self.test}
        return np.bincount(sets[split].labels, minlength=self.classes).astype(np.int64)
