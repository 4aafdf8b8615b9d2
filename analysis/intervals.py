"""Intervals of accuracies by counts alone, and predictive intervals of the counts of a test set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.columns import FloatArray, IntArray
from rkd_core.metrics import average_accuracy, worst_k_accuracy

__all__ = ["CONFIDENCE", "Outlook", "average_interval", "interval", "worst_k_interval"]

CONFIDENCE = 0.9
"""Of every interval."""


@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of the recalls of one combination, to foretell what further images will count.

    With several seeds the recalls are means over seeds, and each student has its own about them.
    """

    recalls: FloatArray
    """Draws, ``(draws, classes)``; NaN for a class of which nothing is known."""
    seed: FloatArray
    """Standard deviation of a training over seeds on the arcsine scale, ``(classes,)``."""
    shared: float
    """Share of the noise of images that students have in common, from 0 to 1."""

    def counted(self, total: IntArray, seeds: int, worst_k: int) -> tuple[FloatArray, FloatArray]:
        """Draw what so many students would count on such a test set, as means over students.

        Args:
            total: Test images of each class, ``(classes,)``.
            seeds: Number of students; all see the same images.
            worst_k: Number of classes in the worst-k accuracy.

        Returns:
            Worst-k and average accuracies, ``(draws,)``; NaN if nothing is known of a class that
            the test set has.
        """
        rng = np.random.default_rng(2)
        if np.isnan(self.recalls[:, total > 0]).any():
            nothing = np.full(len(self.recalls), np.nan)
            return nothing, nothing
        angle = np.arcsin(np.sqrt(np.nan_to_num(self.recalls)))[:, None]
        apart = rng.standard_normal((len(angle), seeds, len(total))) * self.seed
        recalls = np.sin(angle + apart) ** 2
        alike = np.rint(self.shared * total).astype(np.int64) if seeds > 1 else np.zeros_like(total)
        common = rng.binomial(alike, np.sin(angle) ** 2)  # images that are the same luck for all
        correct = common + rng.binomial(total - alike, recalls)
        worst = worst_k_accuracy(correct, total, worst_k).mean(axis=1)
        return worst, average_accuracy(correct, total).mean(axis=1)


def interval(draws: FloatArray) -> FloatArray:
    """Return the ends of an interval of draws ``(draws, ...)``, shape ``(2, ...)``."""
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return np.asarray(np.quantile(draws, ends, axis=0))


def average_interval(
    correct: IntArray, total: IntArray, confidence: float = CONFIDENCE
) -> FloatArray:
    """Return the interval of an average accuracy by its counts alone, ``(2,)``.

    The exact interval of Clopper and Pearson (1934), which holds ``confidence`` or more. Ends are
    means over the students, whose images are the same.

    Args:
        correct: Correct images by student and class, ``(students, classes)``.
        total: Images, of the same shape.
        confidence: Chance that the interval holds the accuracy, at least.
    """
    tail = (1 - confidence) / 2
    return _exact(correct.sum(axis=1), total.sum(axis=1), tail, tail).mean(axis=1)


def worst_k_interval(
    correct: IntArray, total: IntArray, worst_k: int = 1, confidence: float = CONFIDENCE
) -> FloatArray:
    """Return the interval of a true worst-k accuracy by counts alone, ``(2,)``.

    The worst class as counted is not the truly worst one, and of many classes one is counted too
    low by chance. The lower end is exact for each of the k truly worst classes, whichever they
    are; the upper end for all classes at once (Bonferroni).

    Args:
        correct: Correct images by student and class, ``(students, classes)``.
        total: Images, of the same shape.
        worst_k: Number of classes in the accuracy.
        confidence: Chance that the interval holds the accuracy, at least.
    """
    tail = (1 - confidence) / 2
    ends = []
    for right, images in zip(correct, total, strict=True):
        present = images > 0
        each = _exact(right[present], images[present], tail / worst_k, tail / present.sum())
        ends.append(np.sort(each, axis=1)[:, :worst_k].mean(axis=1))
    return np.mean(ends, axis=0)


def _exact(correct: ArrayLike, total: ArrayLike, below: float, above: float) -> FloatArray:
    """Exact binomial intervals, ``(2, ...)``, with the chances to miss on either side."""
    from scipy.special import betaincinv  # 0.1 s, which reading a selection does not need

    k, n = np.asarray(correct, dtype=np.float64), np.asarray(total, dtype=np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, below), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - above), 1.0)
    return np.stack((low, high))
