"""Report tables of teachers, and of their metrics' correlations with students' worst class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.runs.columns import FloatArray
from analysis.runs.loading import Runs
from analysis.runs.teacher_statistics import (
    STATISTICS,
    Correlation,
    Teachers,
    correlations,
    measure,
)
from analysis.selection.outcome import Outcome
from analysis.views.format import readable, teacher
from analysis.views.tables import Accuracy, teachers
from rkd_core.text.numbers import DASH, decimal

__all__ = ["Correlated", "Teaching", "teaching"]


@dataclass(frozen=True)
class Correlated:
    """Correlations of a statistic, as text."""

    name: str
    cells: tuple[tuple[str, str], ...]
    """Value and interval, for each kind of student."""


@dataclass(frozen=True)
class Teaching:
    """Tables as text, without columns that are empty for all teachers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    students: tuple[str, ...]
    """Kinds of students, in the order of the columns of correlations."""
    correlated: tuple[Correlated, ...]
    """Correlations by statistic; empty if there are too few teachers."""
    teachers: int
    """Number of trained teachers, one for each objective and seed."""
    calibrated: bool
    """Whether calibration errors are known."""


def teaching(outcome: Outcome, runs: Runs) -> Teaching | None:
    """Return the tables of teachers; None without records of teachers."""
    if not len(runs.teachers):
        return None
    found = measure(runs.teachers)
    columns: list[tuple[str, list[str]]] = [
        ("teacher", [teacher(outcome.teachers.combinations, i) for i in range(_number(outcome))]),
        *_accuracies(outcome),
        *_statistics(outcome, found),
    ]
    table = correlations(found, runs.students)
    kinds = tuple(next(iter(table.values()), {}))
    return Teaching(
        columns=tuple(name for name, _ in columns),
        rows=tuple(zip(*(values for _, values in columns), strict=True)),
        students=kinds,
        correlated=tuple(
            Correlated(STATISTICS[name], tuple(_cell(cells[kind]) for kind in kinds))
            for name, cells in table.items()
        ),
        teachers=len(found.run_id),
        calibrated=bool(np.isfinite(found.values["calibration"]).any()),
    )


def _number(outcome: Outcome) -> int:
    return len(outcome.teachers.combinations)


def _accuracies(outcome: Outcome) -> list[tuple[str, list[str]]]:
    sheet, columns = teachers(outcome), []
    for place, column in enumerate(sheet.columns):
        cells = [row[place] for row in sheet.rows]
        texts = [cell.text() for cell in cells if isinstance(cell, Accuracy)]
        if texts:
            columns.append((f"{column.heading}, {column.group}, %", texts))
    return columns


def _statistics(outcome: Outcome, found: Teachers) -> list[tuple[str, list[str]]]:
    """Return columns of statistics, as means over seeds."""
    rows = [
        np.flatnonzero(np.isin(found.run_id, outcome.teachers.combinations.run_ids(i)))
        for i in range(_number(outcome))
    ]

    def means(values: FloatArray, shown: Callable[[float], str]) -> list[str]:
        averages = [float(values[row].mean()) for row in rows]
        return [shown(v) if np.isfinite(v) else DASH for v in averages]

    names = [readable(name) for name in outcome.setting.class_names]
    at = [
        ", ".join(dict.fromkeys(names[k] for k in found.miscalibrated[row] if k >= 0))
        for row in rows
    ]
    columns = [
        ("mean margin", means(found.values["margin"], decimal)),
        ("lowest margin", means(found.values["worst_margin"], decimal)),
        ("classes of negative margin", means(found.negative, "{:.3g}".format)),
        ("calibration error", means(found.values["calibration"], decimal)),
        ("its noise floor", means(found.floor, decimal)),
        ("in class", [name or DASH for name in at]),
    ]
    return [(name, texts) for name, texts in columns if set(texts) != {DASH}]


def _cell(c: Correlation) -> tuple[str, str]:
    if not np.isfinite(c.value):
        return DASH, ""
    return decimal(c.value), f"{decimal(c.low)} to {decimal(c.high)}"
