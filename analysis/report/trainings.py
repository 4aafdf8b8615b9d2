"""Table of all trainings, with their learning curves on validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.report.pareto import rounded
from analysis.runs.columns import FloatArray, counts
from analysis.runs.loading import WITHOUT_TEACHER, Runs
from analysis.selection.outcome import Outcome
from analysis.views.format import readable
from rkd_core.metrics import average_accuracy, worst_k_accuracy

__all__ = ["trainings"]

_MOST_VALUES = 60_000
"""Maximum number of values in all curves together."""


def trainings(outcome: Outcome, runs: Runs) -> dict[str, Any]:
    """Return columns with a value for each training, completed or not.

    Accuracies are those of the trained model without a shift of its logits. The curves are
    validation accuracies by epoch; they are None where records lack them, and everywhere if there
    are too many for one page.
    """
    k = outcome.selection.criterion.worst_k
    table, classes = runs.every, len(outcome.setting.class_names)
    rows = table.select(
        [
            *("run_id", "stage", "status", "method", "variant", "temperature", "seed"),
            "architecture",
            *("teacher_objective", "alpha_t", "student_objective", "alpha_s", "train_seconds"),
        ]
    ).to_pylist()
    students = (row for row in rows if row["stage"] == "student")
    several = len({row["architecture"] for row in students} - {None}) > 1
    columns = {
        f"{split}_{name}": rounded(values, 4)
        for split in ("val", "test")
        for name, values in zip(
            ("worst", "average"), _accuracies(table, split, k, classes), strict=True
        )
    }
    return {
        "run_id": table["run_id"].to_pylist(),
        "name": [_name(row, several) for row in rows],
        "seed": [row["seed"] for row in rows],
        "status": [row["status"] for row in rows],
        **columns,
        "seconds": [None if s is None else round(s, 1) for s in table["train_seconds"].to_pylist()],
        "curves": _curves(table, k, classes),
    }


def _name(row: dict[str, Any], several: bool) -> str:
    """Return a training such as ``student αₛ = 0.5, T = 3, teacher αₜ = 0.25``.

    If students have several networks, the network of a student follows the word.
    """
    teacher = _objective(row["teacher_objective"], row["alpha_t"], "αₜ")
    if row["stage"] == "teacher":
        return f"teacher {teacher}"
    student = "student " + (f"{readable(row['architecture'])} " if several else "")
    student += _objective(row["student_objective"], row["alpha_s"], "αₛ")
    if row["method"] == WITHOUT_TEACHER:
        return f"{student}, without a teacher"
    if row["variant"] is not None:
        return f"{readable(row['variant'])}, {student}"
    temperature = row["temperature"]
    at = "" if temperature is None else f", T = {temperature:g}"
    return f"{student}{at}, teacher {teacher}"


def _objective(name: str | None, alpha: float | None, symbol: str) -> str:
    return (name or "standard") if alpha is None else f"{symbol} = {alpha:.3g}"


def _accuracies(table: pa.Table, split: str, k: int, classes: int) -> tuple[FloatArray, FloatArray]:
    """Return worst-k and average accuracies ``(rows,)``; NaN for rows without these classes."""
    lengths = pc.list_value_length(table[f"{split}_class_correct"])
    there = pc.fill_null(pc.equal(lengths, classes), False)
    worst, average = (np.full(len(table), np.nan) for _ in range(2))
    rows = np.flatnonzero(there.to_numpy())
    if rows.size:
        total, correct = counts(table.filter(there).combine_chunks(), split)
        worst[rows] = worst_k_accuracy(correct, total, k)
        average[rows] = average_accuracy(correct, total)
    return worst, average


def _curves(table: pa.Table, k: int, classes: int) -> list[list[Any] | None]:
    """Return epochs, worst-k accuracies and average accuracies of each training."""
    length = pc.sum(pc.list_value_length(table["val_epochs"])).as_py() or 0
    if 3 * length > _MOST_VALUES:
        return [None] * len(table)
    found: list[list[Any] | None] = []
    for epochs, correct, total in zip(
        table["val_epochs"].to_pylist(),
        table["val_epoch_class_correct"].to_pylist(),
        table["val_class_total"].to_pylist(),
        strict=True,
    ):
        if not epochs or not total or len(total) != classes:
            found.append(None)
            continue
        worst = worst_k_accuracy(correct, [total] * len(correct), k)
        average = average_accuracy(correct, [total] * len(correct))
        found.append([epochs, rounded(worst, 4), rounded(average, 4)])
    return found
