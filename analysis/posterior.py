"""What counts of validation say of every combination's classes, all combinations taken together.

A matrix normal model on the scale on which a count's noise does not depend on the accuracy: with
``y = arcsin(sqrt(accuracy))`` (Anscombe 1948), combination c, seed s and class k have

    y[c, s, k] = level[k] + effect[c, k] + seed[s, k] + noise[c, s, k],   effect ~ N(0, R x L).

A class has its level from all combinations. ``R`` says which combinations are alike: a Matern 3/2
kernel over their settings, and a share of each one's own. ``L`` says how classes move: each for
itself, by as much on the logit scale as any other, and together by a few factors. Rotated
by the eigenvectors of both, all is independent, so that likelihood and posterior are closed
forms (Dawid 1981; Efron and Morris 1972 shrink a matrix so). ``L`` is fitted by EM and ``R`` by its
marginal likelihood: empirical Bayes.

All runs see the same images, so part of the luck of their draw is common to all, and counts alone
do not say how much. The spread over seeds bounds it: what runs of one combination differ by is
noise of comparisons; what independent images would have added to that is taken as common. With one
seed the images count as independent, and a run's own luck in training as part of its accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.linalg import eigh

from analysis.columns import FloatArray, effective_alpha
from analysis.combinations import Combinations

__all__ = ["Draw", "Posterior", "fit"]

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Distances, in units of alpha, over which combinations are alike."""
_OWN_SHARES = (0.05, 0.2, 0.5, 1.0)
"""Share of the effects' variance that is each combination's own; 1 leaves nothing to the kernel."""
_FACTORS = 4
"""Most ways in which classes may move together."""
_PENALTY = 0.35
"""What a factor costs, in log likelihood a number and log row; BIC would take 0.5."""
_COARSE, _FINE = 12, 100
"""EM steps for the choice of ``R``, and at most for the fit with the chosen one."""
_SEEDS = 8
"""Seeds drawn, in antithetic pairs, for a mean over seeds."""
_TOGETHER = 1_000_000
"""Numbers that are worked on at a time, about."""
_PRIOR_VARIANCE, _PRIOR_WEIGHT = 0.5, 5.0
"""What few combinations cannot say of the effects' variance on the logit scale, as data."""


@dataclass(frozen=True, eq=False)
class Draw:
    """A draw from the posterior: accuracies as a further seed would have them on average.

    Or many draws, of which arrays have an axis in front; they are iterated over.
    """

    recalls: FloatArray
    """Shape ``(combinations, classes)``; NaN for a class without images."""
    worst_k: FloatArray
    """Mean over seeds of the worst-k accuracy, shape ``(combinations,)``."""

    def average(self, share: FloatArray) -> FloatArray:
        """Average accuracies, ``(combinations,)``; ``share`` is each class's of the images."""
        return np.asarray(np.nan_to_num(self.recalls) @ share)

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(*one) for one in zip(self.recalls, self.worst_k, strict=True))


