"""What is known of an accuracy of all combinations, given what some of them came to.

Gaussian processes over the combinations' places, on the arcsine scale, on which the noise of
counting images is the same everywhere. A combination's value is what is its teacher's, what is its
student's, and what is theirs together; how much each of these varies and over what distances, and
how much a seed adds, is not known. So there are as many processes as there are answers, and each
counts as much as it makes what was seen likely (Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, section 5.2). With a dozen results that is steadier than the likeliest
process alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dtrtrs
from scipy.special import ndtr, softmax
from sklearn.gaussian_process.kernels import Matern

from rkd_core.metrics import arcsine_scaled
from sweeps.search.strategy import FloatArray, IntArray

__all__ = ["Belief", "Results", "accuracy", "believe"]

_SHARES = (0.2, 0.6, 0.2), (0.5, 0.3, 0.2), (0.15, 0.35, 0.5)
"""Of the variance: of teachers, of students, and of both together."""
_LENGTHS = 0.5, 1.2
"""Over which accuracies are alike, where trade-offs are from 0 to 1."""
_SPREADS = 0.03, 0.06, 0.12, 0.25
"""Standard deviations over combinations; 0.1 are about ten points in the middle of the scale."""
_SEEDS = 0.015, 0.04
"""Standard deviations over seeds, of the same combination."""
_CENTRE, _WIDE = 0.7, 1.0
"""Mean and standard deviation of what all have in common: about anything."""
_LEAST = 0.01
"""What a process must count, of all, for its answers to be worked out."""
_EARNED = 2.0
"""Log likelihood that further coordinates must earn to count as much as none."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_TEACHER, _STUDENT = slice(0, 2), slice(2, 5)
"""Columns of ``Cell.place``."""


@dataclass(frozen=True)
class Results:
    """Of combinations that were trained.

    Attributes:
        rows: Which of all they are, ``(n,)``.
        values: Mean accuracies over seeds, ``(n,)``, fractions.
        images: On which they are counted, ``(n,)``.
        seeds: How many were trained, ``(n,)``.
    """

    rows: IntArray
    values: FloatArray
    images: IntArray
    seeds: IntArray


@dataclass(frozen=True)
class Belief:
    """A mixture of ``k`` normal distributions of each combination's scaled accuracy.

    Attributes:
        weights: Of the processes, ``(k,)``; the sum is 1.
        means: Of each, ``(k, combinations)``.
        deviations: Of each, ``(k, combinations)``.
        shown: The part of those deviations that one look, with its noise, would show.
        beside: Weight of the processes in which teachers have further coordinates.
    """

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    shown: FloatArray
    beside: float

    @property
    def mean(self) -> FloatArray:
        """Of all processes, ``(combinations,)``."""
        return np.asarray(self.weights @ self.means)

    @property
    def deviation(self) -> FloatArray:
        """Of all processes, ``(combinations,)``."""
        apart = (self.means - self.mean) ** 2
        return np.sqrt(self.weights @ (self.deviations**2 + apart))

    def at_least(self, least: float) -> FloatArray:
        """Probability of an accuracy of ``least``, ``(combinations,)``."""
        return np.asarray(
            self.weights @ ndtr((self.means - arcsine_scaled(least)) / self.deviations)
        )

    def improvement(self, best: float) -> FloatArray:
        """What one look is expected to show above an accuracy ``best``, ``(combinations,)``.

        The integral of the probability to be above, over accuracies from ``best`` to 1.
        """
        low = arcsine_scaled(best)
        half = (np.pi / 2 - low) / 2
        at = low + half * (_NODES + 1)
        above = ndtr((self.means[..., None] - at) / self.shown[..., None])
        return np.asarray(self.weights @ (above @ (half * _WEIGHTS * np.sin(2 * at))))


