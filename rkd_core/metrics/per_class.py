"""Metrics of each class from predictions, for many weightings of the images at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NAMES",
    "ClassMetric",
    "Metric",
    "Needs",
    "Sample",
    "cost",
    "find",
    "group_accuracy",
    "is_built_in",
]

FloatArray = NDArray[np.float64]

Needs = Literal["predicted", "top", "logits"]
"""Input of a metric: predicted labels, the largest logits, or those of all classes."""

NAMES = ("recall", "precision", "f1", "auroc", "average_precision", "top-K", "ece", "cost")
"""Names of the built-in metrics; K is a number, as in ``top-5``."""

_TOP = 5  # logits that are kept of each image if not all of them are
_BINS = 15
_TOP_K = re.compile(r"top-([1-9]\d*)")


@dataclass(frozen=True, eq=False)
class Sample:
    """Predictions of one model for some images.

    Attributes:
        labels: True labels, ``(images,)``.
        classes: Number of classes.
        predicted: Predicted labels, ``(images,)``.
        top: Classes of the largest logits in descending order, ``(images, k)``; None if not read.
        log_probabilities: Log-probabilities of all classes, ``(images, classes)``; None if not
            read.
        groups: Group of each image, ``(images,)``, -1 for none; None without groups.
        group_count: Number of groups.
    """

    labels: NDArray[Any]
    classes: int
    predicted: NDArray[Any]
    top: NDArray[Any] | None = None
    log_probabilities: FloatArray | None = None
    groups: NDArray[Any] | None = None
    group_count: int = 0


@dataclass(frozen=True, eq=False)
class Metric:
    """A figure of each class.

    Attributes:
        name: Name, as in ``--metric``.
        title: Name in tables and sentences.
        evaluate: Function of a sample and weights of its images ``(draws, images)`` that returns
            the figures, ``(draws, classes)``; NaN for a class without images.
        needs: Predictions that it needs.
        lower_is_better: Whether lower figures are better.
        fraction: Whether figures are fractions, which are shown in percent.
        most_draws: Maximum number of weightings that it is worth evaluating.
    """

    name: str
    title: str
    evaluate: Callable[[Sample, FloatArray], FloatArray]
    needs: Needs = "predicted"
    lower_is_better: bool = False
    fraction: bool = True
    most_draws: int = 400

    @property
    def sign(self) -> int:
        """Factor that makes higher figures better."""
        return -1 if self.lower_is_better else 1


@dataclass(frozen=True)
class ClassMetric:
    """A metric of a plug-in.

    Attributes:
        function: Function of labels ``(images,)`` and log-probabilities ``(images, classes)`` that
            returns a figure for each class.
        lower_is_better: Whether lower figures are better.
        fraction: Whether figures are fractions, which are shown in percent.
    """

    function: Callable[[NDArray[Any], FloatArray], Any]
    lower_is_better: bool = False
    fraction: bool = True


def is_built_in(name: str) -> bool:
    """Return whether a name is that of a built-in metric."""
    return name == "cost" or name in _BUILT_IN or _TOP_K.fullmatch(name) is not None


def find(name: str) -> Metric:
    """Return the built-in metric of a name, except for ``cost``."""
    if (match := _TOP_K.fullmatch(name)) is not None:
        return _top(int(match[1]))
    return _BUILT_IN[name]


def cost(matrix: FloatArray) -> Metric:
    """Return the mean cost of the images of each class.

    Args:
        matrix: Costs, ``(classes, classes)``; rows are true labels and columns predicted ones.
    """

    def evaluate(sample: Sample, weights: FloatArray) -> FloatArray:
        return _mean_of_class(sample, weights, matrix[sample.labels, sample.predicted])

    return Metric("cost", "cost", evaluate, lower_is_better=True, fraction=False)


def group_accuracy() -> Metric:
    """Return the share of correct predictions in each group of images."""

    def evaluate(sample: Sample, weights: FloatArray) -> FloatArray:
        assert sample.groups is not None
        own = _one_hot(sample.groups, sample.group_count, weights)
        correct = (sample.predicted == sample.labels).astype(weights.dtype)
        images = weights @ own
        return _ratio(weights @ (own * correct[:, None]), images, images)

    return Metric("group", "accuracy", evaluate)


def _one_hot(labels: NDArray[Any], classes: int, like: FloatArray) -> FloatArray:
    return (labels[:, None] == np.arange(classes)).astype(like.dtype)


def _ratio(numerator: FloatArray, denominator: FloatArray, images: FloatArray) -> FloatArray:
    """Return a ratio that is 0 where the denominator is 0, and NaN for classes without images."""
    found = np.divide(
        numerator,
        denominator,
        out=np.zeros(numerator.shape, np.float64),
        where=denominator > 0,
    )
    return np.where(images > 0, found, np.nan)


def _mean_of_class(sample: Sample, weights: FloatArray, values: NDArray[Any]) -> FloatArray:
    """Return the mean of values ``(images,)`` over the images of each class."""
    own = _one_hot(sample.labels, sample.classes, weights)
    images = weights @ own
    return _ratio(weights @ (own * values[:, None].astype(weights.dtype)), images, images)


def _recall(sample: Sample, weights: FloatArray) -> FloatArray:
    return _mean_of_class(sample, weights, sample.predicted == sample.labels)


def _counts(sample: Sample, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return true positives, predicted images and images of each class, ``(draws, classes)``."""
    own = _one_hot(sample.labels, sample.classes, weights)
    given = _one_hot(sample.predicted, sample.classes, weights)
    return weights @ (own * given), weights @ given, weights @ own


