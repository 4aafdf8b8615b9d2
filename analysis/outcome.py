"""A selection together with what may be looked at once it is made: test figures and teachers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.columns import OBJECTIVES
from analysis.combinations import Combinations, HeldOut, Means, combine
from analysis.loading import Runs
from analysis.selection import Criterion, Selection, select

__all__ = ["Outcome", "Setting", "Teachers", "assess", "objective_name"]


@dataclass(frozen=True)
class Setting:
    """What all the runs have in common, for titles and captions."""

    dataset: str
    teacher_architecture: str | None
    """None if no teacher has a record."""
    student_architecture: str
    class_names: tuple[str, ...]
    """Distinct, in label order."""
    family: str

    @property
    def architectures(self) -> str:
        """Teacher → student, as far as they are known."""
        names = (self.teacher_architecture, self.student_architecture)
        return " → ".join(name for name in names if name)


@dataclass(frozen=True, eq=False)
class Teachers:
    """The teachers alone, one row per objective, and their accuracies over seeds."""

    combinations: Combinations
    val: Means
    test: Means


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that the table, the figure and the selection file show."""

    selection: Selection
    held_out: HeldOut
    test: Means
    """Test accuracies of the combinations, at the criterion's ``worst_k``."""
    teachers: Teachers
    setting: Setting

    @property
    def worst_name(self) -> str:
        """``worst-class`` or ``worst-k`` with its number."""
        k = self.selection.criterion.worst_k
        return "worst-class" if k == 1 else f"worst-{k}"


def assess(runs: Runs, criterion: Criterion | None = None) -> Outcome:
    """Select on validation, then attach the test figures and the teachers.

    Raises:
        UserError: As ``combine`` and ``select``.
    """
    selection = select(combine(runs.students), criterion)
    worst_k = selection.criterion.worst_k
    held_out = HeldOut.of(runs.students)
    teachers = combine(runs.teachers)
    return Outcome(
        selection=selection,
        held_out=held_out,
        test=held_out.means(selection.combinations, worst_k),
        teachers=Teachers(
            teachers,
            teachers.means(worst_k),
            HeldOut.of(runs.teachers).means(teachers, worst_k),
        ),
        setting=_setting(runs),
    )


def objective_name(objective: int, alpha: float, symbol: str = "α") -> str:
    """``standard``, ``balanced``, ``robust``, the trade-off's alpha, or a dash for no student."""
    if objective < 0:
        return "—"
    return OBJECTIVES[objective] if np.isnan(alpha) else f"{symbol} {alpha:.3g}"


def _setting(runs: Runs) -> Setting:
    student = runs.students.slice(0, 1).to_pylist()[0]
    architecture = runs.teachers["architecture"][0].as_py() if len(runs.teachers) else None
    classes = len(student["val_class_total"])
    names = student["class_names"] or []
    if len(names) != classes:
        names = [str(label) for label in range(classes)]
    # ImageNet has two classes named crane: a name that is not alone gets its label.
    distinct = [
        f"{name} ({label})" if names.count(name) > 1 else name for label, name in enumerate(names)
    ]
    return Setting(
        dataset=str(student["dataset"]),
        teacher_architecture=architecture,
        student_architecture=str(student["architecture"]),
        class_names=tuple(distinct),
        family=str(student["family"]),
    )
