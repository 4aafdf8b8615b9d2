"""What a training learns from: the true labels, or a teacher's probabilities on the same view."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rkd_core.artifacts import Artifact
from rkd_core.datasets import Dataset, ImageSet, StreamedImageSet
from rkd_core.datasets.batches import Batch, EvaluationBatches, TrainingBatches
from rkd_core.evaluation import iterate_logits, logits_of
from rkd_core.execution import Execution
from rkd_core.objectives import class_priors
from rkd_core.predictor import rebuild
from rkd_core.specs import Recipe

__all__ = ["EVALUATION_BATCH", "OneHotTargets", "Targets", "TeacherTargets"]

EVALUATION_BATCH = 512


class Targets(Protocol):
    """The labels q of a training, and the statistics of them that costs and risks need."""

    priors: Tensor
    """pi-hat: mean of q over the training set, float64 ``(classes,)``."""
    validation: Tensor
    """q on the validation set, float64 ``(n_val, classes)``."""

    def __call__(self, batch: Batch) -> Tensor:
        """q of a training batch, float32 ``(batch, classes)``."""
        ...


class OneHotTargets:
    """True labels: a teacher's targets."""

    def __init__(self, dataset: Dataset, execution: Execution) -> None:
        self._classes = dataset.classes
        counts = torch.from_numpy(np.asarray(dataset.class_counts("train"), dtype=np.float64))
        self.priors = (counts / counts.sum()).to(execution.device)
        self.validation = true_probabilities(dataset, execution)

    def __call__(self, batch: Batch) -> Tensor:
        """One-hot labels of a training batch."""
        return F.one_hot(batch.labels, self._classes).float()


class TeacherTargets:
    """Teacher probabilities softmax(z / T) on the very view of the image that the student sees.

    The temperature divides the teacher's logits only (Wang et al. 2023; Lukasik et al. 2022).
    The priors are one clean pass over the training set at the same temperature (Algorithm 1).
    """

    def __init__(
        self,
        artifact: Artifact,
        temperature: float,
        dataset: Dataset,
        recipe: Recipe,
        batches: TrainingBatches,
        statistics: tuple[Tensor, Tensor],
        execution: Execution,
    ) -> None:
        self._temperature = temperature
        self._execution = execution
        network = rebuild(artifact).to(execution.device).to(memory_format=torch.channels_last)
        self._teacher = _Renormalized(network, statistics, artifact, execution.device)

        def clean(images: ImageSet | StreamedImageSet) -> EvaluationBatches:
            return EvaluationBatches(
                images,
                recipe,
                batch_size=EVALUATION_BATCH,
                device=execution.device,
                statistics=statistics,
                workers=execution.threads,
            )

        # Without augmentation an image has one view, so the clean pass already answers for all
        # epochs.
        self._table: Tensor | None = None
        if batches.single_view:
            self._table = logits_of(self._teacher, clean(dataset.train), execution)
            self.priors = class_priors(self._soften(self._table))
        else:
            mass = torch.zeros(dataset.classes, dtype=torch.float64, device=execution.device)
            for _, logits in iterate_logits(self._teacher, clean(dataset.train), execution):
                mass += self._soften(logits).to(torch.float64).sum(dim=0)
            self.priors = mass / len(dataset.train)
        self.validation = self._soften(
            logits_of(self._teacher, clean(dataset.val), execution).to(torch.float64)
        )

    def __call__(self, batch: Batch) -> Tensor:
        """Teacher probabilities of a training batch."""
        if self._table is not None:
            return self._soften(self._table[batch.indices])
        with torch.no_grad(), self._execution.autocast():
            logits = self._teacher(batch.images)
        return self._soften(logits.float())

    def _soften(self, logits: Tensor) -> Tensor:
        return F.softmax(logits / self._temperature, dim=1)


def true_probabilities(dataset: Dataset, execution: Execution) -> Tensor:
    """One-hot validation labels, float64 ``(n_val, classes)``."""
    labels = torch.from_numpy(np.asarray(dataset.val.labels)).to(execution.device)
    return F.one_hot(labels, dataset.classes).to(torch.float64)


class _Renormalized(nn.Module):
    """A teacher fed with batches that were normalised for its student.

    Their recipes may differ in normalisation; then the images are brought to the teacher's own.
    """

    def __init__(
        self, network: nn.Module, given: tuple[Tensor, Tensor], artifact: Artifact, device: str
    ) -> None:
        super().__init__()
        self.network = network
        mean, std = (value.to(torch.float64).cpu() for value in given)
        own_mean, own_std = (
            torch.tensor(artifact.model["normalization"][key], dtype=torch.float64)
            for key in ("mean", "std")
        )
        scale, shift = std / own_std, (mean - own_mean) / own_std
        self._same = torch.allclose(scale, torch.ones_like(scale), rtol=0, atol=1e-7) and (
            torch.allclose(shift, torch.zeros_like(shift), rtol=0, atol=1e-7)
        )
        self._scale = scale.float().to(device)[:, None, None]
        self._shift = shift.float().to(device)[:, None, None]
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images if self._same else images * self._scale + self._shift)
