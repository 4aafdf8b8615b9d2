"""Synthetic sweeps: rows shaped like records, as a table or as a results folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rkd_core import metrics, records

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
Row = dict[str, Any]


def row(**columns: Any) -> Row:
    """One record; accuracies and class totals follow from the counts that are given."""
    correct = columns.get("val_class_correct", [5, 5])
    base: Row = {
        "family": "family-s",
        "stage": "student",
        "status": "completed",
        "method": "tradeoff",
        "variant": None,
        "teacher_id": "teacher",
        "dataset": "digits",
        "architecture": "resnet20",
        "seed": 0,
        "epochs": 1,
        "class_names": list(NAMES[: len(correct)]),
        "val_class_total": [10] * len(correct),
        "val_class_correct": correct,
        "test_class_total": [10] * len(correct),
        "test_class_correct": correct,
        "started_at": EPOCH,
        "schema_version": 1,
        **columns,
    }
    for split in ("val", "test"):
        counts = base[f"{split}_class_correct"], base[f"{split}_class_total"]
        if None not in counts:
            base[f"{split}_average_accuracy"] = float(metrics.average_accuracy(*counts))
            base[f"{split}_worst_class_accuracy"] = float(metrics.worst_class_accuracy(*counts))
    return base


def student(
    run_id: str,
    teacher: float | str = "standard",
    student: float | str = "standard",
    temperature: float = 1.0,
    **columns: Any,
) -> Row:
    """A student; an objective is named, or a number for the trade-off at that alpha."""
    t_objective, alpha_t = objective(teacher)
    s_objective, alpha_s = objective(student)
    return row(
        run_id=run_id,
        teacher_objective=t_objective,
        alpha_t=alpha_t,
        student_objective=s_objective,
        alpha_s=alpha_s,
        temperature=temperature,
        **columns,
    )


def variant(run_id: str, label: str, temperature: float | None = 4.0, **columns: Any) -> Row:
    """A student of another method on the standard teacher; without a teacher if it is None."""
    alone = columns.get("teacher_id", "teacher") is None
    return row(
        run_id=run_id,
        variant=label,
        method=label.partition(",")[0],
        teacher_objective=None if alone else "standard",
        temperature=temperature,
        **columns,
    )


def objective(value: float | str) -> tuple[str, float | None]:
    return (value, None) if isinstance(value, str) else ("tradeoff", float(value))


def table(rows: Iterable[Row]) -> pa.Table:
    filled = [{name: r.get(name) for name in records.SCHEMA.names} for r in rows]
    return pa.Table.from_pylist(filled, schema=records.SCHEMA)


def write(results: Path, rows: Iterable[Row], planned: Iterable[str] | None = None) -> Path:
    for r in rows:
        records.write(results / "records", r)
    if planned is not None:
        plan = {"command": ["pareto"], "run_ids": list(planned)}
        (results / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    return results


def sweep(
    teachers: Iterable[float | str] = ("standard", 0.0, 0.5, 1.0),
    students: Iterable[float | str] = ("standard", 0.0, 0.5, 1.0),
    temperatures: Iterable[float] = (1.0, 3.0),
    *,
    seeds: int = 1,
    images: int = 500,
    recall: Callable[[float, float, float], tuple[float, float]] | None = None,
    seed: int = 0,
    classes: int = 10,
) -> list[Row]:
    """A whole sweep: the average falls and the worst class rises along a concave curve.

    ``recall(a_t, a_s, temperature)`` gives (average accuracy, worst-class accuracy).
    """
    rng = np.random.default_rng(seed)
    recall = recall or concave
    teachers, students, temperatures = list(teachers), list(students), list(temperatures)
    rows = []
    for repeat in range(seeds):
        for t in teachers:
            t_objective, alpha_t = objective(t)
            teacher_id = f"teacher-{t}-{repeat}"
            counts = draw(rng, *recall(amount(t), amount(t), 2.0), images, classes)
            common = {"dataset": "cifar10", "seed": repeat}
            rows.append(
                row(
                    run_id=teacher_id,
                    stage="teacher",
                    teacher_id=None,
                    family="family-t",
                    teacher_objective=t_objective,
                    alpha_t=alpha_t,
                    **{**common, "architecture": "resnet56"},
                    **counts,
                )
            )
            for s in students:
                for temperature in temperatures:
                    counts = draw(rng, *recall(amount(t), amount(s), temperature), images, classes)
                    started = EPOCH + timedelta(minutes=len(rows))
                    rows.append(
                        student(
                            f"student-{t}-{s}-{temperature:g}-{repeat}",
                            t,
                            s,
                            temperature,
                            teacher_id=teacher_id,
                            started_at=started,
                            **common,
                            **counts,
                        )
                    )
    return rows


def amount(value: float | str) -> float:
    return {"standard": -0.4, "balanced": 0.0, "robust": 1.0}.get(value, value)  # type: ignore[arg-type,return-value]


def concave(a_t: float, a_s: float, temperature: float) -> tuple[float, float]:
    s, t = (a_s + 0.4) / 1.4, (a_t + 0.4) / 1.4
    average = 0.943 - 0.018 * s**1.8 - 0.012 * (t * s) ** 2 - 0.002 * abs(temperature - 3)
    worst = 0.868 + 0.045 * s**0.6 + 0.020 * t**0.5 - 0.075 * t * s**2
    return average, min(worst - 0.003 * abs(temperature - 3), average - 0.01)


def trading(a_t: float, a_s: float, temperature: float) -> tuple[float, float]:
    """Return a sweep in which each step toward robust costs average accuracy."""
    amount = (a_t + a_s + 0.8) / 2.8
    return 0.95 - 0.06 * amount**2, 0.6 + 0.2 * amount - 0.01 * abs(temperature - 3)


def draw(
    rng: np.random.Generator, average: float, worst: float, images: int, classes: int
) -> dict[str, list[int]]:
    """Counts of both splits with one class near the worst accuracy and the mean near average."""
    spread = np.linspace(0, 1, classes)
    recall = worst + (average - worst) * spread * 2
    recall = np.clip(recall + (average - recall.mean()) * (spread > 0), 0, 0.995)
    counts = {}
    for split in ("val", "test"):
        total = np.full(classes, images)
        counts[f"{split}_class_total"] = total.tolist()
        counts[f"{split}_class_correct"] = rng.binomial(total, recall).tolist()
    return counts


def measured(rows: Iterable[Row], seed: int = 0) -> list[Row]:
    """The same rows with the columns that training measures beside the counts."""
    rng = np.random.default_rng(seed)
    found = []
    for r in rows:
        classes = len(r["val_class_total"])
        more: Row = {"train_class_total": [300 // (k + 1) + 2 for k in range(classes)]}
        for split in ("val", "test"):
            recall = np.array(r[f"{split}_class_correct"]) / r[f"{split}_class_total"]
            more[f"{split}_class_margin"] = (2 * recall - 1.2).tolist()
            more[f"{split}_class_log_loss"] = (-np.log(np.clip(recall, 0.05, 1))).tolist()
        if r["stage"] == "teacher":
            images = np.full((classes, 5), 20)
            positives = rng.binomial(images, np.linspace(0.02, 0.5, 5))
            probability = np.tile(np.linspace(0.05, 0.6, 5), (classes, 1))
            for split in ("val", "test"):
                more[f"{split}_calibration_images"] = images.tolist()
                more[f"{split}_calibration_positives"] = positives.tolist()
                more[f"{split}_calibration_probability"] = probability.tolist()
        else:
            more["train_regularization_samples"] = [n // 3 for n in more["train_class_total"]]
            more["val_regularization_samples"] = [n // 4 for n in r["val_class_total"]]
            more["teacher_calibration_error"] = rng.uniform(0, 0.4, classes).tolist()
        found.append({**r, **more, "train_seconds": 2.0, "device": "cpu", "host": "a"})
    return found
