"""Types that readers return, and checks shared by all readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.paths import Listing, escaped, is_plain, unreadable
from rkd_core.errors import UserError
from rkd_core.text.nouns import counted

__all__ = [
    "SPLIT_ADJECTIVES",
    "Encoded",
    "Images",
    "ImagesInMemory",
    "Inventory",
    "Location",
    "Provenance",
    "Source",
    "Split",
    "check_class_names",
    "check_labels",
    "similar_names",
    "spread",
]

SPLIT_ADJECTIVES = {"train": "training", "val": "validation", "test": "test"}

Encoded = bytes | NDArray[np.uint8]
"""Bytes of an image file (empty if it is missing), or uint8 pixels (height, width, channels)."""


class Images(Protocol):
    """Images of one split, in the order of the source."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Encoded]: ...

    def describe(self, row: int) -> str:
        """Return the location of an image, for error messages."""
        ...

    def sample(self, count: int) -> list[Encoded]:
        """Return at most ``count`` images to estimate sizes from; every call returns the same."""
        ...


@dataclass(frozen=True)
class Split:
    """Images of one split of a source, and their labels, int64 ``(n,)``."""

    images: Images
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Provenance:
    """Origin of each split of a source, and remarks on parts that are not used.

    Attributes:
        train: Name of the training split in the source, such as the folder's name.
        test: Name of the original test set; None if validation and test are set aside from the
            training split.
        val: Name of the validation set; None if half of the test set replaces it.
        remarks: Remarks for the summary of a sweep.
        warnings: Warnings about probable mistakes.
    """

    train: str = "train"
    test: str | None = "test"
    val: str | None = None
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Provenance:
        """Return the object that ``dataclasses.asdict`` and JSON turned into ``fields``.

        Raises:
            TypeError: The fields do not describe a provenance.
        """
        lines: dict[str, Any] = {
            name: tuple(fields[name]) for name in ("remarks", "warnings") if name in fields
        }
        return cls(**(fields | lines))


@dataclass(frozen=True)
class Inventory:
    """Contents of a source, for a later comparison.

    Attributes:
        class_names: Class names in label order.
        counts: Number of images of each class in each split of the source.
        files: Path, size and modification time of its files; empty if there are too many.
    """

    class_names: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    files: Listing = ()


@dataclass(frozen=True)
class Source:
    """A dataset as published: a training set, and usually a test set and a validation set.

    Without a test set, validation and test are set aside from the training set.
    """

    class_names: tuple[str, ...]
    train: Split
    test: Split | None = None
    val: Split | None = None
    provenance: Provenance = Provenance()

    @property
    def splits(self) -> dict[str, Split]:
        """Splits by name: ``train``, then ``val`` and ``test`` as far as there are any."""
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in given.items() if split is not None}


@dataclass(frozen=True)
class ImagesInMemory:
    """Images that a program holds: uint8 ``(n, height, width, channels)``, or one item for each."""

    items: Sequence[Encoded] | NDArray[np.uint8]
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Encoded]:
        return iter(self.items)

    def describe(self, row: int) -> str:
        """Return the name of the set and the row."""
        return f"{self.name} row {row}"

    def sample(self, count: int) -> list[Encoded]:
        """Return evenly spaced images."""
        return [self.items[row] for row in spread(len(self), count).tolist()]


@dataclass(frozen=True)
class Location:
    """A folder that one of the readers supports.

    Attributes:
        root: The folder.
        files: All files below it, used to detect changes.
        rules: JSON values of everything else that the reader depends on, such as split names.
        reader: Function that reads the labels and prepares to read the images.
        holds_arrays: Whether the data are float arrays, which need no cache.
    """

    root: Path
    files: Listing
    rules: tuple[object, ...]
    reader: Callable[[], Source]
    holds_arrays: bool = False

    def read(self) -> Source:
        """Read the labels, and prepare to read the images.

        Raises:
            UserError: The source is invalid or cannot be read.
        """
        try:
            source = self.reader()
        except OSError as error:  # callers take an OSError for an error of the cache
            raise unreadable(error, self.root) from error
        check_class_names(source.class_names, str(self.root))
        return source


def spread(total: int, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` evenly spaced rows of ``total``, including the first and last."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def check_class_names(names: tuple[str, ...], where: str) -> None:
    """Refuse class names that records, tables and reports cannot represent.

    Raises:
        UserError: A name is not valid Unicode, such as a folder name with bytes that are not
            UTF-8, or has control characters, or is empty, or there is only one class.
    """
    for name in names:
        if not is_plain(name):
            raise UserError(
                f"{where}: the class name {escaped(name)} has bytes that are not UTF-8, or control "
                "characters: rename it"
            )
        if not name.strip():
            raise UserError(
                f"{where}: the class name {name!r} is empty: are labels missing? Give these images "
                "a label, or leave them out"
            )
    if len(names) == 1:
        raise UserError(f"{where}: there is one class ({names[0]}); a classifier needs two or more")


def similar_names(names: Sequence[str]) -> list[str]:
    """Return a warning for each group of class names that differ in case and spaces only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(" ".join(name.split()).casefold(), []).append(name)
    return [
        f"the classes {' and '.join(map(repr, group))} differ in case or spaces only: are they one?"
        for group in groups.values()
        if len(group) > 1
    ]


def check_labels(
    labels: Mapping[str, NDArray[np.int64]], class_names: tuple[str, ...], where: str
) -> None:
    """Refuse labels that cannot be used for training.

    Args:
        labels: Labels int64 ``(n,)`` of each split, by its name.
        class_names: Class names in label order.
        where: Location of the source, for the message.

    Raises:
        UserError: A split is empty, a label is negative or not below the number of classes, or a
            class has no training image.
    """
    classes = len(class_names)
    for name, of_split in labels.items():
        split = SPLIT_ADJECTIVES[name]
        if len(of_split) == 0:
            raise UserError(f"{where}: the {split} split is empty")
        low, high = int(of_split.min()), int(of_split.max())
        if low < 0:
            raise UserError(f"{where}: label {low} in the {split} split; labels must be 0 or more")
        if high >= classes:
            raise UserError(
                f"{where}: label {high} in the {split} split, but the training set has "
                f"{counted(classes, 'class', 'classes')}, from 0 to {classes - 1}"
            )
    absent = np.flatnonzero(np.bincount(labels["train"], minlength=classes) == 0)
    if len(absent):
        name = class_names[absent[0]]
        first = "; they start at 0, not 1" if absent.tolist() == [0] and name == "0" else ""
        raise UserError(
            f"{where}: class {absent[0]} ({name}) has no training image; labels must have no gaps"
            f"{first}"
        )
