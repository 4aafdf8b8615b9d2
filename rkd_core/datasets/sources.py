"""What every reader of a layout returns, and the checks that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.paths import Listing, unreadable
from rkd_core.datasets.wording import counted
from rkd_core.errors import UserError

__all__ = [
    "ArrayImages",
    "Encoded",
    "Images",
    "Location",
    "Source",
    "Split",
    "check_labels",
    "spread",
]

Encoded = bytes | NDArray[np.uint8]
"""An image file's bytes (empty where there is none), or uint8 pixels (height, width, channels)."""


class Images(Protocol):
    """The images of one split, in order, as they lie in the source."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Encoded]: ...

    def describe(self, row: int) -> str:
        """Where an image is, for error messages."""
        ...

    def sample(self, count: int) -> list[Encoded]:
        """At most ``count`` images to judge sizes by; the same ones each time."""
        ...


@dataclass(frozen=True)
class Split:
    """One split of a source; ``labels`` is int64 ``(n,)``."""

    images: Images
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A dataset as published: a training set and a test set, with the name of the latter."""

    class_names: tuple[str, ...]
    train: Split
    test: Split
    test_name: str = "test"


@dataclass(frozen=True)
class ArrayImages:
    """Images that need no decoding: uint8 ``(n, height, width, channels)``."""

    pixels: NDArray[np.uint8]
    name: str

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Encoded]:
        return iter(self.pixels)

    def describe(self, row: int) -> str:
        """The set's name and the row."""
        return f"{self.name} row {row}"

    def sample(self, count: int) -> list[Encoded]:
        """The first images; all have one size."""
        return list(self.pixels[:count])


@dataclass(frozen=True)
class Location:
    """A folder that one of the readers can read.

    Attributes:
        root: The folder.
        files: All files below it, by which a change is noticed.
        test_names: Names that the test split may have, the preferred one first.
        reader: Reads the labels, and prepares to read the images.
    """

    root: Path
    files: Listing
    test_names: tuple[str, ...]
    reader: Callable[[], Source]

    def read(self) -> Source:
        """Read the labels, and prepare to read the images.

        Raises:
            UserError: The source is bad input, or cannot be read.
        """
        try:
            return self.reader()
        except OSError as error:  # or it would be taken for the cache's
            raise unreadable(error, self.root) from error


def spread(total: int, count: int) -> NDArray[np.int64]:
    """At most ``count`` of ``total`` rows at even distances, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def check_labels(
    train: NDArray[np.int64], test: NDArray[np.int64], class_names: tuple[str, ...], where: str
) -> None:
    """Refuse labels that no training could use.

    Args:
        train: int64 ``(n,)``.
        test: int64 ``(m,)``.
        class_names: In label order.
        where: The source, for the message.

    Raises:
        UserError: A split is empty, a label is negative or beyond the classes, or a class has no
            training image.
    """
    classes = len(class_names)
    for split, labels in (("training", train), ("test", test)):
        if len(labels) == 0:
            raise UserError(f"{where}: the {split} split is empty")
        low, high = int(labels.min()), int(labels.max())
        if low < 0:
            raise UserError(f"{where}: label {low} in the {split} split; labels must be 0 or more")
        if high >= classes:
            raise UserError(
                f"{where}: label {high} in the {split} split, but the training set has "
                f"{counted(classes, 'class', 'classes')}, from 0 to {classes - 1}"
            )
    absent = np.flatnonzero(np.bincount(train, minlength=classes) == 0)
    if len(absent):
        name = class_names[absent[0]]
        raise UserError(
            f"{where}: class {absent[0]} ({name}) has no training image; labels must have no gaps"
        )
