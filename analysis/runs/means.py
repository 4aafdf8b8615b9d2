"""Accuracies of combinations as means over their seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.frontier import pareto_frontier
from rkd_core.errors import UserError
from rkd_core.metrics import (
    average_accuracy,
    binomial_error,
    recalls,
    worst_class_accuracy,
    worst_k_accuracy,
)

if TYPE_CHECKING:
    from analysis.runs.combinations import Combinations

__all__ = ["Means", "mean_and_error", "mean_recalls", "over_seeds"]


@dataclass(frozen=True, eq=False)
class Means:
    """Accuracies of each combination, as means over its seeds, shape ``(combinations,)``.

    Standard errors are over seeds if there are two or more. With one seed, that of the average
    accuracy is binomial (``rkd_core.metrics.binomial_error``), and that of the worst-k accuracy is
    NaN.
    """

    average: FloatArray
    average_se: FloatArray
    worst_k: FloatArray
    worst_k_se: FloatArray

    def frontier(self) -> NDArray[np.intp]:
        """Return the Pareto frontier of both accuracies, by increasing average.

        Means that differ only by the order in which their seeds were summed count as equal.
        """
        return pareto_frontier(np.round(self.average, 12), np.round(self.worst_k, 12))


def over_seeds(
    combinations: Combinations, correct: IntArray, total: IntArray, worst_k: int
) -> Means:
    """Return the accuracies of combinations from the counts of their runs.

    Raises:
        UserError: ``worst_k`` is below 1 or above the number of classes present.
    """
    start, seeds = combinations.start, combinations.seeds
    if start.size == 0:
        nothing = np.zeros(0)
        return Means(nothing, nothing, nothing, nothing)
    try:
        worst = (
            worst_class_accuracy(correct, total)
            if worst_k == 1  # the same number, without sorting the classes
            else worst_k_accuracy(correct, total, worst_k)
        )
    except ValueError as error:
        raise UserError(f"worst-k: {error}") from error
    average, average_se = mean_and_error(average_accuracy(correct, total), start, seeds)
    worst, worst_se = mean_and_error(worst, start, seeds)
    binomial = binomial_error(average, total[start].sum(axis=-1))
    return Means(average, np.where(seeds == 1, binomial, average_se), worst, worst_se)


def mean_and_error(
    values: FloatArray, start: IntArray, seeds: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard error of each group; the error of a single value is NaN."""
    mean = np.add.reduceat(values, start) / seeds
    squares = np.add.reduceat((values - np.repeat(mean, seeds)) ** 2, start)
    variance = np.divide(squares, seeds - 1, out=np.full(seeds.size, np.nan), where=seeds > 1)
    return mean, np.sqrt(variance / seeds)


def mean_recalls(correct: IntArray, total: IntArray) -> FloatArray:
    """Return mean recalls over all runs, ``(classes,)``; NaN if absent."""
    r = recalls(correct, total)
    present = np.isfinite(r)
    count = present.sum(axis=0)
    total_recall = np.where(present, r, 0).sum(axis=0)
    return np.divide(total_recall, count, out=np.full(count.size, np.nan), where=count > 0)
