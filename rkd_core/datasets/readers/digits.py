"""Reader of scikit-learn's 1,797 handwritten digits: 8x8 gray images of 10 classes.

The data are the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak,
1998).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import ImagesInMemory, Source, Split
from rkd_core.datasets.splits import pick

__all__ = ["read"]

TRAIN_PER_CLASS = 100


def read() -> Source:
    """Return 100 training images per class, drawn with a fixed seed, and 797 test images."""
    levels, labels = _table()
    pixels = np.rint(levels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    chosen = pick(labels, [TRAIN_PER_CLASS] * 10, seed=0)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    return Source(
        tuple("0123456789"),
        Split(ImagesInMemory(pixels[chosen], "digits train"), labels[chosen]),
        Split(ImagesInMemory(pixels[rest], "digits test"), labels[rest]),
    )


def _table() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return levels from 0 to 16, ``(1797, 64)``, and labels ``(1797,)``.

    They are read from scikit-learn's data file, because importing scikit-learn takes a second.
    """
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # the file of this release is elsewhere

    bunch = load_digits()
    return bunch.data, bunch.target.astype(np.int64)
