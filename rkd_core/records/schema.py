"""Columns of a record and their types."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import pyarrow as pa

__all__ = ["SCHEMA", "SCHEMA_VERSION", "Record"]

SCHEMA_VERSION = 1

_COUNTS, _MEANS = pa.list_(pa.int64()), pa.list_(pa.float64())

SCHEMA = pa.schema(
    [
        # What was trained.
        ("run_id", pa.string()),
        ("teacher_id", pa.string()),  # null for a teacher
        ("family", pa.string()),  # rkd_core.specs.family_id, constant in a sweep
        ("stage", pa.string()),  # teacher, student
        ("method", pa.string()),
        ("variant", pa.string()),  # the method and its options; null for teachers and the grid
        ("teacher_objective", pa.string()),  # null for a student without a teacher
        ("student_objective", pa.string()),  # null for a teacher and for other methods,
        # except for students without a teacher that have another objective than standard
        ("alpha_t", pa.float64()),  # null unless the teacher's objective is tradeoff
        ("alpha_s", pa.float64()),  # null unless the student's objective is tradeoff
        ("temperature", pa.float64()),  # null for teachers and methods without one
        ("tuned", pa.string()),  # values that a search has tuned; null if none
        ("dataset", pa.string()),
        ("data_fingerprint", pa.string()),
        ("class_names", pa.list_(pa.string())),  # in label order
        ("train_class_total", _COUNTS),
        ("architecture", pa.string()),
        ("parameters", pa.int64()),
        ("seed", pa.int64()),
        ("epochs", pa.int64()),
        ("epochs_trained", pa.int64()),  # fewer if it was pruned
        # Quality: images and correct predictions per class, in label order.
        ("val_class_total", _COUNTS),
        ("val_class_correct", _COUNTS),
        ("test_class_total", _COUNTS),
        ("test_class_correct", _COUNTS),
        ("val_average_accuracy", pa.float64()),  # of a pruned run, at its last epoch
        ("val_worst_class_accuracy", pa.float64()),
        ("test_average_accuracy", pa.float64()),
        ("test_worst_class_accuracy", pa.float64()),
        # Epochs with a validation during the training, and its correct predictions.
        ("val_epochs", _COUNTS),
        ("val_epoch_class_correct", pa.list_(_COUNTS)),
        # Confidence: mean log-loss -log p_y and mean margin p_y - max of the others, per
        # class; null for a class without images.
        ("val_class_log_loss", _MEANS),
        ("val_class_margin", _MEANS),
        ("test_class_log_loss", _MEANS),
        ("test_class_margin", _MEANS),
        # For a teacher: rkd_core.metrics.calibration.Bins, a list for each class. For a student:
        # the errors of its teacher's probabilities on validation, at its temperature.
        *(
            (f"{split}_calibration_{name}", pa.list_(type_))
            for split in ("val", "test")
            for name, type_ in (
                ("images", _COUNTS),
                ("positives", _COUNTS),
                ("probability", _MEANS),
            )
        ),
        ("teacher_calibration_error", _MEANS),
        # For a student: images per class whose label it finds more probable than its teacher does.
        ("train_regularization_samples", _COUNTS),
        ("val_regularization_samples", _COUNTS),
        ("multipliers", pa.list_(pa.float64())),  # at the end; null without multipliers
        ("train_loss", pa.float64()),  # mean over the last epoch
        # Cost and machine.
        ("train_seconds", pa.float64()),  # in an array of n, an n-th of its time
        ("trained_together", pa.int64()),  # number of trainings in its array
        ("teacher_pass", pa.string()),  # table, live; null for a teacher
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("host", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("versions", pa.string()),  # JSON: this program, python, torch, torchvision, numpy
        # Outcome.
        ("status", pa.string()),  # completed, failed, pruned
        ("cause", pa.string()),  # null unless failed
        ("spec", pa.string()),  # the whole spec as JSON
        ("schema_version", pa.int64()),
    ]
)
"""Names, types and order of a record's columns. Columns may be added; none changes its meaning."""


class Record(TypedDict, total=False):
    """A record in memory, with the columns of ``SCHEMA``.

    The types are those of a completed record. In records of failed and pruned runs, other columns
    are None, too; a column that is missing is stored as null.
    """

    run_id: str
    teacher_id: str | None
    family: str
    stage: str
    method: str
    variant: str | None
    teacher_objective: str | None
    student_objective: str | None
    alpha_t: float | None
    alpha_s: float | None
    temperature: float | None
    tuned: str | None
    dataset: str
    data_fingerprint: str
    class_names: list[str]
    train_class_total: list[int]
    architecture: str
    parameters: int
    seed: int
    epochs: int
    epochs_trained: int
    val_class_total: list[int]
    val_class_correct: list[int]
    test_class_total: list[int]
    test_class_correct: list[int]
    val_average_accuracy: float
    val_worst_class_accuracy: float
    test_average_accuracy: float
    test_worst_class_accuracy: float
    val_epochs: list[int] | None
    val_epoch_class_correct: list[list[int]] | None
    val_class_log_loss: list[float | None] | None
    val_class_margin: list[float | None] | None
    test_class_log_loss: list[float | None] | None
    test_class_margin: list[float | None] | None
    val_calibration_images: list[list[int]] | None
    val_calibration_positives: list[list[int]] | None
    val_calibration_probability: list[list[float | None]] | None
    test_calibration_images: list[list[int]] | None
    test_calibration_positives: list[list[int]] | None
    test_calibration_probability: list[list[float | None]] | None
    teacher_calibration_error: list[float | None] | None
    train_regularization_samples: list[int] | None
    val_regularization_samples: list[int] | None
    multipliers: list[float] | None
    train_loss: float | None
    train_seconds: float
    trained_together: int
    teacher_pass: str | None
    started_at: datetime
    host: str
    device: str
    precision: str
    versions: str
    status: str
    cause: str | None
    spec: str
    schema_version: int
