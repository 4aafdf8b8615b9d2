"""Interface of search strategies, and the grid of students that they choose from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.selection.criteria import Constrained
from rkd_core.metrics import average_accuracy, worst_k_accuracy
from rkd_core.objectives import NamedObjective, by_alpha, position
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    from analysis.runs.combinations import Combinations

__all__ = [
    "Cell",
    "FloatArray",
    "Goal",
    "IntArray",
    "Point",
    "Request",
    "Seen",
    "Space",
    "Strategy",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """Combination of teacher and student trade-offs and temperature; None is standard."""

    alpha_t: float | None
    alpha_s: float | None
    temperature: float
    tuning: tuple[tuple[str, float], ...] = ()
    """Tuned fields of the student's recipe and multipliers, by the names of ``specs.Tuned``."""

    @classmethod
    def at(cls, combinations: Combinations, place: int) -> Cell:
        """Return a combination of a selection, with the recipe of the sweep."""
        alpha_t, alpha_s = (
            None if np.isnan(alphas[place]) else float(alphas[place])
            for alphas in (combinations.alpha_t, combinations.alpha_s)
        )
        return cls(alpha_t, alpha_s, float(combinations.temperature[place]))

    @property
    def objectives(self) -> tuple[NamedObjective, NamedObjective]:
        """Objectives of the teacher and the student."""
        return by_alpha(self.alpha_t), by_alpha(self.alpha_s)

    @property
    def is_standard(self) -> bool:
        """Whether it is standard distillation with the recipe of the sweep."""
        return self.alpha_t is None and self.alpha_s is None and not self.tuning

    @property
    def place(self) -> tuple[float, ...]:
        """Coordinates in which similar combinations are close to each other."""
        both = [position(*objective) for objective in self.objectives]
        axes = [value for a in both for value in (max(a, 0.0), float(a < 0))]
        return (*axes, math.log2(self.temperature) / 2)


@dataclass(frozen=True)
class Point:
    """Student to train: a combination and a seed."""

    cell: Cell
    seed: int


@dataclass(frozen=True)
class Space:
    """Whole grid of trade-offs, temperatures and seeds."""

    alphas: tuple[float, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def objectives(self) -> tuple[float | None, ...]:
        """Trade-offs of teachers and of students: None for standard, then each alpha."""
        return None, *self.alphas

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All combinations of the grid."""
        grid = product(self.objectives, self.objectives, self.temperatures)
        return tuple(Cell(*cell) for cell in grid)

    @property
    def reference(self) -> Cell:
        """Standard distillation, at the first temperature."""
        return Cell(None, None, self.temperatures[0])


@dataclass(frozen=True)
class Seen:
    """Validation accuracies of a student."""

    worst_k: float
    average: float
    images: int
    """Number of images of all classes."""
    counted: int
    """Number of images of the k smallest classes, a lower bound for those of the worst k."""

    @classmethod
    def of(cls, row: Mapping[str, Any], worst_k: int) -> Seen:
        """Return the accuracies of a record."""
        total, correct = row["val_class_total"], row["val_class_correct"]
        return cls(
            float(worst_k_accuracy(correct, total, worst_k)),
            float(average_accuracy(correct, total)),
            sum(total),
            sum(sorted(n for n in total if n)[:worst_k]),
        )


@dataclass(frozen=True)
class Goal:
    """Selection rule that a search optimizes."""

    criterion: Constrained = field(default_factory=Constrained)

    def __repr__(self) -> str:
        """Return the text that enters the names of Optuna studies."""
        rule = self.criterion
        text = f"Goal(worst_k={rule.worst_k}, margin={rule.margin}"
        for name, usual in (("errors", 1.0), ("reference", "standard")):
            value = getattr(rule, name)
            text += "" if value == usual else f", {name}={value!r}"
        return f"{text})"

    @property
    def worst_k(self) -> int:
        """Number of classes in the worst-k accuracy."""
        return self.criterion.worst_k

    def least_average(self, reference: Sequence[Seen]) -> float:
        """Return the least average accuracy that satisfies the constraint.

        Args:
            reference: Accuracies of standard distillation.
        """
        average = float(np.mean([seen.average for seen in reference]))
        return self.criterion.least_average([average], reference[0].images * len(reference))


@dataclass(frozen=True)
class Request:
    """Request for a strategy: the grid, the goal and options."""

    space: Space
    goal: Goal
    teacher_cost: float = 1.0
    """Cost of a teacher in units of a student."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the strategy by name; others keep their defaults."""
    tuning: Mapping[str, float] = field(default_factory=dict)
    """Recipe fields of students to tune, by the names of ``specs.Tuned``, with the values of the
    sweep."""
    dataset: str = ""
    family: str = ""
    """Family of the students of the sweep; searches of different families share nothing."""
    out: Location | None = None
    """Results folder, locked by this command; None keeps nothing on disk."""
    seed: int = 0
    """Seed of the random choices of the strategy."""


class Strategy(Protocol):
    """Strategy that proposes students one by one; several may be in training at a time."""

    @property
    def cells(self) -> Iterable[Cell]:
        """Combinations that it may have proposed, in this process or before an interruption."""
        ...

    def ask(self) -> Point | None:
        """Return the next student; None if none is left or a result is needed first."""
        ...

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """Receive the completed or pruned record of a student; None if it failed."""
        ...

    def outlook(self) -> tuple[Point | None, float]:
        """Return the student that would be next and its expected gain; NaN if it is unknown."""
        ...

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """Receive the record of a trained teacher."""
        ...
