"""Statistics of teachers, and their correlation with the worst-class accuracy of students.

Wang et al. (UAI 2023, Theorem 2) bound a robust student's risk by the calibration of its teacher
within each class rather than by its accuracy; Lukasik et al. (TMLR 2022, section 3) find that a
student is inaccurate where its teacher's margin is negative. Statistics are measured on validation
and students' accuracies on test, so that the two do not share noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.columns import FloatArray, counts
from analysis.runs.rank_correlation import spearman
from rkd_core.metrics import average_accuracy, calibration, worst_class_accuracy
from rkd_core.objectives import position

__all__ = ["CONFIDENCE", "STATISTICS", "Correlation", "Teachers", "correlations", "measure"]

CONFIDENCE = 0.9
"""Confidence of the intervals of correlations."""
STATISTICS = {
    "average": "average accuracy",
    "worst_class": "worst-class accuracy",
    "margin": "mean margin",
    "worst_margin": "lowest margin of a class",
    "log_loss": "mean log-loss",
    "calibration": "calibration error, worst class",
    "mean_calibration": "calibration error, mean class",
}
"""Statistics that may predict students' accuracy, with their names in tables."""
_DRAWS = 2000
_FEWEST = 4
"""Minimum number of teachers for a correlation."""


@dataclass(frozen=True, eq=False)
class Teachers:
    """Statistics of teachers on validation, one for each run; shape ``(teachers,)``.

    A statistic is NaN if the record lacks its data.
    """

    run_id: tuple[str, ...]
    seed: np.ndarray
    values: dict[str, FloatArray]
    """Values by the names in ``STATISTICS``."""
    negative: FloatArray
    """Number of classes whose mean margin is negative."""
    miscalibrated: np.ndarray
    """Class with the largest calibration error; -1 if unknown."""
    floor: FloatArray
    """Calibration error that noise alone would cause in that class."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation and its interval; NaN if there are too few teachers."""

    value: float
    low: float
    high: float


def measure(table: pa.Table) -> Teachers:
    """Return statistics of completed teachers in the columns of ``rkd_core.records.SCHEMA``."""
    table = table.combine_chunks()
    total, correct = counts(table, "val")
    margins, log_loss = (_per_class(table, f"val_class_{n}") for n in ("margin", "log_loss"))
    size, classes = len(table), total.shape[1]
    errors = np.full((size, classes), np.nan)
    floor, worst = np.full(size, np.nan), np.full(size, -1)
    for row, bins in enumerate(_bins(table)):
        if bins is None or len(bins.images) != classes:
            continue
        errors[row] = calibration.errors(bins)
        if np.isfinite(errors[row]).any():
            worst[row] = k = int(np.nanargmax(errors[row]))
            one = calibration.Bins(bins.images[[k]], bins.positives[[k]], bins.probability[[k]])
            floor[row] = calibration.noise_floor(one)[0]
    return Teachers(
        run_id=tuple(table["run_id"].to_pylist()),
        seed=table["seed"].to_numpy(),
        values={
            "average": average_accuracy(correct, total),
            "worst_class": worst_class_accuracy(correct, total),
            "margin": _reduced(np.mean, margins),
            "worst_margin": _reduced(np.min, margins),
            "log_loss": _reduced(np.mean, log_loss),
            "calibration": _reduced(np.max, errors),
            "mean_calibration": _reduced(np.mean, errors),
        },
        negative=_reduced(lambda values: np.sum(values < 0), margins),
        miscalibrated=worst,
        floor=floor,
    )


