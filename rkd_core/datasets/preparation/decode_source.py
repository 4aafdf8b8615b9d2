"""Decoding of a whole source to one uint8 array per split, in memory or in ``.npy`` files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.preparation.decode_image import (
    BadImageError,
    Traits,
    decode_image,
    is_gray,
    open_image,
    pillow,
    traits,
)
from rkd_core.datasets.preparation.fingerprint import Fingerprint
from rkd_core.datasets.preparation.pixel_scales import AS_THEY_ARE, Decoding, Tally, decide
from rkd_core.datasets.preparation.survey import bad_image, deep_values, in_threads, is_constant
from rkd_core.datasets.readers.base import Encoded, Images, Source
from rkd_core.errors import UserError

__all__ = ["ArraySink", "Decoded", "FileSink", "OpenSink", "Sink", "decode_source"]


@dataclass(frozen=True)
class Decoded:
    """A decoded source.

    Attributes:
        images: Pixels of each split by its name, uint8 ``(n, height, width, channels)``.
        labels: Labels of each split by its name, int64 ``(n,)``.
        skipped: Rows of the source that were left out, by split.
        fingerprint: Fingerprint of the content, see ``fingerprint``.
        decoding: Rules of decoding, and counts.
    """

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]
    skipped: dict[str, list[int]]
    fingerprint: str
    decoding: Decoding


class Sink(Protocol):
    """Destination of decoded images, uint8 ``(k, height, width, channels)``, in order."""

    def append(self, images: NDArray[np.uint8]) -> None:
        """Add images."""
        ...

    def close(self) -> NDArray[np.uint8]:
        """Return all images."""
        ...


OpenSink = Callable[[str, int, tuple[int, ...]], Sink]
"""Function that returns a sink, given a split, its largest number of images and their shape."""


class ArraySink:
    """Images in memory."""

    def __init__(self, split: str, count: int, shape: tuple[int, ...]) -> None:
        self._array = np.empty((count, *shape), dtype=np.uint8)
        self._filled = 0

    def append(self, images: NDArray[np.uint8]) -> None:
        """Copy images into the array."""
        self._array[self._filled : self._filled + len(images)] = images
        self._filled += len(images)

    def close(self) -> NDArray[np.uint8]:
        """Return the filled part."""
        return self._array[: self._filled]


class FileSink:
    """Images in the file ``<folder>/<split>.npy``.

    They are written in order rather than through a memory map: on a full disk, a write raises an
    error, but a memory map ends the process.
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
        """Write images to the file."""
        with self._path.open("ab") as file:
            file.write(images.tobytes())
        self._filled += len(images)

    def close(self) -> NDArray[np.uint8]:
        """Return the file, memory-mapped, after shortening it to the images that were appended."""
        if self._filled < self._count:
            shape = (self._filled, *self._shape)
            shorter = self._path.with_suffix(".shorter.npy")
            np.save(shorter, np.memmap(self._path, np.uint8, "r", self._start, shape))
            shorter.replace(self._path)
        array: NDArray[np.uint8] = np.load(self._path, mmap_mode="r")
        return array


def decode_source(source: Source, side: int | None, skip: bool, open_sink: OpenSink) -> Decoded:
    """Decode all splits: to 1 channel if every image is gray, else to 3.

    Args:
        source: Source to decode.
        side: Resize and center-crop to a square of this side; None if all images have one size.
        skip: Leave out images that cannot be decoded, rather than stop.
        open_sink: Function that opens the sink of a split.

    Raises:
        UserError: An image cannot be decoded, or sizes differ and no side is given.
    """
    channels, decided = 1, None
    while True:
        try:
            return _Pass(side, skip, channels, decided).run(source, open_sink)
        except _ColorFound:
            channels = 3
        except _DeepFound:
            decided = decide(deep_values(source.train, skip))


class _ColorFound(Exception):  # noqa: N818 - a signal to start over, not an error
    """Signal of a color image in a source that was assumed to be gray."""


