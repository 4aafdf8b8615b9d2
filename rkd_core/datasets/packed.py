"""Encoded images of a split, one after the other in one file, to be read in any order.

A row of a Parquet file cannot be read on its own, so sets that are streamed from Parquet are
unpacked once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.decode import BadImageError, open_image
from rkd_core.datasets.decoded import bad_image, in_threads
from rkd_core.datasets.sources import Encoded, Images
from rkd_core.errors import UserError

__all__ = ["PackedImages", "pack"]


@dataclass(frozen=True, eq=False)
class PackedImages:
    """The file, and int64 ``offsets`` ``(n + 1,)`` of the images in it."""

    path: Path
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, row: int) -> bytes:
        """One image's encoded bytes."""
        start, end = int(self.offsets[row]), int(self.offsets[row + 1])
        try:
            with self.path.open("rb") as file:
                return os.pread(file.fileno(), end - start, start)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error

    def describe(self, row: int) -> str:
        """File and row."""
        return f"{self.path} row {row}"


def pack(images: Images, stream: Iterable[Encoded], path: Path, skip: bool) -> list[int]:
    """Write a split's images to ``path`` and their offsets beside it.

    Args:
        images: For the place of an image in an error message.
        stream: The encoded images, in order.
        path: Of the packed file; the offsets get the suffix ``.offsets.npy``.
        skip: Decode each image to leave out those that cannot be; else only read its header.

    Returns:
        Rows that were left out.

    Raises:
        UserError: The header of an image cannot be read, and ``skip`` is not set.
    """

    def check(encoded: Encoded) -> tuple[Encoded, BadImageError | None]:
        try:
            open_image(encoded, 3 if skip else None)
        except BadImageError as error:
            return encoded, error
        return encoded, None

    offsets, bad, row = [0], [], 0
    with path.open("wb") as file:
        for chunk in in_threads(check, stream):
            for encoded, error in chunk:
                if error is None:
                    offsets.append(offsets[-1] + file.write(cast(bytes, encoded)))
                elif skip:
                    bad.append(row)
                else:
                    raise bad_image(images.describe(row), error)
                row += 1
    np.save(path.with_suffix(".offsets.npy"), np.asarray(offsets, dtype=np.int64))
    return bad
