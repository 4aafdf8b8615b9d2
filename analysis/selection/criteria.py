"""Selection rules, each with a constraint and an objective to maximize.

A new rule is a class with the methods of ``Criterion``; plug-ins register rules by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from analysis.runs.columns import FloatArray, IntArray
from analysis.runs.combinations import Combinations, Means
from analysis.selection.posterior import Draw
from rkd_core import plugins
from rkd_core.errors import UserError
from rkd_core.metrics import binomial_error
from rkd_core.text.numbers import percent

__all__ = [
    "Accuracies",
    "Constrained",
    "Criterion",
    "Floors",
    "Group",
    "Lexicographic",
    "Measure",
    "WeightedSum",
]

Measure = Literal["worst_k", "average", "balanced"]


@dataclass(frozen=True, eq=False)
class Accuracies:
    """Validation accuracies that a criterion is applied to, as counted or as estimated."""

    combinations: Combinations
    means: Means
    """Accuracies at the criterion's ``worst_k``; standard errors are those of the counts."""
    estimated: FloatArray | None = None
    """Estimated recalls ``(combinations, classes)``; None for those of the counts."""
    scored: FloatArray | None = None
    """Scores by a metric, ``(combinations,)``; None for those of the combinations."""

    @classmethod
    def of_draw(cls, draw: Draw, counted: Accuracies, place: int = 0) -> Accuracies:
        """Return the accuracies of one draw, with the scores of the draw at a place."""
        raw, average = counted.means, draw.average(counted.combinations.share)
        means = Means(average, raw.average_se, draw.worst_k, raw.worst_k_se)
        scores = counted.combinations.scores
        drawn = None if scores is None else scores.centered
        scored = None if drawn is None or not len(drawn) else drawn[place % len(drawn)]
        return cls(counted.combinations, means, draw.recalls, scored)

    @property
    def score(self) -> FloatArray:
        """Scores by the metric of the rule, ``(combinations,)``; higher ones are better."""
        if self.scored is not None:
            return self.scored
        assert self.combinations.scores is not None
        return self.combinations.scores.values

    @cached_property
    def recalls(self) -> FloatArray:
        """Mean recalls over seeds, ``(combinations, classes)``; NaN for a class without images."""
        if self.estimated is not None:
            return self.estimated
        return self.combinations.recalls()

    @cached_property
    def balanced(self) -> FloatArray:
        """Mean recall over the classes that have images, shape ``(combinations,)``."""
        return np.asarray(np.nanmean(self.recalls, axis=1))

    @cached_property
    def balanced_se(self) -> FloatArray:
        """Standard error of the counted balanced accuracy: over seeds, or binomial for one seed."""
        return self.combinations.balanced_error()

    def measure(self, name: Measure) -> FloatArray:
        """Return one of the accuracies by name, shape ``(combinations,)``."""
        if name == "balanced":
            return self.balanced
        return self.means.average if name == "average" else self.means.worst_k


