"""Passes over encoded images that determine how they are decoded."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.preparation.decode_image import (
    NO_SCALES,
    BadImageError,
    Traits,
    Values,
    check_fit,
    decode_image,
    open_image,
    pillow,
    traits,
)
from rkd_core.datasets.preparation.pixel_scales import Decoding, Tally, decide
from rkd_core.datasets.readers.base import Encoded, Images, Source, Split, spread
from rkd_core.device.hardware import cpu_count
from rkd_core.errors import UserError

__all__ = ["bad_image", "deep_values", "in_threads", "is_constant", "parallelism", "survey"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 64

SAMPLE = 256
"""Number of images that are checked for being constant if not all images are decoded."""


def parallelism() -> int:
    """Return the number of threads or processes for decoding: usable cores, at most 8."""
    return min(8, cpu_count())


def in_threads(function: Callable[[Encoded], T], items: Iterable[Encoded]) -> Iterator[list[T]]:
    """Apply a function in threads and yield its results in order, in chunks.

    Pillow releases the interpreter lock while it decodes. Only a few chunks are processed at a
    time, so that memory use does not grow with the source.
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
    """Return the error for an image that cannot be decoded."""
    return UserError(
        f"{where} cannot be decoded: {reason}; repair it, or give `skip_bad_images` to leave it out"
    )


def is_constant(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all pixels ``(height, width, channels)`` are equal."""
    height, width, _ = pixels.shape
    first = pixels[0, 0]
    if (pixels[height // 2, width // 2] != first).any():  # fast path for nearly all images
        return False
    return bool((pixels == first).all())


def deep_values(split: Split, skip: bool) -> list[Values]:
    """Return the values of the deep gray images of a split; other images are not decoded.

    Args:
        split: The training split.
        skip: Whether to skip images that cannot be decoded.

    Raises:
        UserError: An image cannot be decoded.
    """

    def values(encoded: Encoded) -> Values | BadImageError | None:
        try:
            image = open_image(encoded)
            return traits(image).values if pillow().is_deep(image) else None
        except BadImageError as error:
            return error

    results = itertools.chain.from_iterable(in_threads(values, split.images))
    found = []
    for row, result in enumerate(results):
        if isinstance(result, Values):
            found.append(result)
        elif result is not None and not skip:
            raise bad_image(split.images.describe(row), result)
    return found


def survey(
    source: Source,
    skip: bool,
    channels: int,
    read: Callable[[Split], Iterable[Encoded]] = lambda split: split.images,
) -> tuple[Decoding, dict[str, list[int]]]:
    """Inspect every image of a source that is too large to decode in advance.

    For a JPEG file, only the header is read unless undecodable images are to be left out.

    Args:
        source: A source of encoded files.
        skip: Leave out images that cannot be decoded, rather than stop.
        channels: 1 if all images of a sample are gray, else 3.
        read: Function that returns the images of a split, in order.

    Returns:
        The decoding of the images, and the rows of each split that are left out.

    Raises:
        UserError: An image cannot be decoded, or its values fit no scale.
    """
    logger.info(
        "inspecting %d images once", sum(len(split.labels) for split in source.splits.values())
    )

    def inspect(encoded: Encoded) -> Traits | BadImageError:
        try:
            image = open_image(encoded)
            found = traits(image)
            if skip and found.values is None:
                decode_image(image, 3, NO_SCALES)
        except BadImageError as error:
            return error
        return found

    tally = Tally()
    bad: dict[str, list[int]] = {}
    deep: dict[str, dict[int, Values]] = {}
    for name, split in source.splits.items():
        bad[name], deep[name] = [], {}
        results = itertools.chain.from_iterable(in_threads(inspect, read(split)))
        for row, result in enumerate(results):
            if isinstance(result, BadImageError):
                _leave_out(split.images, row, result, skip, bad[name])
                continue
            tally.add(result)
            tally.late_color += channels == 1 and not result.gray
            if result.values is not None:
                deep[name][row] = result.values
        if name == "train":
            tally.check_color(split.images.describe(0))
    decided = decide([*deep["train"].values()])
    for name, split in source.splits.items():
        for row, values in deep[name].items():
            try:
                check_fit(values, decided.scales)
            except BadImageError as error:
                _leave_out(split.images, row, error, skip, bad[name])
    _sample_constant(source.train, decided, 3 if tally.late_color else channels, tally)
    return tally.counted(decided), {name: sorted(rows) for name, rows in bad.items()}


def _leave_out(images: Images, row: int, error: BadImageError, skip: bool, rows: list[int]) -> None:
    if not skip:
        raise bad_image(images.describe(row), error)
    rows.append(row)


def _sample_constant(split: Split, decided: Decoding, channels: int, tally: Tally) -> None:
    """Count the constant images in an evenly spaced sample."""
    rows = spread(len(split.labels), SAMPLE).tolist()
    for row, encoded in zip(rows, split.images.sample(SAMPLE), strict=True):
        try:
            image = decode_image(open_image(encoded), channels, decided.scales)
        except BadImageError:
            continue
        tally.add_checked(is_constant(pillow().pixels(image)), split.images.describe(row))