def correlations(teachers: Teachers, students: pa.Table) -> dict[str, dict[str, Correlation]]:
    """Correlate each statistic of a teacher with the test worst-class accuracy of its students.

    Teachers of the same seed are compared with one another: a statistic is taken relative to its
    mean over them, and a student's accuracy relative to the mean of its setting, so that neither
    seeds nor missing settings affect the correlation.

    Args:
        teachers: Statistics of teachers.
        students: Completed students of the grid.

    Returns:
        Correlations by statistic, then by the students' objective, with ``all`` last. Statistics
        that some teacher lacks are omitted; the result is empty with fewer than four teachers.
    """
    gains = _gains(teachers, students)
    number = len(teachers.run_id)
    if number < _FEWEST:
        return {}
    drawn = np.random.default_rng(0).integers(number, size=(_DRAWS, number))
    _, place = np.unique(teachers.seed, return_inverse=True)
    size = np.bincount(place)
    return {
        name: {
            group: _correlation(values - (np.bincount(place, values) / size)[place], y, drawn)
            for group, y in gains.items()
        }
        for name, values in teachers.values.items()
        if np.isfinite(values).all()
    }


def _gains(teachers: Teachers, students: pa.Table) -> dict[str, FloatArray]:
    """Return the mean gain of each teacher's students over their settings, by objective."""
    students = students.combine_chunks()
    place = pc.index_in(students["teacher_id"], value_set=pa.array(teachers.run_id, pa.string()))
    students = students.filter(place.is_valid())
    place = np.asarray(place.drop_null().to_numpy(), dtype=np.int64)
    total, correct = counts(students, "test")
    worst = worst_class_accuracy(correct, total)
    settings = ("seed", "student_objective", "alpha_s", "temperature")
    columns = [students[name].to_pylist() for name in settings]
    rows = list(zip(*columns, strict=True))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(rows))}
    cell = np.array([numbers[key] for key in rows], dtype=np.int64)
    sums, sizes = np.bincount(cell, worst), np.bincount(cell)
    gain = worst - (sums / sizes)[cell]
    names = [_student(objective, alpha) for _, objective, alpha, _ in rows]
    order = sorted(set(names), key=lambda pair: pair[0])
    found = {}
    for group in [*order, None]:
        among = np.array([group in (None, name) for name in names], dtype=bool)
        weight = np.bincount(place[among], minlength=len(teachers.run_id))
        sums = np.bincount(place[among], gain[among], minlength=len(teachers.run_id))
        mean = np.divide(sums, weight, out=np.full(len(weight), np.nan), where=weight > 0)
        found["all" if group is None else group[1]] = mean
    return found


def _student(objective: str, alpha: float | None) -> tuple[float, str]:
    """Return the position of a student's objective among the others, and its label."""
    return position(objective, alpha), objective if alpha is None else f"αₛ\u00a0{alpha:.3g}"


def _correlation(x: FloatArray, y: FloatArray, drawn: np.ndarray) -> Correlation:
    """Return Spearman's correlation with its percentile interval from a bootstrap over teachers.

    Deviations of the draws are scaled by ``sqrt(n / (n - 1))``, since those in a bootstrap of n
    teachers are too small by that factor.
    """
    x, y = np.round(x, 12), np.round(y, 12)  # values that differ by rounding are tied
    if not np.isfinite(y).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(np.nan, np.nan, np.nan)
    value = spearman(x, y)
    again = spearman(x[drawn], y[drawn])
    again = again[np.isfinite(again)]  # a draw of a single teacher has none
    again = np.clip(value + np.sqrt(x.size / (x.size - 1)) * (again - value), -1, 1)
    low, high = np.quantile(again, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Correlation(float(value), float(low), float(high))


def _per_class(table: pa.Table, name: str) -> list[FloatArray | None]:
    """Return a list column with NaN for null entries; None where a record lacks the list."""
    return [
        None if row is None else np.array([np.nan if v is None else v for v in row])
        for row in table[name].to_pylist()
    ]


def _reduced(function, rows) -> FloatArray:  # type: ignore[no-untyped-def]
    """Return a number for each row from its finite entries; NaN where there are none."""
    found = []
    for row in rows:
        finite = np.array([]) if row is None else row[np.isfinite(row)]
        found.append(float(function(finite)) if finite.size else np.nan)
    return np.array(found)


def _bins(table: pa.Table) -> list[calibration.Bins | None]:
    names = [f"val_calibration_{name}" for name in ("images", "positives", "probability")]
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [
        None if None in row else calibration.Bins(*(np.array(column) for column in row))
        for row in rows
    ]
