"""Targets of a training: true labels, or the probabilities of a teacher for the same views."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rkd_core.datasets import Dataset
from rkd_core.objectives import class_priors
from rkd_core.teachers.answers import Teacher

__all__ = ["OneHotTargets", "Targets", "TeacherTargets", "true_probabilities"]


class Targets(Protocol):
    """Soft or one-hot labels q of a training, with the statistics for costs and risks."""

    priors: Tensor
    """Class priors pi-hat: mean of q over the training set, float64 ``(classes,)``."""
    validation: Tensor
    """Labels q of the validation set, float64 ``(n_val, classes)``."""

    def __call__(self, labels: Tensor, logits: Tensor | None) -> Tensor:
        """Return the labels q of a training batch, float32 ``(batch, classes)``.

        Args:
            labels: True labels, int64 ``(batch,)``.
            logits: Logits of the teacher, float32 ``(batch, classes)``; None without a teacher.
        """
        ...


class OneHotTargets:
    """One-hot true labels, the targets of a teacher.

    Smoothed labels are ``(1 - smoothing) * one_hot + smoothing / classes``, as in
    ``torch.nn.functional.cross_entropy``. Validation labels are not smoothed.
    """

    def __init__(self, dataset: Dataset, device: str, smoothing: float = 0.0) -> None:
        self._classes, self._smoothing = dataset.classes, smoothing
        counts = torch.from_numpy(np.asarray(dataset.class_counts("train"), dtype=np.float64))
        self.priors = self._smoothed(counts / counts.sum()).to(device)
        self.validation = true_probabilities(dataset, device)

    def __call__(self, labels: Tensor, logits: Tensor | None) -> Tensor:
        """Return the one-hot labels of a training batch."""
        return self._smoothed(F.one_hot(labels, self._classes).float())

    def _smoothed(self, probabilities: Tensor) -> Tensor:
        if not self._smoothing:
            return probabilities
        return (1 - self._smoothing) * probabilities + self._smoothing / self._classes


class TeacherTargets:
    """Probabilities softmax(z / T) of a teacher, the targets of a student.

    The temperature divides the teacher's logits only (Wang et al. 2023; Lukasik et al. 2022).
    The priors are mean probabilities over the training set without augmentation, at the same
    temperature (Algorithm 1).
    """

    def __init__(self, teacher: Teacher, temperature: float) -> None:
        self._temperature = temperature
        self.priors = class_priors(self._soften(teacher.clean))
        self.validation = self._soften(teacher.validation.to(torch.float64))

    def __call__(self, labels: Tensor, logits: Tensor | None) -> Tensor:
        """Return the teacher probabilities of a training batch."""
        if logits is None:
            raise ValueError("a student's targets need its teacher's logits")
        return self._soften(logits)

    def _soften(self, logits: Tensor) -> Tensor:
        return F.softmax(logits / self._temperature, dim=1)


def true_probabilities(dataset: Dataset, device: str) -> Tensor:
    """Return the one-hot validation labels, float64 ``(n_val, classes)``."""
    labels = torch.from_numpy(np.asarray(dataset.val.labels)).to(device)
    return F.one_hot(labels, dataset.classes).to(torch.float64)
