"""How sure a selection is: intervals, chances and regret, from draws of the posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.columns import FloatArray
from analysis.combinations import Combinations, Means
from analysis.criteria import Accuracies, Criterion
from analysis.posterior import Posterior, fit
from analysis.selection import Selection, select

__all__ = ["CONFIDENCE", "MOST", "Estimate", "Uncertainty", "choose", "decide"]

Estimate = Literal["raw", "shrunk"]
CONFIDENCE = 0.9
"""Of every interval."""
MOST = 1000
"""Combinations; of more only the counts are looked at."""
_NUMBERS = 10_000_000
"""Draws times combinations times classes, about; at most and at least so many draws:"""
_DRAWS = 300, 1000


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the posterior says of each combination, shape ``(combinations,)``, and of the choice.

    Accuracies are those to expect of a further seed on further images; with one seed those of the
    trained students on further images. Intervals hold ``CONFIDENCE``, shape ``(2, combinations)``.
    """

    expected: Means
    """Posterior means; the errors are posterior standard deviations."""
    worst_k_interval: FloatArray
    average_interval: FloatArray
    worst_k_gain: FloatArray
    """Interval of the difference to standard distillation; what both have in common cancels."""
    average_gain: FloatArray
    probability_best: FloatArray
    """That it is the one that the criterion would select if it knew the accuracies."""
    probability_admitted: FloatArray
    """That it keeps the criterion's constraint."""
    expected_regret: float
    """Objective that the best admitted combination has more than the selected one, on average."""
    optimism: float
    """Validation objective of the selected one less its posterior mean."""
    corrected: float
    """Posterior mean of the selected one's objective."""
    interval: FloatArray
    """Of the selected one's objective, ``(2,)``."""
    shared: float
    """Share of the noise of images that runs have in common, at least; NaN with one seed."""


def decide(
    combinations: Combinations, criterion: Criterion | None = None, estimate: Estimate = "shrunk"
) -> tuple[Selection, Uncertainty | None, str]:
    """Select, and say how sure it is.

    Args:
        combinations: Students of one family.
        criterion: The rule; None for ``Constrained()``.
        estimate: What the rule is applied to: ``shrunk`` for posterior means, ``raw`` for the
            accuracies as counted.

    Returns:
        The selection, what the posterior says of it, and an empty text; or the selection by raw
        accuracies, None, and the reason.

    Raises:
        UserError: As ``select``.
    """
    selection = select(combinations, criterion)
    if len(combinations) > MOST:
        reason = f"no intervals for {len(combinations):,} combinations, more than {MOST:,}"
        return selection, None, reason
    posterior = fit(combinations)
    if posterior is None:
        return selection, None, "no intervals: the runs have different numbers of validation images"
    counted, rule = selection.seen, selection.criterion
    accuracies, worst_k, average = _expected(posterior, counted, rule)
    if estimate == "shrunk":
        selection = select(combinations, rule, accuracies)
    return selection, _assess(posterior, selection, counted, worst_k, average), ""


def choose(
    combinations: Combinations, criterion: Criterion | None = None, estimate: Estimate = "shrunk"
) -> Selection:
    """As ``decide``, without how sure it is, in half the time."""
    selection = select(combinations, criterion)
    posterior = fit(combinations) if estimate == "shrunk" and len(combinations) <= MOST else None
    if posterior is None:
        return selection
    rule = selection.criterion
    return select(combinations, rule, _expected(posterior, selection.seen, rule)[0])


def _number(posterior: Posterior) -> int:
    least, most = _DRAWS
    return int(np.clip(_NUMBERS // posterior.mean.size, least, most))


def _expected(
    posterior: Posterior, counted: Accuracies, rule: Criterion
) -> tuple[Accuracies, FloatArray, FloatArray]:
    """Posterior means, and draws of worst-k and average accuracy ``(draws, combinations)``."""
    number, share = _number(posterior), counted.combinations.share
    worst_k = np.empty((number, len(counted.combinations)))
    average = np.empty_like(worst_k)
    recalls = np.zeros(counted.recalls.shape)
    blocks = zip(posterior.blocks(number), posterior.many(number, rule.worst_k), strict=True)
    for block, many in blocks:
        worst_k[block] = many.worst_k
        average[block] = many.average(share)
        recalls += many.recalls.sum(axis=0) / number
    raw = counted.means
    means = Means(average.mean(axis=0), raw.average_se, worst_k.mean(axis=0), raw.worst_k_se)
    return Accuracies(counted.combinations, means, recalls), worst_k, average


def _assess(
    posterior: Posterior,
    selection: Selection,
    counted: Accuracies,
    worst_k: FloatArray,
    average: FloatArray,
) -> Uncertainty:
    """Apply the criterion to every draw; its reference and margins stay those of the selection."""
    rule, reference, chosen = selection.criterion, selection.reference, selection.selected
    number = len(worst_k)
    best = np.zeros(len(selection.combinations))
    admissible = np.zeros_like(best)
    regret, objective = np.zeros(number), np.zeros(number)
    for i, draw in enumerate(posterior.draws(number, rule.worst_k)):
        accuracies = Accuracies.of_draw(draw, counted)
        values = rule.objective(accuracies)
        admitted = rule.shortfall(accuracies, reference) <= 0
        admissible += admitted
        columns = values.reshape(len(values), -1)
        objective[i] = columns[chosen, -1]
        rows = np.flatnonzero(admitted)
        if rows.size == 0:  # nothing is better where nothing will do
            continue
        for key in columns.T:
            rows = rows[key[rows] >= key[rows].max()]
        best[rows[0]] += 1
        regret[i] = max(columns[rows[0], -1] - objective[i], 0.0)
    said = rule.objective(counted).reshape(len(best), -1)[chosen, -1]
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    return Uncertainty(
        expected=Means(average.mean(0), average.std(0), worst_k.mean(0), worst_k.std(0)),
        worst_k_interval=np.quantile(worst_k, ends, axis=0),
        average_interval=np.quantile(average, ends, axis=0),
        worst_k_gain=np.quantile(worst_k - worst_k[:, [reference]], ends, axis=0),
        average_gain=np.quantile(average - average[:, [reference]], ends, axis=0),
        probability_best=best / number,
        probability_admitted=admissible / number,
        expected_regret=float(regret.mean()),
        optimism=float(said - objective.mean()),
        corrected=float(objective.mean()),
        interval=np.quantile(objective, ends),
        shared=posterior.shared,
    )
