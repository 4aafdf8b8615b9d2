"""What is measured of a model once, when it is trained: columns of its record.

All is by class, so that every bucket of classes can be looked at later, from the record alone.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.datasets.array_data import Setting
from rkd_core.metrics import average_accuracy, calibration, worst_class_accuracy
from rkd_core.models.inference import (
    class_confidence,
    class_counts,
    iterate_logits,
    logits_of,
    predictions_of,
    regularization_samples,
)
from rkd_core.specs import TrainingSpec
from rkd_core.teachers.answers import Teacher

__all__ = ["measure", "validate"]

Split = Literal["val", "test"]
SPLITS: tuple[Split, ...] = ("val", "test")


def measure(
    model: nn.Module, setting: Setting, spec: TrainingSpec, teacher: Teacher | None = None
) -> dict[str, Any]:
    """Columns of a record: validation and test, and what compares a student with its teacher.

    Args:
        model: On the device of the setting.
        setting: Its images are looked at.
        spec: What was trained. A teacher's probabilities are put into bins, for the calibration
            error; a student's temperature is that of its teacher's calibration error.
        teacher: To compare a student with, by its answers; test is left out, for teachers are not
            asked about it.

    Raises:
        DivergedError: A logit is not finite.
    """
    columns: dict[str, Any] = {}
    for split in SPLITS:
        batches = {"val": setting.validation, "test": setting.test}[split]
        logits = logits_of(model, batches, setting.execution)
        labels, classes = _labels(setting, split), setting.dataset.classes
        columns |= _counts(logits.argmax(dim=1), setting, split)
        losses, margins = class_confidence(labels, logits, classes)
        columns |= {f"{split}_class_log_loss": losses, f"{split}_class_margin": margins}
        if spec.stage == "teacher":
            probabilities = F.softmax(logits.double(), dim=1).cpu().numpy()
            bins = calibration.fill_bins(probabilities, labels)
            columns |= {
                f"{split}_calibration_images": bins.images.tolist(),
                f"{split}_calibration_positives": bins.positives.tolist(),
                f"{split}_calibration_probability": bins.probability.tolist(),
            }
        if teacher is not None and split == "val":
            found = regularization_samples(labels, logits, teacher.validation, classes)
            columns["val_regularization_samples"] = found
    if teacher is not None:
        columns |= _beside_its_teacher(model, setting, teacher, spec.temperature)
    return columns


def _beside_its_teacher(
    model: nn.Module, setting: Setting, teacher: Teacher, temperature: float | None
) -> dict[str, Any]:
    """What the records of validation and test do not take.

    The student sees every training image once more, not augmented: about a third of the cost of
    an epoch.
    """
    dataset, classes = setting.dataset, setting.dataset.classes
    images = setting.evaluated(dataset.train)
    counts = torch.zeros(classes, dtype=torch.int64)
    start = 0
    for _, logits in iterate_logits(model, images, setting.execution):
        labels = dataset.train.labels[start : start + len(logits)]
        answers = teacher.clean[start : start + len(logits)]
        counts += torch.tensor(regularization_samples(labels, logits, answers, classes))
        start += len(logits)
    columns: dict[str, Any] = {"train_regularization_samples": counts.tolist()}
    if temperature is not None:
        softened = F.softmax(teacher.validation.double() / temperature, dim=1).cpu().numpy()
        errors = calibration.errors(calibration.fill_bins(softened, dataset.val.labels))
        columns["teacher_calibration_error"] = [None if np.isnan(e) else float(e) for e in errors]
    return columns


def validate(model: nn.Module, setting: Setting) -> dict[str, Any]:
    """Columns of counts and accuracies on validation; no logits are kept for it."""
    return _counts(predictions_of(model, setting.validation, setting.execution), setting, "val")


def _labels(setting: Setting, split: Split) -> Any:
    return {"val": setting.dataset.val, "test": setting.dataset.test}[split].labels


def _counts(predictions: Tensor, setting: Setting, split: Split) -> dict[str, Any]:
    total, correct = class_counts(_labels(setting, split), predictions, setting.dataset.classes)
    return {
        f"{split}_class_total": total,
        f"{split}_class_correct": correct,
        f"{split}_average_accuracy": float(average_accuracy(correct, total)),
        f"{split}_worst_class_accuracy": float(worst_class_accuracy(correct, total)),
    }
