"""Small pictures of test images, stored at the end of a sweep for its report."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.records import thumbnails
from rkd_core.storage.files import Location

__all__ = ["store"]

_SIDE = 64  # pixels
_EXACT = 32  # pixels up to which a picture is stored without loss


def store(out: Location, dataset: datasets.Dataset, images: Iterable[int]) -> None:
    """Store pictures of test images, given their rows in the original test split; none of arrays.

    The first ones are stored, as far as they fit; images that cannot be decoded are left out.

    Raises:
        OSError: They cannot be written.
    """
    if isinstance(dataset.test, datasets.ArraySet):
        return
    pictures: dict[int, bytes] = {}
    left = thumbnails.MOST_BYTES
    place = {int(image): row for row, image in enumerate(dataset.test_indices)}
    for image in images:
        try:
            picture = _picture(dataset.test, place[image])
        except (UserError, OSError, KeyError):
            continue
        left -= len(picture)
        if left < 0:
            break
        pictures[image] = picture
    thumbnails.write(out, pictures)


def _picture(test: datasets.ImageSet | datasets.StreamedImageSet, row: int) -> bytes:
    """Return an image as a PNG or JPEG file."""
    picture = Image.fromarray(_pixels(test, row))
    picture.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    if max(picture.size) <= _EXACT:
        picture.save(sink, "PNG")
    else:
        picture.save(sink, "JPEG", quality=80)
    return sink.getvalue()


def _pixels(test: datasets.ImageSet | datasets.StreamedImageSet, row: int) -> NDArray[np.uint8]:
    """Return an image in the shape that Pillow expects, without channels if it is gray."""
    pixels = test.images[row] if isinstance(test, datasets.ImageSet) else test.evaluation_view(row)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
