"""Posterior of each combination's recalls, given the validation counts of all combinations.

The model is matrix normal on the arcsine scale, on which the noise of a count does not depend on
the accuracy. With ``y = arcsin(sqrt(accuracy))`` (Anscombe 1948), combination c, seed s and class k
have

    y[c, s, k] = level[k] + effect[c, k] + seed[s, k] + noise[c, s, k],   effect ~ N(0, R x L).

The level of a class is estimated from all combinations. ``R`` is the similarity of combinations: a
Matern 3/2 kernel over their settings plus an independent share for each. ``L`` is the covariance of
classes: an independent part for each class, of the same size on the logit scale, plus a few common
factors. In coordinates rotated by the eigenvectors of both, all components are independent, so the
likelihood and the posterior have closed forms (Dawid 1981; Efron and Morris 1972 shrink a matrix in
this way). The fit is empirical Bayes: ``L`` is fitted by EM and ``R`` by its marginal likelihood.

All runs see the same images, so they share part of the sampling noise, and counts alone do not show
how much. The spread over seeds bounds it: differences between runs of one combination are noise of
comparisons, and the rest of the noise expected from independent images is taken as shared. With one
seed, images count as independent, and the randomness of a training as part of its accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.linalg import eigh

from analysis.runs.columns import FloatArray, effective_alpha
from analysis.runs.combinations import Combinations
from analysis.selection.effects import Effects, fit_effects
from analysis.selection.pairing import Pairing, pairing, positive, within_spread
from analysis.selection.responses import responses

__all__ = ["Draw", "Posterior", "draw_blocks", "fit"]

_SEEDS = 8
"""Number of simulated seeds in a mean over seeds, drawn in antithetic pairs."""
_TOGETHER = 1_000_000
"""Approximate number of array elements to process at a time."""
_FARTHEST, _HALVINGS = 3.0, 40
"""Range and bisection steps of the search for the shift of an average (arcsine scale)."""
_UNTOLD = 0.5
"""Assumed share of image noise that runs have in common if there is only one seed; it affects only
the intervals of accuracies."""
_LIMIT = 0.95
"""Maximum shift of an average toward others, in standard errors of its count."""


@dataclass(frozen=True, eq=False)
class Draw:
    """A draw from the posterior: the expected accuracies of a further seed.

    An instance may also hold many draws along the first axis of its arrays; iterating over it
    yields them one by one.
    """

    recalls: FloatArray
    """Shape ``(combinations, classes)``; NaN for a class without images."""
    worst_k: FloatArray
    """Mean over seeds of the worst-k accuracy, shape ``(combinations,)``."""

    def average(self, share: FloatArray) -> FloatArray:
        """Return average accuracies, ``(combinations,)``, given the classes' shares of images."""
        return np.asarray(np.nan_to_num(self.recalls) @ share)

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(*one) for one in zip(self.recalls, self.worst_k, strict=True))