@dataclass(frozen=True, eq=False)
class Posterior:
    """A normal posterior in rotated coordinates; see ``fit``. ``present`` classes only."""

    mean: FloatArray
    """On the arcsine scale, shape ``(combinations, present)``."""
    spread: FloatArray
    """Standard deviations of the effects, rotated and whitened, ``(contrasts, present)``."""
    rows: FloatArray
    """From rotated to combinations, shape ``(combinations, contrasts)``."""
    columns: FloatArray
    """From rotated to classes, shape ``(present, present)``."""
    level: FloatArray
    """Standard deviation of each class's level, common to all combinations, ``(present,)``."""
    seed: FloatArray
    """Standard deviation of a training over seeds, ``(present,)``; 0 where it cannot be told."""
    shared: float
    """Share of the noise of images that runs have in common, a lower bound; NaN with one seed."""
    present: np.ndarray
    """Which classes have images, shape ``(classes,)``."""

    def blocks(self, number: int) -> list[slice]:
        """Of so many draws, those that are worked on at a time."""
        most = max(_TOGETHER // (_SEEDS * self.mean.size), 1)
        return [slice(begun, min(begun + most, number)) for begun in range(0, number, most)]

    def draws(self, number: int, worst_k: int) -> Iterator[Draw]:
        """Draws from the posterior, the same ones each time."""
        for many in self.many(number, worst_k):
            yield from many

    def many(self, number: int, worst_k: int) -> Iterator[Draw]:
        """As ``draws``, a block at a time: arrays have an axis of them in front."""
        rng, p = np.random.default_rng(0), self
        parts = np.cumsum([p.spread.size, p.level.size])
        width = parts[-1] + _SEEDS // 2 * p.seed.size
        for block in p.blocks(number):
            many = block.stop - block.start
            effect, level, half = np.split(rng.standard_normal((many, width)), parts, axis=1)
            y = p.mean + p.rows @ (effect.reshape(many, *p.spread.shape) * p.spread) @ p.columns.T
            y += (level * p.level)[:, None]
            yield p.seen(y, half.reshape(many, -1, p.seed.size) * p.seed, worst_k)

    def seen(self, y: FloatArray, half: FloatArray, worst_k: int) -> Draw:
        """Accuracies on the arcsine scale, ``(..., combinations, present)``, as draws.

        ``half`` of the seeds that a mean is over, shape ``(..., seeds, present)``; the others are
        their opposites.
        """
        seeds = np.concatenate((half, -half), axis=-2) if self.seed.any() else half[..., :1, :]
        each = np.clip(y[..., None, :, :] + seeds[..., :, None, :], 0, np.pi / 2)
        recalls = np.full((*y.shape[:-1], self.present.size), np.nan)
        cosine = np.cos(2 * np.clip(y, 0, np.pi / 2)) * np.exp(-2 * self.seed**2)
        recalls[..., self.present] = (1 - cosine) / 2  # sin^2, its mean over normal seeds
        return Draw(recalls, _worst_k(each, worst_k).mean(axis=-2))


def _worst_k(y: FloatArray, k: int) -> FloatArray:
    if k == 1:
        return np.asarray(np.sin(y.min(axis=-1)) ** 2)
    lowest = np.partition(y, k - 1, axis=-1)[..., :k] if k < y.shape[-1] else y
    return np.asarray((np.sin(lowest) ** 2).mean(axis=-1))


def fit(combinations: Combinations) -> Posterior | None:
    """Fit the model; None if the runs were not all measured on the same numbers of images.

    Takes a few eigendecompositions of ``(combinations, combinations)``.
    """
    c = combinations
    if (c.class_total != c.class_total[0]).any():
        return None
    present = c.class_total[0] > 0
    n = c.class_total[0, present]
    y = np.arcsin(np.sqrt((c.class_correct[:, present] + 3 / 8) / (n + 3 / 4)))
    images = 1 / (4.0 * n + 2)
    noise, common, seed = _noise(c, y, images)

    weight = c.seeds.astype(np.float64)
    y = np.add.reduceat(y, c.start) / weight[:, None]
    level = weight @ y / weight.sum()
    root, scale = np.sqrt(weight), np.sqrt(noise)
    white = root[:, None] * (y - level) / scale
    slope = np.maximum(np.sin(2 * level), 0.2) / 4 / scale  # of the scale against the logit
    rotation, variance, effects = _fit_effects(white, root, _settings(c), slope)

    gains, vectors = eigh(effects)
    signal = variance[:, None] * np.maximum(gains, 0)
    shrink = signal / (signal + 1)
    rows = rotation / root[:, None]
    columns = scale[:, None] * vectors
    mean = level + rows @ (shrink * (rotation.T @ white @ vectors)) @ columns.T
    several = bool((c.seeds > 1).any())
    return Posterior(
        mean=mean,
        spread=np.sqrt(shrink),
        rows=rows,
        columns=columns,
        level=np.sqrt(noise / weight.sum() + common),
        seed=seed,
        shared=max(float((1 - noise / images).mean()), 0.0) if several else float("nan"),
        present=present,
    )


def _noise(
    c: Combinations, y: FloatArray, images: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Variance of one run in comparisons, variance common to all, deviation over seeds; per class.

    The spread within combinations, less what each seed does to all of them.
    """
    within = y - np.repeat(np.add.reduceat(y, c.start) / c.seeds[:, None], c.seeds, axis=0)
    names, place = np.unique(c.seed, return_inverse=True)
    several = np.repeat(c.seeds, c.seeds) > 1
    free = int((c.seeds - 1).sum()) - (len(names) - 1)
    if free < 1:
        return images, np.zeros_like(images), np.zeros_like(images)
    count = np.maximum(np.bincount(place[several], minlength=len(names)), 1)[:, None]
    together = np.zeros((len(names), y.shape[1]))
    np.add.at(together, place[several], within[several])
    together /= count
    rest = within - np.where(several[:, None], together[place], 0)
    ratio = (rest**2).sum(axis=0) / free / images
    ratio = np.maximum((free * ratio + 10 * ratio.mean()) / (free + 10), 0.01)
    by_seed = (together**2).sum(axis=0) / (len(names) - 1) / images - ratio / count.mean()
    noise, of_seeds = ratio * images, max(float(by_seed.mean()), 0.0) * images
    common = _positive(1 - ratio) * images + of_seeds / len(names)
    return noise, common, np.sqrt(of_seeds + _positive(ratio - 1) * images)


def _positive(shares: FloatArray) -> FloatArray:
    """Positive parts that add up to no more than all do, so that noise around 0 stays 0."""
    positive = np.maximum(shares, 0)
    return positive * max(float(shares.sum()), 0.0) / max(float(positive.sum()), 1e-12)


def _settings(c: Combinations) -> FloatArray:
    """Places of the combinations, shape ``(combinations, 5)``; standard is an axis of its own."""
    axes = []
    for objective, alpha in (
        (c.teacher_objective, c.alpha_t),
        (c.student_objective, c.alpha_s),
    ):
        amount = effective_alpha(objective, alpha)
        axes += [np.maximum(amount, 0), amount < 0]
    temperature = np.where(c.temperature > 0, c.temperature, 1.0)  # NaN where it means nothing
    return np.column_stack([*axes, np.log2(temperature) / 2])


def _fit_effects(
    white: FloatArray, root: FloatArray, settings: FloatArray, slope: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The likeness of combinations with the largest likelihood, and the covariance of classes.

    Args:
        white: Effects with noise of variance 1, shape ``(combinations, classes)``.
        root: Square roots of the numbers of seeds.
        settings: Places of the combinations.
        slope: How far an effect of 1 on the logit scale moves each class of ``white``.

    Returns:
        Eigenvectors and eigenvalues of ``R`` over contrasts, and ``L``, all of ``white``.
    """
    distance = np.sqrt(((settings[:, None] - settings) ** 2).sum(axis=-1))
    unit = root / np.sqrt(root @ root)
    best = None
    effects = _PRIOR_VARIANCE * np.diag(slope**2)
    for own in _OWN_SHARES:
        for length in _LENGTHS if own < 1 else _LENGTHS[:1]:
            far = np.sqrt(3) * distance / length
            like = (1 - own) * (1 + far) * np.exp(-far) + own * np.eye(len(root))
            like *= root[:, None] * root
            like -= unit[:, None] * (unit @ like)  # levels are free, so effects are contrasts
            like -= (like @ unit)[:, None] * unit
            variance, rotation = eigh(like)
            kept = variance > 1e-9 * root.max() ** 2
            variance, rotation = variance[kept], rotation[:, kept]
            rotated = rotation.T @ white
            factors = min(1, len(slope) - 1)  # none where there is one class
            effects, found = _class_covariance(rotated, variance, slope, factors, _COARSE, effects)
            if best is None or found > best[0]:
                best = found, rotation, variance, effects
    assert best is not None
    _, rotation, variance, effects = best
    rotated = rotation.T @ white
    fits = []
    for factors in range(1, min(_FACTORS, len(slope) - 1, len(variance) - 1) + 1):
        fitted, found = _class_covariance(rotated, variance, slope, factors, _FINE, effects)
        fits.append((found - _PENALTY * factors * len(slope) * np.log(len(variance)), fitted))
    if fits:
        _, effects = max(fits, key=lambda fitted: fitted[0])
    return rotation, variance, effects


def _class_covariance(
    rotated: FloatArray,
    variance: FloatArray,
    slope: FloatArray,
    factors: int,
    steps: int,
    effects: FloatArray,
) -> tuple[FloatArray, float]:
    """EM for ``L``, where row i is ``N(0, variance[i] L + 1)``; and the log likelihood.

    ``L`` is ``own diag(slope^2)`` and so many factors: the maximization is that of probabilistic
    principal components (Tipping and Bishop 1999), equation 8.
    """
    rows, classes = rotated.shape
    outer = np.outer(slope, slope)
    likelihood = 0.0
    for _ in range(steps):
        gains, vectors = np.linalg.eigh(effects)
        gains = np.maximum(gains, 1e-12)
        signal = variance[:, None] * gains
        turned = rotated @ vectors
        likelihood = -0.5 * float((np.log1p(signal) + turned**2 / (signal + 1)).sum())
        means = turned * signal / (signal + 1) / np.sqrt(variance)[:, None]
        moments = (means.T @ means) + np.diag((gains / (signal + 1)).sum(axis=0))
        moments = vectors @ moments @ vectors.T / outer
        moments[np.diag_indices(classes)] += _PRIOR_WEIGHT * _PRIOR_VARIANCE / classes
        values, axes = np.linalg.eigh(moments / (rows + _PRIOR_WEIGHT / classes))
        values[: classes - factors] = values[: classes - factors].mean()
        updated = (axes * values) @ axes.T * outer
        change = np.linalg.norm(updated - effects) / np.linalg.norm(updated)
        effects = updated
        if change < 2e-3:
            break
    return effects, likelihood
