"""Data of the report's Pareto figure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.runs.columns import FloatArray, IntArray, effective_alpha
from analysis.runs.combinations import Combinations, Means
from analysis.selection.outcome import Outcome, letters, method_names
from analysis.views.format import combination, readable, student, teacher
from rkd_core.metrics import balanced_accuracy, recalls

__all__ = ["pareto", "rounded"]


def pareto(outcome: Outcome) -> dict[str, Any]:
    """Return columns with a value for each combination of the grid, and for other methods."""
    c = outcome.selection.combinations
    alpha = {
        "alpha_t": effective_alpha(c.teacher_objective, c.alpha_t),
        "alpha_s": effective_alpha(c.student_objective, c.alpha_s),
    }
    grid: dict[str, Any] = {
        "teacher": [teacher(c, index) for index in range(len(c))],
        "student": [student(c, index) + c.without_shift(index) for index in range(len(c))],
        "shift": _or_none(c.shift),
        "name": [combination(c, index) for index in range(len(c))],
        **{name: _or_none(a) for name, a in alpha.items()},
        "temperature": _or_none(c.temperature),
        **_splits(outcome, c, outcome.selection.means, outcome.test),
        "sure": _sure(outcome),
    }
    others = outcome.methods
    rows, marks = others.combinations, letters(outcome)
    methods: dict[str, Any] = {
        "variant": [readable(name) for name in method_names(rows)],
        "letter": [marks.get(place, ("", ""))[0] for place in range(len(rows))],
        **_splits(outcome, rows, others.val, others.test),
    }
    return {
        "worst": f"{outcome.worst_name} accuracy",
        "names": [readable(name) for name in outcome.setting.class_names],
        "grid": grid,
        "methods": methods,
        "estimated": outcome.selection.seen.estimated is not None,
        "reference": outcome.selection.reference,
        "selected": outcome.selection.selected,
        "frontier": {
            "val": outcome.selection.seen.means.frontier().tolist(),
            "test": outcome.test.frontier().tolist(),
        },
    }


def _sure(outcome: Outcome) -> dict[str, Any] | None:
    """Return estimates and intervals of all combinations; None without an estimate."""
    sure = outcome.uncertainty
    if sure is None:
        return None
    return {
        "average": rounded(sure.expected.average),
        "average_interval": rounded(sure.average_interval),
        "worst": rounded(sure.expected.worst_k),
        "worst_interval": rounded(sure.worst_k_interval),
        "best": rounded(sure.probability_best, 3),
    }


def rounded(values: FloatArray, digits: int = 5) -> list[Any]:
    """Return nested lists of rounded numbers, with None for NaN and infinity."""
    return _none(np.round(values, digits).tolist())


def _none(value: Any) -> Any:
    if isinstance(value, list):
        return [_none(one) for one in value]
    return value if math.isfinite(value) else None


def _or_none(values: FloatArray) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _splits(outcome: Outcome, c: Combinations, val: Means, test: Means) -> dict[str, Any]:
    correct, total = outcome.held_out.counts(c)
    return {
        "seeds": c.seeds.tolist(),
        "val": _figures(c, val, c.class_total, c.class_correct),
        "test": _figures(c, test, total, correct),
    }


def _figures(
    c: Combinations, means: Means, total: IntArray, correct: IntArray
) -> dict[str, list[Any]]:
    """Return means over seeds; the worst class is the one with the lowest mean recall."""
    if not len(c):
        return {}
    r = recalls(correct, total)
    present = np.isfinite(r)
    mean = np.add.reduceat(np.where(present, r, 0), c.start)
    mean /= np.maximum(np.add.reduceat(present.astype(np.int64), c.start), 1)
    mean[~np.maximum.reduceat(present, c.start)] = np.inf
    return {
        "average": rounded(means.average),
        "average_se": rounded(means.average_se),
        "worst": rounded(means.worst_k),
        "worst_se": rounded(means.worst_k_se),
        "balanced": rounded(np.add.reduceat(balanced_accuracy(correct, total), c.start) / c.seeds),
        "worst_class": mean.argmin(axis=1).tolist(),
    }
