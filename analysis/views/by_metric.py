"""Texts and a table on the metric of a rule."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.selection.by_metric import ByMetric
from analysis.selection.intervals import CONFIDENCE, Interval, interval
from analysis.selection.measured import Figures, Measured
from analysis.selection.outcome import Outcome
from rkd_core.metrics.per_class import Metric
from rkd_core.text.numbers import decimal, percent, points

__all__ = [
    "difference",
    "expected_objective",
    "figure",
    "gap",
    "headline",
    "rows",
    "runner_up",
    "side",
]


def figure(metric: Metric | None, value: float) -> str:
    """Return a figure in percent, or as a number; None stands for accuracy."""
    if metric is None or metric.fraction:
        return percent(value)
    return f"{value:.3g}".replace("-", "−")


def difference(metric: Metric | None, value: float) -> str:
    """Return a difference with its sign, in points or as a number."""
    if metric is None or metric.fraction:
        return points(value)
    return decimal(value, 3, "+")


def _unit(metric: Metric | None) -> str:
    return " points" if metric is None or metric.fraction else ""


def _metric(outcome: Outcome) -> tuple[Metric | None, int]:
    rule = outcome.selection.criterion
    return (rule.figure, rule.sign) if isinstance(rule, ByMetric) else (None, 1)


def expected_objective(outcome: Outcome) -> str:
    """Return the expected objective with its interval, such as ``41.4 (29.9 to 52.2)``."""
    sure, (metric, sign) = outcome.uncertainty, _metric(outcome)
    assert sure is not None
    low, high = sorted(sign * float(end) for end in sure.interval)
    ends = f"{figure(metric, low)} to {figure(metric, high)}"
    return f"{figure(metric, sign * sure.corrected)} ({ends})"


def gap(outcome: Outcome, value: float) -> str:
    """Return the size of a difference in the objective, such as ``1.9 points``."""
    metric, _ = _metric(outcome)
    return f"{figure(metric, abs(value))}{_unit(metric)}"


def side(outcome: Outcome) -> str:
    """Return whether the figure on validation is above or below the expected one."""
    assert outcome.uncertainty is not None
    return "above" if _metric(outcome)[1] * outcome.uncertainty.optimism >= 0 else "below"


def headline(measured: Measured) -> str:
    """Return the worst and average figures on test, beside those of standard distillation."""
    rule, test = measured.rule, measured.test
    metric, name = rule.figure, rule.worst_name
    ends = " to ".join(difference(metric, end) for end in test.gain[:, -2])
    lower = "; lower is better" if metric.lower_is_better else ""
    return (
        f"{name[0].upper()}{name[1:]} {_change(metric, test, -2)} on test (difference {ends}, "
        f"{CONFIDENCE:.0%} interval), average {_change(metric, test, -1)}{lower}"
    )


def _change(metric: Metric, test: Figures, row: int) -> str:
    return f"{figure(metric, test.standard[row])} → {figure(metric, test.selected[row])}"


def runner_up(outcome: Outcome, place: int) -> tuple[float, str]:
    """Return the probability that a combination is worse by the metric, and the difference."""
    selection, (metric, sign) = outcome.selection, _metric(outcome)
    scores = selection.combinations.scores
    assert scores is not None
    draws = scores.centered[:, place] - scores.centered[:, selection.selected]
    gain = Interval.of(float(draws.mean()), interval(draws))
    low, high = sorted((sign * gain.low, sign * gain.high))
    ends = f"{difference(metric, low)} to {difference(metric, high)}"
    text = f"{difference(metric, sign * gain.value)}{_unit(metric)} ({ends})"
    return float((draws < 0).mean()), text


def rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Yield a row of text for each class or group, the worst ones and their mean.

    The columns are the name, and for validation and test the images, the figures of standard
    distillation and of the selected student with its interval, and the interval of the difference.
    """
    metric = measured.rule.figure
    for place, name in enumerate(measured.rows):
        cells = [name]
        for split in (measured.val, measured.test):
            ends = (figure(metric, end) for end in split.interval[:, place])
            gains = (difference(metric, end) for end in split.gain[:, place])
            cells += [
                f"{split.images[place]:,}",
                figure(metric, split.standard[place]),
                f"{figure(metric, split.selected[place])} ({' to '.join(ends)})",
                " to ".join(gains),
            ]
        yield tuple(cells)