class _DeepFound(Exception):  # noqa: N818 - a signal to start over, not an error
    """Signal of an image of more than 8 bits before the scale of the source was determined."""


class _Image(NamedTuple):
    """A decoded image, uint8 ``(height, width, channels)``, and its traits."""

    pixels: NDArray[np.uint8]
    traits: Traits | None
    constant: bool


class _Pass:
    """One pass over a source, with the properties that all images must share."""

    def __init__(
        self, side: int | None, skip: bool, channels: int, decided: Decoding | None
    ) -> None:
        self._side, self._skip, self._channels = side, skip, channels
        self._decided = decided
        self._first: tuple[str, tuple[int, ...]] | None = None
        self._tally = Tally()

    def run(self, source: Source, open_sink: OpenSink) -> Decoded:
        fingerprint = Fingerprint(source.class_names)
        images: dict[str, NDArray[np.uint8]] = {}
        labels: dict[str, NDArray[np.int64]] = {}
        skipped: dict[str, list[int]] = {}
        for name, split in source.splits.items():
            stream = fingerprint.reading(split)
            images[name], skipped[name] = self._split(name, split.images, stream, open_sink)
            labels[name] = np.delete(split.labels, skipped[name])
            if name == "train":
                self._tally.check_color(split.images.describe(0))
        decoding = self._tally.counted(self._decided or AS_THEY_ARE)
        value = fingerprint.value(skipped, decoding.changes())
        return Decoded(images, labels, skipped, value, decoding)

    def _split(
        self, name: str, images: Images, stream: Iterator[Encoded], open_sink: OpenSink
    ) -> tuple[NDArray[np.uint8], list[int]]:
        sink: Sink | None = None
        bad: list[int] = []
        row = 0
        for chunk in in_threads(self._one, stream):
            good: list[NDArray[np.uint8]] = []
            for result in chunk:
                if isinstance(result, _ColorFound | _DeepFound):
                    raise result
                if isinstance(result, _Image):
                    self._check_size(result.pixels, images, row)
                    self._count(result, images, row)
                    good.append(result.pixels)
                elif self._skip:
                    bad.append(row)
                else:
                    raise bad_image(images.describe(row), result)
                row += 1
            if good:
                sink = sink or open_sink(name, len(images), good[0].shape)
                sink.append(np.stack(good))
        if sink is None:
            raise UserError(f"{images.describe(0)} and the other {name} images are all undecodable")
        return sink.close(), bad

    def _one(self, encoded: Encoded) -> _Image | BadImageError | _ColorFound | _DeepFound:
        """Decode an image; called in a thread."""
        found = None
        try:
            image = open_image(encoded)
            if self._channels == 1 and not is_gray(image):
                return _ColorFound()
            if isinstance(encoded, bytes):
                if self._decided is None and pillow().is_deep(image):
                    return _DeepFound()
                found = traits(image)
            elif self._side is None:
                array = encoded if encoded.shape[2] == self._channels else encoded.repeat(3, axis=2)
                return _Image(array, None, is_constant(array))
            image = decode_image(image, self._channels, (self._decided or AS_THEY_ARE).scales)
        except BadImageError as error:
            return error
        preprocess = pillow()
        array = preprocess.pixels(
            image if self._side is None else preprocess.center_crop(image, self._side)
        )
        return _Image(array, found, is_constant(array))

    def _count(self, image: _Image, images: Images, row: int) -> None:
        self._tally.add_checked(image.constant, images.describe(row) if image.constant else "")
        if image.traits is not None:
            self._tally.add(image.traits)

    def _check_size(self, image: NDArray[np.uint8], images: Images, row: int) -> None:
        if self._first is None:
            self._first = (images.describe(row), image.shape)
        where, shape = self._first
        if image.shape != shape:
            raise UserError(
                f"images differ in size: {where} is {shape[1]} x {shape[0]}, "
                f"{images.describe(row)} is {image.shape[1]} x {image.shape[0]}; "
                "give `image_size` N to resize and crop them all to N x N"
            )
