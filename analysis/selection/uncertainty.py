"""Uncertainty of a selection: intervals, probabilities and regret, from posterior draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Literal

import numpy as np

from analysis.runs.columns import FloatArray
from analysis.runs.combinations import Combinations, Means
from analysis.selection import Selection, select
from analysis.selection.criteria import Accuracies, Criterion
from analysis.selection.intervals import CONFIDENCE, Interval, Outlook, Prospect, interval
from analysis.selection.posterior import Draw, Posterior
from analysis.selection.shift_levels import ShiftLevels, fit_levels

__all__ = [
    "CONFIDENCE",
    "MOST",
    "Estimate",
    "Uncertainty",
    "choose",
    "decide",
    "expected_accuracies",
]

Estimate = Literal["raw", "counts", "shrunk"]
MOST = 1000
"""Maximum number of combinations for a posterior; with more, only the counts are used."""
_NUMBERS = 10_000_000
"""Approximate product of the numbers of draws, combinations and classes."""
_DRAWS = 300, 1000
"""Minimum and maximum number of draws."""
_KEPT = 20_000_000
"""Maximum number of accuracies to keep in memory for further use."""
_MOST_OF_LEVELS = 400
"""Maximum number of draws if students are candidates at several strengths of a shift."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Posterior statistics of each combination, shape ``(combinations,)``, and of the choice.

    Accuracies are those expected of a further seed on further images or, with one seed, those of
    the trained students on further images. Intervals have probability ``CONFIDENCE`` and shape
    ``(2, combinations)``.
    """

    expected: Means
    """Posterior means; the errors are posterior standard deviations."""
    worst_k_interval: FloatArray
    average_interval: FloatArray
    worst_k_gain: FloatArray
    """Interval of the difference from standard distillation; noise that both share cancels."""
    average_gain: FloatArray
    probability_best: FloatArray
    """Probability that the criterion would select the combination, given the true accuracies."""
    probability_lower: FloatArray
    """Probability that its worst-k accuracy is below that of the selected combination."""
    probability_admitted: FloatArray
    """Probability that the combination satisfies the criterion's constraint."""
    expected_regret: float
    """Mean excess of the objective of the best admitted combination over the selected one's."""
    optimism: float
    """Validation objective of the selected combination minus its posterior mean."""
    corrected: float
    """Posterior mean of the selected combination's objective."""
    interval: FloatArray
    """Interval of the selected combination's objective, ``(2,)``."""
    shared: float
    """Lower bound of the share of image noise that runs have in common; NaN with one seed."""
    outlook: Outlook
    """Predictive distribution of the selected combination's counts on a test set of any size."""
    runners_up: tuple[Prospect, ...]
    """Accuracies of ``Selection.runners_up`` minus those of the selected combination."""
    beyond_shift: Prospect | None
    """Accuracies of the selected combination minus those of the best shift of standard
    distillation; None without shifts."""


def decide(
    combinations: Combinations, criterion: Criterion | None = None, estimate: Estimate = "shrunk"
) -> tuple[Selection, Uncertainty | None, str]:
    """Select a combination and assess its uncertainty.

    Args:
        combinations: Students of one family.
        criterion: The rule; None for ``Constrained()``.
        estimate: Accuracies that the rule is applied to: ``raw`` for those counted, else posterior
            means. ``counts`` takes the noise of images as independent even if there are outcomes.

    Returns:
        The selection, its uncertainty, and an empty string; or the selection by raw accuracies,
        None, and the reason for the missing uncertainty.

    Raises:
        UserError: As in ``select``.
    """
    if estimate == "counts":
        combinations = replace(combinations, outcomes=None)
    selection = select(combinations, criterion)
    number = int(combinations.unshifted.sum())
    if number > MOST:
        reason = f"no intervals for {number:,} combinations, more than {MOST:,}"
        return selection, None, reason
    posterior = fit_levels(combinations)
    if posterior is None:
        return selection, None, "no intervals: the runs have different numbers of validation images"
    counted, rule = selection.seen, selection.criterion
    draws = _draws(posterior, rule)
    accuracies, worst_k, average = expected_accuracies(posterior, counted, rule, draws)
    if estimate != "raw":
        selection = select(combinations, rule, accuracies)
    sure = _assess(posterior, selection, counted, accuracies.means, worst_k, average, draws)
    return selection, sure, ""


