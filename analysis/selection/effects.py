"""Low-rank covariance of the effects of combinations on classes, fitted by maximum likelihood.

In whitened coordinates (noise of variance 1), rotated by the eigenvectors of the similarity of
combinations, row i of the effects is ``N(0, variance[i] L)`` with

    L = own diag(slope^2) + loadings^T loadings.

``L`` is the covariance of a factor analysis model. It has an independent part for each class; a
known direction along which a training moves all classes by the same amount on the logit scale;
optionally a second known direction, which moves harder classes more; and a few estimated
directions. Each direction except the first must raise the likelihood by more than a penalty.
Otherwise, the second direction would add variance to the hardest class, which is the worst one, and
its estimates would be shrunk too little. Woodbury's identity gives the likelihood and the posterior
in the space of the factors, so no ``(classes, classes)`` matrix is decomposed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.linalg import eigh

from analysis.runs.columns import FloatArray

__all__ = ["Effects", "fit_effects"]

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Candidate length scales of the kernel over combinations, in units of alpha."""
_OWN_SHARES = (0.05, 0.2, 0.5, 1.0)
"""Candidate shares of variance that is independent for each combination; 1 disables the kernel."""
_KERNELS = [(s, n) for s in _OWN_SHARES for n in (_LENGTHS if s < 1 else _LENGTHS[:1])]
_FACTORS = 4
"""Maximum number of estimated directions."""
_PENALTY = 0.35
"""Penalty on the log likelihood, per parameter and per unit of log(rows); BIC uses 0.5."""
_COARSE, _FINE = 12, 100
"""Maximum numbers of EM steps: to choose the kernel, and to fit the model with the chosen one."""
_SETTLED = 0.02
"""Gain in log likelihood below which EM stops."""
_PRIOR_VARIANCE, _OWN_WEIGHT, _SHARED_WEIGHT = 0.5, 5.0, 0.5
"""Prior variance of a class's independent part on the logit scale, its weight as a number of
values, and the weight of a known direction's prior as a number of rows. The prior variance of a
known direction is the estimated variance of the independent part: a fixed one would exceed most
differences between trainings and would persist in a fit to a hundred rows."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects in rotated and whitened coordinates: their covariance and posterior."""

    rotation: FloatArray
    """Eigenvectors of the similarity of combinations, ``(combinations, rows)``."""
    variance: FloatArray
    """Eigenvalues of that similarity, ``(rows,)``."""
    slope: FloatArray
    """Change of each class per unit of effect on the logit scale, ``(classes,)``."""
    own: float
    """Variance of each class's independent part on the logit scale."""
    loadings: FloatArray
    """Directions in which classes move together, ``(factors, classes)``."""
    kernel: tuple[float, float] | None = None
    """Share of variance that is independent for each combination, and length of the kernel."""
    known: int = 0
    """Number of known directions among ``loadings``, which are the first ones."""

    def covariance(self) -> FloatArray:
        """Return the dense covariance ``L`` of the classes, ``(classes, classes)``."""
        return np.asarray(np.diag(self.own * self.slope**2) + self.loadings.T @ self.loadings)

    def conditional(self) -> Conditional:
        """Return the posterior uncertainty given data with noise of variance 1."""
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

    def errors(self, effects: FloatArray, noise: FloatArray) -> FloatArray:
        """Return the errors of ``mean`` for draws of effects and noise.

        Args:
            effects: Draws of the effects, ``(draws, rows, classes)``; see ``drawn``.
            noise: Draws of the noise, which need not be independent, same shape.
        """
        given = self.posterior(np.zeros((len(self.variance), len(self.slope))))
        x = effects + noise
        scores = np.einsum("ijk,dik->dij", given.covariance, (x / given.diagonal) @ self.loadings.T)
        common = scores @ self.loadings
        return np.asarray(common + (1 - 1 / given.diagonal) * (x - common) - effects)

    def drawn(self, own: FloatArray, common: FloatArray) -> FloatArray:
        """Turn standard normal numbers ``(draws, rows, ...)`` into effects; overwrite ``own``.

        Args:
            own: Standard normal numbers, ``(draws, rows, classes)``.
            common: Standard normal numbers, ``(draws, rows, factors)``.
        """
        own *= np.sqrt(self.own) * self.slope
        own += common @ self.loadings
        own *= np.sqrt(self.variance)[:, None]
        return own

    def posterior(self, rotated: FloatArray) -> Given:
        """Return the distribution of the effects given data with noise of variance 1.

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
    """Posterior uncertainty of the effects, as independent parts plus factors."""

    own: FloatArray
    """Standard deviations given the factors, ``(rows, classes)``."""
    rest: FloatArray
    """Share of the factors' contribution that the data do not correct, ``(rows, classes)``."""
    root: FloatArray
    """Cholesky factors of the covariances of the scores, ``(rows, factors, factors)``."""
    loadings: FloatArray
    """Directions of the factors, ``(factors, classes)``."""

    def drawn(self, own: FloatArray, common: FloatArray) -> FloatArray:
        """Turn standard normal numbers into deviations of the effects; overwrite ``own``.

        Args:
            own: Standard normal numbers, ``(draws, rows, classes)``.
            common: Standard normal numbers, ``(draws, rows, factors)``.
        """
        own *= self.own
        if len(self.loadings):
            scores = np.einsum("ijk,dik->dij", self.root, common)
            own += (scores @ self.loadings) * self.rest
        return own

    def variance(self) -> FloatArray:
        """Return the variances of the effects, ``(rows, classes)``."""
        moved = self.root.transpose(0, 2, 1) @ self.loadings
        return np.asarray(self.own**2 + self.rest**2 * (moved**2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Given:
    """Distribution of the factors' scores, with intermediate results; see ``Effects.posterior``."""

    diagonal: FloatArray
    """Variance of the data without the factors, ``(rows, classes)``."""
    weighted: FloatArray
    """Data divided by that variance."""
    scores: FloatArray
    """Posterior means, ``(rows, factors)``."""
    covariance: FloatArray
    """Posterior covariances, ``(rows, factors, factors)``."""
    likelihood: float
    """Log likelihood of the data, up to a constant."""


def fit_effects(
    white: FloatArray,
    root: FloatArray,
    settings: FloatArray,
    slope: FloatArray,
    hardness: FloatArray,
    start: Effects | None = None,
) -> Effects:
    """Fit the kernel over combinations and the covariance of classes by maximum likelihood.

    Args:
        white: Effects with noise of variance 1, shape ``(combinations, classes)``.
        root: Square roots of the numbers of seeds.
        settings: Coordinates of the combinations, ``(combinations, axes)``.
        slope: Change per unit of effect on the logit scale, for each class of ``white``.
        hardness: Standardized levels of the classes, for the second known direction.
        start: Effects of the same combinations in other circumstances, to take the kernel and the
            number of directions from; None to choose them.
    """
    distance = np.sqrt(((settings[:, None] - settings) ** 2).sum(axis=-1))
    known = _known(slope, hardness)
    first = np.sqrt(_PRIOR_VARIANCE) * known
    found = int(min(white.shape) > 2)
    if len(white) == 1:  # one combination has no effect besides the levels
        return Effects(np.zeros((1, 0)), np.zeros(0), slope, _PRIOR_VARIANCE, first)
    if start is not None and start.kernel is not None:
        variance, rotation = _likeness(distance, root, *start.kernel)
        loadings = start.loadings * (slope / start.slope)
        effects = replace(
            start, rotation=rotation, variance=variance, slope=slope, loadings=loadings
        )
        return _maximize(effects, rotation.T @ white, known[: start.known], _FINE)[0]
    best: tuple[float, Effects] | None = None
    own = _PRIOR_VARIANCE
    for share, length in _KERNELS:
        variance, rotation = _likeness(distance, root, share, length)
        rotated = rotation.T @ white
        effects = Effects(rotation, variance, slope, own, first, (share, length))
        if len(first) < len(known) + found:
            effects = _with_another(effects, rotated)
        effects, likelihood = _maximize(effects, rotated, known, _COARSE)
        own, first = effects.own, effects.loadings
        if best is None or likelihood > best[0]:
            best = likelihood, effects
    assert best is not None
    return _with_best_directions(best[1], best[1].rotation.T @ white, known)


def _known(slope: FloatArray, hardness: FloatArray) -> FloatArray:
    """Return the known directions, ``(0 to 2, classes)``; none for one class."""
    directions = [slope] if len(slope) > 1 else []
    if len(slope) > 2 and hardness.any():
        directions.append(slope * hardness)
    return np.array(directions).reshape(-1, len(slope))


def _likeness(
    distance: FloatArray, root: FloatArray, share: float, length: float
) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues and eigenvectors of the kernel over combinations, as contrasts."""
    unit = root / np.sqrt(root @ root)
    far = np.sqrt(3) * distance / length
    like = (1 - share) * (1 + far) * np.exp(-far) + share * np.eye(len(root))
    like *= root[:, None] * root
    like -= unit[:, None] * (unit @ like)  # levels are unconstrained, so effects are contrasts
    like -= (like @ unit)[:, None] * unit
    variance, rotation = eigh(like)
    kept = variance > 1e-9 * root.max() ** 2
    return variance[kept], rotation[:, kept]


def _with_best_directions(effects: Effects, rotated: FloatArray, known: FloatArray) -> Effects:
    """Return effects with the directions that maximize the penalized likelihood.

    Args:
        effects: Effects with all known directions.
        rotated: Data, ``(rows, classes)``.
        known: Known directions; the first one is always kept.
    """
    best: tuple[float, Effects] | None = None
    for kept in range(min(len(known), 1), len(known) + 1):
        start = replace(effects, loadings=effects.loadings[:kept], known=kept)
        found = _with_best_factors(start, rotated, known[:kept])
        if best is None or found[0] > best[0]:
            best = found
    assert best is not None
    return best[1]


def _with_best_factors(
    start: Effects, rotated: FloatArray, known: FloatArray
) -> tuple[float, Effects]:
    """Return the largest penalized log likelihood over numbers of factors, and its effects."""
    rows, classes = rotated.shape
    best: tuple[float, Effects] | None = None
    for factors in range(min(_FACTORS, classes - 1, rows - 1) + 1):
        if factors:
            start = _with_another(start, rotated)
        start, likelihood = _maximize(start, rotated, known, _FINE)
        parameters = factors * classes + len(known)
        value = likelihood - _PENALTY * parameters * np.log(rows)
        if best is not None and value <= best[0]:
            break
        best = value, start
    assert best is not None
    return best


def _with_another(effects: Effects, rotated: FloatArray) -> Effects:
    """Return effects with one more direction, the leading one of the residuals."""
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
    """Return the effects after one EM step."""
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
        prior = _SHARED_WEIGHT * own * (directions**2).sum(1) / (b[:known] ** 2).sum(1)
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
