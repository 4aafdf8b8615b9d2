"""The papers' nine combinations, and head, medium and tail, as tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.runs.columns import FloatArray, positions
from analysis.runs.groups import accuracies, images, of_long_tail
from analysis.selection.outcome import Outcome
from analysis.views.format import percent, points
from analysis.views.terminal import nine_combinations
from rkd_core.objectives import position

__all__ = ["Cell", "Group", "Nine", "group_rows", "nine"]

_PAPERS = {position(name): name for name in ("standard", "balanced", "robust")}
"""The papers' objectives, by their places on the axis of trade-offs."""


@dataclass(frozen=True)
class Cell:
    """One combination."""

    worst: str
    average: str
    shade: float
    """Place of its worst-k accuracy between the lowest, 0, and the highest, 1."""
    temperature: str


@dataclass(frozen=True)
class Nine:
    """A table of one split; None where nothing was trained."""

    split: str
    teachers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """By student, a cell for each teacher."""


@dataclass(frozen=True)
class Group:
    """A group of classes: what it is, and accuracies with the gain in points."""

    name: str
    classes: int
    images: str
    figures: tuple[str, ...]


def nine(outcome: Outcome) -> list[Nine]:
    """The combinations of standard, balanced and robust, each at its best temperature."""
    s = outcome.selection
    c = s.combinations
    teacher = positions(c.teacher_objective, c.alpha_t)
    student = positions(c.student_objective, c.alpha_s)
    places = {(student[i], teacher[i]): i for i in nine_combinations(outcome)}
    if len(places) < 2:
        return []
    columns = [a for a in _PAPERS if any(t == a for _, t in places)]
    lines = [a for a in _PAPERS if any(s == a for s, _ in places)]
    tables = []
    for split, means in (("validation", s.means), ("test", outcome.test)):
        worst = means.worst_k[list(places.values())]
        shades = (worst - worst.min()) / max(np.ptp(worst), 1e-9)
        cells = {
            place: Cell(
                percent(means.worst_k[index]),
                percent(means.average[index]),
                round(float(shade), 3),
                f"{c.temperature[index]:g}{c.aside(index)}",
            )
            for (place, index), shade in zip(places.items(), shades, strict=True)
        }
        rows = tuple((_PAPERS[a], tuple(cells.get((a, t)) for t in columns)) for a in lines)
        tables.append(Nine(split, tuple(_PAPERS[t] for t in columns), rows))
    return tables


def group_rows(outcome: Outcome) -> list[Group]:
    """Return head, medium and tail; nothing if the training set has no long tail or fewer than
    three classes.
    """
    train, s = outcome.setting.train_counts, outcome.selection
    groups = of_long_tail(train)
    if train is None or not groups:
        return []
    before, after = (s.combinations.only(i) for i in (s.reference, s.selected))
    pairs: list[tuple[FloatArray, FloatArray]] = [
        (before.mean_recalls(), after.mean_recalls()),
        (outcome.held_out.mean_recalls(before), outcome.held_out.mean_recalls(after)),
    ]
    of_groups = [(accuracies(one, groups), accuracies(other, groups)) for one, other in pairs]
    rows = []
    for name, labels in groups.items():
        figures: list[str] = []
        for one, other in of_groups:
            gained = other[name] - one[name]
            figures += [percent(one[name]), percent(other[name]), points(gained)]
        rows.append(Group(name, len(labels), images(train, labels), tuple(figures)))
    return rows
