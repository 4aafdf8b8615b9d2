"""A whole source: every image decoded once, to one uint8 array per split."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.decode import BadImageError, center_crop, is_grey, open_image, pixels
from rkd_core.datasets.fingerprint import Fingerprint
from rkd_core.datasets.sinks import OpenSink, Sink
from rkd_core.datasets.sources import Encoded, Images, Source
from rkd_core.errors import UserError
from rkd_core.hardware import cpu_count

__all__ = ["Decoded", "bad_image", "decode_source", "in_threads", "is_decodable", "parallelism"]

T = TypeVar("T")

CHUNK = 64


@dataclass(frozen=True)
class Decoded:
    """A decoded source.

    Attributes:
        images: Of ``train`` and ``test``, uint8 ``(n, height, width, channels)``.
        labels: Of the same, int64 ``(n,)``.
        skipped: Of the same, rows of the source that were left out.
        fingerprint: Of the content, see ``fingerprint``.
    """

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]
    skipped: dict[str, list[int]]
    fingerprint: str


def decode_source(source: Source, side: int | None, skip: bool, open_sink: OpenSink) -> Decoded:
    """Decode both splits: to 1 channel if every image is grey, else to 3.

    Args:
        source: What to decode.
        side: Resize and centre-crop to a square of this side; None if all images have one size.
        skip: Leave out images that cannot be decoded, rather than stop.
        open_sink: Where the pixels go.

    Raises:
        UserError: An image cannot be decoded, or sizes differ and no side is given.
    """
    try:
        return _Decoding(side, skip, 1).run(source, open_sink)
    except _ColorFound:
        return _Decoding(side, skip, 3).run(source, open_sink)


def parallelism() -> int:
    """Threads or processes to decode with: the cores this process may use, at most 8."""
    return min(8, cpu_count())


def in_threads(function: Callable[[Encoded], T], items: Iterable[Encoded]) -> Iterator[list[T]]:
    """Apply a function in threads (Pillow decodes outside the interpreter lock), in order.

    Only a few chunks are in flight, so that memory does not grow with the source.
    """

    def apply(chunk: list[Encoded]) -> list[T]:
        return [function(item) for item in chunk]

    iterator = iter(items)
    pending: deque[Future[list[T]]] = deque()
    threads = parallelism()
    with ThreadPoolExecutor(threads) as pool:
        try:
            while chunk := list(itertools.islice(iterator, CHUNK)):
                pending.append(pool.submit(apply, chunk))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def bad_image(where: str, reason: object) -> UserError:
    """The error for an image that cannot be decoded."""
    return UserError(
        f"{where} cannot be decoded: {reason}; mend it, or pass --skip-bad-images to leave it out"
    )


def is_decodable(encoded: Encoded) -> bool:
    """Whether an image can be decoded to its end."""
    try:
        open_image(encoded, 3)
    except BadImageError:
        return False
    return True


class _ColorFound(Exception):  # noqa: N818 - a signal to start over, not an error
    """An image with color turned up in what was taken for a grey source."""


class _Decoding:
    """One pass over a source, with what the images must have in common."""

    def __init__(self, side: int | None, skip: bool, channels: int) -> None:
        self._side, self._skip, self._channels = side, skip, channels
        self._first: tuple[str, tuple[int, ...]] | None = None

    def run(self, source: Source, open_sink: OpenSink) -> Decoded:
        fingerprint = Fingerprint(source.class_names)
        images: dict[str, NDArray[np.uint8]] = {}
        labels: dict[str, NDArray[np.int64]] = {}
        skipped: dict[str, list[int]] = {}
        for name, split in (("train", source.train), ("test", source.test)):
            stream = fingerprint.reading(split)
            images[name], skipped[name] = self._split(name, split.images, stream, open_sink)
            labels[name] = np.delete(split.labels, skipped[name])
        return Decoded(images, labels, skipped, fingerprint.value(skipped))

    def _split(
        self, name: str, images: Images, stream: Iterator[Encoded], open_sink: OpenSink
    ) -> tuple[NDArray[np.uint8], list[int]]:
        sink: Sink | None = None
        bad: list[int] = []
        row = 0
        for chunk in in_threads(self._one, stream):
            good: list[NDArray[np.uint8]] = []
            for result in chunk:
                if isinstance(result, _ColorFound):
                    raise result
                if isinstance(result, np.ndarray):
                    self._check_size(result, images, row)
                    good.append(result)
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

    def _one(self, encoded: Encoded) -> NDArray[np.uint8] | BadImageError | _ColorFound:
        """Runs in a thread."""
        try:
            if self._channels == 1 and not is_grey(open_image(encoded)):
                return _ColorFound()
            if self._side is None and isinstance(encoded, np.ndarray):
                return encoded if encoded.shape[2] == self._channels else encoded.repeat(3, axis=2)
            image = open_image(encoded, self._channels)
        except BadImageError as error:
            return error
        return pixels(image if self._side is None else center_crop(image, self._side))

    def _check_size(self, image: NDArray[np.uint8], images: Images, row: int) -> None:
        if self._first is None:
            self._first = (images.describe(row), image.shape)
        where, shape = self._first
        if image.shape != shape:
            raise UserError(
                f"images differ in size: {where} is {shape[1]} x {shape[0]}, "
                f"{images.describe(row)} is {image.shape[1]} x {image.shape[0]}; "
                "pass --image-size N to resize and crop them all to N x N"
            )
