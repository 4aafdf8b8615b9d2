"""Selection of a combination on validation; no test column reaches this module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray, objective_names, positions
from analysis.runs.combinations import Combinations, Means
from analysis.selection.criteria import Accuracies, Constrained, Criterion
from rkd_core.errors import UserError

__all__ = [
    "Selection",
    "best_first",
    "preferred",
    "select",
]

_ROUNDING = 1e-12
"""Tolerance for equal means, which may differ by the order in which seeds were summed."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A choice and the data it is based on; indices refer to ``combinations``."""

    combinations: Combinations
    criterion: Criterion
    means: Means
    """Validation accuracies at the criterion's ``worst_k``, as counted."""
    seen: Accuracies
    """Accuracies that the criterion was applied to, as counted or as estimated."""
    reference: int
    """Standard distillation at its best temperature, with the sweep's own recipe."""
    margin: FloatArray
    """Margin of each combination's average accuracy, ``(combinations,)``; NaN if it has none."""
    shortfall: FloatArray
    """Violation of the constraint, shape ``(combinations,)``; 0 or less if feasible."""
    admitted: NDArray[np.bool_]
    """Whether each combination is feasible, shape ``(combinations,)``."""
    selected: int
    feasible: bool
    """Whether any combination is feasible; if not, the criterion's fallback is selected."""
    frontier: NDArray[np.intp]
    """Pareto frontier of both validation accuracies."""

    @cached_property
    def runners_up(self) -> tuple[int, ...]:
        """The second- and third-best feasible combinations, as far as there are any."""
        others = self.admitted.copy()
        found: list[int] = []
        others[self.selected] = False
        objective = self.criterion.objective(self.seen)
        while others.any() and len(found) < 2:
            found.append(preferred(self.criterion, self.seen, objective, others))
            others[found[-1]] = False
        return tuple(found)

    @property
    def runner_up(self) -> int | None:
        """The second-best feasible combination; None without one."""
        return self.runners_up[0] if self.runners_up else None

    @property
    def standard(self) -> NDArray[np.bool_]:
        """Mask of standard distillation without a shift, with the sweep's own recipe."""
        return _standard(self.combinations) & self.combinations.unshifted

    @cached_property
    def shifted_standard(self) -> int | None:
        """The best shift of standard distillation, which needs no trade-off; None without one.

        Its network is that of the selected combination.
        """
        c = self.combinations
        among = _standard(c) & ~c.unshifted & c.of_network(c.network[self.selected].as_py())
        if not among.any():
            return None
        means = self.seen.means
        if not (among & self.admitted).any():
            return best_first(c, means, -self.shortfall, among)
        return best_first(c, means, self.criterion.objective(self.seen), among & self.admitted)

    @property
    def least_average(self) -> float | None:
        """Average accuracy required of the selected combination; None without such a constraint."""
        if not (isinstance(self.criterion, Constrained) and self.criterion.keep == "average"):
            return None
        return float(self.seen.means.average[self.selected] + self.shortfall[self.selected])


def select(
    combinations: Combinations,
    criterion: Criterion | None = None,
    accuracies: Accuracies | None = None,
) -> Selection:
    """Apply a criterion to the validation accuracies.

    With several networks, the reference is standard distillation of the network whose standard
    distillation has the highest average accuracy.

    Ties are broken by higher average accuracy, then by smaller shift (none is the smallest), then
    by lower temperature, then by smaller alpha_t and alpha_s, where the standard objective counts
    as the smallest.

    Args:
        combinations: Students of one family, or of one for each network.
        criterion: The rule; None for ``Constrained()``.
        accuracies: Accuracies to apply it to; None for those as counted.

    Raises:
        UserError: The runs have no standard distillation to compare with, or the criterion's
            ``worst_k`` is out of range.
    """
    criterion = criterion or Constrained()
    means = combinations.means(criterion.worst_k)
    plain = _standard(combinations) & combinations.unshifted
    if plain.any() and len(combinations.networks) > 1:
        averages = (accuracies.means if accuracies else means).average
        ahead = int(np.argmax(np.where(plain, averages, -np.inf)))
        plain &= combinations.of_network(combinations.network[ahead].as_py())
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
        selected = preferred(criterion, seen, criterion.objective(seen), admitted)
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


def _standard(combinations: Combinations) -> NDArray[np.bool_]:
    """Return a mask of standard distillation with the sweep's own recipe, shifted or not."""
    standard = objective_names().index("standard")
    return np.asarray(
        (combinations.teacher_objective == standard)
        & (combinations.student_objective == standard)
        & combinations.tuned.is_null().to_numpy(zero_copy_only=False)
    )


def preferred(
    criterion: Criterion, seen: Accuracies, objective: FloatArray, among: NDArray[np.bool_]
) -> int:
    """Return the index of the largest objective, or of the best average within its tolerance.

    Args:
        criterion: The rule.
        seen: Accuracies that it is applied to.
        objective: Its objective.
        among: Mask of the candidates, shape ``(combinations,)``; at least one is True.
    """
    if isinstance(criterion, Constrained) and criterion.tolerance:
        least = objective[among].max() - criterion.tolerance - _ROUNDING
        objective, among = seen.means.average, among & (objective >= least)
    return best_first(seen.combinations, seen.means, objective, among)


def best_first(
    combinations: Combinations, means: Means, objective: FloatArray, among: NDArray[np.bool_]
) -> int:
    """Return the index of the largest objective, with ties broken as in ``select``.

    Args:
        combinations: The candidates.
        means: Their validation accuracies.
        objective: Objective to maximize, ``(combinations,)``, or ``(combinations, keys)``.
        among: Mask of the candidates, shape ``(combinations,)``; at least one is True.
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
            np.nan_to_num(combinations.shift[rows], nan=-1.0),
        )
    )
    return int(rows[order[0]])
