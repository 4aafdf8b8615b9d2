"""Covariance of the effects of combinations on classes, by maximum likelihood in low rank.

In whitened coordinates (noise of variance 1) and rotated by the eigenvectors of the likeness of
combinations, row i of the effects is ``N(0, variance[i] L)`` with

    L = own diag(slope^2) + loadings^T loadings.

``L`` is a factor analysis: a part of each class's own, two known directions along which a training
moves all classes (the same amount on the logit scale, and more for the harder ones), and a few that
are found. Woodbury's identity gives likelihood and posterior in the space of the factors, so that
nothing of ``(classes, classes)`` is ever decomposed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.linalg import eigh

from analysis.columns import FloatArray

__all__ = ["Effects", "fit_effects"]

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Distances, in units of alpha, over which combinations are alike."""
_OWN_SHARES = (0.05, 0.2, 0.5, 1.0)
"""Share of the effects' variance that is each combination's own; 1 leaves nothing to the kernel."""
_FACTORS = 4
"""Most directions that are found."""
_PENALTY = 0.35
"""What a factor costs, in log likelihood a number and log row; BIC would take 0.5."""
_COARSE, _FINE = 12, 100
"""EM steps for the choice of the likeness, and at most for the fit with the chosen one."""
_SETTLED = 0.02
"""Log likelihood that a step of EM must gain to be followed by another."""
_PRIOR_VARIANCE, _OWN_WEIGHT, _SHARED_WEIGHT = 0.5, 5.0, 0.5
"""Effects' variance on the logit scale before any data, and what it weighs: in numbers for the
part that is each class's own, in rows for a known direction."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects in rotated and whitened coordinates: their covariance, and what data say of them."""

    rotation: FloatArray
    """Eigenvectors of the likeness of combinations, ``(combinations, rows)``."""
    variance: FloatArray
    """Their eigenvalues, ``(rows,)``."""
    slope: FloatArray
    """How far an effect of 1 on the logit scale moves each class, ``(classes,)``."""
    own: float
    """Variance of each class's own part on the logit scale."""
    loadings: FloatArray
    """Directions in which classes move together, ``(factors, classes)``."""

    def covariance(self) -> FloatArray:
        """Covariance of the classes ``L``, dense, ``(classes, classes)``."""
        return np.asarray(np.diag(self.own * self.slope**2) + self.loadings.T @ self.loadings)

    def conditional(self) -> Conditional:
        """Return what data with noise of variance 1 leave unknown; see ``Conditional``."""
        given = self.posterior(np.zeros((len(self.variance), len(self.slope))))
        return Conditional(
            own=np.sqrt(1 - 1 / given.diagonal),
            rest=1 / given.diagonal,
            root=np.asarray(np.linalg.cholesky(given.covariance), dtype=np.float64),
            loadings=self.loadings,
        )

    def mean(self, rotated: FloatArray) -> FloatArray:
        """Return the posterior means of the effects, ``(rows, classes)``."""
        given = self.posterior(rotated)
        common = given.scores @ self.loadings
        return np.asarray(common + (1 - 1 / given.diagonal) * (rotated - common))

    def posterior(self, rotated: FloatArray) -> Given:
        """Return the distribution of the effects, given them with noise of variance 1.

        Args:
            rotated: Data, ``(rows, classes)``.
        """
        x, b, v = rotated, self.loadings, self.variance
        diagonal = 1 + v[:, None] * (self.own * self.slope**2)
        weighted = x / diagonal
        outer = (b[:, None] * b).reshape(-1, b.shape[1])
        precision = ((1 / diagonal) @ outer.T).reshape(len(v), len(b), len(b))
        precision += np.eye(len(b)) / v[:, None, None]
        covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        right = weighted @ b.T
        scores = np.einsum("ijk,ik->ij", covariance, right)
        volume = -np.linalg.slogdet(covariance)[1] + len(b) * np.log(v)
        fit = (x * weighted).sum(axis=1) - (right * scores).sum(axis=1)
        likelihood = -0.5 * float((np.log(diagonal).sum(axis=1) + volume + fit).sum())
        return Given(diagonal, weighted, scores, covariance, likelihood)