def _precision(sample: Sample, weights: FloatArray) -> FloatArray:
    positives, predicted, images = _counts(sample, weights)
    return _ratio(positives, predicted, images)


def _f1(sample: Sample, weights: FloatArray) -> FloatArray:
    positives, predicted, images = _counts(sample, weights)
    return _ratio(2 * positives, predicted + images, images)


def _top(k: int) -> Metric:
    def evaluate(sample: Sample, weights: FloatArray) -> FloatArray:
        if sample.top is not None:
            hit = (sample.top[:, :k] == sample.labels[:, None]).any(axis=1)
        else:
            scores = _all_of(sample)
            own = np.take_along_axis(scores, sample.labels[:, None].astype(np.int64), axis=1)
            later = np.arange(sample.classes) > sample.labels[:, None]  # first among equals
            hit = ((scores > own) | ((scores == own) & later)).sum(axis=1) < k
        return _mean_of_class(sample, weights, hit)

    return Metric(f"top-{k}", f"top-{k} recall", evaluate, "top" if k <= _TOP else "logits")


def _all_of(sample: Sample) -> FloatArray:
    assert sample.log_probabilities is not None
    return sample.log_probabilities


def _by_rank(
    sample: Sample, weights: FloatArray, descending: bool
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield positives and images of each distinct score in order, ``(draws, scores)``, by class."""
    for label in range(sample.classes):
        scores = _all_of(sample)[:, label]
        order = np.argsort(-scores if descending else scores, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
        ordered = weights[:, order]
        own = ordered * (sample.labels[order] == label)
        yield (
            np.add.reduceat(own, starts, axis=1, dtype=np.float64),
            np.add.reduceat(ordered, starts, axis=1, dtype=np.float64),
        )


def _auroc(sample: Sample, weights: FloatArray) -> FloatArray:
    columns = []
    for positives, images in _by_rank(sample, weights, descending=False):
        negatives = images - positives
        below = np.cumsum(negatives, axis=1) - negatives / 2  # half of the ties count
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        won = (positives * below).sum(axis=1)
        columns.append(np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0))
    return np.column_stack(columns)


def _average_precision(sample: Sample, weights: FloatArray) -> FloatArray:
    columns = []
    for positives, images in _by_rank(sample, weights, descending=True):
        found, seen = np.cumsum(positives, axis=1), np.cumsum(images, axis=1)
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        area, total = (positives * precision).sum(axis=1), positives.sum(axis=1)
        columns.append(np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0))
    return np.column_stack(columns)


def _ece(sample: Sample, weights: FloatArray) -> FloatArray:
    columns = []
    total = weights.sum(axis=1)
    for label in range(sample.classes):
        own = sample.labels == label
        probability = np.exp(_all_of(sample)[:, label])
        bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
        gaps = (_one_hot(bins, _BINS, weights).T * (probability - own).astype(weights.dtype)).T
        error = np.abs(weights @ gaps).sum(axis=1, dtype=np.float64) / total
        columns.append(np.where(weights @ own.astype(weights.dtype) > 0, error, np.nan))
    return np.column_stack(columns)


_BUILT_IN = {
    one.name: one
    for one in (
        Metric("recall", "recall", _recall),
        Metric("precision", "precision", _precision),
        Metric("f1", "F1", _f1),
        Metric("auroc", "AUROC", _auroc, "logits"),
        Metric("average_precision", "average precision", _average_precision, "logits"),
        Metric("ece", "calibration error", _ece, "logits", lower_is_better=True),
    )
}