def choose(
    combinations: Combinations, criterion: Criterion | None = None, estimate: Estimate = "shrunk"
) -> Selection:
    """Select like ``decide`` but without the uncertainty, in half the time."""
    if estimate == "counts":
        combinations = replace(combinations, outcomes=None)
    selection = select(combinations, criterion)
    shrunk = estimate != "raw" and int(combinations.unshifted.sum()) <= MOST
    posterior = fit_levels(combinations) if shrunk else None
    if posterior is None:
        return selection
    rule = selection.criterion
    return select(combinations, rule, expected_accuracies(posterior, selection.seen, rule)[0])


def _number(posterior: Posterior | ShiftLevels) -> int:
    least, most = _DRAWS
    if isinstance(posterior, ShiftLevels):
        most = _MOST_OF_LEVELS
    return int(np.clip(_NUMBERS // posterior.mean.size, least, most))


@dataclass(frozen=True, eq=False)
class _Draws:
    """Accuracies and objective in each draw, and all recalls of the selected combination."""

    worst_k: FloatArray
    """Worst-k accuracy, ``(draws, combinations)``."""
    average: FloatArray
    """Average accuracy, ``(draws, combinations)``."""
    objective: FloatArray
    """Objective of the selected combination, ``(draws,)``."""
    recalls: FloatArray
    """Recalls of the selected combination, ``(draws, classes)``."""


def _draws(posterior: Posterior | ShiftLevels, rule: Criterion) -> Iterable[Draw]:
    """Return blocks of draws, which are kept if they are few enough to be used again."""
    number = _number(posterior)
    draws = posterior.many(number, rule.worst_k)
    if number * posterior.mean.size <= _KEPT:
        return list(draws)
    return _Again(partial(posterior.many, number, rule.worst_k))


@dataclass(frozen=True)
class _Again:
    """Draws that are made again whenever they are used."""

    make: Callable[[], Iterator[Draw]]

    def __iter__(self) -> Iterator[Draw]:
        return self.make()


def expected_accuracies(
    posterior: Posterior | ShiftLevels,
    counted: Accuracies,
    rule: Criterion,
    draws: Iterable[Draw] | None = None,
) -> tuple[Accuracies, FloatArray, FloatArray]:
    """Return posterior means, and draws of worst-k and average accuracy ``(draws, combinations)``.

    Each expected average lies within one standard error of its count.

    Args:
        posterior: The posterior.
        counted: Accuracies as counted.
        rule: The rule, for its ``worst_k``.
        draws: Blocks of draws; None to make them.
    """
    number, share = _number(posterior), counted.combinations.share
    worst_k = np.empty((number, len(counted.combinations)))
    average = np.empty_like(worst_k)
    draws = posterior.many(number, rule.worst_k) if draws is None else draws
    for block, many in zip(posterior.blocks(number), draws, strict=True):
        worst_k[block] = many.worst_k
        average[block] = many.average(share)
    raw, recalls = counted.means, posterior.recalls()
    mean, error = counted.combinations.counted_average()
    expected = np.clip(np.nan_to_num(recalls) @ share, mean - error, mean + error)
    means = Means(expected, raw.average_se, worst_k.mean(axis=0), raw.worst_k_se)
    return Accuracies(counted.combinations, means, recalls), worst_k, average


def _assess(
    posterior: Posterior | ShiftLevels,
    selection: Selection,
    counted: Accuracies,
    expected: Means,
    worst_k: FloatArray,
    average: FloatArray,
    draws: Iterable[Draw],
) -> Uncertainty:
    """Apply the criterion to every draw; its reference and margins stay those of the selection."""
    rule, reference, chosen = selection.criterion, selection.reference, selection.selected
    number = len(worst_k)
    best = np.zeros(len(selection.combinations))
    admissible = np.zeros_like(best)
    regret, objective = np.zeros(number), np.zeros(number)
    recalls = np.empty((number, posterior.present.size))
    for i, draw in enumerate(chain.from_iterable(draws)):
        accuracies = Accuracies.of_draw(draw, counted, i)
        values = rule.objective(accuracies)
        admitted = rule.shortfall(accuracies, reference) <= 0
        admissible += admitted
        columns = values.reshape(len(values), -1)
        objective[i], recalls[i] = columns[chosen, -1], draw.recalls[chosen]
        rows = np.flatnonzero(admitted)
        if rows.size == 0:  # without a feasible combination there is no regret
            continue
        for key in columns.T:
            rows = rows[key[rows] >= key[rows].max()]
        best[rows[0]] += 1
        regret[i] = max(columns[rows[0], -1] - objective[i], 0.0)
    scores = selection.combinations.scores
    if scores is not None:
        objective -= scores.optimism(selection.admitted)
    wide = _Draws(worst_k, average, objective, recalls)
    if posterior.untold.any():
        wide = _widened(posterior, selection, counted, wide)
    said = rule.objective(counted).reshape(len(best), -1)[chosen, -1]
    seed = np.zeros(posterior.present.size)
    seed[posterior.present] = posterior.at(chosen).seed
    return Uncertainty(
        expected=replace(expected, average_se=average.std(0), worst_k_se=worst_k.std(0)),
        worst_k_interval=_interval(wide.worst_k),
        average_interval=_interval(wide.average),
        worst_k_gain=interval(worst_k - worst_k[:, [reference]]),
        average_gain=interval(average - average[:, [reference]]),
        probability_best=best / number,
        probability_lower=(worst_k < worst_k[:, [chosen]]).mean(axis=0),
        probability_admitted=admissible / number,
        expected_regret=float(regret.mean()),
        optimism=float(said - objective.mean()),
        corrected=float(objective.mean()),
        interval=_interval(wide.objective) if scores is None else interval(wide.objective),
        shared=posterior.shared,
        outlook=Outlook(wide.recalls, seed, float(np.nan_to_num(posterior.shared))),
        runners_up=tuple(_minus(place, chosen, worst_k, average) for place in selection.runners_up),
        beyond_shift=None
        if selection.shifted_standard is None
        else _minus(chosen, selection.shifted_standard, worst_k, average),
    )


def _minus(one: int, other: int, worst_k: FloatArray, average: FloatArray) -> Prospect:
    """Return the accuracies of one combination minus those of another one."""
    gains = (draws[:, one] - draws[:, other] for draws in (worst_k, average))
    return Prospect(*(Interval.of(float(gain.mean()), interval(gain)) for gain in gains))


def _interval(draws: FloatArray) -> FloatArray:
    """Return the ends of an interval of accuracies, ``(2, ...)``."""
    return np.clip(interval(draws), 0, 1)


def _widened(
    posterior: Posterior | ShiftLevels, selection: Selection, counted: Accuracies, draws: _Draws
) -> _Draws:
    """Return draws that include the image noise that one seed cannot separate from accuracy.

    Means stay those of ``draws``, since the counts already include that noise.
    """
    rule, chosen = selection.criterion, selection.selected
    worst_k, average = np.empty_like(draws.worst_k), np.empty_like(draws.average)
    objective, recalls = np.empty_like(draws.objective), np.empty_like(draws.recalls)
    blocks = posterior.blocks(len(worst_k))
    for block, many in zip(blocks, posterior.many(len(worst_k), rule.worst_k, True), strict=True):
        worst_k[block] = many.worst_k
        average[block] = many.average(counted.combinations.share)
        recalls[block] = many.recalls[:, chosen]
        for place, draw in zip(range(block.start, block.stop), many, strict=True):
            values = rule.objective(Accuracies.of_draw(draw, counted, place))
            objective[place] = values.reshape(len(values), -1)[chosen, -1]
    return _Draws(
        worst_k=worst_k + (draws.worst_k.mean(axis=0) - worst_k.mean(axis=0)),
        average=average + (draws.average.mean(axis=0) - average.mean(axis=0)),
        objective=objective + (draws.objective.mean() - objective.mean()),
        recalls=recalls,
    )
