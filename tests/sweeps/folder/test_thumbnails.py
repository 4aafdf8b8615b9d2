"""Small pictures of test images: their size, their format, and what is left out."""

import dataclasses
import io

import numpy as np
from PIL import Image

from rkd_core.datasets import ImageSet
from rkd_core.records import thumbnails
from sweeps.folder.thumbnails import store
from tests.rkd_core.training.test_loop import colourful


def decoded(content):
    return Image.open(io.BytesIO(content))


def with_test_images(side, channels, count=6):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, channels))
    test = ImageSet(pixels.astype(np.uint8), np.zeros(count, np.int64))
    return dataclasses.replace(colourful(), test=test, test_indices=10 * np.arange(count))


def test_small_images_are_stored_exactly(tmp_path):
    for channels in (1, 3):
        data = with_test_images(12, channels)
        store(tmp_path, data, [30, 0, 7])  # 7 is no image of this test set
        found = thumbnails.read(tmp_path)
        assert list(found) == [30, 0]
        pixels = np.asarray(decoded(found[30])).reshape(12, 12, channels)
        assert (pixels == data.test.images[3]).all()


def test_large_images_are_reduced(tmp_path):
    store(tmp_path, with_test_images(200, 3), [10])
    picture = decoded(thumbnails.read(tmp_path)[10])
    assert picture.size == (64, 64)
    assert picture.format == "JPEG"


def test_the_first_ones_that_fit_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 1_200)
    store(tmp_path, with_test_images(12, 3), [10, 20, 30, 40])
    found = thumbnails.read(tmp_path)
    assert list(found) == [10, 20]
    assert sum(map(len, found.values())) <= 1_200


def test_without_a_file_there_are_none(tmp_path):
    assert thumbnails.read(tmp_path) == {}
