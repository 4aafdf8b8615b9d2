"""How well probabilities rank within each class: the calibration error of Theorem 2.

Wang et al. (UAI 2023, Theorem 2) bound the robust risk of a student by, among others, the error
``max over y of E |p_y(x) / pi_y(p) - eta_y(x) / pi_y|`` of its teacher's probabilities p, where
``pi_y(p) = E p_y(x)`` and eta are the true class probabilities. A factor for each class costs
nothing: what counts is the order within a class, not the level.

eta is not known, so it is estimated by bins: images of about equal p_y are taken together. Numpy
alone, so that analysis can use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "Bins", "errors", "fill_bins", "noise_floor"]

BINS = 15
"""Bins of each class, of equally many images."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bins:
    """Images in bins by the probability of a class, for each class.

    Attributes:
        images: int64 ``(classes, bins)``; equal but for rounding.
        positives: Those of them that are of the class, int64 ``(classes, bins)``.
        probability: Mean probability of the class, float64 ``(classes, bins)``; 0 in an empty bin.
    """

    images: IntArray
    positives: IntArray
    probability: FloatArray


def fill_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Bins:
    """Sort images into bins, class by class.

    Args:
        probabilities: ``(n, classes)``.
        labels: Integers ``(n,)``.
        bins: How many; where there are fewer images, each has one of its own.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    edges = np.linspace(0, len(p), min(bins, max(len(p), 1)) + 1).round().astype(np.int64)
    sizes, starts = np.diff(edges), edges[:-1]
    order = np.argsort(p, axis=0, kind="stable")
    total = np.add.reduceat(np.take_along_axis(p, order, axis=0), starts, axis=0)
    hits = (y[order] == np.arange(p.shape[1])).astype(np.int64)
    positives = np.add.reduceat(hits, starts, axis=0)
    images = np.broadcast_to(sizes, (p.shape[1], len(sizes)))
    return Bins(images.astype(np.int64), positives.T, total.T / sizes)


def errors(bins: Bins) -> FloatArray:
    """Binned estimate of ``E |p_y / pi_y(p) - eta_y / pi_y|``, float64 ``(classes,)`` in [0, 2].

    The distribution is that of the images. It is biased: down, for within a bin errors cancel
    (Jensen), and up, for the frequencies are noisy; see :func:`noise_floor`. NaN for a class
    without images, or of probability 0 everywhere.
    """
    return _errors(bins.images, bins.positives, bins.probability)


def noise_floor(bins: Bins, draws: int = 200, seed: int = 0) -> FloatArray:
    """What :func:`errors` would be on average if the order within each class were perfect.

    Labels are drawn anew: the positives of a class fall into its bins in proportion to their
    probabilities, as many as there are. Float64 ``(classes,)``.
    """
    random = np.random.default_rng(seed)
    mass = bins.images * bins.probability
    sums = mass.sum(axis=1, keepdims=True)
    shares = np.divide(mass, sums, out=np.full(mass.shape, np.nan), where=sums > 0)
    found = np.full(len(mass), np.nan)
    for label in np.flatnonzero(bins.positives.sum(axis=1) * sums[:, 0] > 0):
        drawn = random.multinomial(bins.positives[label].sum(), shares[label], size=draws)
        images = np.broadcast_to(bins.images[label], drawn.shape)
        probability = np.broadcast_to(bins.probability[label], drawn.shape)
        found[label] = _errors(images, drawn, probability).mean()
    return found


def _errors(images: IntArray, positives: IntArray, probability: FloatArray) -> FloatArray:
    """Of rows ``(rows, bins)``."""
    n = images.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        predicted = images * probability / (images * probability).sum(axis=1, keepdims=True)
        present = positives / positives.sum(axis=1, keepdims=True)
    found: FloatArray = np.where(n[:, 0] > 0, np.abs(predicted - present).sum(axis=1), np.nan)
    return found
