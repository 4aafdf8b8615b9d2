"""Gains and losses of distillation in each subgroup, from paired predictions of two students.

All counts are per seed. Differences have two intervals: one over seeds, which differ in training,
split and trees, and one over test rows, of which a subgroup may have as few as three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

__all__ = ["Group", "Tally", "count", "over_rows", "over_seeds", "stack"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CONFIDENCE = 0.95
_UPPER = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Group:
    """A subgroup: a label, and the sex and race it is restricted to."""

    label: int
    sex: str | None = None
    race: str | None = None


@dataclass(frozen=True)
class Tally:
    """Counts of test rows, as int64 of shape ``(..., groups)``.

    Attributes:
        total: Rows of the subgroup.
        teacher: Rows that the teacher predicts correctly.
        one_hot: Rows that the one-hot student predicts correctly.
        distilled: Rows that the distilled student predicts correctly.
        gained: Rows that, of the two students, only the distilled one predicts correctly.
        lost: Rows that, of the two students, only the one-hot one predicts correctly.
    """

    total: IntArray
    teacher: IntArray
    one_hot: IntArray
    distilled: IntArray
    gained: IntArray
    lost: IntArray

    @property
    def delta(self) -> FloatArray:
        """Accuracy of the distilled student minus that of the one-hot student; NaN without rows."""
        gain = (self.gained - self.lost).astype(np.float64)
        return np.divide(gain, self.total, out=np.full(gain.shape, np.nan), where=self.total > 0)


def count(groups: BoolArray, teacher: BoolArray, one_hot: BoolArray, distilled: BoolArray) -> Tally:
    """Return the counts of one seed.

    Args:
        groups: Whether each row is in a subgroup ``(groups, rows)``.
        teacher: Whether the teacher predicts each row correctly ``(rows,)``.
        one_hot: The same for the one-hot student.
        distilled: The same for the distilled student.
    """

    def within(rows: BoolArray) -> IntArray:
        return np.asarray((groups & rows).sum(axis=1))

    return Tally(
        total=within(np.ones_like(teacher)),
        teacher=within(teacher),
        one_hot=within(one_hot),
        distilled=within(distilled),
        gained=within(distilled & ~one_hot),
        lost=within(one_hot & ~distilled),
    )


def stack(tallies: list[Tally]) -> Tally:
    """Return the counts of all seeds, shape ``(seeds, groups)``."""
    return Tally(**{name: np.stack([vars(t)[name] for t in tallies]) for name in vars(tallies[0])})


def over_seeds(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return means over the first axis, and half the widths of their intervals by Student's t.

    Args:
        values: Values ``(seeds, ...)``; NaN where a seed has none.

    Returns:
        The mean, NaN where no seed has a value; the half width, NaN where fewer than two have.
    """
    there = np.isfinite(values)
    n = there.sum(axis=0)
    mean = np.where(there, values, 0).sum(axis=0) / np.where(n > 0, n, np.nan)
    squares = (np.where(there, values - mean, 0) ** 2).sum(axis=0)
    spare = np.where(n > 1, n - 1, np.nan)
    return mean, stdtrit(spare, _UPPER) * np.sqrt(squares / spare / n)


def over_rows(tally: Tally) -> tuple[FloatArray, FloatArray]:
    """Return the interval of delta from paired rows of one test set (Agresti and Min 2005).

    The interval uses the mean counts over seeds, since seeds share rows: more seeds do not make a
    small subgroup larger. Its width is positive even if the two students agree on all rows.

    Args:
        tally: Counts ``(seeds, groups)``.

    Returns:
        Lower and upper ends ``(groups,)``, within [-1, 1]; NaN for a subgroup without rows.
    """
    total = tally.total.mean(axis=0)
    gained, lost = tally.gained.mean(axis=0) + 0.5, tally.lost.mean(axis=0) + 0.5
    n = np.where(total > 0, total, np.nan) + 2
    middle = (gained - lost) / n
    half = ndtri(_UPPER) * np.sqrt((gained + lost) / n - middle**2) / np.sqrt(n)
    return np.maximum(middle - half, -1), np.minimum(middle + half, 1)
