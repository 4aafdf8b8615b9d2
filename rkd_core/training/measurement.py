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
from rkd_core.errors import DivergedError
from rkd_core.metrics import average_accuracy, calibration, worst_class_accuracy
from rkd_core.models.inference import (
    NOT_FINITE,
    class_confidence,
    class_counts,
    predictions_of_all,
    regularization_samples,
    shared_logits,
)
from rkd_core.records import predictions, shifts
from rkd_core.records.predictions import SPLITS, Kept, Split
from rkd_core.specs import TrainingSpec
from rkd_core.teachers.answers import Teacher

__all__ = ["Measurement", "measure", "measure_all", "measure_logits", "validate"]

_BYTES = 2**30  # of the logits of models that share each batch


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
    """Measure a model on validation and test; see ``measure_all``.

    Raises:
        DivergedError: A logit is not finite.
    """
    (found,) = measure_all([model], data, [spec], [run_id], teacher, keep, fit_shifts)
    if found is None:
        raise DivergedError(NOT_FINITE)
    return found


def measure_all(
    models: Sequence[nn.Module],
    data: ArrayData,
    specs: Sequence[TrainingSpec],
    run_ids: Sequence[str],
    teacher: Teacher | None = None,
    keep: Kept | None = None,
    fit_shifts: bool = False,
) -> list[Measurement | None]:
    """Measure models on validation and test; they share each batch as far as memory allows.

    Args:
        models: Trained models, on the device of the data.
        data: Data of the trainings.
        specs: Specs of the models. The probabilities of a teacher are binned for the calibration
            error; for a student, the calibration error of its teacher is measured at the
            temperature of the spec.
        run_ids: Run ids of the specs.
        teacher: Teacher of students, for columns that compare their logits. These have no
            figures for test, for which teacher logits are not computed.
        keep: Predictions to keep; None for all logits of a small split, else the largest ones.
        fit_shifts: Whether to fit shifts of the logits.

    Returns:
        The measurement of each model; None if one of its logits is not finite.
    """
    dataset = data.dataset
    of_one = 4 * dataset.classes * (len(dataset.val) + len(dataset.test))
    size = max(1, _BYTES // of_one)
    measured: list[Measurement | None] = []
    for start in range(0, len(models), size):
        part = slice(start, start + size)
        measured += _measure_part(
            models[part], data, specs[part], run_ids[part], teacher, keep, fit_shifts
        )
    return measured


def _measure_part(
    models: Sequence[nn.Module],
    data: ArrayData,
    specs: Sequence[TrainingSpec],
    run_ids: Sequence[str],
    teacher: Teacher | None,
    keep: Kept | None,
    fit_shifts: bool,
) -> list[Measurement | None]:
    """Measure models that share each batch; see ``measure_all``."""
    dataset = data.dataset
    logits: dict[Split, list[Tensor]] = {}
    for split, batches in zip(SPLITS, (data.validation, data.test), strict=True):
        parts = zip(*shared_logits(models, batches, data.execution), strict=True)
        logits[split] = [torch.cat(part) for part in parts]
    compared = None if teacher is None else _compared_with_teacher(models, data, teacher)
    measured: list[Measurement | None] = []
    for k, (spec, run_id) in enumerate(zip(specs, run_ids, strict=True)):
        own = {split: found[k] for split, found in logits.items()}
        finite = all(bool(torch.isfinite(values).all()) for values in own.values())
        if not finite or (compared is not None and compared[k] is None):
            measured.append(None)
            continue
        found = measure_logits(own, dataset, spec, run_id, keep, fit_shifts)
        if teacher is not None and compared is not None:
            samples = regularization_samples(
                dataset.val.labels, own["val"], teacher.validation, dataset.classes
            )
            found.columns["val_regularization_samples"] = samples
            found.columns["train_regularization_samples"] = compared[k]
            if spec.temperature is not None:
                errors = _calibration_errors(dataset, teacher, spec.temperature)
                found.columns["teacher_calibration_error"] = errors
        measured.append(found)
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
    models: Sequence[nn.Module], data: ArrayData, teacher: Teacher
) -> list[list[int] | None]:
    """Return the regularization samples among the training images for each model.

    They require a forward pass over all training images without augmentation, about a third of
    the cost of an epoch. The entry of a model is None if one of its logits is not finite.
    """
    dataset, classes = data.dataset, data.dataset.classes
    counts = torch.zeros(len(models), classes, dtype=torch.int64)
    finite = [True] * len(models)
    start = 0
    for found in shared_logits(models, data.evaluation_batches(dataset.train), data.execution):
        part = slice(start, start + len(found[0]))
        for k, logits in enumerate(found):
            finite[k] = finite[k] and bool(torch.isfinite(logits).all())
            samples = dataset.train.labels[part], logits, teacher.clean[part], classes
            counts[k] += torch.tensor(regularization_samples(*samples))
        start = part.stop
    return [own if fine else None for own, fine in zip(counts.tolist(), finite, strict=True)]


def _calibration_errors(
    dataset: Dataset, teacher: Teacher, temperature: float
) -> list[float | None]:
    """Return the calibration error of the softened teacher on validation, by class."""
    softened = F.softmax(teacher.validation.double() / temperature, dim=1).cpu().numpy()
    errors = calibration.errors(calibration.fill_bins(softened, dataset.val.labels))
    return [None if np.isnan(e) else float(e) for e in errors]


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
