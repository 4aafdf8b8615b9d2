"""The embedded default: scikit-learn's 1,797 real handwritten digits, 8x8 grey, 10 classes.

From the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak, 1998).
"""

from __future__ import annotations

import numpy as np

from rkd_core.datasets.sources import ArrayImages, Source, Split
from rkd_core.datasets.splits import pick

__all__ = ["read"]

TRAIN_PER_CLASS = 100


def read() -> Source:
    """100 training images of each class by a fixed seed; the other 797 are the test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    chosen = pick(labels, [TRAIN_PER_CLASS] * 10, seed=0)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return Source(
        tuple("0123456789"),
        Split(ArrayImages(pixels[chosen], "digits train"), labels[chosen]),
        Split(ArrayImages(pixels[rest], "digits test"), labels[rest]),
    )