def believe(
    places: FloatArray,
    results: Results,
    under_way: IntArray,
    beside: FloatArray | None = None,
) -> Belief:
    """What results say of all combinations.

    Args:
        places: Of all combinations, ``(combinations, 5)``: ``Cell.place``.
        results: What some came to.
        under_way: Which are being trained. That they end as expected changes no mean; but they
            will be better known, so that nobody else asks the same.
        beside: Further coordinates of teachers, ``(combinations, figures)``, in which students may
            be alike instead; processes with them count where they make results clearly likelier.
    """
    seen = np.concatenate([results.rows, under_way])
    seeds = np.concatenate([results.seeds, np.ones(len(under_way))])
    counting = 1 / (4 * results.images + 2)
    level = np.concatenate([counting, np.full(len(under_way), counting.mean())])
    noise = (level + np.square(_SEEDS)[:, None]) / seeds
    y, n = arcsine_scaled(results.values) - _CENTRE, len(results.values)

    alike = list(product(_alike(places, seen, beside), _SHARES))
    evidence = np.array(
        [
            _evidence(each.shared(shares, results.rows)[:, :n], noise[:, :n], y)
            - _EARNED * each.beside
            for each, shares in alike
        ]
    )
    weights = softmax(evidence)
    counted = weights >= min(_LEAST, weights.max())

    means, variances, looks = [], [], []
    for number, at, of_seed in np.argwhere(counted):
        (each, shares), spread = alike[number], _SPREADS[at]
        covariance = spread**2 * each.shared(shares) + _WIDE**2
        root = np.linalg.cholesky(covariance[seen] + np.diag(noise[of_seed]))
        means.append(_CENTRE + covariance[:, :n] @ cho_solve((root[:n, :n], True), y))
        known = (solve_triangular(root, covariance.T, lower=True) ** 2).sum(axis=0)
        variances.append(np.maximum(spread**2 + _WIDE**2 - known, 1e-12))
        looks.append(counting.mean() + _SEEDS[of_seed] ** 2)
    variance = np.array(variances)
    return Belief(
        weights=weights[counted] / weights[counted].sum(),
        means=np.array(means),
        deviations=np.sqrt(variance),
        shown=variance / np.sqrt(variance + np.array(looks)[:, None]),
        beside=float(weights[[each.beside for each, _ in alike]].sum()),
    )


@dataclass(frozen=True, eq=False)
class _Alike:
    """How alike all combinations are to those that are seen, ``(combinations, seen)``."""

    teachers: FloatArray
    students: FloatArray
    beside: bool
    """Whether teachers have further coordinates."""

    def shared(
        self, shares: tuple[float, float, float], rows: IntArray | slice = slice(None)
    ) -> FloatArray:
        """Of the variance, what combinations have in common with those that are seen."""
        teachers, students = self.teachers[rows], self.students[rows]
        one, other, both = shares
        return np.asarray(one * teachers + other * students + both * teachers * students)


def _alike(places: FloatArray, seen: IntArray, beside: FloatArray | None) -> Iterator[_Alike]:
    """For each length, without further coordinates and with them."""
    teachers, students = [places[:, _TEACHER]], places[:, _STUDENT]
    if beside is not None:
        teachers.append(np.hstack([teachers[0], beside / np.sqrt(beside.shape[1])]))
    for (further, axes), length in product(enumerate(teachers), _LENGTHS):
        kernel = Matern(length, nu=1.5)
        yield _Alike(kernel(axes, axes[seen]), kernel(students, students[seen]), bool(further))


def _evidence(shared: FloatArray, noise: FloatArray, y: FloatArray) -> FloatArray:
    """Log likelihood of results, but for a constant, ``(spreads, seeds)``.

    Args:
        shared: Of the variance, what results have in common, ``(n, n)``.
        noise: Their variance by each answer to what a seed adds, ``(seeds, n)``.
        y: Results, ``(n,)``.
    """
    covariance = np.multiply.outer(np.square(_SPREADS), shared) + _WIDE**2
    roots = np.linalg.cholesky(covariance[:, None] + noise[:, :, None] * np.eye(len(y)))
    # As `solve_triangular`, which takes longer to begin than to solve.
    whitened = [[dtrtrs(root, y, lower=1)[0] for root in row] for row in roots]
    halves = np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-np.square(whitened).sum(axis=-1) / 2 - halves)


def accuracy(value: FloatArray | float) -> FloatArray:
    """Of a value on that scale."""
    return np.asarray(np.sin(np.clip(value, 0, np.pi / 2)) ** 2, dtype=np.float64)
