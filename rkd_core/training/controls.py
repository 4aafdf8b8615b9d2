"""Controls of a training run: progress reports, checkpoints, validations, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rkd_core.records.predictions import Kept
from rkd_core.training.validation_schedule import ValidationSchedule

__all__ = ["Progress", "TrainingControls"]


@dataclass(frozen=True)
class Progress:
    """Figures of an epoch; validation figures only after epochs of the validation schedule."""

    run_id: str
    epoch: int
    epochs: int
    train_loss: float
    learning_rate: float
    val_average_accuracy: float | None = None
    val_worst_class_accuracy: float | None = None


@dataclass(frozen=True)
class TrainingControls:
    """Options of a training run that do not affect the trained models.

    Attributes:
        report: Function called after every epoch of every training.
        checkpoint_every: Epochs between checkpoints; None for about one per minute.
        validation_schedule: Epochs that end with a validation.
        until: Number of epochs after which to stop; None for all. A training with more epochs is
            saved, and its row has status ``pruned`` and the validation figures at that point. The
            same call with more epochs continues from there.
        shifts: Whether to fit shifts of the logits of each student (``rkd_core.records.shifts``).
        stop: Function called before every step. When it returns true, the trainings are saved
            and stopped.
        keep_predictions: Predictions to keep for validation and test: ``full`` for all logits,
            ``top`` for the five largest of each image, ``none``; None for all logits of a split
            with up to two million, else the largest.
    """

    report: Callable[[Progress], None] | None = None
    checkpoint_every: int | None = None
    validation_schedule: ValidationSchedule = field(default_factory=ValidationSchedule)
    until: int | None = None
    shifts: bool = True
    stop: Callable[[], bool] | None = None
    keep_predictions: Kept | None = None
