"""Choose a combination on validation. Nothing here can see a test column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.columns import OBJECTIVES, FloatArray
from analysis.combinations import Combinations, Means
from rkd_core.errors import UserError

__all__ = [
    "Criterion",
    "Selection",
    "WorstClassWithinMargin",
    "best_first",
    "effective_alpha",
    "select",
]

_ROUNDING = 1e-12
"""Two means this close are equal: they differ by the order in which seeds were added up."""


class Criterion(Protocol):
    """A rule of selection: which combinations are admitted, and what is maximized among them."""

    @property
    def worst_k(self) -> int:
        """Number of classes in the worst-k accuracy."""

    def describe(self) -> dict[str, Any]:
        """Name and options, as plain data."""

    def margins(self, means: Means, reference: int) -> FloatArray:
        """How far below the reference each average may fall, shape ``(combinations,)``."""

    def objective(self, means: Means) -> FloatArray:
        """What is maximized, shape ``(combinations,)``."""


@dataclass(frozen=True)
class WorstClassWithinMargin:
    """Maximize worst-k accuracy, the average being that of standard distillation or nearly.

    The criterion of Wang et al. 2023, section 4 ("Trading off accuracy and robustness"): "at
    least as high average accuracy as standard distillation (within error margin)".

    Attributes:
        worst_k: Number of classes in the worst-k accuracy.
        margin: Average accuracy that may be given up, a fraction; None for the standard error of
            the difference, ``sqrt(se_candidate^2 + se_reference^2)``, of each candidate.

    Raises:
        UserError: ``margin`` is not a fraction.
    """

    worst_k: int = 1
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and not abs(self.margin) <= 1:
            raise UserError(f"margin must be a fraction, such as 0.005, not {self.margin:g}")

    def describe(self) -> dict[str, Any]:
        """Name and options, as plain data."""
        rule = "standard_error" if self.margin is None else "fixed"
        return {"name": "worst_class_within_margin", "worst_k": self.worst_k, "margin_rule": rule}

    def margins(self, means: Means, reference: int) -> FloatArray:
        """How far below the reference each average may fall, shape ``(combinations,)``."""
        if self.margin is not None:
            return np.full(means.average.size, self.margin)
        return np.hypot(means.average_se, means.average_se[reference])

    def objective(self, means: Means) -> FloatArray:
        """Mean worst-k accuracy, shape ``(combinations,)``."""
        return means.worst_k


@dataclass(frozen=True, eq=False)
class Selection:
    """A choice, with everything it rests on. Indices point into ``combinations``."""

    combinations: Combinations
    criterion: Criterion
    means: Means
    """Validation accuracies at the criterion's ``worst_k``."""
    reference: int
    """Standard distillation at its best temperature."""
    margin: FloatArray
    """Average accuracy each combination may give up, shape ``(combinations,)``."""
    admitted: NDArray[np.bool_]
    """Whether each combination keeps the constraint, shape ``(combinations,)``."""
    selected: int
    feasible: bool
    """False if no combination keeps the constraint; the highest average is then selected."""
    frontier: NDArray[np.intp]
    """Combinations that no other beats in both validation accuracies."""


def select(combinations: Combinations, criterion: Criterion | None = None) -> Selection:
    """Apply a criterion to the validation accuracies.

    Ties go to the higher average accuracy, then to the lower temperature, then to the smaller
    alpha_t and alpha_s, where the standard objective counts as smallest.

    Args:
        combinations: Students of one family.
        criterion: The rule; None for ``WorstClassWithinMargin()``.

    Raises:
        UserError: The runs have no standard distillation to measure against, or the criterion's
            ``worst_k`` is out of range.
    """
    criterion = criterion or WorstClassWithinMargin()
    means = combinations.means(criterion.worst_k)
    standard = OBJECTIVES.index("standard")
    plain = (combinations.teacher_objective == standard) & (
        combinations.student_objective == standard
    )
    if not plain.any():
        raise UserError(
            "no completed run is standard distillation (standard teacher, standard student), "
            "which the selection is measured against; add one to the sweep"
        )
    reference = best_first(combinations, means, means.worst_k, plain)
    margin = criterion.margins(means, reference)
    admitted = means.average >= means.average[reference] - margin - _ROUNDING
    feasible = bool(admitted.any())
    if feasible:
        selected = best_first(combinations, means, criterion.objective(means), admitted)
    else:
        selected = best_first(combinations, means, means.average, np.ones_like(admitted))
    return Selection(
        combinations=combinations,
        criterion=criterion,
        means=means,
        reference=reference,
        margin=margin,
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
        objective: What is maximized, shape ``(combinations,)``.
        among: Which candidates count, shape ``(combinations,)``; at least one.
    """
    rows = np.flatnonzero(among)
    rows = rows[objective[rows] >= objective[rows].max() - _ROUNDING]
    rows = rows[means.average[rows] >= means.average[rows].max() - _ROUNDING]
    order = np.lexsort(
        (
            combinations.student_objective[rows],
            combinations.teacher_objective[rows],
            effective_alpha(combinations.student_objective, combinations.alpha_s)[rows],
            effective_alpha(combinations.teacher_objective, combinations.alpha_t)[rows],
            combinations.temperature[rows],
        )
    )
    return int(rows[order[0]])


def effective_alpha(objective: NDArray[np.int64], alpha: FloatArray) -> FloatArray:
    """The trade-off that each amounts to: balanced is 0, robust is 1, standard comes before."""
    fixed = np.array([{"balanced": 0.0, "robust": 1.0}.get(name, -1.0) for name in OBJECTIVES])
    return np.where(np.isnan(alpha), fixed[objective], alpha)
