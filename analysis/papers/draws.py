"""Draws of a test accuracy over other test images, which seeds share, and over other seeds.

All seeds of a model are tested on the same images, so more seeds reduce only the noise of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

__all__ = ["DRAWS", "Measure", "deviates", "least_error", "recalls_at", "recalls_near", "resampled"]

FloatArray = NDArray[np.float64]

DRAWS = 1000
_ONE_SIGMA = float(ndtr(-1)), float(ndtr(1))


@dataclass(frozen=True, eq=False)
class Measure:
    """A figure of a model, or a difference between two models, with its draws.

    Attributes:
        by_seed: The figure of each seed.
        images: Draws of the mean over these seeds on other images, ``(DRAWS,)``.
        seeds: Draws of the deviation of the mean over other seeds, ``(DRAWS,)``.
        least: Lower bound of the error from images, see ``least_error``.
    """

    by_seed: Mapping[int, float]
    images: FloatArray
    seeds: FloatArray
    least: float = 0.0

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(np.mean(list(self.by_seed.values())))

    @property
    def draws(self) -> FloatArray:
        """Draws of the mean over other seeds and other images, ``(DRAWS,)``."""
        return self.images + self.seeds

    @property
    def error(self) -> float:
        """Standard error over seeds, combined with half the one-sigma range over images."""
        low, high = np.quantile(self.images, _ONE_SIGMA)
        values = np.array(list(self.by_seed.values()))
        over_seeds = values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else 0.0
        return math.hypot(max(float(high - low) / 2, self.least), float(over_seeds))

    def less(self, other: Measure) -> Measure:
        """Return the difference from a figure of the same seeds, seed by seed."""
        return Measure(
            {seed: value - other.by_seed[seed] for seed, value in self.by_seed.items()},
            self.images - other.images,
            self.seeds - other.seeds,
            math.hypot(self.least, other.least) if self is not other else 0.0,
        )


def deviates(random: np.random.Generator, classes: int) -> FloatArray:
    """Return normal deviates ``(DRAWS, classes)``, stratified per class: a Latin hypercube."""
    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    return np.asarray(ndtri(random.permuted(np.tile(levels, (classes, 1)), axis=1)).T)


def recalls_near(correct: ArrayLike, total: ArrayLike, deviates: ArrayLike) -> FloatArray:
    """Return draws of recalls for sums over classes; a single one may leave [0, 1].

    They are unbiased, with the unbiased variance ``p (1 - p) / (n - 1)``. Their standard deviation
    is at least half the width of Wilson's interval of one standard error, so that a class with all
    or no images correct still has noise.

    Args:
        correct: Correct predictions ``(classes,)``.
        total: Images ``(classes,)``; results are NaN where there are none.
        deviates: Normal, ``(..., classes)``.
    """
    c, n = (np.asarray(values, dtype=np.float64) for values in (correct, total))
    n = np.where(n > 0, n, np.nan)
    p = c / n
    error = np.fmax(np.sqrt(p * (1 - p) / np.maximum(n - 1, 1)), 0.5 / (n + 1))
    return np.asarray(p + error * np.asarray(deviates))


def recalls_at(correct: ArrayLike, total: ArrayLike, deviates: ArrayLike) -> FloatArray:
    """Return the recalls that lie a number of standard errors from the counted ones.

    For the deviates -z and z, they are the ends of Wilson's score interval (Wilson 1927). For
    normal deviates, they are draws that lie between 0 and 1 and vary even if all or no images are
    correct.

    Args:
        correct: Correct predictions ``(classes,)``.
        total: Images ``(classes,)``; results are NaN where there are none.
        deviates: Numbers of standard errors, ``(..., classes)``.
    """
    c, n, z = (np.asarray(values, dtype=np.float64) for values in (correct, total, deviates))
    n = np.where(n > 0, n, np.nan)
    p, square = c / n, z * z / n
    half = z * np.sqrt(p * (1 - p) / n + square / (4 * n))
    return np.asarray(np.clip((p + square / 2 + half) / (1 + square), 0, 1))


def least_error(correct: ArrayLike, total: ArrayLike, classes: int) -> float:
    """Return half the width of Wilson's interval of one standard error for a mean over classes.

    Among the classes with all or no images correct, those with the most images are used. If several
    classes are the worst, their draws are 0 together too often to show this error.
    """
    c, n = np.asarray(correct), np.asarray(total)
    whole = np.sort(n[(n > 0) & ((c == 0) | (c == n))])[-classes:]
    return 0.5 / (float(whole.sum()) + 1) if whole.size else 0.0


def resampled(values: ArrayLike, weights: FloatArray) -> FloatArray:
    """Return draws of the deviation of a mean over some seeds from that over all, ``(draws,)``.

    The variance of a resampled mean is (n - 1) / n times that of a mean of n seeds (Efron and
    Tibshirani 1993, section 5.3), so deviations are scaled by sqrt(n / (n - 1)).

    Args:
        values: Value of each seed, ``(seeds,)``.
        weights: Number of times each seed was picked, ``(seeds, draws)``; a draw that picked none
            counts as one that picked all.
    """
    v = np.asarray(values, dtype=np.float64)
    n = v.size
    if n == 1:
        return np.zeros(weights.shape[1])
    picked = np.where(weights.sum(axis=0) == 0, 1.0, weights)
    means = (picked * v[:, None]).sum(axis=0) / picked.sum(axis=0)
    return np.asarray(math.sqrt(n / (n - 1)) * (means - v.mean()))
