"""Selection by another figure than accuracy, such as the worst-class F1, from predictions."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.combinations import Combinations
from analysis.runs.image_groups import ImageGroups
from analysis.runs.loading import Runs
from analysis.runs.samples import samples
from analysis.runs.scores import Scores
from analysis.selection.criteria import Accuracies, Constrained
from rkd_core.errors import UserError
from rkd_core.metrics.per_class import Metric, Sample, group_accuracy
from rkd_core.storage.files import Location
from rkd_core.text.numbers import plural

__all__ = [
    "ByGroup",
    "ByMetric",
    "bootstrap",
    "figures",
    "number_of_draws",
    "strata",
    "with_scores",
]

_SEED = 11
_OPERATIONS = 2_000_000_000
"""Approximate product of the numbers of draws, runs, images and classes."""
_WEIGHTS = 20_000_000
"""Approximate product of the numbers of draws and images, for memory."""


@dataclass(frozen=True)
class ByMetric(Constrained):
    """A rule that maximizes the worst-k classes by a metric under a constraint on accuracy.

    The constraint is that of ``Constrained``: the average accuracy, not the average of the metric.
    A group of classes is measured by its mean.

    Attributes:
        metric: The metric.
        about: What defines it besides its name, as plain data, such as the digest of its code.
    """

    metric: Metric | None = None
    about: tuple[tuple[str, Any], ...] = ()

    @property
    def figure(self) -> Metric:
        """The metric."""
        assert self.metric is not None
        return self.metric

    def by_accuracy(self) -> Constrained:
        """Return the rule with accuracy in the place of the metric."""
        return Constrained(**{one.name: getattr(self, one.name) for one in fields(Constrained)})

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        own = {"name": "metric", "metric": self.figure.name, **dict(self.about)}
        return {**self.by_accuracy().describe(), **own, "lower_is_better": self.sign < 0}

    @property
    def sign(self) -> int:
        """Factor that makes higher figures better."""
        return self.figure.sign

    @property
    def worst_name(self) -> str:
        """Name of the objective, such as ``worst-class F1``."""
        if self.group is not None:
            return f"{self.group.name} {self.figure.title}"
        return f"worst-{'class' if self.worst_k == 1 else self.worst_k} {self.figure.title}"

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        least = super().words(accuracies, reference, index)[1]
        return self.worst_name + (" (lower is better)" if self.sign < 0 else ""), least.replace(
            "an average of", "an average accuracy of"
        )

    def worst(self, values: FloatArray) -> FloatArray:
        """Return the figure of the worst k classes, or of the group, given ``(..., classes)``."""
        if self.group is not None:
            return np.asarray(np.nanmean(values[..., list(self.group.classes)], axis=-1))
        ordered = np.sort(self.sign * values, axis=-1)  # NaN is last
        return np.asarray(self.sign * ordered[..., : self.worst_k].mean(axis=-1))

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the figure of the worst k classes, or of the group, with its sign."""
        return accuracies.score


@dataclass(frozen=True)
class ByGroup(ByMetric):
    """A rule that maximizes the accuracy of the worst groups of images."""

    metric: Metric | None = field(default_factory=group_accuracy)

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        return {**super().describe(), "name": "worst_group"}

    @property
    def worst_name(self) -> str:
        """Name of the objective, such as ``worst-group accuracy``."""
        return f"worst-{'group' if self.worst_k == 1 else f'{self.worst_k} group'} accuracy"


def with_scores(c: Combinations, runs: Runs, rule: ByMetric, draw: bool = True) -> Combinations:
    """Return combinations with their scores by a rule.

    Args:
        c: Students as they were trained.
        runs: The runs that they are from, with their results folder and its groups of images.
        rule: The rule.
        draw: Whether to draw images with replacement, too.

    Raises:
        UserError: As in ``samples``, or there is no results folder or no groups.
    """
    results, groups = runs.results, runs.groups
    if results is None:
        raise UserError(f"a {rule.worst_name} needs predictions: select from a results folder")
    if isinstance(rule, ByGroup):
        _check_groups(rule, groups, results)
    run_ids = c.run_id.to_pylist()
    values: list[FloatArray] = []
    drawn: list[FloatArray] = []
    weights: NDArray[Any] | None = None
    for sample in samples(results, run_ids, rule.figure, groups):
        if weights is None:
            number = number_of_draws(rule.figure, sample, len(run_ids)) if draw else 0
            weights = bootstrap(strata(sample), number)
            _check_labels(sample, c, results)
        values.append(rule.worst(figures(rule.figure, sample)))
        if len(weights):
            drawn.append(rule.worst(rule.figure.evaluate(sample, weights)))
    by_run = rule.sign * np.array(values)
    drawn_by_run = rule.sign * np.array(drawn).reshape(len(run_ids), -1)
    means = np.add.reduceat(by_run, c.start) / c.seeds
    drawn_means = np.add.reduceat(drawn_by_run, c.start, axis=0) / c.seeds[:, None]
    if np.isnan(means).any():
        raise UserError(f"--metric {rule.figure.name} is not defined for any class of a student")
    return replace(c, scores=Scores(means, drawn_means.T))


def figures(metric: Metric, sample: Sample) -> FloatArray:
    """Return the figures of each class on all images, ``(classes,)``."""
    return metric.evaluate(sample, np.ones((1, len(sample.labels))))[0]


def number_of_draws(metric: Metric, sample: Sample, runs: int) -> int:
    """Return a number of draws that takes a few seconds and little memory."""
    images = max(len(sample.labels), 1)
    number = min(_OPERATIONS // (images * sample.classes * max(runs, 1)), metric.most_draws)
    return int(min(max(number, 50), max(_WEIGHTS // images, 20), metric.most_draws))


def bootstrap(strata: IntArray, number: int) -> NDArray[Any]:
    """Return weights of images that are drawn with replacement within each stratum.

    Args:
        strata: Stratum of each image, such as its label, ``(images,)``.
        number: Number of draws.

    Returns:
        How often each image is drawn, float32 ``(number, images)``; the same for every call.
    """
    rng, weights = np.random.default_rng(_SEED), np.empty((number, len(strata)), np.float32)
    for stratum in np.unique(strata):
        places = np.flatnonzero(strata == stratum)
        even = np.full(len(places), 1 / len(places))
        weights[:, places] = rng.multinomial(len(places), even, size=number)
    return np.asarray(weights)


def strata(sample: Sample) -> IntArray:
    """Return the class of each image, or its class and group, ``(images,)``."""
    labels = np.asarray(sample.labels, dtype=np.int64)
    if sample.groups is None:
        return labels
    return labels * (sample.group_count + 1) + sample.groups


def _check_groups(rule: ByGroup, groups: ImageGroups | None, results: Location) -> None:
    if groups is None:
        raise UserError(f"--worst-group needs --image-groups FILE: {results} keeps no groups")
    if rule.worst_k > len(groups.names):
        number = plural(len(groups.names), "group")
        raise UserError(f"--worst-k {rule.worst_k} exceeds the {number} of {groups.what}")


def _check_labels(sample: Sample, c: Combinations, results: Location) -> None:
    counted = np.bincount(sample.labels, minlength=c.class_total.shape[1])
    if not np.array_equal(counted, c.class_total[0]):
        raise UserError(
            f"{results / 'predictions'} has other numbers of validation images than the records; "
            "move it away and compute the predictions again with: "
            f"python -m sweeps.predict {results}"
        )
