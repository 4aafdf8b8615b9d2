"""Statistics of teachers, and their correlation with students, against plain loops."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from analysis.runs.teacher_statistics import STATISTICS, correlations, measure
from tests.analysis import worlds


def split(rows: list[worlds.Row]) -> tuple[worlds.Row, ...]:
    return tuple(
        worlds.table(row for row in rows if row["stage"] == stage)
        for stage in ("teacher", "student")
    )


def world(seeds: int = 2) -> list[worlds.Row]:
    return worlds.measured(worlds.sweep(seeds=seeds, images=100, recall=worlds.trading))


def test_statistics_are_those_of_the_record() -> None:
    rows = world()
    teachers, _ = split(rows)
    found = measure(teachers)
    by_id = {row["run_id"]: row for row in rows}
    for i, run_id in enumerate(found.run_id):
        row = by_id[run_id]
        recalls = [
            c / n for c, n in zip(row["val_class_correct"], row["val_class_total"], strict=True)
        ]
        assert found.values["worst_class"][i] == pytest.approx(min(recalls))
        assert found.values["margin"][i] == pytest.approx(np.mean(row["val_class_margin"]))
        assert found.values["worst_margin"][i] == min(row["val_class_margin"])
        assert found.negative[i] == sum(margin < 0 for margin in row["val_class_margin"])
        errors = []
        for images, positives, probability in zip(
            row["val_calibration_images"],
            row["val_calibration_positives"],
            row["val_calibration_probability"],
            strict=True,
        ):
            mass = [n * p for n, p in zip(images, probability, strict=True)]
            errors.append(
                sum(
                    abs(m / sum(mass) - k / sum(positives))
                    for m, k in zip(mass, positives, strict=True)
                )
            )
        assert found.values["calibration"][i] == pytest.approx(max(errors))
        assert found.values["mean_calibration"][i] == pytest.approx(np.mean(errors))
        assert found.miscalibrated[i] == int(np.argmax(errors))
        assert 0 < found.floor[i] < 1


def test_columns_missing_from_older_records_are_unknown() -> None:
    teachers, students = split(worlds.sweep(seeds=2, images=100))
    found = measure(teachers)
    assert np.isfinite(found.values["average"]).all()
    for name in ("margin", "log_loss", "calibration"):
        assert np.isnan(found.values[name]).all()
    assert (found.miscalibrated == -1).all()
    assert set(correlations(found, students)) == {"average", "worst_class"}


def test_a_correlation_is_spearmans_of_the_students_gains() -> None:
    rows = [row for row in world() if row["run_id"] != "student-0.0-0.5-3-0"]  # one is missing
    for row in rows:
        if row["stage"] == "student" and row["seed"] == 1:  # a seed that is worse all over
            halved = [correct // 2 for correct in row["test_class_correct"]]
            worst = min(c / n for c, n in zip(halved, row["test_class_total"], strict=True))
            row |= {"test_class_correct": halved, "test_worst_class_accuracy": worst}
    teachers, students = split(rows)
    found = correlations(measure(teachers), students)
    assert set(found) == set(STATISTICS)
    of_teacher = {row["run_id"]: row for row in rows if row["stage"] == "teacher"}
    for group, objective, alpha in (
        ("standard", "standard", None),
        ("αₛ\u00a00.5", "tradeoff", 0.5),
    ):
        x, y = [], []
        for run_id, teacher in of_teacher.items():
            seed = [t for t in of_teacher.values() if t["seed"] == teacher["seed"]]
            x.append(
                teacher["val_worst_class_accuracy"]
                - sum(t["val_worst_class_accuracy"] for t in seed) / len(seed)
            )
            gains = []
            for row in rows:
                if row.get("teacher_id") != run_id or row["student_objective"] != objective:
                    continue
                if row["alpha_s"] != alpha:
                    continue
                alike = [
                    other["test_worst_class_accuracy"]
                    for other in rows
                    if other["stage"] == "student"
                    and all(
                        other[name] == row[name]
                        for name in ("seed", "student_objective", "alpha_s", "temperature")
                    )
                ]
                gains.append(row["test_worst_class_accuracy"] - sum(alike) / len(alike))
            y.append(sum(gains) / len(gains))
        wanted = stats.spearmanr(np.round(x, 12), np.round(y, 12)).statistic
        got = found["worst_class"][group]
        assert got.value == pytest.approx(wanted)
        assert -1 <= got.low <= got.value <= got.high <= 1
    assert list(found["average"])[-1] == "all"


def test_the_interval_holds_a_true_correlation_and_not_its_opposite() -> None:
    teachers, students = split(
        worlds.measured(
            worlds.sweep(
                [k / 9 for k in range(10)], ("standard",), (1.0,), seeds=2, images=2000,
                recall=lambda t, s, temperature: (0.95, 0.5 + 0.3 * t),
            )
        )
    )  # fmt: skip
    found = correlations(measure(teachers), students)["worst_class"]["all"]
    assert found.value > 0.9
    assert found.low > 0.8


def test_three_teachers_foretell_nothing() -> None:
    teachers, students = split(
        worlds.sweep(("standard", 0.0, 1.0), ("standard",), (1.0,), images=100)
    )
    assert correlations(measure(teachers), students) == {}


def test_students_without_a_record_of_their_teacher_are_left_out() -> None:
    rows = world()
    teachers, students = split(rows)
    stray = worlds.student("stray", 0.5, 0.5, 3.0, teacher_id="gone", val_class_correct=[5] * 10)
    more = worlds.table([stray])
    with_stray = pa.concat_tables([students, more])
    assert correlations(measure(teachers), with_stray) == correlations(measure(teachers), students)
