"""Figures of the selected student by the metric of the rule, beside standard distillation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.runs.columns import FloatArray
from analysis.runs.samples import held_out_samples, samples
from analysis.selection import Selection
from analysis.selection.by_metric import ByMetric, bootstrap, figures, number_of_draws
from analysis.selection.intervals import interval
from rkd_core.metrics.per_class import Sample
from rkd_core.storage.files import Location

__all__ = ["Figures", "Measured", "measured"]


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures on one split, one for each row of ``Measured``; means over seeds."""

    standard: FloatArray
    selected: FloatArray
    interval: FloatArray
    """Interval of ``selected``, ``(2, rows)``, from images drawn with replacement."""
    gain: FloatArray
    """Interval of ``selected - standard``, ``(2, rows)``, from the same draws for both."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Figures of each class, the worst ones and their mean, by the metric of a rule."""

    rule: ByMetric
    rows: tuple[str, ...]
    """Names of the classes in label order, then ``worst`` (or the group) and ``average``."""
    val: Figures
    test: Figures


def measured(
    results: Location | None, selection: Selection, names: Sequence[str]
) -> Measured | None:
    """Return the figures of the selected student; None if the rule has no metric.

    Args:
        results: Results folder with predictions.
        selection: The selection.
        names: Names of the classes in label order.

    Raises:
        UserError: Predictions of test are missing, damaged or of other data.
    """
    rule = selection.criterion
    if not isinstance(rule, ByMetric) or results is None:
        return None
    c = selection.combinations
    both = [c.run_ids(place) for place in (selection.reference, selection.selected)]
    splits = [
        _figures(rule, [read(results, run_ids, rule.figure) for run_ids in both])
        for read in (samples, held_out_samples)
    ]
    worst = "worst" if rule.worst_k == 1 else f"worst {rule.worst_k}"
    last = worst if rule.group is None else rule.group.name
    return Measured(rule, (*names, last, "average"), *splits)


def _figures(rule: ByMetric, of_both: Sequence[Iterator[Sample]]) -> Figures:
    """Return the figures of two combinations, given the samples of each."""
    values: list[FloatArray] = []
    draws: list[FloatArray] = []
    for of_seeds in of_both:
        own, drawn = [], []
        for sample in of_seeds:
            weights = bootstrap(sample.labels, number_of_draws(rule.figure, sample, len(of_both)))
            own.append(_rows(rule, figures(rule.figure, sample)))
            drawn.append(_rows(rule, rule.figure.evaluate(sample, weights)))
        values.append(np.mean(own, axis=0))
        draws.append(np.mean(drawn, axis=0))
    standard, selected = values
    gain = draws[1] - draws[0]
    return Figures(
        standard, selected, _interval(draws[1], selected), _interval(gain, selected - standard)
    )


def _interval(draws: FloatArray, values: FloatArray) -> FloatArray:
    """Return intervals of draws, shifted to the values but not beyond the range of both.

    Figures such as the worst class and the calibration error are worse on average for resampled
    images than for all of them.
    """
    ends = interval(draws - draws.mean(axis=0) + values)
    low, high = np.minimum(draws.min(axis=0), values), np.maximum(draws.max(axis=0), values)
    return np.clip(ends, low, high)


def _rows(rule: ByMetric, values: FloatArray) -> FloatArray:
    """Return the figures of the classes, of the worst or the group, and their mean."""
    more = np.stack([rule.worst(values), np.nanmean(values, axis=-1)], axis=-1)
    return np.concatenate([values, more], axis=-1)
