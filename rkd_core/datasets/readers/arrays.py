"""Float arrays of any shape in memory, and sets of them in NumPy archives."""

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

from rkd_core.datasets.readers.base import SPLIT_ADJECTIVES, Encoded, Source
from rkd_core.errors import UserError, first_line

__all__ = ["FloatArrays", "fingerprint", "is_surely_array", "read_archive", "values_of"]

_KEYS = {
    split: (
        (f"x_{split}", f"y_{split}"),
        *(
            (f"{split}_{name}", f"{split}_labels")
            for name in ("images", "arrays", "features", "embeddings")
        ),
    )
    for split in SPLIT_ADJECTIVES
}
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


def read_archive(path: Path) -> tuple[Mapping[str, Any], Sequence[str] | None]:
    """Return the splits of a NumPy archive, and its class names if it has any.

    Its arrays are named ``x_train``, ``y_train``, ``x_test``, ``y_test`` and perhaps ``x_val``,
    ``y_val``; or ``train_images``, ``train_labels`` and so on, also with ``arrays``, ``features``
    or ``embeddings`` in place of ``images``.

    Raises:
        UserError: The file is not such an archive.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a NumPy archive: {first_line(error)}") from error
    splits = {
        split: (held[inputs], _column(held[labels]))
        for split, keys in _KEYS.items()
        for inputs, labels in keys
        if inputs in held and labels in held
    }
    if "train" not in splits:
        names = ", ".join(sorted(held)[:6]) or "nothing"
        raise UserError(
            f"{path} holds {names}; name the arrays x_train, y_train, x_test, y_test, and x_val, "
            "y_val if there is validation"
        )
    return splits, [str(name) for name in held[_NAMES]] if _NAMES in held else None


def _column(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels without a second dimension of one."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
