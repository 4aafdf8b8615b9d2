"""Comparison of the selected student with the best student that was trained without a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.combinations import Combinations, HeldOut, Means, combine
from analysis.runs.loading import Runs
from analysis.runs.outcomes import with_outcomes
from analysis.selection import Selection, best_first
from analysis.selection.by_metric import ByMetric, with_scores
from analysis.selection.criteria import Accuracies
from analysis.selection.intervals import Interval, Prospect, interval
from analysis.selection.shift_levels import fit_levels
from analysis.selection.uncertainty import MOST, expected_accuracies

__all__ = ["Undistilled", "undistilled"]

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Undistilled:
    """Students that were trained on labels alone, one for each objective; none is selected.

    They have the network of the selected student.

    Attributes:
        combinations: The students; they have no teacher and no temperature.
        val: Their validation accuracies, as counted.
        test: Their test accuracies.
        best: Index of the best by the selection rule, under the same constraint.
        admitted: Whether it satisfies the constraint; if not, none of them does, and ``best`` is
            the one that the rule falls back to.
        preferred: Whether the rule values it as much as the selected student, or more.
        worst_k: Its worst-k accuracy on other images, or as counted without an estimate.
        average: Its average accuracy, likewise.
        gain: Accuracies of the selected student minus its own, with intervals; the noise that both
            share cancels. None without an estimate.
        gain_on_standard: Interval of its worst-k accuracy minus that of standard distillation,
            ``(2,)``; None without an estimate.
    """

    combinations: Combinations
    val: Means
    test: Means
    best: int
    admitted: bool
    preferred: bool
    worst_k: float
    average: float
    gain: Prospect | None
    gain_on_standard: FloatArray | None


def undistilled(runs: Runs, held_out: HeldOut, selection: Selection) -> Undistilled | None:
    """Compare the selected student with the best one of its network that has no teacher.

    A posterior of all students, in which "none" is one more teacher, gives the accuracies. The
    selection itself does not depend on students without a teacher.

    Args:
        runs: The candidates, and the students without a teacher.
        held_out: Test counts of both.
        selection: The selection among the candidates.

    Returns:
        The comparison; None if no such student was trained.
    """
    c = selection.combinations
    alone = runs.undistilled
    if len(c.networks) > 1:
        alone = alone.filter(pc.equal(alone["architecture"], c.network[selection.selected]))
    if not len(alone):
        return None
    own = combine(alone)
    joint = combine(pa.concat_tables([runs.candidates, alone], promote_options="default"))
    if selection.combinations.outcomes is not None:
        joint, _ = with_outcomes(joint, runs)
    of_grid = joint.variant.is_null().to_numpy(zero_copy_only=False)
    grid, others = np.flatnonzero(of_grid), np.flatnonzero(~of_grid)  # both in their own order
    if isinstance(selection.criterion, ByMetric):
        joint = with_scores(joint, runs, selection.criterion, draw=False)
    rule, selected, reference = (
        selection.criterion,
        grid[selection.selected],
        grid[selection.reference],
    )
    counted = Accuracies(joint, joint.means(rule.worst_k))
    posterior = fit_levels(joint) if int(joint.unshifted.sum()) <= MOST else None
    estimate = None if posterior is None else expected_accuracies(posterior, counted, rule)
    expected = counted if estimate is None else estimate[0]
    seen = counted if selection.seen.estimated is None else expected

    shortfall = rule.shortfall(seen, reference)
    fits = shortfall[others] <= _ROUNDING
    mine = _rows(seen, others)
    values = rule.objective(mine) if fits.any() else -shortfall[others]
    best = best_first(own, mine.means, values, fits if fits.any() else ~fits)
    admitted, place = bool(fits[best]), others[best]
    pair = np.array([selected, place])
    if admitted != selection.feasible:
        preferred = admitted
    else:
        values = rule.objective(_rows(seen, pair)) if admitted else -shortfall[pair]
        preferred = bool((values[1] >= values[0] - _ROUNDING).all())
    reached = [column[place] for column in (expected.means.worst_k, expected.means.average)]
    gain, on_standard = None, None
    if estimate is not None:
        means, (worst_k, average) = expected.means, estimate[1:]
        gains = [
            Interval.of(
                mean[selected] - mean[place], interval(draws[:, selected] - draws[:, place])
            )
            for mean, draws in ((means.worst_k, worst_k), (means.average, average))
        ]
        gain = Prospect(*gains)
        if selection.seen.estimated is not None:
            found = selection.seen.means.worst_k, selection.seen.means.average
            reached = [
                m[selection.selected] - one.value for m, one in zip(found, gains, strict=True)
            ]
        on_standard = interval(worst_k[:, place] - worst_k[:, reference])
    return Undistilled(
        combinations=own,
        val=own.means(rule.worst_k),
        test=held_out.means(own, rule.worst_k),
        best=best,
        admitted=admitted,
        preferred=preferred,
        worst_k=float(reached[0]),
        average=float(reached[1]),
        gain=gain,
        gain_on_standard=on_standard,
    )


def _rows(accuracies: Accuracies, rows: IntArray) -> Accuracies:
    """Return the accuracies of some combinations, for the objective of a rule."""
    m = accuracies.means
    chosen = (column[rows] for column in (m.average, m.average_se, m.worst_k, m.worst_k_se))
    scores = accuracies.combinations.scores
    scored = None if scores is None else accuracies.score[rows]
    return Accuracies(accuracies.combinations, Means(*chosen), accuracies.recalls[rows], scored)
