"""File of the concatenated encoded images of a split, for random access.

Single rows of a Parquet file cannot be read, so sets that are streamed from Parquet are unpacked
once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import Encoded
from rkd_core.errors import UserError

__all__ = ["PackedImages", "pack"]


@dataclass(frozen=True, eq=False)
class PackedImages:
    """Images in a packed file.

    Attributes:
        path: The file.
        offsets: int64 ``(n + 1,)``, start of each image in the file, and the size of the file.
    """

    path: Path
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image."""
        start, end = int(self.offsets[row]), int(self.offsets[row + 1])
        try:
            with self.path.open("rb") as file:
                return os.pread(file.fileno(), end - start, start)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error

    def describe(self, row: int) -> str:
        """Return the file and row of an image, for messages."""
        return f"{self.path} row {row}"


def pack(stream: Iterable[Encoded], path: Path, skipped: Sequence[int]) -> None:
    """Write the images of a split to ``path`` and their offsets to a file next to it.

    Args:
        stream: The encoded images, in order.
        path: Path of the packed file; the offsets get the suffix ``.offsets.npy``.
        skipped: Rows to leave out.
    """
    left_out, offsets = set(skipped), [0]
    with path.open("wb") as file:
        for row, encoded in enumerate(stream):
            if row not in left_out:
                offsets.append(offsets[-1] + file.write(cast(bytes, encoded)))
    np.save(path.with_suffix(".offsets.npy"), np.asarray(offsets, dtype=np.int64))