class Criterion(Protocol):
    """A selection rule.

    ``reference`` is the index of standard distillation at its best temperature.
    """

    @property
    def worst_k(self) -> int:
        """Number of classes in the worst-k accuracy."""

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""

    def shortfall(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return how far each combination violates the constraint; 0 or less if it is feasible."""

    def margins(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return how far below the reference each average may fall; NaN if unconstrained."""

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the objective, ``(combinations,)``, or ``(combinations, keys)`` by priority."""

    def fallback(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the objective that applies if no combination is feasible, ``(combinations,)``."""


@dataclass(frozen=True)
class Group:
    """A named group of classes, measured by its mean recall."""

    name: str
    classes: tuple[int, ...]

    def accuracy(self, recalls: FloatArray) -> FloatArray:
        """Return the mean recall of the classes, shape ``(combinations,)``."""
        return np.asarray(np.nanmean(recalls[:, list(self.classes)], axis=1))


@dataclass(frozen=True)
class Constrained:
    """A rule that maximizes worst-k accuracy, or a group's, under a constraint on the average.

    The default is the criterion of Wang et al. 2023, section 4 ("Trading off accuracy and
    robustness"): "at least as high average accuracy as standard distillation (within error
    margin)".

    Attributes:
        worst_k: Number of classes in the worst-k accuracy.
        margin: Fraction by which the constrained accuracy may be below the reference; None for
            a number of standard errors.
        errors: Number of standard errors of each candidate's difference, ``sqrt(se_candidate^2 +
            se_reference^2)``; used if ``margin`` is None.
        keep: Accuracy that the constraint is on.
        reference: Reference of the constraint: ``standard`` distillation, the ``best`` candidate,
            or a fraction.
        group: Classes whose mean recall is maximized instead of the worst-k accuracy.
        tolerance: Accuracy below the best that may be given up for the highest average.

    Raises:
        UserError: ``margin``, ``reference`` or ``tolerance`` is not a fraction, or ``errors`` not a
            number.
    """

    worst_k: int = 1
    margin: float | None = None
    errors: float = 1.0
    keep: Literal["average", "balanced"] = "average"
    reference: Literal["standard", "best"] | float = "standard"
    group: Group | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise UserError(f"tolerance must be a fraction, not {self.tolerance:g}")
        if self.margin is not None and not abs(self.margin) <= 1:
            raise UserError(f"margin must be a fraction, such as 0.005, not {self.margin:g}")
        if not np.isfinite(self.errors):
            raise UserError(f"margin must be a finite number of standard errors, not {self.errors}")
        if not isinstance(self.reference, str) and not 0 <= self.reference <= 1:
            raise UserError(
                f"reference must be standard, best or a fraction, not {self.reference:g}"
            )

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        rule = "standard_error" if self.margin is None else "fixed"
        return {"name": "constrained", **asdict(self), "margin_rule": rule}

    def _least(self, a: Accuracies, reference: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the constrained accuracies, the reference accuracy and the margins."""
        values = a.measure(self.keep)
        se = a.means.average_se if self.keep == "average" else a.balanced_se
        if isinstance(self.reference, str):
            place = reference if self.reference == "standard" else int(np.argmax(values))
            against, error = values[place], se[place]
        else:
            against, error = np.float64(self.reference), np.float64(0.0)
        return values, against, self._margins(se, error)

    def _margins(self, se: FloatArray, reference_se: FloatArray | float) -> FloatArray:
        """Return the accuracy that may be given up, given the standard errors of candidates."""
        if self.margin is not None:
            return np.full(np.shape(se), self.margin)
        return np.asarray(self.errors * np.hypot(se, reference_se))

    def least_average(self, standard: Sequence[float], images: int) -> float:
        """Return the required average accuracy while few combinations have been trained.

        Args:
            standard: Average accuracies of standard distillation; the lowest one is used.
            images: Number of validation images of each.
        """
        error = np.asarray(binomial_error(max(standard), images))
        if isinstance(self.reference, str):
            return min(standard) - float(self._margins(error, error))
        return self.reference - float(self._margins(error, 0.0))

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        _, against, margins = self._least(accuracies, reference)
        margin = margins[index]
        kind = "an average" if self.keep == "average" else "a balanced accuracy"
        names = {"standard": "standard distillation's", "best": "the best there is"}
        least = f"{kind} of {percent(against - margin)} or more"
        if isinstance(self.reference, str):
            least += f" ({names[self.reference]} less {percent(margin)})"
        what = _worst_name(self.worst_k) if self.group is None else self.group.name
        near = f" (or a higher average within {percent(self.tolerance)} points)"
        return f"{what} accuracy{near if self.tolerance else ''}", least

    def shortfall(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the required accuracy minus the accuracy, shape ``(combinations,)``."""
        values, against, margins = self._least(accuracies, reference)
        return np.asarray(against - margins - values)

    def margins(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return how far below the reference each accuracy may fall, shape ``(combinations,)``."""
        return self._least(accuracies, reference)[2]

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the mean worst-k accuracy, or that of the group, shape ``(combinations,)``."""
        if self.group is not None:
            return self.group.accuracy(accuracies.recalls)
        return accuracies.means.worst_k

    def fallback(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the constrained accuracy, shape ``(combinations,)``."""
        return accuracies.measure(self.keep)


@dataclass(frozen=True)
class _Free:
    """Base class of rules without a constraint."""

    worst_k: int = 1

    def shortfall(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return minus infinity: every combination is feasible."""
        return np.full(len(accuracies.combinations), -np.inf)

    def margins(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return NaN: the average is not constrained."""
        return np.full(len(accuracies.combinations), np.nan)

    def fallback(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the average, which is never used since every combination is feasible."""
        return accuracies.means.average


@dataclass(frozen=True)
class WeightedSum(_Free):
    """A rule that maximizes ``weight * worst-k + (1 - weight) * average`` accuracy.

    Raises:
        UserError: ``weight`` is not a fraction.
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UserError(f"weight must be a fraction, such as 0.5, not {self.weight:g}")

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        return {"name": "weighted_sum", **asdict(self)}

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        return f"{self.weight:g} × {_worst_name(self.worst_k)} + {1 - self.weight:g} × average", ""

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the weighted sum, shape ``(combinations,)``."""
        m = accuracies.means
        return np.asarray(self.weight * m.worst_k + (1 - self.weight) * m.average)


@dataclass(frozen=True)
class Lexicographic(_Free):
    """A rule that maximizes one accuracy and, within a tolerance of its best, the next.

    Raises:
        UserError: ``tolerance`` is not a fraction, or an accuracy is unknown.
    """

    order: tuple[Measure, ...] = ("worst_k", "average")
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise UserError(f"tolerance must be a fraction, not {self.tolerance:g}")
        known = ("worst_k", "average", "balanced")
        wrong = [name for name in self.order if name not in known]
        if wrong or not self.order:
            raise UserError(f"order must name some of {', '.join(known)}, not {', '.join(wrong)}")

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        return {"name": "lexicographic", **asdict(self)}

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        order = [_worst_name(self.worst_k) if name == "worst_k" else name for name in self.order]
        return ", then ".join(order) + " accuracy", ""

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return a column for each accuracy, shape ``(combinations, keys)``.

        All columns but the last are 1 for combinations that remain candidates and 0 for others.
        """
        values = [accuracies.measure(name) for name in self.order]
        columns, running = [], np.ones(len(values[0]), dtype=bool)
        for column in values[:-1]:
            running &= column >= column[running].max() - self.tolerance - 1e-12
            columns.append(running.astype(np.float64))
        return np.column_stack([*columns, values[-1]])


@dataclass(frozen=True)
class Floors:
    """A rule that maximizes worst-k accuracy where some classes reach their floors.

    Attributes:
        floors: Minimum recall by class.
        names: Names of the classes, in label order.
        worst_k: Number of classes in the worst-k accuracy.

    Raises:
        UserError: There is no floor, or one is not a fraction.
    """

    floors: Mapping[int, float]
    names: tuple[str, ...] = field(repr=False)
    worst_k: int = 1

    def __post_init__(self) -> None:
        if not self.floors:
            raise UserError("a floor is needed, such as cat=0.8")
        for label, floor in self.floors.items():
            if not 0 <= floor <= 1:
                raise UserError(
                    f"the floor of {self.names[label]} must be a fraction, not {floor:g}"
                )

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data."""
        floors = {self.names[label]: floor for label, floor in self.floors.items()}
        return {"name": "floors", "worst_k": self.worst_k, "floors": floors}

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        least = [f"{100 * f:g} ({self.names[label]})" for label, f in self.floors.items()]
        what = f"{_worst_name(self.worst_k)} accuracy"
        return what, "accuracies of at least " + ", ".join(least)

    def shortfall(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the largest shortfall of a class from its floor, shape ``(combinations,)``."""
        labels: IntArray = np.array(list(self.floors), dtype=np.int64)
        lacking = np.array(list(self.floors.values())) - accuracies.recalls[:, labels]
        return np.asarray(np.where(np.isnan(lacking), np.inf, lacking).max(axis=1))

    def margins(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return NaN: the average is not constrained."""
        return np.full(len(accuracies.combinations), np.nan)

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the mean worst-k accuracy, shape ``(combinations,)``."""
        return accuracies.means.worst_k

    def fallback(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the negative shortfall, so that the smallest violation is chosen."""
        return -self.shortfall(accuracies, reference)


def _worst_name(k: int) -> str:
    return "worst-class" if k == 1 else f"worst-{k}"


def _check(name: str, target: object) -> None:
    if not callable(target) and not hasattr(target, "objective"):
        raise UserError(
            f"{type(target).__name__} is not a criterion, or a class or function of one"
        )


plugins.criteria.built_in(tuple, _check)
