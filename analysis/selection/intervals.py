"""Intervals for accuracies from counts alone, and predictive draws for a test set's counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.runs.columns import FloatArray, IntArray
from rkd_core.metrics import average_accuracy, worst_k_accuracy

__all__ = [
    "CONFIDENCE",
    "Interval",
    "Outlook",
    "Prospect",
    "average_interval",
    "exact_interval",
    "interval",
    "worst_k_interval",
]

CONFIDENCE = 0.9
"""Confidence of every interval."""


@dataclass(frozen=True)
class Interval:
    """A figure and its interval at confidence ``CONFIDENCE``."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, ends: FloatArray) -> Interval:
        """Return an interval with ends from an array, ``(2,)``."""
        return cls(float(value), float(ends[0]), float(ends[1]))


@dataclass(frozen=True)
class Prospect:
    """Worst-k and average accuracy, with intervals."""

    worst_k: Interval
    average: Interval


@dataclass(frozen=True, eq=False)
class Outlook:
    """Predictive distribution of the recalls that one combination reaches on further images.

    With several seeds, the recalls are means over seeds, and each student varies around them.
    """

    recalls: FloatArray
    """Draws of the recalls, ``(draws, classes)``; NaN for a class without data."""
    seed: FloatArray
    """Standard deviation over seeds on the arcsine scale, ``(classes,)``."""
    shared: float
    """Share of the image noise that students have in common, from 0 to 1."""

    def counted(self, total: IntArray, seeds: int, worst_k: int) -> tuple[FloatArray, FloatArray]:
        """Draw accuracies on a test set, as means over students.

        Args:
            total: Test images of each class, ``(classes,)``.
            seeds: Number of students; all see the same images.
            worst_k: Number of classes in the worst-k accuracy.

        Returns:
            Worst-k and average accuracies, ``(draws,)``; NaN if a class of the test set has no
            data.
        """
        rng = np.random.default_rng(2)
        if np.isnan(self.recalls[:, total > 0]).any():
            nothing = np.full(len(self.recalls), np.nan)
            return nothing, nothing
        angle = np.arcsin(np.sqrt(np.nan_to_num(self.recalls)))[:, None]
        apart = rng.standard_normal((len(angle), seeds, len(total))) * self.seed
        recalls = np.sin(angle + apart) ** 2
        alike = np.rint(self.shared * total).astype(np.int64) if seeds > 1 else np.zeros_like(total)
        common = rng.binomial(alike, np.sin(angle) ** 2)  # images that all students classify alike
        correct = common + rng.binomial(total - alike, recalls)
        worst = worst_k_accuracy(correct, total, worst_k).mean(axis=1)
        return worst, average_accuracy(correct, total).mean(axis=1)


def interval(draws: FloatArray) -> FloatArray:
    """Return the ends of the central interval of draws ``(draws, ...)``, shape ``(2, ...)``."""
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return np.asarray(np.quantile(draws, ends, axis=0))


def average_interval(
    correct: IntArray, total: IntArray, confidence: float = CONFIDENCE
) -> FloatArray:
    """Return an interval for an average accuracy from its counts alone, ``(2,)``.

    This is the exact interval of Clopper and Pearson (1934), with a coverage of at least
    ``confidence``. Its ends are means over the students, which see the same images.

    Args:
        correct: Correct predictions by student and class, ``(students, classes)``.
        total: Images, same shape as ``correct``.
        confidence: Minimum probability that the interval contains the accuracy.
    """
    tail = (1 - confidence) / 2
    return _exact(correct.sum(axis=1), total.sum(axis=1), tail, tail).mean(axis=1)


def exact_interval(
    correct: ArrayLike, total: ArrayLike, confidence: float = CONFIDENCE
) -> FloatArray:
    """Return the intervals of Clopper and Pearson for several counts, ``(2, ...)``.

    Args:
        correct: Correct predictions, or their means over students.
        total: Images, same shape as ``correct``; without any, the interval is from 0 to 1.
        confidence: Minimum probability that an interval contains the accuracy.
    """
    tail = (1 - confidence) / 2
    return _exact(np.nan_to_num(np.asarray(correct, dtype=np.float64)), total, tail, tail)


def worst_k_interval(
    correct: IntArray, total: IntArray, worst_k: int = 1, confidence: float = CONFIDENCE
) -> FloatArray:
    """Return an interval for a true worst-k accuracy from counts alone, ``(2,)``.

    The class with the lowest count is not always the truly worst one, and among many classes some
    count is too low by chance. The lower end is exact for each of the k truly worst classes,
    whichever they are; the upper end holds for all classes at once (Bonferroni).

    Args:
        correct: Correct predictions by student and class, ``(students, classes)``.
        total: Images, same shape as ``correct``.
        worst_k: Number of classes in the accuracy.
        confidence: Minimum probability that the interval contains the accuracy.
    """
    tail = (1 - confidence) / 2
    ends = []
    for right, images in zip(correct, total, strict=True):
        present = images > 0
        each = _exact(right[present], images[present], tail / worst_k, tail / present.sum())
        ends.append(np.sort(each, axis=1)[:, :worst_k].mean(axis=1))
    return np.mean(ends, axis=0)


def _exact(correct: ArrayLike, total: ArrayLike, below: float, above: float) -> FloatArray:
    """Return exact binomial intervals, ``(2, ...)``, given the error probability on each side."""
    from scipy.special import betaincinv  # slow import (0.1 s) that other callers do not need

    k, n = np.asarray(correct, dtype=np.float64), np.asarray(total, dtype=np.float64)
    low = np.where(k > 0, betaincinv(np.where(k > 0, k, 1), n - k + 1, below), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.where(k < n, n - k, 1), 1 - above), 1.0)
    return np.stack((low, high))
