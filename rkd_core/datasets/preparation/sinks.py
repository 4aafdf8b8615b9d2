"""Where decoded images go as they come: into memory, or into a ``.npy`` file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArraySink", "FileSink", "OpenSink", "Sink"]


class Sink(Protocol):
    """Takes decoded images, uint8 ``(k, height, width, channels)``, in order."""

    def append(self, images: NDArray[np.uint8]) -> None:
        """Add some."""
        ...

    def close(self) -> NDArray[np.uint8]:
        """All that was added."""
        ...


OpenSink = Callable[[str, int, tuple[int, ...]], Sink]
"""Makes a sink for a split, given the most images that may come and the shape of each."""


class ArraySink:
    """Keeps the images in memory."""

    def __init__(self, split: str, count: int, shape: tuple[int, ...]) -> None:
        self._array = np.empty((count, *shape), dtype=np.uint8)
        self._filled = 0

    def append(self, images: NDArray[np.uint8]) -> None:
        """Copy them in."""
        self._array[self._filled : self._filled + len(images)] = images
        self._filled += len(images)

    def close(self) -> NDArray[np.uint8]:
        """The part that was filled."""
        return self._array[: self._filled]


class FileSink:
    """Writes the images to ``<folder>/<split>.npy``.

    They are written in order rather than through a memory map, because on a full disk a write
    fails with an error, where a memory map ends the process.
    """

    def __init__(self, folder: Path, split: str, count: int, shape: tuple[int, ...]) -> None:
        self._path = folder / f"{split}.npy"
        self._count, self._shape = count, shape
        self._filled = 0
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        with self._path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            self._start = file.tell()

    def append(self, images: NDArray[np.uint8]) -> None:
        """Write them."""
        with self._path.open("ab") as file:
            file.write(images.tobytes())
        self._filled += len(images)

    def close(self) -> NDArray[np.uint8]:
        """The file, memory-mapped; written anew if fewer came than the header promises."""
        if self._filled < self._count:
            shape = (self._filled, *self._shape)
            shorter = self._path.with_suffix(".shorter.npy")
            np.save(shorter, np.memmap(self._path, np.uint8, "r", self._start, shape))
            shorter.replace(self._path)
        array: NDArray[np.uint8] = np.load(self._path, mmap_mode="r")
        return array
