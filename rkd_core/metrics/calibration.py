"""Per-class calibration error of Theorem 2 of Wang et al. (UAI 2023), estimated with bins.

Among other terms, Theorem 2 bounds the robust risk of a student by the error
``max over y of E |p_y(x) / pi_y(p) - eta_y(x) / pi_y|`` of its teacher's probabilities p, where
``pi_y(p) = E p_y(x)`` and eta are the true class probabilities. Scaling p_y by a constant per class
does not change this error: it measures the ranking within a class, not the level.

eta is unknown and is estimated with bins of images of similar p_y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BINS", "Bins", "errors", "fill_bins", "noise_floor"]

BINS = 15
"""Number of bins per class, with equal numbers of images."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bins:
    """Images binned by the predicted probability of a class, for each class.

    Attributes:
        images: Number of images, int64 ``(classes, bins)``; equal across bins up to rounding.
        positives: Number of images whose label is the class, int64 ``(classes, bins)``.
        probability: Mean probability of the class, float64 ``(classes, bins)``; 0 in an empty bin.
    """

    images: IntArray
    positives: IntArray
    probability: FloatArray


def fill_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Bins:
    """Sort images into bins for each class.

    Args:
        probabilities: Predicted probabilities, ``(n, classes)``.
        labels: True labels, integers ``(n,)``.
        bins: Number of bins; reduced to the number of images if there are fewer images.
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
    """Estimate ``E |p_y / pi_y(p) - eta_y / pi_y|`` from bins.

    The estimate is biased downward, because errors within a bin cancel (Jensen's inequality), and
    upward, because the observed frequencies are noisy; see :func:`noise_floor`.

    Returns:
        float64 ``(classes,)`` in [0, 2]; NaN for a class without images or with probability 0
        for all images.
    """
    return _errors(bins.images, bins.positives, bins.probability)


def noise_floor(bins: Bins, draws: int = 200, seed: int = 0) -> FloatArray:
    """Return the expectation of :func:`errors` for a perfect ranking within each class.

    It is estimated by resampling labels: the positives of a class are distributed over its bins
    in proportion to the probability mass of the bins.

    Args:
        bins: Bins from :func:`fill_bins`.
        draws: Number of resamplings.
        seed: Seed of the resampling.

    Returns:
        float64 ``(classes,)``; NaN as for :func:`errors`.
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
    """Return the error of each row of arrays ``(rows, bins)``."""
    n = images.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        predicted = images * probability / (images * probability).sum(axis=1, keepdims=True)
        present = positives / positives.sum(axis=1, keepdims=True)
    found: FloatArray = np.where(n[:, 0] > 0, np.abs(predicted - present).sum(axis=1), np.nan)
    return found
