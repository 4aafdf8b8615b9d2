"""Joint noise of students that classify the same images, estimated from their predictions.

Let ``z`` be the correctness of a student on an image, less its mean over the class, on the arcsine
scale. Other images would change the accuracies of all students together, by sums of ``z`` over the
images with random weights (the multiplier bootstrap): such noise has the covariance of ``z`` over
the images of a class. With few images or few mistakes that covariance is uncertain. It is then
shrunk toward one with a common part of all students of a level (the trained ones, or those with one
strength of the shift) and a part of each student, which its shifts share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product, starmap

import numpy as np

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.combinations import Combinations
from analysis.selection.responses import Responses, responses

__all__ = ["Pairing", "WithinSpread", "pairing", "positive", "within_spread"]

_PRIOR = 4.0
"""Weight of the mean over classes in the figures of a class, in images that half of the students
classify correctly."""
_LEAST = 0.01
"""Least variance in comparisons, in units of that of independent images."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """Joint noise of combinations on the arcsine scale; ``present`` counts classes with images."""

    noise: FloatArray
    """Variance of one run in comparisons within a level, ``(present,)``."""
    common: FloatArray
    """Variance that all combinations of a level have in common, ``(present,)``."""
    seed: FloatArray
    """Standard deviation of a training over seeds, ``(present,)``; 0 if there is one seed."""
    alike: float
    """Share of the image noise that the seeds of a combination have in common; NaN with one."""
    z: FloatArray
    """Deviations of the combinations by image, ``(combinations, images)``."""
    begun: IntArray
    """First image of each class."""
    target: FloatArray
    """Standard deviation of the target in each class, ``(present,)``; 0 if ``z`` suffices."""
    levels: FloatArray
    """Square root of the covariance of the common parts, ``(levels, levels)``."""
    own: FloatArray
    """Standard deviation of the part of each combination, ``(combinations, present)``."""
    shifts: FloatArray
    """Square root of the correlation of the parts of a student's shifts, ``(levels, levels)``."""
    effects: FloatArray
    """Square root of the correlation of the effects of a student's shifts, ``(levels, levels)``."""
    together: FloatArray
    """Standard deviation of the effect of a seed on all trainings, ``(present,)``."""
    level: IntArray
    student: IntArray

    def blocks(self, blocks: Iterable[slice]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield draws of the noise, and standard normal numbers for the effects.

        Every call yields the same ones. Both have the shape ``(draws, combinations, present)``,
        with one more normal number for each combination; those of a student and its shifts are
        correlated as far as their effects are.
        """
        rng = np.random.default_rng(3)
        for block in blocks:
            number, shape = (
                block.stop - block.start,
                (int(self.student.max()) + 1, len(self.begun) + 1),
            )
            noise = self.draws(rng, number)
            normal = rng.standard_normal((len(self.levels), number, *shape))
            normal = np.tensordot(self.effects, normal, 1)
            yield noise, np.moveaxis(normal[self.level, :, self.student], 0, 1)

    def draws(self, rng: np.random.Generator, number: int) -> FloatArray:
        """Return draws of the noise of means over seeds, ``(number, combinations, present)``."""
        levels, classes, images = len(self.levels), len(self.begun), self.z.shape[1]
        weights = rng.standard_normal((number, images), dtype=np.float32)
        noise = np.empty((number, len(self.z), classes))
        ends = [*self.begun[1:].tolist(), images]
        for k, (begun, end) in enumerate(zip(self.begun.tolist(), ends, strict=True)):
            noise[:, :, k] = weights[:, begun:end] @ self.z[:, begun:end].T
        common = self.levels @ rng.standard_normal((number, levels, classes))
        common *= self.target
        common += rng.standard_normal((number, 1, classes)) * self.together
        own = rng.standard_normal((levels, number, int(self.student.max()) + 1, classes))
        own = np.tensordot(self.shifts, own, 1)
        noise += common[:, self.level]
        noise += np.moveaxis(own[self.level, :, self.student], 0, 1) * self.own
        return noise


def pairing(c: Combinations) -> Pairing | None:
    """Return the joint noise of combinations; None without outcomes.

    The spread of seeds beyond that of images is the randomness of trainings.

    Args:
        c: Combinations on the same numbers of images, which may have shifts.
    """
    if c.outcomes is None:
        return None
    present = c.class_total[0] > 0
    n, parts = c.class_total[0, present], [c.part(one) for one in c.levels()]
    counts = [responses(p.class_correct[:, present], n, p.start, p.seeds) for p in parts]
    correct, sizes = c.outcomes.correct(), c.outcomes.images
    begun = np.cumsum(sizes) - sizes
    recall = np.add.reduceat(correct, begun, axis=1, dtype=np.float32) / sizes
    steep = np.concatenate([one.steep for one in counts])
    z: FloatArray = correct - np.repeat(recall.astype(np.float32), sizes, axis=1)
    z /= np.repeat(np.repeat(steep.astype(np.float32), c.seeds, axis=0), sizes, axis=1)

    def by_class(columns: FloatArray) -> FloatArray:
        return np.add.reduceat(columns, begun, axis=-1, dtype=np.float64)

    total = by_class((z**2).mean(axis=0))  # that of independent images
    weight = total * (steep**2).mean(axis=0)  # about 1 for an image that half of the runs get wrong
    known = total > 1e-9
    if not known.any():  # all runs are right on all images
        return None
    share = np.where(known, 1 / np.where(known, total, 1), 0)

    def mean(ratio: FloatArray) -> FloatArray:
        return np.asarray(ratio @ weight / weight.sum())

    def shrunk(ratio: FloatArray) -> FloatArray:
        center = mean(ratio)[..., None]
        return np.asarray((weight * ratio + _PRIOR * center) / (weight + _PRIOR))

    means = np.add.reduceat(z, c.start) / c.seeds.astype(np.float32)[:, None]
    common = np.array([c.seeds[p] @ means[p] / c.seeds[p].sum() for p in c.levels()])
    rest = means - common[c.level].astype(np.float32)
    scale = shrunk(by_class((c.seeds.astype(np.float32) @ rest**2) / len(c)) * share)
    levels = by_class(common[:, None] * common) * share
    over_seeds = within_spread(parts[0], z[: len(parts[0].seed)])
    if over_seeds is not None:
        squares = over_seeds.own, over_seeds.together
        own, together = (shrunk(by_class(one) * share) for one in squares)
        over_seeds = replace(over_seeds, own=own, together=together)
    luck = _luck(parts[0], counts[0], over_seeds)
    alike = _products(c, rest * np.repeat(np.sqrt(share * weight), sizes).astype(np.float32))
    images, certain = counts[0].noise, weight / (weight + _PRIOR)
    apart = np.concatenate(list(starmap(_contrasts, zip(parts, counts, strict=True))))
    signal = _products(c, apart * np.sqrt(weight / images)) - alike
    root = np.sqrt(share * certain * images)
    spread = mean(by_class((rest**2).mean(axis=0)) * share)
    own = (1 - certain) * spread + luck.own / c.seeds[:, None]
    of_seeds = luck.together / luck.seeds
    return Pairing(
        noise=np.maximum(scale + luck.own.mean(), _LEAST) * images,
        common=(shrunk(levels)[0, 0] + of_seeds) * images,
        seed=np.sqrt((luck.own + luck.together) * images),
        alike=luck.alike,
        z=means * np.repeat(root, sizes).astype(np.float32),
        begun=begun,
        target=np.sqrt((1 - certain) * images),
        levels=_root(mean(levels)),
        own=np.sqrt(own * images),
        shifts=_root(_correlation(alike)),
        effects=_root(_correlation(signal)),
        together=np.sqrt(of_seeds * images),
        level=c.level,
        student=_students(c),
    )


@dataclass(frozen=True, eq=False)
class _Luck:
    """Randomness of trainings in units of the noise of one run on independent images."""

    own: FloatArray
    """Variance of one training, ``(present,)``."""
    together: float
    """Variance of the effect of a seed on all trainings."""
    seeds: int
    alike: float
    """Share of the image noise that the seeds of a combination have in common; NaN with one."""


def _luck(c: Combinations, counts: Responses, images: WithinSpread | None) -> _Luck:
    """Return the randomness of trainings: the spread over seeds beyond that of images.

    Args:
        c: Combinations of one level.
        counts: Their responses.
        images: Spread of images over seeds, by class, in units of the noise of one run.
    """
    spread = within_spread(c, counts.values)
    if spread is None or images is None:
        return _Luck(np.zeros_like(counts.noise), 0.0, 1, float("nan"))
    ratio = spread.own / spread.free / counts.noise
    ratio = (spread.free * ratio + 10 * ratio.mean()) / (spread.free + 10)
    expected = images.own / images.free
    by_seed = spread.together / (spread.seeds - 1) / counts.noise - ratio / spread.runs
    of_images = images.together / (images.seeds - 1) - expected / images.runs
    together = max(float((by_seed - of_images).mean()), 0.0)
    alike = float(np.clip(1 - expected.mean(), 0, 1))
    return _Luck(positive(ratio - expected), together, spread.seeds, alike)


def _contrasts(c: Combinations, counts: Responses) -> FloatArray:
    """Return the responses of combinations of one level, less their mean."""
    y = np.add.reduceat(counts.values, c.start) / c.seeds[:, None]
    return np.asarray(y - c.seeds @ y / c.seeds.sum())


def positive(shares: FloatArray) -> FloatArray:
    """Return the positive parts, scaled to the sum of all shares so that noise around 0 cancels."""
    found = np.maximum(shares, 0)
    return np.asarray(found * max(float(shares.sum()), 0.0) / max(float(found.sum()), 1e-12))


def _students(c: Combinations) -> IntArray:
    """Return the number of each combination's students, which its shifts have in common."""
    first = c.run_id.take(c.start).dictionary_encode()
    return np.asarray(first.indices.to_numpy(), dtype=np.int64)


def _products(c: Combinations, values: FloatArray) -> FloatArray:
    """Return products of the values of a student at two levels, ``(levels, levels)``.

    They are means over students of sums over the columns of ``(combinations, columns)``.
    """
    count, student = len(c.levels()), _students(c)
    rows = np.full((count, int(student.max()) + 1), -1)
    rows[c.level, student] = np.arange(len(c))
    found = np.empty((count, count))
    for a, b in product(range(count), range(count)):
        both = (rows[a] >= 0) & (rows[b] >= 0)
        pairs = values[rows[a, both]] * values[rows[b, both]]
        found[a, b] = pairs.sum(dtype=np.float64) / max(int(both.sum()), 1)
    return found


def _correlation(covariance: FloatArray) -> FloatArray:
    """Return the correlations of an estimated covariance; 0 without variance."""
    variance = covariance.diagonal()
    size = np.sqrt(np.outer(np.maximum(variance, 0), np.maximum(variance, 0)))
    found = np.divide(covariance, size, out=np.zeros_like(covariance), where=size > 0).clip(-1, 1)
    np.fill_diagonal(found, 1)
    return found


def _root(covariance: FloatArray) -> FloatArray:
    """Return the symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


@dataclass(frozen=True, eq=False)
class WithinSpread:
    """Squared deviations of runs over the seeds of their combinations, summed by column."""

    own: FloatArray
    """Deviations from the combination without the effect of the seed on all combinations."""
    together: FloatArray
    """Effects of the seeds on all combinations."""
    free: int
    """Degrees of freedom of ``own``."""
    seeds: int
    """Number of different seeds."""
    runs: float
    """Mean number of runs of a seed."""


def within_spread(c: Combinations, values: FloatArray) -> WithinSpread | None:
    """Return the spread over seeds of values ``(runs, columns)``; None without several seeds."""
    means = np.add.reduceat(values, c.start) / c.seeds[:, None]
    within = values - np.repeat(means, c.seeds, axis=0)
    names, place = np.unique(c.seed, return_inverse=True)
    several = np.repeat(c.seeds, c.seeds) > 1
    free = int((c.seeds - 1).sum()) - (len(names) - 1)
    if free < 1:
        return None
    count = np.maximum(np.bincount(place[several], minlength=len(names)), 1)[:, None]
    together = np.zeros((len(names), values.shape[1]))
    np.add.at(together, place[several], within[several])
    together /= count
    rest = within - np.where(several[:, None], together[place], 0)
    squares = (rest**2).sum(axis=0), (together**2).sum(axis=0)
    return WithinSpread(*squares, free, len(names), float(count.mean()))