@dataclass(frozen=True, eq=False)
class Posterior:
    """A normal posterior of the ``present`` classes in rotated coordinates; see ``fit``."""

    mean: FloatArray
    """Posterior means on the arcsine scale, shape ``(combinations, present)``."""
    effects: Effects
    """Covariance of the effects, rotated and whitened."""
    rows: FloatArray
    """Transformation from rotated rows to combinations, shape ``(combinations, contrasts)``."""
    scale: FloatArray
    """Standard deviation of one run's noise in comparisons (undoes whitening), ``(present,)``."""
    level: FloatArray
    """Standard deviation of each class's level, common to all combinations, ``(present,)``."""
    seed: FloatArray
    """Standard deviation of a training over seeds, ``(present,)``; 0 if it cannot be estimated."""
    untold: FloatArray
    """Standard deviation of the image noise that all runs may share, ``(present,)``, if there is
    only one seed and no prediction; 0 otherwise. It widens the intervals of accuracies."""
    shared: float
    """Lower bound of the share of image noise that runs have in common; NaN with one seed."""
    present: np.ndarray
    """Mask of the classes that have images, shape ``(classes,)``."""
    root: FloatArray
    """Square roots of the numbers of seeds, ``(combinations,)``."""
    paired: Pairing | None = None
    """Joint noise of the combinations; None for independent noise."""

    def blocks(self, number: int) -> list[slice]:
        """Return slices of draws to process at a time."""
        return draw_blocks(number, self.mean.size)

    def draws(self, number: int, worst_k: int) -> Iterator[Draw]:
        """Yield draws from the posterior; every call yields the same ones."""
        for many in self.many(number, worst_k):
            yield from many

    def many(
        self,
        number: int,
        worst_k: int,
        untold: bool = False,
        blocks: Sequence[slice] | None = None,
        seed: int = 0,
        shocks: Iterable[tuple[FloatArray, FloatArray]] | None = None,
    ) -> Iterator[Draw]:
        """Yield the arrays of ``draws`` in blocks, with the draws as the first axis.

        Args:
            number: Total number of draws.
            worst_k: Number of classes in the worst-k accuracy.
            untold: Whether levels include the noise of ``untold``.
            blocks: Slices of the draws; None for those of ``blocks``.
            seed: Seed of the draws.
            shocks: Draws of ``paired.blocks`` for each block; None to make them.
        """
        rng, p = np.random.default_rng(seed), self
        if blocks is None:
            blocks = p.blocks(number)
        if p.paired is not None:
            for noise, normal in p.paired.blocks(blocks) if shocks is None else shocks:
                half = rng.standard_normal((len(noise), _SEEDS // 2, p.seed.size)) * p.seed
                yield p.seen(p.mean + p.errors(rng, noise, normal), half, worst_k)
            return
        conditional = p.effects.conditional()
        r, k = conditional.own.shape
        q = len(p.effects.loadings)
        deviation = np.hypot(p.level, p.untold) if untold else p.level
        parts = np.cumsum([r * k, r * q, k])
        width = parts[-1] + _SEEDS // 2 * k
        for block in blocks:
            many = block.stop - block.start
            drawn = rng.standard_normal((many, width))
            own, common, level, half = np.split(drawn, parts, axis=1)
            effect = conditional.drawn(own.reshape(many, r, k), common.reshape(many, r, q))
            y = p.mean + p.rows @ effect * p.scale
            y += (level * deviation)[:, None]
            yield p.seen(y, half.reshape(many, -1, k) * p.seed, worst_k)

    def errors(self, rng: np.random.Generator, noise: FloatArray, normal: FloatArray) -> FloatArray:
        """Return errors of ``mean`` for draws of the noise, ``(draws, combinations, present)``.

        The estimate is linear in the data. It treats the noise of combinations as independent,
        since weights from the whole covariance of so few images would make it worse.
        """
        weight = self.root**2 / (self.root @ self.root)
        level = np.einsum("c,dck->dk", weight, noise)[:, None]
        apart = self.root[:, None] * (noise - level) / self.scale
        rotated = self.effects.rotation.T @ apart
        own, first = np.split(self.effects.rotation.T @ normal, [rotated.shape[2]], axis=2)
        others = max(len(self.effects.loadings) - 1, 0)
        common = np.concatenate((first, rng.standard_normal((*rotated.shape[:2], others))), axis=2)
        effects = self.effects.drawn(own, common[..., : len(self.effects.loadings)])
        return np.asarray(level + self.rows @ self.effects.errors(effects, rotated) * self.scale)

    def at(self, index: int) -> Posterior:
        """Return the posterior that a combination belongs to; see ``ShiftLevels.at``."""
        return self

    def modes(self) -> tuple[FloatArray, FloatArray]:
        """Return deviations ``(contrasts, present)`` and directions of independent modes.

        Directions are the columns of a matrix from modes to classes, ``(present, present)``. The
        call decomposes a matrix of that shape.
        """
        gains, vectors = eigh(self.effects.covariance())
        signal = self.effects.variance[:, None] * np.maximum(gains, 0)
        return np.sqrt(signal / (signal + 1)), self.scale[:, None] * vectors

    def recalls(self) -> FloatArray:
        """Return expected recalls of a further seed, ``(combinations, classes)``; NaN if absent."""
        recalls = np.full((len(self.mean), self.present.size), np.nan)
        recalls[:, self.present] = _expected(self.mean, self._variance())
        return recalls

    def _variance(self) -> FloatArray:
        """Return the variance of each accuracy of a further seed, ``(combinations, present)``."""
        effect = self.rows**2 @ self.effects.conditional().variance() * self.scale**2
        return np.asarray(effect + self.level**2 + self.seed**2)

    def seen(self, y: FloatArray, half: FloatArray, worst_k: int) -> Draw:
        """Return draws of accuracies from values on the arcsine scale.

        Args:
            y: Values on the arcsine scale, ``(..., combinations, present)``.
            half: Deviations of half of the seeds in a mean, ``(..., seeds, present)``; those of the
                other half have the opposite sign.
            worst_k: Number of classes in the worst-k accuracy.
        """
        seeds = np.concatenate((half, -half), axis=-2) if self.seed.any() else half[..., :1, :]
        each = _folded(y[..., None, :, :] + seeds[..., :, None, :])
        recalls = np.full((*y.shape[:-1], self.present.size), np.nan)
        recalls[..., self.present] = _expected(y, self.seed**2)
        return Draw(recalls, _worst_k(each, worst_k).mean(axis=-2))


def draw_blocks(number: int, size: int) -> list[slice]:
    """Return slices of draws of ``size`` accuracies to process at a time."""
    most = max(_TOGETHER // (_SEEDS * size), 1)
    return [slice(begun, min(begun + most, number)) for begun in range(0, number, most)]


def _expected(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the mean of ``sin^2`` of a normal variable."""
    return np.asarray((1 - np.cos(2 * mean) * np.exp(-2 * variance)) / 2)


def _folded(y: FloatArray) -> FloatArray:
    """Fold values in place into the range from 0 to pi/2, where ``sin^2`` is the same."""
    np.abs(y, out=y)
    y -= np.pi / 2
    np.abs(y, out=y)
    return np.subtract(np.pi / 2, y, out=y)


def _worst_k(y: FloatArray, k: int) -> FloatArray:
    if k == 1:
        return np.asarray(np.sin(y.min(axis=-1)) ** 2)
    lowest = np.partition(y, k - 1, axis=-1)[..., :k] if k < y.shape[-1] else y
    return np.asarray((np.sin(lowest) ** 2).mean(axis=-1))


def fit(combinations: Combinations, start: Effects | None = None) -> Posterior | None:
    """Fit the model; return None if the runs were measured on different numbers of images.

    The cost is that of a few eigendecompositions of a ``(combinations, combinations)`` matrix.

    Args:
        combinations: Combinations, all trained or all with the same shift.
        start: Effects of the same combinations with another shift, see ``fit_effects``.
    """
    c = combinations
    if (c.class_total != c.class_total[0]).any():
        return None
    present = c.class_total[0] > 0
    n = c.class_total[0, present]
    counts = responses(c.class_correct[:, present], n, c.start, c.seeds)
    several, paired = bool((c.seeds > 1).any()), pairing(c)
    if paired is None:
        noise, common, seed = _noise(c, counts.values, counts.noise)
        shared = max(float((1 - noise / counts.noise).mean()), 0.0) if several else float("nan")
    else:
        noise, common, seed, shared = paired.noise, paired.common, paired.seed, paired.alike

    weight = c.seeds.astype(np.float64)
    y = np.add.reduceat(counts.values, c.start) / weight[:, None]
    counted = weight @ y / weight.sum()
    level, level_variance = _levels(counted, noise / weight.sum())
    root, scale = np.sqrt(weight), np.sqrt(noise)
    white = root[:, None] * (y - counted) / scale
    slope = np.maximum(np.sin(2 * np.clip(level, 0, np.pi / 2)), 0.2) / 4
    effects = fit_effects(white, root, _settings(c), slope / scale, _hardness(level), start)

    rows = effects.rotation / root[:, None]
    rotated = effects.rotation.T @ white
    posterior = Posterior(
        mean=level + rows @ effects.mean(rotated) * scale,
        effects=effects,
        rows=rows,
        scale=scale,
        level=np.sqrt(level_variance + common),
        seed=seed,
        untold=np.sqrt((0 if several or paired is not None else _UNTOLD) * counts.noise),
        shared=shared,
        present=present,
        root=root,
        paired=paired,
    )
    return replace(posterior, mean=_calibrated(posterior, c))


def _levels(counted: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the levels of the classes, shrunk toward their mean, and their variances.

    The shrinkage is empirical Bayes with the correction of Efron and Morris (1973) for few classes;
    three or fewer are not shrunk. It uses only the noise that runs do not share. For the shared
    part only a bound is known, and with few images a tenth of it would move the hardest class far.
    """
    classes = len(counted)
    if classes < 4:
        return counted, variance
    spread = max(float(counted.var(ddof=1) - variance.mean()), 0.0)
    weight = 1 / (spread + variance)
    center = weight @ counted / weight.sum()
    drawn = (classes - 3) / (classes - 1) * variance / (spread + variance)
    return counted + drawn * (center - counted), (1 - drawn) * variance


def _hardness(level: FloatArray) -> FloatArray:
    """Return the levels on the logit scale, standardized; 0 if all are alike."""
    accuracy = np.sin(np.clip(level, 0.1, np.pi / 2 - 0.1)) ** 2
    logit = np.log(accuracy / (1 - accuracy))
    apart = logit - logit.mean()
    return np.asarray(apart / apart.std() if apart.std() > 1e-3 else np.zeros_like(apart))


def _calibrated(posterior: Posterior, c: Combinations) -> FloatArray:
    """Return means whose expected averages agree with the counts, ``(combinations, present)``.

    The count of an average over all images is precise, so its estimate may move toward other
    combinations by at most ``_LIMIT`` standard errors of the count (the limited translation of
    Efron and Morris 1972). All classes of a combination move by the same amount on the logit
    scale.
    """
    mean, variance = posterior.mean, posterior._variance()
    share = c.share[posterior.present]
    count, error = c.counted_average()
    drawn = _expected(mean, variance) @ share - count
    drawn -= c.seeds @ drawn / c.seeds.sum()
    target = count + np.clip(drawn, -_LIMIT * error, _LIMIT * error)
    direction = np.maximum(np.sin(2 * np.clip(mean, 0, np.pi / 2)), 0.05)
    low, high = np.full(len(mean), -_FARTHEST), np.full(len(mean), _FARTHEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        moved = np.clip(mean + middle[:, None] * direction, 0, np.pi / 2)
        under = _expected(moved, variance) @ share < target
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.asarray(np.clip(mean + high[:, None] * direction, 0, np.pi / 2))


def _noise(
    c: Combinations, y: FloatArray, images: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return each class's variance of one run, common variance, and deviation over seeds.

    They are estimated from the spread within combinations, minus the effect of each seed on all of
    them.
    """
    spread = within_spread(c, y)
    if spread is None:
        return images, np.zeros_like(images), np.zeros_like(images)
    free, seeds = spread.free, spread.seeds
    ratio = spread.own / free / images
    ratio = np.maximum((free * ratio + 10 * ratio.mean()) / (free + 10), 0.01)
    by_seed = spread.together / (seeds - 1) / images - ratio / spread.runs
    noise, of_seeds = ratio * images, max(float(by_seed.mean()), 0.0) * images
    common = max(float(1 - ratio.mean()), 0.0) * images + of_seeds / seeds
    return noise, common, np.sqrt(of_seeds + positive(ratio - 1) * images)


def _settings(c: Combinations) -> FloatArray:
    """Return the coordinates of the combinations, ``(combinations, axes)``.

    Each objective that is not a trade-off, such as standard, has its own axis.
    """
    axes = []
    for objective, alpha in (
        (c.teacher_objective, c.alpha_t),
        (c.student_objective, c.alpha_s),
    ):
        amount = effective_alpha(objective, alpha)
        axes.append(np.nan_to_num(amount))
        others = np.unique(objective[np.isnan(amount)])
        axes += [objective == other for other in others]
    temperature = np.where(c.temperature > 0, c.temperature, 1.0)  # NaN if not applicable
    return np.column_stack([*axes, np.log2(temperature) / 2])
