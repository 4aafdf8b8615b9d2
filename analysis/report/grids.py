"""Rows of the report's tables of the nine combinations and of head, medium and tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.selection.outcome import Outcome
from analysis.views.tables import NINE, groups, nine_combinations
from rkd_core.text.numbers import difference, percent

__all__ = ["Cell", "Group", "Nine", "group_rows", "nine"]


@dataclass(frozen=True)
class Cell:
    """A cell of the table of nine combinations, as text."""

    worst: str
    average: str
    shade: float
    """Worst-k accuracy, rescaled to 0 for the lowest and 1 for the highest of the table."""
    temperature: str


@dataclass(frozen=True)
class Nine:
    """The nine combinations on one split; a cell is None if it was not trained."""

    split: str
    teachers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """Name of the student's objective, and a cell for each teacher."""


@dataclass(frozen=True)
class Group:
    """A group of classes, with accuracies and gains in points as text."""

    name: str
    classes: int
    images: str
    figures: tuple[str, ...]


def nine(outcome: Outcome) -> list[Nine]:
    """Return the combinations of standard, balanced and robust as a table for each split."""
    s = outcome.selection
    c, places = s.combinations, nine_combinations(outcome)
    if len(places) < 2:
        return []
    columns = [name for name in NINE if any(name == teacher for teacher, _ in places)]
    lines = [name for name in NINE if any(name == student for _, student in places)]
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
        rows = tuple((name, tuple(cells.get((t, name)) for t in columns)) for name in lines)
        tables.append(Nine(split, tuple(columns), rows))
    return tables


def group_rows(outcome: Outcome) -> list[Group]:
    """Return the rows of head, medium and tail; empty without such groups."""
    rows = []
    for row in groups(outcome).by_key():
        figures: list[str] = []
        for split in ("val", "test"):
            before, after = row[f"standard_{split}"], row[f"selected_{split}"]
            figures += [before.text(), after.text(), difference(after.mean, before.mean)]
        rows.append(Group(row["group"], row["classes"], row["train_images"], tuple(figures)))
    return rows