@dataclass(frozen=True, eq=False)
class Conditional:
    """What data leave unknown of the effects: independent parts, and factors beside them."""

    own: FloatArray
    """Standard deviations given the factors, ``(rows, classes)``."""
    rest: FloatArray
    """Share of what factors do that data do not correct, ``(rows, classes)``."""
    root: FloatArray
    """Cholesky factors of the scores' covariances, ``(rows, factors, factors)``."""
    loadings: FloatArray
    """Shape ``(factors, classes)``."""

    def drawn(self, own: FloatArray, common: FloatArray) -> FloatArray:
        """Turn standard normal numbers into deviations of the effects; the first in place.

        Args:
            own: Shape ``(draws, rows, classes)``.
            common: Shape ``(draws, rows, factors)``.
        """
        own *= self.own
        if len(self.loadings):
            scores = np.einsum("ijk,dik->dij", self.root, common)
            own += (scores @ self.loadings) * self.rest
        return own

    def variance(self) -> FloatArray:
        """Variances of the effects, ``(rows, classes)``."""
        moved = self.root.transpose(0, 2, 1) @ self.loadings
        return np.asarray(self.own**2 + self.rest**2 * (moved**2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Given:
    """Distribution of the factors' scores, and what goes with it; see ``Effects.posterior``."""

    diagonal: FloatArray
    """Variance of the data beside the factors, ``(rows, classes)``."""
    weighted: FloatArray
    """Data over that variance."""
    scores: FloatArray
    """Posterior means, ``(rows, factors)``."""
    covariance: FloatArray
    """Posterior covariances, ``(rows, factors, factors)``."""
    likelihood: float
    """Log likelihood of the data, but for a constant."""


def fit_effects(
    white: FloatArray,
    root: FloatArray,
    settings: FloatArray,
    slope: FloatArray,
    hardness: FloatArray,
) -> Effects:
    """Fit the likeness of combinations and the covariance of classes by maximum likelihood.

    Args:
        white: Effects with noise of variance 1, shape ``(combinations, classes)``.
        root: Square roots of the numbers of seeds.
        settings: Places of the combinations.
        slope: How far an effect of 1 on the logit scale moves each class of ``white``.
        hardness: Standardized levels of the classes, which are the second known direction.
    """
    distance = np.sqrt(((settings[:, None] - settings) ** 2).sum(axis=-1))
    known = _known(slope, hardness)
    start = np.sqrt(_PRIOR_VARIANCE) * known
    found = int(min(white.shape) > 2)
    if len(white) == 1:  # one combination has no effect beside the levels
        return Effects(np.zeros((1, 0)), np.zeros(0), slope, _PRIOR_VARIANCE, start)
    best: tuple[float, Effects] | None = None
    own = _PRIOR_VARIANCE
    for share in _OWN_SHARES:
        for length in _LENGTHS if share < 1 else _LENGTHS[:1]:
            variance, rotation = _likeness(distance, root, share, length)
            rotated = rotation.T @ white
            effects = Effects(rotation, variance, slope, own, start)
            if len(start) < len(known) + found:
                effects = _with_another(effects, rotated)
            effects, likelihood = _maximize(effects, rotated, known, _COARSE)
            own, start = effects.own, effects.loadings
            if best is None or likelihood > best[0]:
                best = likelihood, effects
    assert best is not None
    return _with_best_factors(best[1], best[1].rotation.T @ white, known)


def _known(slope: FloatArray, hardness: FloatArray) -> FloatArray:
    """Directions that are known, ``(0 to 2, classes)``; with one class its own part says all."""
    directions = [slope] if len(slope) > 1 else []
    if len(slope) > 2 and hardness.any():
        directions.append(slope * hardness)
    return np.array(directions).reshape(-1, len(slope))


def _likeness(
    distance: FloatArray, root: FloatArray, share: float, length: float
) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues and eigenvectors of how alike combinations are, over contrasts."""
    unit = root / np.sqrt(root @ root)
    far = np.sqrt(3) * distance / length
    like = (1 - share) * (1 + far) * np.exp(-far) + share * np.eye(len(root))
    like *= root[:, None] * root
    like -= unit[:, None] * (unit @ like)  # levels are free, so effects are contrasts
    like -= (like @ unit)[:, None] * unit
    variance, rotation = eigh(like)
    kept = variance > 1e-9 * root.max() ** 2
    return variance[kept], rotation[:, kept]


def _with_best_factors(effects: Effects, rotated: FloatArray, known: FloatArray) -> Effects:
    """Effects with as many found directions as their penalized likelihood asks for."""
    rows, classes = rotated.shape
    start = replace(effects, loadings=effects.loadings[: len(known)])
    best: tuple[float, Effects] | None = None
    for factors in range(min(_FACTORS, classes - 1, rows - 1) + 1):
        if factors:
            start = _with_another(start, rotated)
        start, likelihood = _maximize(start, rotated, known, _FINE)
        value = likelihood - _PENALTY * factors * classes * np.log(rows)
        if best is not None and value <= best[0]:
            break
        best = value, start
    return effects if best is None else best[1]


def _with_another(effects: Effects, rotated: FloatArray) -> Effects:
    """Effects with one more direction: the largest of what the others leave of the data."""
    given = effects.posterior(rotated)
    rest = rotated - given.scores @ effects.loadings
    rest = rest / np.sqrt(effects.variance[:, None] + 1 / max(effects.own, 1e-9))
    direction = np.linalg.svd(rest, full_matrices=False)[2][0]
    size = np.sqrt(max(effects.own, 1e-6) * (effects.slope**2).mean())
    direction *= size * np.sqrt(len(direction))
    return replace(effects, loadings=np.vstack([effects.loadings, direction]))


def _maximize(
    effects: Effects, rotated: FloatArray, known: FloatArray, steps: int
) -> tuple[Effects, float]:
    """Raise the likelihood by EM; return the effects and their log likelihood."""
    given = effects.posterior(rotated)
    for _ in range(steps):
        updated = _step(effects, given, rotated, known)
        after = updated.posterior(rotated)
        gained = after.likelihood - given.likelihood
        effects, given = updated, after
        if abs(gained) < _SETTLED:
            break
    return effects, given.likelihood


def _step(effects: Effects, given: Given, x: FloatArray, directions: FloatArray) -> Effects:
    """Return the effects after one step of EM."""
    b, v, slope, known = effects.loadings, effects.variance, effects.slope, len(directions)
    moments = given.covariance + given.scores[:, :, None] * given.scores[:, None, :]
    shrink = 1 - 1 / given.diagonal
    rest = x - given.scores @ b
    outer = (b[:, None] * b).reshape(-1, b.shape[1])
    unsure = given.covariance.reshape(len(v), -1) @ outer
    squares = shrink**2 * (rest**2 + unsure) + shrink
    total = float(((1 / v) @ squares) @ (1 / slope**2))
    own = (total + _OWN_WEIGHT * _PRIOR_VARIANCE) / (x.size + _OWN_WEIGHT)

    updated = b.copy()
    if known:
        spread = np.einsum("ijj,i->j", moments[:, :known, :known], 1 / v)
        prior = _SHARED_WEIGHT * _PRIOR_VARIANCE * (directions**2).sum(1) / (b[:known] ** 2).sum(1)
        updated[:known] *= np.sqrt((spread + prior) / (len(v) + _SHARED_WEIGHT))[:, None]
    if len(b) > known:
        weight = 1 / given.diagonal
        second = (weight.T @ moments.reshape(len(v), -1)).reshape(-1, len(b), len(b))
        first = given.weighted.T @ given.scores
        first = first[:, known:] - np.einsum("kij,jk->ki", second[:, known:, :known], b[:known])
        ridge = 1e-9 * np.eye(len(b) - known)
        solved = np.linalg.solve(second[:, known:, known:] + ridge, first[:, :, None])
        updated[known:] = solved[:, :, 0].T
    return replace(effects, own=own, loadings=updated)
