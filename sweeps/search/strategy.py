"""What a search chooses from: students of the grid, by their places in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.selection.criteria import Constrained
from rkd_core.metrics import average_accuracy, worst_k_accuracy
from rkd_core.objectives import NamedObjective, by_alpha, position

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
    """A combination; None is the standard objective."""

    alpha_t: float | None
    alpha_s: float | None
    temperature: float
    tuning: tuple[tuple[str, float], ...] = ()
    """What is its own of the recipe and the multipliers, by the names of ``specs.Tuned``."""

    @classmethod
    def at(cls, combinations: Combinations, place: int) -> Cell:
        """One of the combinations that a selection speaks of, by the sweep's own recipe."""
        alpha_t, alpha_s = (
            None if np.isnan(alphas[place]) else float(alphas[place])
            for alphas in (combinations.alpha_t, combinations.alpha_s)
        )
        return cls(alpha_t, alpha_s, float(combinations.temperature[place]))

    @property
    def objectives(self) -> tuple[NamedObjective, NamedObjective]:
        """The teacher's and the student's."""
        return by_alpha(self.alpha_t), by_alpha(self.alpha_s)

    @property
    def is_standard(self) -> bool:
        """Whether it is standard distillation, by the sweep's own recipe."""
        return self.alpha_t is None and self.alpha_s is None and not self.tuning

    @property
    def place(self) -> tuple[float, ...]:
        """Coordinates in which combinations that are near each other are alike."""
        both = [position(*objective) for objective in self.objectives]
        axes = [value for a in both for value in (max(a, 0.0), float(a < 0))]
        return (*axes, math.log2(self.temperature) / 2)


@dataclass(frozen=True)
class Point:
    """A student to train: a combination, with a seed."""

    cell: Cell
    seed: int


@dataclass(frozen=True)
class Space:
    """The whole grid."""

    alphas: tuple[float, ...]
    temperatures: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def objectives(self) -> tuple[float | None, ...]:
        """Of teachers, and of students: standard, then each alpha."""
        return None, *self.alphas

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All combinations."""
        grid = product(self.objectives, self.objectives, self.temperatures)
        return tuple(Cell(*cell) for cell in grid)

    @property
    def reference(self) -> Cell:
        """Standard distillation, at the first temperature."""
        return Cell(None, None, self.temperatures[0])


@dataclass(frozen=True)
class Seen:
    """What validation says of a student."""

    worst_k: float
    average: float
    images: int
    """Of all classes."""
    counted: int
    """Of the k smallest classes: what a worst-k accuracy is counted on, at the least."""

    @classmethod
    def of(cls, row: Mapping[str, Any], worst_k: int) -> Seen:
        """From a record's counts."""
        total, correct = row["val_class_total"], row["val_class_correct"]
        return cls(
            float(worst_k_accuracy(correct, total, worst_k)),
            float(average_accuracy(correct, total)),
            sum(total),
            sum(sorted(n for n in total if n)[:worst_k]),
        )


@dataclass(frozen=True)
class Goal:
    """The selection rule, as a search follows it."""

    criterion: Constrained = field(default_factory=Constrained)

    def __repr__(self) -> str:
        """Return the text that names of Optuna's studies are made from."""
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
        """What the average must be, given what standard distillation has."""
        average = float(np.mean([seen.average for seen in reference]))
        return self.criterion.least_average([average], reference[0].images * len(reference))


@dataclass(frozen=True)
class Request:
    """What a strategy is made for."""

    space: Space
    goal: Goal
    teacher_cost: float = 1.0
    """Cost of a teacher, in students."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The strategy's own options by name; those left out are at their defaults."""
    tuning: Mapping[str, float] = field(default_factory=dict)
    """Recipe fields of students to tune, by the names of ``specs.Tuned``, with the sweep's
    values."""
    dataset: str = ""
    family: str = ""
    """Family of the sweep's students; searches of other families have nothing in common with it."""
    out: Path | None = None
    """Results folder, held by this command; None: nothing is kept."""
    seed: int = 0
    """Seed of the strategy's own random choices."""


class Strategy(Protocol):
    """Chooses students, one after the other; several may be under way at a time."""

    @property
    def cells(self) -> Iterable[Cell]:
        """What it may have asked for, by now or before it was cut off."""
        ...

    def ask(self) -> Point | None:
        """The next one to train; None: not before something is told, or nothing any more."""
        ...

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """What became of one: its record, completed or pruned; None if it failed."""
        ...

    def outlook(self) -> tuple[Point | None, float]:
        """Who would be next, and the accuracy that it is expected to add, NaN if unknown."""
        ...

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """The record of a teacher that has been trained."""
        ...
