"""Choose a combination on validation. Nothing here can see a test column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray, objective_names, positions
from analysis.runs.combinations import Combinations, Means
from analysis.selection.criteria import Accuracies, Constrained, Criterion
from rkd_core.errors import UserError

__all__ = [
    "Selection",
    "best_first",
    "select",
]

_ROUNDING = 1e-12
"""Two means this close are equal: they differ by the order in which seeds were added up."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A choice, with everything it rests on. Indices point into ``combinations``."""

    combinations: Combinations
    criterion: Criterion
    means: Means
    """Validation accuracies at the criterion's ``worst_k``, as counted."""
    seen: Accuracies
    """What the criterion was applied to: the same, or estimates."""
    reference: int
    """Standard distillation at its best temperature, by the sweep's own recipe."""
    margin: FloatArray
    """Average accuracy each combination may give up, ``(combinations,)``; NaN if any."""
    shortfall: FloatArray
    """Accuracy that each lacks to be admitted, shape ``(combinations,)``; at most 0 if none."""
    admitted: NDArray[np.bool_]
    """Whether each combination keeps the constraint, shape ``(combinations,)``."""
    selected: int
    feasible: bool
    """False if no combination keeps the constraint; the criterion's fallback is selected."""
    frontier: NDArray[np.intp]
    """Combinations that no other beats in both validation accuracies."""

    @property
    def least_average(self) -> float | None:
        """Average accuracy that the selected one must have; None where that is not the rule."""
        if not (isinstance(self.criterion, Constrained) and self.criterion.keep == "average"):
            return None
        return float(self.seen.means.average[self.selected] + self.shortfall[self.selected])


def select(
    combinations: Combinations,
    criterion: Criterion | None = None,
    accuracies: Accuracies | None = None,
) -> Selection:
    """Apply a criterion to the validation accuracies.

    Ties go to the higher average accuracy, then to the lower temperature, then to the smaller
    alpha_t and alpha_s, where the standard objective counts as smallest.

    Args:
        combinations: Students of one family.
        criterion: The rule; None for ``Constrained()``.
        accuracies: What it is applied to; None for the accuracies as counted.

    Raises:
        UserError: The runs have no standard distillation to measure against, or the criterion's
            ``worst_k`` is out of range.
    """
    criterion = criterion or Constrained()
    means = combinations.means(criterion.worst_k)
    standard = objective_names().index("standard")
    plain = (
        (combinations.teacher_objective == standard)
        & (combinations.student_objective == standard)
        & combinations.tuned.is_null().to_numpy(zero_copy_only=False)
    )
    if not plain.any():
        raise UserError(
            "no completed run is standard distillation (standard teacher, standard student), "
            "which the selection is measured against; add one to the sweep"
        )
    seen = accuracies or Accuracies(combinations, means)
    reference = best_first(combinations, seen.means, seen.means.worst_k, plain)
    shortfall = criterion.shortfall(seen, reference)
    admitted = shortfall <= _ROUNDING
    feasible = bool(admitted.any())
    if feasible:
        selected = best_first(combinations, seen.means, criterion.objective(seen), admitted)
    else:
        fallback = criterion.fallback(seen, reference)
        selected = best_first(combinations, seen.means, fallback, np.ones_like(admitted))
    return Selection(
        combinations=combinations,
        criterion=criterion,
        means=means,
        seen=seen,
        reference=reference,
        margin=criterion.margins(seen, reference),
        shortfall=shortfall,
        admitted=admitted,
        selected=selected,
        feasible=feasible,
        frontier=means.frontier(),
    )


def best_first(
    combinations: Combinations, means: Means, objective: FloatArray, among: NDArray[np.bool_]
) -> int:
    """Index of the combination with the largest objective, ties broken as ``select`` says.

    Args:
        combinations: The candidates.
        means: Their validation accuracies.
        objective: What is maximized, ``(combinations,)``, or ``(combinations, keys)`` in turn.
        among: Which candidates count, shape ``(combinations,)``; at least one.
    """
    rows = np.flatnonzero(among)
    for key in objective[:, None].T if objective.ndim == 1 else objective.T:
        rows = rows[key[rows] >= key[rows].max() - _ROUNDING]
    rows = rows[means.average[rows] >= means.average[rows].max() - _ROUNDING]
    order = np.lexsort(
        (
            combinations.student_objective[rows],
            combinations.teacher_objective[rows],
            positions(combinations.student_objective, combinations.alpha_s)[rows],
            positions(combinations.teacher_objective, combinations.alpha_t)[rows],
            combinations.temperature[rows],
        )
    )
    return int(rows[order[0]])
