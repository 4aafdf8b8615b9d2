"""Measurement of a trained model on validation and test, as columns of its record.

Figures are per class, so that any group of classes can be evaluated later from the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.datasets import Dataset
from rkd_core.datasets.array_data import ArrayData
from rkd_core.metrics import average_accuracy, calibration, worst_class_accuracy
from rkd_core.models.inference import (
    class_confidence,
    class_counts,
    iterate_logits,
    logits_of,
    predictions_of_all,
    regularization_samples,
)
from rkd_core.records import predictions, shifts
from rkd_core.records.predictions import SPLITS, Kept, Split
from rkd_core.specs import TrainingSpec
from rkd_core.teachers.answers import Teacher

__all__ = ["Measurement", "measure", "measure_logits", "validate"]


class Measurement(NamedTuple):
    """Figures and predictions of a trained model."""

    columns: dict[str, Any]
    """Columns of its record."""
    predictions: dict[Split, bytes]
    """Files of ``rkd_core.records.predictions`` by split; empty if none are kept."""
    shifts: pa.Table | None
    """Content of a file of ``rkd_core.records.shifts``; None if none are fitted."""


def measure(
    model: nn.Module,
    data: ArrayData,
    spec: TrainingSpec,
    run_id: str,
    teacher: Teacher | None = None,
    keep: Kept | None = None,
    fit_shifts: bool = False,
) -> Measurement:
    """Measure a model on validation and test.

    Args:
        model: Trained model, on the device of the data.
        data: Data of the training.
        spec: Spec of the model. The probabilities of a teacher are binned for the calibration
            error; for a student, the calibration error of its teacher is measured at the
            temperature of the spec.
        run_id: Run id of the spec.
        teacher: Teacher of a student, for columns that compare their logits. These have no
            figures for test, for which teacher logits are not computed.
        keep: Predictions to keep; None for all logits of a small split, else the largest ones.
        fit_shifts: Whether to fit shifts of the logits.

    Raises:
        DivergedError: A logit is not finite.
    """
    logits = {
        split: logits_of(model, batches, data.execution)
        for split, batches in zip(SPLITS, (data.validation, data.test), strict=True)
    }
    measured = measure_logits(logits, data.dataset, spec, run_id, keep, fit_shifts)
    if teacher is not None:
        answers, classes = teacher.validation, data.dataset.classes
        found = regularization_samples(data.dataset.val.labels, logits["val"], answers, classes)
        measured.columns["val_regularization_samples"] = found
        measured.columns.update(_compared_with_teacher(model, data, teacher, spec.temperature))
    return measured


def measure_logits(
    evaluated: Mapping[Split, Tensor],
    dataset: Dataset,
    spec: TrainingSpec,
    run_id: str,
    keep: Kept | None = None,
    fit_shifts: bool = False,
) -> Measurement:
    """Measure logits on validation and test; see ``measure``.

    Args:
        evaluated: Logits float32 ``(n, classes)`` by split.
        dataset: Dataset of the logits.
        spec: Spec of their model.
        run_id: Run id of the spec.
        keep: Predictions to keep.
        fit_shifts: Whether to fit shifts of the logits.
    """
    columns: dict[str, Any] = {}
    kept: dict[Split, bytes] = {}
    for split, logits in evaluated.items():
        labels, classes = _labels(dataset, split), dataset.classes
        predicted = logits.argmax(dim=1)
        columns |= _counts(predicted, dataset, split)
        form = predictions.form(keep, len(labels), classes)
        if form != "none":
            kept[split] = predictions.serialize(
                run_id,
                split,
                dataset.fingerprint,
                {"val": dataset.val_indices, "test": dataset.test_indices}[split],
                labels,
                logits.cpu().numpy(),
                predicted.cpu().numpy(),
                form,
            )
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
    if not fit_shifts:
        return Measurement(columns, kept, None)
    val, test = ((evaluated[s].cpu().numpy(), _labels(dataset, s)) for s in SPLITS)
    return Measurement(columns, kept, shifts.table(run_id, val, test))


def _compared_with_teacher(
    model: nn.Module, data: ArrayData, teacher: Teacher, temperature: float | None
) -> dict[str, Any]:
    """Return the columns for training images and for the calibration error of the teacher.

    They require a forward pass over all training images without augmentation, about a third of
    the cost of an epoch.
    """
    dataset, classes = data.dataset, data.dataset.classes
    images = data.evaluation_batches(dataset.train)
    counts = torch.zeros(classes, dtype=torch.int64)
    start = 0
    for _, logits in iterate_logits(model, images, data.execution):
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


def validate(models: Sequence[nn.Module], data: ArrayData) -> list[dict[str, Any] | None]:
    """Return columns with counts and accuracies on validation, without storing all logits.

    The models share each batch. The entry of a model is None if one of its logits is not finite.
    """
    found = predictions_of_all(models, data.validation, data.execution)
    return [_counts(p, data.dataset, "val") if finite else None for p, finite in found]


def _labels(dataset: Dataset, split: Split) -> NDArray[np.int64]:
    return {"val": dataset.val, "test": dataset.test}[split].labels


def _counts(predictions: Tensor, dataset: Dataset, split: Split) -> dict[str, Any]:
    total, correct = class_counts(_labels(dataset, split), predictions, dataset.classes)
    return {
        f"{split}_class_total": total,
        f"{split}_class_correct": correct,
        f"{split}_average_accuracy": float(average_accuracy(correct, total)),
        f"{split}_worst_class_accuracy": float(worst_class_accuracy(correct, total)),
    }
