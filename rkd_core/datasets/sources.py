"""What every reader of a layout returns, and the checks that hold for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rkd_core.errors import UserError

__all__ = [
    "ArrayImages",
    "Encoded",
    "Images",
    "Listing",
    "Location",
    "Source",
    "Split",
    "check_labels",
    "list_files",
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
    """A dataset as published: a training set and a test set."""

    class_names: tuple[str, ...]
    train: Split
    test: Split


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
class ListedFile:
    """A file below a root: its path there (with ``/``), its size and when it was changed."""

    path: str
    size: int
    mtime_ns: int


Listing = tuple[ListedFile, ...]


@dataclass(frozen=True)
class Location:
    """A folder that one of the readers can read.

    Attributes:
        root: The folder.
        files: All files below it, by which a change is noticed.
        read: Reads the labels, and prepares to read the images.
    """

    root: Path
    files: Listing
    read: Callable[[], Source]


def list_files(root: Path) -> Listing:
    """All files below a folder in the order of their paths, hidden ones left out.

    Links are followed; a folder that was seen already is not entered again.
    """
    found: list[ListedFile] = []
    seen: set[tuple[int, int]] = set()
    pending = [(root, "")]
    while pending:
        folder, prefix = pending.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    pending.append((folder / entry.name, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    status = entry.stat()
                    path = prefix + entry.name
                    found.append(ListedFile(path, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found, key=lambda file: file.path))


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
                f"{where}: label {high} in the {split} split, but the training set's "
                f"{classes} classes run from 0 to {classes - 1}"
            )
    absent = np.flatnonzero(np.bincount(train, minlength=classes) == 0)
    if len(absent):
        name = class_names[absent[0]]
        raise UserError(
            f"{where}: class {absent[0]} ({name}) has no training image; labels must have no gaps"
        )
