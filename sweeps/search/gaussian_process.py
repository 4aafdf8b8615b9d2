"""Gaussian processes that predict the accuracy of every combination from the results of some.

The processes are defined over the coordinates of the combinations (``Cell.place``), on the arcsine
scale, on which the binomial noise of an accuracy does not depend on its value. The value of a
combination is the sum of a teacher effect, a student effect and their interaction. The variances of
these effects, their length scales and the variance between seeds are unknown. The prediction
therefore averages over the processes of a small grid of hyperparameters, weighted by their marginal
likelihood (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 5.2).
With a dozen results, the average is more stable than the most likely process alone.
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

__all__ = ["Posterior", "Results", "accuracy", "fit_posterior"]

_SHARES = (0.2, 0.6, 0.2), (0.5, 0.3, 0.2), (0.15, 0.35, 0.5)
"""Candidate shares of the variance: teacher effect, student effect, interaction."""
_LENGTHS = 0.5, 1.2
"""Candidate length scales of the kernels; trade-offs range from 0 to 1."""
_SPREADS = 0.03, 0.06, 0.12, 0.25
"""Candidate standard deviations between combinations; 0.1 is about ten points near 50%."""
_SEEDS = 0.015, 0.04
"""Candidate standard deviations between seeds of the same combination."""
_CENTRE, _WIDE = 0.7, 1.0
"""Mean and standard deviation of the vague prior on the common level of all combinations."""
_LEAST = 0.01
"""Smallest weight of a process that contributes to the predictions."""
_EARNED = 2.0
"""Penalty on the log likelihood of processes with additional coordinates of teachers."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_TEACHER, _STUDENT = slice(0, 2), slice(2, 5)
"""Columns of ``Cell.place`` that describe the teacher and the student."""


@dataclass(frozen=True)
class Results:
    """Results of the combinations that have been trained.

    Attributes:
        rows: Indices among all combinations, ``(n,)``.
        values: Mean accuracies over seeds as fractions, ``(n,)``.
        images: Numbers of images behind an accuracy of one seed, ``(n,)``.
        seeds: Numbers of seeds trained, ``(n,)``.
    """

    rows: IntArray
    values: FloatArray
    images: IntArray
    seeds: IntArray


@dataclass(frozen=True)
class Posterior:
    """Mixture of ``k`` normal distributions of the scaled accuracy of each combination.

    Attributes:
        weights: Weights of the processes, ``(k,)``; they sum to 1.
        means: Means of each process, ``(k, combinations)``.
        deviations: Standard deviations of each process, ``(k, combinations)``.
        shown: Standard deviations of the change of each mean by one further, noisy result,
            ``(k, combinations)``.
        beside: Weight of the processes with additional coordinates of teachers.
    """

    weights: FloatArray
    means: FloatArray
    deviations: FloatArray
    shown: FloatArray
    beside: float

    @property
    def mean(self) -> FloatArray:
        """Mean of the mixture, ``(combinations,)``."""
        return np.asarray(self.weights @ self.means)

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation of the mixture, ``(combinations,)``."""
        apart = (self.means - self.mean) ** 2
        return np.sqrt(self.weights @ (self.deviations**2 + apart))

    def at_least(self, least: float) -> FloatArray:
        """Return the probability of an accuracy of at least ``least``, ``(combinations,)``."""
        return np.asarray(
            self.weights @ ndtr((self.means - arcsine_scaled(least)) / self.deviations)
        )

    def improvement(self, best: float) -> FloatArray:
        """Return the expected improvement on ``best`` from one result, ``(combinations,)``.

        It is the integral, over accuracies from ``best`` to 1, of the probability of exceeding
        them.
        """
        low = arcsine_scaled(best)
        half = (np.pi / 2 - low) / 2
        at = low + half * (_NODES + 1)
        above = ndtr((self.means[..., None] - at) / self.shown[..., None])
        return np.asarray(self.weights @ (above @ (half * _WEIGHTS * np.sin(2 * at))))


def fit_posterior(
    places: FloatArray,
    results: Results,
    under_way: IntArray,
    beside: FloatArray | None = None,
) -> Posterior:
    """Return the posterior of all combinations given the results.

    Args:
        places: Coordinates of all combinations (``Cell.place``), ``(combinations, 5)``.
        results: Results of the trained combinations.
        under_way: Indices of the combinations that are being trained. They are assumed to end as
            predicted, which reduces their variance without changing a mean, so that they are not
            proposed again.
        beside: Additional coordinates of the teachers, ``(combinations, figures)``, or None. The
            processes that use them gain weight only if they make the results clearly more likely.
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
    return Posterior(
        weights=weights[counted] / weights[counted].sum(),
        means=np.array(means),
        deviations=np.sqrt(variance),
        shown=variance / np.sqrt(variance + np.array(looks)[:, None]),
        beside=float(weights[[each.beside for each, _ in alike]].sum()),
    )


@dataclass(frozen=True, eq=False)
class _Alike:
    """Kernel values between all combinations and the observed ones, ``(combinations, seen)``."""

    teachers: FloatArray
    students: FloatArray
    beside: bool
    """Whether the kernel of teachers uses the additional coordinates."""

    def shared(
        self, shares: tuple[float, float, float], rows: IntArray | slice = slice(None)
    ) -> FloatArray:
        """Return the correlations of combinations with the observed ones."""
        teachers, students = self.teachers[rows], self.students[rows]
        one, other, both = shares
        return np.asarray(one * teachers + other * students + both * teachers * students)


def _alike(places: FloatArray, seen: IntArray, beside: FloatArray | None) -> Iterator[_Alike]:
    """Yield kernels for each length scale, without and with the additional coordinates."""
    teachers, students = [places[:, _TEACHER]], places[:, _STUDENT]
    if beside is not None:
        teachers.append(np.hstack([teachers[0], beside / np.sqrt(beside.shape[1])]))
    for (further, axes), length in product(enumerate(teachers), _LENGTHS):
        kernel = Matern(length, nu=1.5)
        yield _Alike(kernel(axes, axes[seen]), kernel(students, students[seen]), bool(further))


def _evidence(shared: FloatArray, noise: FloatArray, y: FloatArray) -> FloatArray:
    """Return the log likelihood of the results up to a constant, ``(spreads, seeds)``.

    Args:
        shared: Correlations between the results, ``(n, n)``.
        noise: Noise variances for each candidate deviation between seeds, ``(seeds, n)``.
        y: Centered results on the arcsine scale, ``(n,)``.
    """
    covariance = np.multiply.outer(np.square(_SPREADS), shared) + _WIDE**2
    roots = np.linalg.cholesky(covariance[:, None] + noise[:, :, None] * np.eye(len(y)))
    # LAPACK directly: the overhead of `solve_triangular` exceeds the time to solve.
    whitened = [[dtrtrs(root, y, lower=1)[0] for root in row] for row in roots]
    halves = np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-np.square(whitened).sum(axis=-1) / 2 - halves)


def accuracy(value: FloatArray | float) -> FloatArray:
    """Return the accuracy at a value on the arcsine scale."""
    return np.asarray(np.sin(np.clip(value, 0, np.pi / 2)) ** 2, dtype=np.float64)
