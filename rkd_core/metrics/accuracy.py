"""Accuracies from per-class counts, in NumPy.

All functions except ``arcsine_scaled`` and ``binomial_error`` take ``correct`` and ``total``,
integer arrays ``(..., classes)`` in label order. An absent class (``total == 0``) has recall NaN
and is excluded from every accuracy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "arcsine_scaled",
    "average_accuracy",
    "balanced_accuracy",
    "binomial_error",
    "recalls",
    "worst_class_accuracy",
    "worst_k_accuracy",
    "worst_k_reference_accuracy",
]

FloatArray = NDArray[np.float64]


def arcsine_scaled(accuracy: ArrayLike) -> FloatArray:
    """Return the variance-stabilizing transform ``arcsin(sqrt(accuracy))`` in radians.

    For accuracies counted on n images, its variance is about 1 / (4n + 2) at any accuracy
    (Anscombe 1948).

    Args:
        accuracy: Accuracies in [0, 1], of any shape.
    """
    return np.arcsin(np.sqrt(np.clip(np.asarray(accuracy, dtype=np.float64), 0, 1)))


def binomial_error(accuracy: ArrayLike, images: ArrayLike) -> FloatArray:
    """Return the standard error of accuracies counted on images; NaN without images.

    It is ``sqrt(p (1 - p) / n)``. If all or no images are correct, it is half the width of Wilson's
    score interval of one standard error (Wilson 1927), ``1 / (2 (n + 1))``, which is less than the
    error for any other count.
    """
    p, n = np.asarray(accuracy, dtype=np.float64), np.asarray(images, dtype=np.float64)
    n = np.where(n > 0, n, np.nan)
    return np.asarray(np.fmax(np.sqrt(np.clip(p * (1 - p), 0, None) / n), 0.5 / (n + 1)))


def recalls(correct: ArrayLike, total: ArrayLike) -> FloatArray:
    """Return the recall of each class, ``(..., classes)`` in [0, 1]; NaN for absent classes."""
    c, n = np.asarray(correct), np.asarray(total)
    return np.divide(c, n, out=np.full(np.broadcast(c, n).shape, np.nan), where=n > 0)


def average_accuracy(correct: ArrayLike, total: ArrayLike) -> FloatArray:
    """Return the share of all images that are classified correctly, shape ``(...)``."""
    c, n = np.asarray(correct), np.asarray(total)
    return np.asarray(c.sum(axis=-1) / n.sum(axis=-1))


def balanced_accuracy(correct: ArrayLike, total: ArrayLike) -> FloatArray:
    """Return the mean recall over the classes present, shape ``(...)``."""
    return np.asarray(np.nanmean(recalls(correct, total), axis=-1))


def worst_class_accuracy(correct: ArrayLike, total: ArrayLike) -> FloatArray:
    """Return the smallest recall over the classes present, shape ``(...)``."""
    return np.asarray(np.nanmin(recalls(correct, total), axis=-1))


def worst_k_accuracy(correct: ArrayLike, total: ArrayLike, k: int) -> FloatArray:
    """Return the mean of the ``k`` smallest recalls over the classes present, shape ``(...)``.

    Raises:
        ValueError: ``k`` is below 1 or above the number of classes present.
    """
    r = recalls(correct, total)
    present = np.isfinite(r).sum(axis=-1)
    if k < 1 or np.any(present < k):
        raise ValueError(f"k must be from 1 to the {present.min()} classes present, not {k}")
    return np.asarray(np.sort(r, axis=-1)[..., :k].mean(axis=-1))  # NaN sorts last


def worst_k_reference_accuracy(
    correct: ArrayLike, total: ArrayLike, reference_recalls: ArrayLike, k: int
) -> FloatArray:
    """Return the mean recall over the ``k`` worst classes of a reference (the teacher).

    This is the metric of the ablation tables of Lukasik et al. (TMLR 2022). It is never below
    ``worst_k_accuracy``.

    Args:
        correct: Correct predictions of each class, ``(..., classes)``.
        total: Images of each class, ``(..., classes)``.
        reference_recalls: Recalls of the reference, ``(..., classes)``.
        k: Number of classes.

    Raises:
        ValueError: ``k`` is out of range, or one of the ``k`` classes is absent.
    """
    r = recalls(correct, total)
    reference = np.asarray(reference_recalls, dtype=np.float64)
    if not 1 <= k <= int(np.isfinite(reference).sum()):
        raise ValueError(f"k must be from 1 to the classes the reference has, not {k}")
    worst = np.argsort(reference, axis=-1, kind="stable")[..., :k]
    chosen = np.take_along_axis(r, np.broadcast_to(worst, (*r.shape[:-1], k)), axis=-1)
    if np.isnan(chosen).any():
        raise ValueError("one of the reference's worst classes is absent from these counts")
    return np.asarray(chosen.mean(axis=-1))
