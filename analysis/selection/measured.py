"""Figures of the selected student by the metric of the rule, beside standard distillation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.loading import Runs
from analysis.runs.samples import held_out_samples, samples
from analysis.selection import Selection
from analysis.selection.by_metric import (
    ByGroup,
    ByMetric,
    bootstrap,
    figures,
    number_of_draws,
    strata,
)
from analysis.selection.intervals import exact_interval, interval
from rkd_core.metrics.per_class import Sample

__all__ = ["Figures", "Measured", "by_class_and_group", "measured"]

_MOST_PAIRS = 500


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures on one split, one for each row of ``Measured``; means over seeds."""

    standard: FloatArray
    selected: FloatArray
    interval: FloatArray
    """Interval of ``selected``, ``(2, rows)``: from images drawn with replacement or, for groups of
    images, the exact one of a binomial count."""
    gain: FloatArray
    """Interval of ``selected - standard``, ``(2, rows)``, from the same draws for both."""
    images: IntArray
    """Number of images of each row, ``(rows,)``; all of them for the last two."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Figures of each class or group, of the worst ones and their mean, by the metric of a rule."""

    rule: ByMetric
    rows: tuple[str, ...]
    """Names of the classes or groups, then ``worst`` (or the group of classes) and ``average``."""
    val: Figures
    test: Figures

    @property
    def kind(self) -> str:
        """``class`` or ``group``, which the rows are."""
        return "group" if isinstance(self.rule, ByGroup) else "class"


def measured(runs: Runs, selection: Selection, names: Sequence[str]) -> Measured | None:
    """Return the figures of the selected student; None if the rule has no metric.

    Args:
        runs: The runs with their results folder.
        selection: The selection.
        names: Names of the classes in label order.

    Raises:
        UserError: Predictions of test are missing, damaged or of other data.
    """
    rule = selection.criterion
    if not isinstance(rule, ByMetric) or runs.results is None:
        return None
    val, test = (_figures(rule, both) for both in _samples(rule, runs, selection))
    worst = "worst" if rule.worst_k == 1 else f"worst {rule.worst_k}"
    last = worst if rule.group is None else rule.group.name
    if isinstance(rule, ByGroup) and runs.groups is not None:
        names = runs.groups.names
    return Measured(rule, (*names, last, "average"), val, test)


def by_class_and_group(runs: Runs, selection: Selection, names: Sequence[str]) -> Measured | None:
    """Return accuracies of the classes within each group of images that has any of them.

    None if the rule uses no groups, or if there are more than a few hundred pairs.

    Raises:
        UserError: As in ``measured``.
    """
    rule, groups = selection.criterion, runs.groups
    if not isinstance(rule, ByGroup) or groups is None:
        return None
    pairs = tuple(product(names, groups.names))
    if len(pairs) > _MOST_PAIRS:
        return None
    val, test = (
        _figures(rule, [map(_crossed, of_seeds) for of_seeds in both])
        for both in _samples(rule, runs, selection)
    )
    rows = tuple(f"{name}, {group}" for name, group in pairs)
    return Measured(rule, (*rows, "worst", "average"), val, test)


def _samples(rule: ByMetric, runs: Runs, selection: Selection) -> Iterator[list[Iterator[Sample]]]:
    """Yield the samples of standard distillation and of the selected student on both splits."""
    c, results = selection.combinations, runs.results
    assert results is not None
    groups = runs.groups if isinstance(rule, ByGroup) else None
    both = [c.run_ids(place) for place in (selection.reference, selection.selected)]
    for read in (samples, held_out_samples):
        yield [read(results, run_ids, rule.figure, groups) for run_ids in both]


def _crossed(sample: Sample) -> Sample:
    """Return a sample whose groups are pairs of a class and a group."""
    assert sample.groups is not None
    pair = sample.labels.astype(np.int64) * sample.group_count + sample.groups
    groups = np.where(sample.groups < 0, -1, pair)
    return replace(sample, groups=groups, group_count=sample.classes * sample.group_count)


def _figures(rule: ByMetric, of_both: Sequence[Iterable[Sample]]) -> Figures:
    """Return the figures of two combinations, given the samples of each."""
    values: list[FloatArray] = []
    draws: list[FloatArray] = []
    images: IntArray = np.empty(0, np.int64)
    for of_seeds in of_both:
        own, drawn = [], []
        for sample in of_seeds:
            number = number_of_draws(rule.figure, sample, len(of_both))
            weights = bootstrap(strata(sample), number)
            own.append(_rows(rule, figures(rule.figure, sample)))
            drawn.append(_rows(rule, rule.figure.evaluate(sample, weights)))
            images = _images(sample)
        values.append(np.mean(own, axis=0))
        draws.append(np.mean(drawn, axis=0))
    standard, selected = values
    ends = _interval(draws[1], selected)
    if isinstance(rule, ByGroup):  # of few images, resampled ones may all be right
        rows, total = slice(len(images) - 2), images[:-2]
        ends[:, rows] = exact_interval(selected[rows] * total, total)
    gain = _interval(draws[1] - draws[0], selected - standard)
    return Figures(standard, selected, ends, gain, images)


def _images(sample: Sample) -> IntArray:
    """Return the number of images of each row."""
    of, count = sample.labels, sample.classes
    if sample.groups is not None:
        of, count = sample.groups[sample.groups >= 0], sample.group_count
    counts = np.bincount(of, minlength=count)
    return np.r_[counts, counts.sum(), counts.sum()]


def _interval(draws: FloatArray, values: FloatArray) -> FloatArray:
    """Return intervals of draws, shifted to the values but not beyond the range of both.

    Figures such as the worst class and the calibration error are worse on average for resampled
    images than for all of them.
    """
    ends = interval(draws - draws.mean(axis=0) + values)
    low, high = np.minimum(draws.min(axis=0), values), np.maximum(draws.max(axis=0), values)
    return np.asarray(np.clip(ends, low, high))


def _rows(rule: ByMetric, values: FloatArray) -> FloatArray:
    """Return the figures of the classes or groups, of the worst ones, and their mean."""
    more = np.stack([rule.worst(values), np.nanmean(values, axis=-1)], axis=-1)
    return np.concatenate([values, more], axis=-1)
