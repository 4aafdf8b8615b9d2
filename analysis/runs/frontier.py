"""Pareto frontier of points with two coordinates to maximize."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["pareto_frontier"]


def pareto_frontier(x: ArrayLike, y: ArrayLike) -> NDArray[np.intp]:
    """Return the indices of the points that no other point dominates, in order of ``x``.

    A point dominates another if it is at least as large in both coordinates and larger in one.
    Exact duplicates do not dominate each other, so all of them are kept. Points with a NaN
    coordinate are excluded. The complexity is O(n log n).

    Args:
        x: First coordinate of each point, shape ``(points,)``.
        y: Second coordinate of each point, shape ``(points,)``.

    Returns:
        Indices into the points, ordered by increasing ``x``, then by index.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    points = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
    if points.size == 0:
        return points
    order = points[np.lexsort((-points, y[points], x[points]))[::-1]]  # x falls, then y falls
    xs, ys = x[order], y[order]
    # The first point of each column (equal x) is its highest; it must exceed those of larger x.
    column_start = np.flatnonzero(np.r_[True, xs[1:] != xs[:-1]])
    column = np.repeat(np.arange(column_start.size), np.diff(np.r_[column_start, xs.size]))
    highest = ys[column_start]
    beaten_by = np.r_[-np.inf, np.maximum.accumulate(highest)[:-1]]
    # No point dominates a first column at minus infinity.
    stands = (highest > beaten_by) | (np.arange(highest.size) == 0)
    kept = order[(ys == highest[column]) & stands[column]]
    return kept[np.lexsort((kept, x[kept]))]
