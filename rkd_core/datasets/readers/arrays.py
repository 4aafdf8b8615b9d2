"""Float arrays of any shape in memory, and sets of them in NumPy files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import SPLIT_ADJECTIVES, Encoded, Images, Source
from rkd_core.datasets.readers.paths import is_ignored
from rkd_core.errors import UserError, first_line

__all__ = [
    "FloatArrays",
    "check_shapes",
    "fingerprint",
    "is_numpy",
    "is_surely_array",
    "read_numpy",
    "values_of",
]

_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_INPUTS = ("images", "arrays", "features", "embeddings")
_NAMES = "class_names"


@dataclass(frozen=True)
class FloatArrays:
    """Float arrays that a program holds: float32 ``(n, ...)``, finite."""

    values: NDArray[np.float32]
    name: str

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Encoded]:
        raise TypeError("float arrays are not decoded")

    def describe(self, row: int) -> str:
        """Return the name of the set and the row."""
        return f"{self.name} row {row}"

    def sample(self, count: int) -> list[Encoded]:
        """Return no image, since arrays are not decoded."""
        return []


def is_surely_array(ndim: int) -> bool:
    """Return whether a set with this many dimensions, ``n`` included, cannot hold images.

    Images are ``(n, height, width)`` or ``(n, height, width, channels)``.
    """
    return ndim not in (3, 4)


def values_of(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return numbers as float32 ``(n, ...)``.

    Raises:
        UserError: They have no second dimension, are not numbers, or are not finite.
    """
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where} hold {array.dtype}; arrays hold numbers, one row for each label")
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise UserError(f"{where} have shape {array.shape}; arrays are (n, ...), such as (n, 768)")
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        values = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise UserError(f"{where}: row {row} has values that are not finite in float32")
    return values


def fingerprint(source: Source) -> str:
    """Return the SHA-256 of class names, labels, shapes and values of arrays."""
    digest = hashlib.sha256(json.dumps(["arrays", *source.class_names]).encode())
    for split in source.splits.values():
        assert isinstance(split.images, FloatArrays)
        values = split.images.values
        digest.update(np.asarray([values.ndim, *values.shape], dtype="<i8").tobytes())
        digest.update(split.labels.astype("<i8").tobytes())
        digest.update(values.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def check_shapes(images: Mapping[str, Images], where: object) -> None:
    """Refuse splits whose rows have other shapes than those of the training split.

    Args:
        images: Images or float arrays of each split, by its name.
        where: Name of the data, for the message.

    Raises:
        UserError: Shapes differ, or one split holds images and another one arrays.
    """
    wanted = _shape(images["train"])
    for split, part in images.items():
        if (shape := _shape(part)) != wanted:
            raise UserError(
                f"{where}: rows for {SPLIT_ADJECTIVES.get(split, split)} are {_described(shape)}, "
                f"and those for training {_described(wanted)}"
            )


def _shape(images: Images) -> tuple[int, ...] | None:
    """Return the shape of the rows of arrays; None for images."""
    return images.values.shape[1:] if isinstance(images, FloatArrays) else None


def _described(shape: tuple[int, ...] | None) -> str:
    return "images" if shape is None else f"arrays of shape {shape}"


def is_numpy(path: Path) -> bool:
    """Return whether a path is a NumPy archive, or a folder of NumPy files with a training set."""
    if path.suffix == ".npz":
        return path.is_file()
    return path.is_dir() and any(
        file.suffix == ".npy" and file.stem.lower() in _names("train") for file in path.iterdir()
    )


def read_numpy(path: Path) -> tuple[Mapping[str, Any], Sequence[str] | None]:
    """Return the splits of a NumPy archive or of a folder, and class names if it has any.

    Its arrays are named ``x_train``, ``y_train``, ``x_test``, ``y_test`` and perhaps ``x_val``,
    ``y_val``; or ``train_images``, ``train_labels`` and so on, also with ``arrays``, ``features``
    or ``embeddings`` in place of ``images``; or ``train``, ``train_labels`` and so on.

    Raises:
        UserError: A file cannot be read, there is no training set, or a split has no labels.
    """
    held = _held(path)
    splits: dict[str, Any] = {}
    for split, spellings in _SPELLINGS.items():
        found = [name for name in _names(split) if name in held]
        if len(found) > 1:
            raise UserError(f"{path} has {' and '.join(found)} for {split}: keep one")
        if found:
            wanted = [
                f"y_{own}" if found[0].startswith("x_") else f"{own}_labels" for own in spellings
            ]
            labels = next((name for name in wanted if name in held), None)
            if labels is None:
                raise UserError(f"{path} has {found[0]}, but no labels for it: add {wanted[0]}")
            splits[split] = held[found[0]], _column(held[labels])
    if "train" not in splits:
        names = ", ".join(sorted(held)[:6]) or "nothing"
        raise UserError(
            f"{path} holds {names}; name the arrays x_train, y_train, x_test, y_test, and x_val, "
            "y_val if there is validation"
        )
    return splits, [str(name) for name in held[_NAMES]] if _NAMES in held else None


def _names(split: str) -> list[str]:
    """Return the possible names of the arrays of a split, without labels."""
    return [
        name
        for own in _SPELLINGS[split]
        for name in (f"x_{own}", own, *(f"{own}_{what}" for what in _INPUTS))
    ]


def _held(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive or of the files of a folder, by name in lower case."""
    kind, file = "archive", path
    try:
        if not path.is_dir():
            with np.load(path, allow_pickle=False) as archive:
                return {name.lower(): archive[name] for name in archive.files}
        kind, held = "file", {}
        for file in sorted(path.glob("*.npy")):
            if not is_ignored(file.name):
                held[file.stem.lower()] = np.load(file, allow_pickle=False)
        return held
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = first_line(error)
        if "pickle" in reason:  # NumPy takes any other file for one, and proposes to load it
            reason = "it is damaged, of another format, or holds Python objects"
        raise UserError(f"{file} is not a NumPy {kind}: {reason}") from error


def _column(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels without a second dimension of one."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
