"""Spearman's rank correlation in NumPy, since importing ``scipy.stats`` takes a second."""

from __future__ import annotations

import numpy as np

from analysis.runs.columns import FloatArray

__all__ = ["average_ranks", "spearman"]


def average_ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1 along the last axis; equal values share the mean of their ranks.

    Args:
        values: Finite values of any shape.
    """
    values = np.asarray(values, dtype=np.float64)
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    differs = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones((*values.shape[:-1], 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.concatenate((ends, differs), -1), place, 0), axis=-1)
    last = np.where(np.concatenate((differs, ends), -1), place, values.shape[-1])
    last = np.minimum.accumulate(last[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    return ranks


def spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Spearman's correlation along the last axis (Spearman 1904); ties get average ranks.

    The result is NaN if all values of ``x`` or of ``y`` are equal, or one of them is NaN.

    Args:
        x: Values, shape ``(..., n)``.
        y: Values that broadcast against ``x``.
    """
    a, b = (average_ranks(values) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    both = (a * b).sum(axis=-1)
    known = (scale > 0) & ~np.isnan(np.add(x, y)).any(axis=-1)
    return np.divide(both, scale, out=np.full(np.shape(both), np.nan), where=known)
